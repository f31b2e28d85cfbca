"""What every module keeps to: no cycles, one door to TensorFlow, names."""

import ast
import os
import sys

import pytest
from commands import ROOT, run_process

PACKAGE = os.path.join(ROOT, "bnexport")
COMMANDS = {"freeze", "inspect", "repair", "transform", "validate"}

def modules():
  """Paths of all modules by their name within the package."""
  found = {}
  for where, _, names in os.walk(PACKAGE):
    for name in names:
      if name.endswith(".py"):
        path = os.path.join(where, name)
        module = os.path.relpath(path, PACKAGE)[:-len(".py")]
        module = module.replace(os.sep, ".")
        if module.endswith(".__init__"):
          module = module[:-len(".__init__")]
        found[module] = path
  return found


MODULES = modules()


def imported(path, inside_functions):
  """Yields full names of what a file imports, modules and their contents."""
  with open(path) as f:
    tree = ast.parse(f.read())
  nodes = list(ast.walk(tree)) if inside_functions else _top_level(tree)
  for node in nodes:
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, "%s imports relatively" % path
      for alias in node.names:
        yield "%s.%s" % (node.module, alias.name)


def _top_level(tree):
  waiting = [tree]
  while waiting:
    for node in ast.iter_child_nodes(waiting.pop()):
      if not isinstance(node, (ast.FunctionDef, ast.Lambda)):
        waiting.append(node)
        yield node


def own_imports(module, inside_functions=False):
  """The package's modules that a module imports."""
  found = set()
  for name in imported(MODULES[module], inside_functions):
    if name.split(".")[0] != "bnexport":
      continue
    name = name[len("bnexport."):]
    if name not in MODULES:
      name = name.rpartition(".")[0] or "__init__"
    if name in MODULES and name != module:
      found.add(name)
  return found


def test_imports_are_seen():
  assert "errors" in own_imports("graph")
  assert "freezing.pipeline" not in own_imports("freeze")
  assert "freezing.pipeline" in own_imports("freeze", inside_functions=True)
  assert len(MODULES) > 30


def _reaches(start, goal):
  seen, waiting = set(), [start]
  while waiting:
    for other in own_imports(waiting.pop(), inside_functions=True):
      if other not in seen:
        seen.add(other)
        waiting.append(other)
  return goal in seen


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_cycle(module):
  assert not _reaches(module, module)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_commands_know_flags(module):
  uses = any(name.split(".")[0] == "absl" or name == "bnexport.cli"
             for name in imported(MODULES[module], True))
  assert not uses or module == "cli" or module in COMMANDS


@pytest.mark.parametrize("module", sorted(MODULES))
def test_tensorflow_is_imported_in_one_place(module):
  uses = any(name.split(".")[0] in ("tensorflow", "tf_keras", "keras")
             for name in imported(MODULES[module], True))
  assert uses == (module == "tf1")


@pytest.mark.parametrize("name", ["bnexport.cli", "bnexport.errors"])
def test_import_is_cheap(name):
  result = run_process("-c", (
    "import sys, %s\n"
    "print([m for m in ('tensorflow', 'numpy') if m in sys.modules])" % name))
  assert result.status == 0, result.err
  assert result.out == "[]\n"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_shadows_the_standard_library(module):
  if hasattr(sys, "stdlib_module_names"):
    standard = sys.stdlib_module_names
  else:
    standard = set(sys.builtin_module_names) | {
      name[:-3] for name in os.listdir(os.path.dirname(os.__file__))
      if name.endswith(".py")}
  assert "tokenize" in standard
  last = module.split(".")[-1]
  assert last not in standard or module == "inspect"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_dumping_grounds(module):
  assert not {"utils", "util", "helpers", "common", "core"} & set(
    module.split("."))
