# SPDX-License-Identifier: Apache-2.0
"""`--help`: flags by purpose, each once, with examples that work."""

import ast
import os
import re
import shlex

import pytest
from absl import flags
from absl.testing import flagsaver
from judges.commands import COMMANDS, ROOT, run_process

from bnexport import cli
from bnexport.cli import help, meaning

MEMBERS = [name for _, members in help.GROUPS for name in members]
ALIASES = dict(cli.ALIASES)
# Flags that a command hands on with others, though they change nothing there.
HANDED_ON = {
  "freeze": set(),
  "inspect": {"model", "model_kwargs", "input"},
  "repair": {"model", "input", "saved_model", "keras", "hub_module"},
  "transform": set(),
  "validate": {
    *("graph_def", "saved_model", "keras", "hub_module", "saved_model_out"),
    *("transforms", "target_tf", "engine", "fold_batch_norms", "missing"),
    *("variable_names_allowlist", "variable_names_denylist"),
    "initializer_nodes",
  },
}


def own_flags(name):
  module = COMMANDS[name]
  own = flags.FLAGS.get_key_flags_for_module(module.__name__)
  return {flag.name for flag in own} - set(ALIASES)


def page(name):
  return help.page_of(name, COMMANDS[name].__doc__, sorted(own_flags(name)))


def test_each_flag_is_in_one_group():
  groups = [*MEMBERS, *help.ACCEPTED]
  assert len(groups) == len(set(groups))
  defined = set().union(*map(own_flags, COMMANDS))
  assert set(groups) == defined


@pytest.mark.parametrize("name", COMMANDS)
def test_each_flag_is_on_the_page_once(name):
  text = page(name)
  described, _, rest = text.partition("\nother names")
  rest = rest.partition("\naccepted, without effect:")[2]
  shown = re.findall(r"^  --(\w+)", described, re.M)
  accepted = re.findall(r"--(\w+)", rest.partition("--helpfull")[0])
  assert sorted([*shown, *accepted]) == sorted(own_flags(name))
  assert set(help.ACCEPTED) <= set(accepted)
  assert max(map(len, text.splitlines())) <= 90
  assert text.isprintable() or "\n" in text


# The flags that a command reads, by its code.


def _functions(path):
  with open(path, encoding="utf-8") as f:
    tree = ast.parse(f.read())
  found = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
  return tree, found


def _reads(node, module):
  """Attributes of a module that code reads."""
  return {
    found.attr
    for found in ast.walk(node)
    if isinstance(found, ast.Attribute)
    and isinstance(found.value, ast.Name)
    and found.value.id == module
  }


def _read_by(name):
  """Names of the shared flags that the code of a command reads."""
  path = os.path.join(ROOT, "bnexport")
  tree, _ = _functions(os.path.join(path, f"{name}.py"))
  _, functions = _functions(meaning.__file__)
  constants = _reads(tree, "cli")
  todo = _reads(tree, "meaning") & set(functions)
  done = set()
  while todo:
    function = todo.pop()
    done.add(function)
    constants |= _reads(functions[function], "cli")
    called = {
      n.id for n in ast.walk(functions[function]) if isinstance(n, ast.Name)
    }
    todo |= (called & set(functions)) - done
  if "result" in {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}:
    constants.add("REPORT" if name != "transform" else "VERBOSE")
  values = [getattr(cli, c) for c in constants if hasattr(cli, c)]
  holders = [h for v in values for h in (v if isinstance(v, tuple) else (v,))]
  return {h.name for h in holders if isinstance(h, flags.FlagHolder)}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_page_describes_has_an_effect(name):
  shared = {
    h.name for h in vars(cli).values() if isinstance(h, flags.FlagHolder)
  }
  unread = set(help.UNREAD[name])
  assert unread <= shared
  read = _read_by(name) | {"verbose", "validate"}
  described = (own_flags(name) & shared) - unread
  assert described <= read
  assert unread & _read_by(name) <= HANDED_ON[name] | {"report"}


# Examples.


def examples(name):
  """The commands of a docstring, as lists of words."""
  found = []
  for line in COMMANDS[name].__doc__.splitlines():
    if line.startswith("  python -m "):
      found.append(line)
    elif line.startswith("      ") and found:
      found[-1] += " " + line.strip()
  return [shlex.split(line) for line in found]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_have_flags_that_exist(name):
  found = examples(name)
  assert len(found) >= 3
  known = own_flags(name)
  for words in found:
    assert words[:3] == ["python", "-m", f"bnexport.{name}"]
    given = [re.match(r"--(\w+)=.", word).group(1) for word in words[3:]]
    assert given and {ALIASES.get(g, g) for g in given} <= known
    assert not {ALIASES.get(g, g) for g in given} & set(help.UNREAD[name])
    with flagsaver.flagsaver():
      assert flags.FLAGS([name, *words[3:]]) == [name]


# The page as a user has it.


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpshort"])
def test_help_is_the_page(flag):
  result = run_process("-m", "bnexport.inspect", "--graph_def=x", flag)
  assert result.status == 0 and result.err == ""
  assert result.out == page("inspect") + "\n"


def test_helpfull_has_the_rest():
  result = run_process("-m", "bnexport.inspect", "--helpfull")
  for name in (*MEMBERS, *help.ACCEPTED, "logtostderr"):
    if name in own_flags("inspect") or name == "logtostderr":
      assert re.search(rf"^ +--(\[no\])?{name}\b", result.out, re.M), name


def test_help_is_fast():
  """It imports neither TensorFlow nor NumPy."""
  code = (
    "import runpy, sys\n"
    "sys.argv = ['freeze', '--help']\n"
    "try:\n"
    "  runpy.run_module('bnexport.freeze', run_name='__main__', "
    "alter_sys=True)\n"
    "except SystemExit as ended:\n"
    "  assert ended.code == 0\n"
    "assert not {'tensorflow', 'numpy', 'google.protobuf'} & set(sys.modules)\n"
  )
  result = run_process("-c", code)
  assert result.status == 0, result.err
