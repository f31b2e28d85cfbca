# SPDX-License-Identifier: Apache-2.0
"""No test passes by leaving before it has judged.

A test that can't be run here says so with pytest.skip and a reason; a `return`
would count as passed.
"""

import ast
import os

import pytest
from judges.commands import ROOT

TESTS = os.path.join(ROOT, "tests")


def _paths():
  for where, _, names in os.walk(TESTS):
    for name in names:
      if name.startswith("test_") and name.endswith(".py"):
        yield os.path.join(where, name)


def _left_early(tree):
  """(function, line) of each `return` in a test; functions in it may return."""
  for test in ast.walk(tree):
    if isinstance(test, ast.FunctionDef) and test.name.startswith("test"):
      waiting = list(test.body)
      while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Return):
          yield test.name, node.lineno
        if not isinstance(node, (ast.FunctionDef, ast.Lambda)):
          waiting.extend(ast.iter_child_nodes(node))


def test_no_test_returns():
  found = {}
  for path in _paths():
    with open(path, encoding="utf-8") as file:
      found[os.path.relpath(path, TESTS)] = list(
        _left_early(ast.parse(file.read()))
      )
  assert len(found) > 50
  assert {path: left for path, left in found.items() if left} == {}


@pytest.mark.parametrize(
  "code, left",
  [
    ("def test_a(x):\n  if x:\n    return\n  assert x", [("test_a", 3)]),
    ("def test_a():\n  for x in y:\n    return x", [("test_a", 3)]),
    ("def test_a():\n  def f():\n    return 1\n  assert f()", []),
    ("def other():\n  return 1", []),
  ],
)
def test_a_return_is_noticed(code, left):
  assert list(_left_early(ast.parse(code))) == left
