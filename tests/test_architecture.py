# SPDX-License-Identifier: Apache-2.0
"""Rooms, dependence in one direction, one door to TensorFlow, cheap imports."""

import ast
import importlib
import os
import sys

import pytest
from judges.commands import ROOT, run_process

import bnexport

COMMANDS = ("freeze", "inspect", "repair", "transform", "validate")
# From the bottom up: a room imports rooms before it, and no others.
ROOMS = (
  "errors",
  "version",
  "aliases",
  "silence",
  "shown",
  "tf1",
  "graph",
  "text",
  "mending",
  "editing",
  "model",
  "analysis",
  "batchnorm",
  "transforms",
  "proof",
  "sources",
  "calibration",
  "exporting",
  "checks",
  "validation",
  "report",
  "layers",
  "training",
  "__init__",
  "cli",
)
MOST_AT_THE_TOP = 12


def _modules():
  """Paths of all modules by their name below the package."""
  found = {}
  for where, _, names in os.walk(os.path.join(ROOT, "bnexport")):
    for name in names:
      if name.endswith(".py"):
        path = os.path.join(where, name)
        module = os.path.relpath(path, os.path.join(ROOT, "bnexport"))[:-3]
        module = module.replace(os.sep, ".")
        if module != "__init__" and module.endswith(".__init__"):
          module = module[: -len(".__init__")]
        found[module] = path
  return found


MODULES = _modules()
TREES = {}
for _module, _path in MODULES.items():
  with open(_path, encoding="utf-8") as _f:
    TREES[_module] = ast.parse(_f.read())


def _imported(module):
  """Full names of all that a module imports, wherever it does."""
  for node in ast.walk(TREES[module]):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{module} imports relatively"
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _own(module):
  """Modules of the package that a module imports."""
  found = set()
  for name in _imported(module):
    if name.split(".")[0] == "bnexport":
      name = name[len("bnexport.") :]
      if name not in MODULES:
        name = name.rpartition(".")[0] or "__init__"
      found.add(name)
  return found - {module}


ARROWS = {module: _own(module) for module in MODULES}


def _room(module):
  return module.split(".")[0]


def _circles(arrows):
  """Strongly connected parts of more than one node (Tarjan, 1972)."""
  number, low, on_stack, stack, found = {}, {}, set(), [], []
  for root in arrows:
    work = [] if root in number else [(root, iter(arrows[root]))]
    if work:
      number[root] = low[root] = len(number)
      stack.append(root)
      on_stack.add(root)
    while work:
      node, others = work[-1]
      for other in others:
        if other not in number:
          number[other] = low[other] = len(number)
          stack.append(other)
          on_stack.add(other)
          work.append((other, iter(arrows[other])))
          break
        if other in on_stack:
          low[node] = min(low[node], number[other])
      else:
        work.pop()
        if work:
          low[work[-1][0]] = min(low[work[-1][0]], low[node])
        if low[node] == number[node]:
          part = stack[stack.index(node) :]
          del stack[stack.index(node) :]
          on_stack.difference_update(part)
          if len(part) > 1:
            found.append(sorted(part))
  return found


def _rooms(arrows, depth):
  """The arrows between folders, `depth` levels below the package.

  A folder's own modules, such as the table of transforms, are no part of it:
  they bind its rooms together, and are bound by them.
  """
  found = {}
  for module, others in arrows.items():
    room, rooms = _folder(module, depth), {_folder(o, depth) for o in others}
    if room:
      found.setdefault(room, set()).update(rooms - {room, None})
      for other in rooms - {None}:
        found.setdefault(other, set())
  return found


def _folder(module, depth):
  parts = module.split(".")
  if os.path.basename(MODULES[module]) != "__init__.py":
    parts = parts[:-1]
  return ".".join(parts[:depth]) if len(parts) >= depth else None


def _upward(arrows, rooms):
  """Imports of a room that stands no lower."""
  level = {room: i for i, room in enumerate(rooms)}
  return [
    f"{module} imports {other}"
    for module, others in sorted(arrows.items())
    for other in sorted(others)
    if _room(module) != _room(other)
    and level[_room(other)] >= level[_room(module)]
  ]


def test_dependence_goes_one_way():
  rooms = (*ROOMS, *COMMANDS, "__main__")
  assert {_room(module) for module in MODULES} == set(rooms)
  assert _upward(ARROWS, rooms) == []
  for command in COMMANDS:  # one does not call another
    assert not ARROWS[command] & set(COMMANDS)


def test_there_are_no_circles():
  assert _circles(ARROWS) == []
  assert _circles(_rooms(ARROWS, 1)) == []
  assert _circles(_rooms(ARROWS, 2)) == []


