# SPDX-License-Identifier: Apache-2.0
"""Nodes and functions of other graphs are added under new names."""

import pytest
from judges.norms import graph_of
from judges.transforming import spelled

from bnexport import text
from bnexport.editing.additions import add_copies, add_functions, moved
from bnexport.errors import GraphError
from bnexport.graph import TensorRef

LOOP = """
x = Placeholder()   e = Enter(x) {frame_name="loop"}
m = Merge(e, n)   n = NextIteration(m)   y = Relu(m, ^e) {_class=("loc:@m")}
"""


def test_copies_read_each_other():
  graph = graph_of("x = Placeholder()   m = Neg(x)")
  nodes = text.loads(LOOP).node[1:]
  given = {TensorRef("x"): TensorRef("m")}
  named = add_copies(graph, nodes, "", given)
  assert named == {"e": "e", "m": "m_1", "n": "n", "y": "y"}
  assert spelled(graph, "e") == "Enter(m)"
  assert spelled(graph, "m_1") == "Merge(e, n)"
  assert spelled(graph, "y") == "Relu(m_1, ^e)"
  assert graph.node("y").attr["_class"].list.s == [b"loc:@m_1"]
  assert add_copies(graph, nodes, "b/", given)["y"] == "b/y"
  assert spelled(graph, "b/n") == "NextIteration(b/m)"


def test_what_is_given_goes_before_what_is_copied():
  named, given = {"a": "a_1"}, {TensorRef("a", 1): TensorRef("b")}
  assert moved(TensorRef("a", 1), named, given) == TensorRef("b")
  assert moved(TensorRef("a", 2), named, given) == TensorRef("a_1", 2)
  assert moved(TensorRef("c"), named, given) == TensorRef("c")


def test_some_inputs_are_left_out():
  graph = graph_of("x = Placeholder()")
  nodes = text.loads("x = Placeholder()   y = Add(x, x:1, ^x)").node[1:]
  add_copies(graph, nodes, "", {}, without=[TensorRef("x", 1)])
  assert spelled(graph, "y") == "Add(x, ^x)"


def test_functions_of_one_name_have_to_be_the_same():
  def functions(*names):
    made = "".join(
      f"function {n}(x float) -> (y float = x) {{}}" for n in names
    )
    return text.loads(made).library.function

  graph = graph_of("function f(x float) -> (y float = x) {}")
  assert add_functions(graph, functions("f", "g")) == ["g"]
  assert set(graph.library) == {"f", "g"}
  other = text.loads("function g(x int32) -> (y int32 = x) {}")
  with pytest.raises(GraphError, match="different functions 'g'"):
    add_functions(graph, other.library.function)