def test_circles_and_upward_imports_are_noticed():
  arrows = dict(ARROWS, **{"graph.ops": {"batchnorm.folding"}})
  assert _upward(arrows, (*ROOMS, *COMMANDS, "__main__")) == [
    "graph.ops imports batchnorm.folding"
  ]
  arrows = {"a.b": {"c.d"}, "c.d": {"e"}, "e": {"a.f"}, "a.f": set()}
  assert _circles(arrows) == []
  arrows["a.f"] = {"a.b"}
  assert _circles(arrows) == [["a.b", "a.f", "c.d", "e"]]
  assert ARROWS["graph.nodes"] >= {"errors", "graph", "graph.ops", "tf1"}
  arrows = dict(ARROWS, **{"model.stream": {"transforms.spec"}})
  assert len(_circles(_rooms(arrows, 1))) == 1
  arrows = dict(ARROWS, **{"transforms.layout.axes": {"transforms.backport"}})
  arrows["transforms.backport.rules"] = {"transforms.layout.rules"}
  assert len(_circles(_rooms(arrows, 2))) == 1


def test_rooms_have_names():
  top = [name for name in MODULES if "." not in name]
  files = [n for n in top if not MODULES[n].endswith(f"{n}{os.sep}__init__.py")]
  assert len(files) <= MOST_AT_THE_TOP, sorted(files)
  words = {word for module in MODULES for word in module.split(".")}
  assert not words & {"utils", "util", "helpers", "common", "core"}
  # `inspect` is a command's name, and run with -m only.
  assert not (words - {"inspect", "__init__", "__main__"}) & _standard()


def _standard():
  """Names of the standard library's modules."""
  if hasattr(sys, "stdlib_module_names"):
    return sys.stdlib_module_names
  return set(sys.builtin_module_names) | {
    name[:-3]
    for name in os.listdir(os.path.dirname(os.__file__))
    if name.endswith(".py")
  }


def test_standard_library_is_known():
  assert {"tokenize", "sys"} <= _standard()


def test_absl_is_for_commands_and_tensorflow_has_one_door():
  for module in MODULES:
    roots = {name.split(".")[0] for name in _imported(module)}
    is_command = module in COMMANDS or module.split(".")[0] == "cli"
    assert "absl" not in roots or is_command, module
    has_door = bool(roots & {"tensorflow", "tf_keras", "keras"})
    assert not has_door or _room(module) == "tf1", module


def test_type_checkers_see_what_is_imported_late():
  (block,) = [n for n in TREES["__init__"].body if isinstance(n, ast.If)]
  seen = {
    alias.asname: node.module
    for node in block.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
    if alias.asname
  }
  expected = dict(bnexport._NOUNS)
  for name in bnexport._MODULES:
    module = importlib.import_module("bnexport." + name)
    expected[name] = module.__name__.rpartition(".")[0]
  assert seen == expected


@pytest.mark.parametrize(
  "heavy, names",
  [
    ("tensorflow", ("bnexport", *("bnexport." + name for name in COMMANDS))),
    ("numpy", ("bnexport.cli", "bnexport.errors")),
  ],
)
def test_import_is_cheap(heavy, names):
  code = "import sys, {}; sys.exit({!r} in sys.modules)"
  result = run_process("-c", code.format(", ".join(names), heavy))
  assert result.status == 0, result.err


# Methods that take a text apart, and those of `re`.
_TAKES_APART = {
  *("startswith", "endswith", "partition", "rpartition", "split", "rsplit"),
  *("match", "fullmatch", "search", "findall", "compile", "sub"),
}
# What others write: TensorFlow's errors, and text that a user gives.
_OTHERS_WORDS = {"errors", "text.reading", "transforms.spec"}


def _taken_apart(tree):
  """Sentences that a module looks for in other texts."""
  for node in ast.walk(tree):
    if (
      isinstance(node, ast.Call)
      and isinstance(node.func, ast.Attribute)
      and node.func.attr in _TAKES_APART
    ):
      for part in (p for arg in node.args for p in ast.walk(arg)):
        text = _string(part)
        words = [w for w in text.split(" ") if w.isalpha()]
        if len(words) > 1 or text in (": ", "; "):
          yield text


def _string(node):
  """The string that a node is, or an empty one; Python 3.7 has ast.Str."""
  kept = {"Constant": "value", "Str": "s"}.get(type(node).__name__)
  value = getattr(node, kept) if kept else None
  return value if isinstance(value, str) else ""


def test_nobody_takes_our_own_messages_apart():
  """Facts are attributes; text is made of them, never read."""
  for module, tree in TREES.items():
    if module not in _OTHERS_WORDS:
      assert list(_taken_apart(tree)) == [], module


@pytest.mark.parametrize(
  "code",
  [
    "str(error).partition(': ')[2]",
    "line.startswith('keeps computing its own')",
    "re.match('norm (.*) keeps computing', line)",
  ],
)
def test_messages_that_are_taken_apart_are_noticed(code):
  assert list(_taken_apart(ast.parse(code)))
