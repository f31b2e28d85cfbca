# SPDX-License-Identifier: Apache-2.0
"""What tensors are views of, in graphs of a few nodes."""

import pytest

from bnexport import text
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import constant_value
from bnexport.graph.origins import (
  BRANCH_VIEWS,
  LOOP_VIEWS,
  STORED_VIEWS,
  VIEWS,
  holder_of,
  is_chosen,
  origin_of,
  stored_name,
  viewed,
)
from bnexport.graph.variables import constant_of, is_reference, variable_of

# A loop counts up to ten; `y` is what is left of `x` after it.
LOOP = """
  x = Placeholder() {shape=[]}   w = Const() {value=<float [2] 1 2>}
  e = Enter(x) {frame_name="loop"}   c = Enter(w) {frame_name="loop", is_constant=true}
  m = Merge(e, n)   p = Less(m, m)   l = LoopCond(p)   s = Switch(m, l)
  i = Identity(s:1)   r = Reshape(c, c)   n = NextIteration(i)   y = Exit(s)
"""
BRANCHES = """
  p = Placeholder() {dtype=bool, shape=[]}   v = VariableV2() {shape=[2]}
  h = VarHandleOp() {dtype=float, shape=[2]}   s = RefSwitch(v, p)
  t = Switch(h, p)   d = ReadVariableOp(t:1) {dtype=float}
  a = Identity(s)   q = Reshape(a, a)   m = Merge(q, d)   c = Cast(m)
"""


def graph_of(statements):
  return Graph(text.loads(statements))


def refs(*names):
  return [TensorRef.parse(name) for name in names]


def test_views_are_walked_as_far_as_their_ops_are_named():
  graph = graph_of("""
    x = Placeholder() {shape=[2]}   i = Identity(x)   r = Reshape(i, i)
    c = Cast(r)   n = Neg(c)   j = StopGradient(n)
  """)
  (c,) = refs("c")
  assert list(viewed(graph, c, VIEWS)) == refs("c", "r", "i", "x")
  assert list(viewed(graph, c, {"Cast"})) == refs("c", "r")
  assert list(viewed(graph, c, ())) == [c]
  assert origin_of(graph, c, VIEWS) == TensorRef("x")
  assert origin_of(graph, TensorRef("j"), VIEWS) == TensorRef("n")


@pytest.mark.parametrize(
  "through, name, origin",
  [
    (VIEWS, "r", "c"),
    (LOOP_VIEWS, "r", "w"),
    (LOOP_VIEWS, "y", "s"),
    (LOOP_VIEWS | ops.SWITCHES, "y", "m"),
    (LOOP_VIEWS | ops.SWITCHES | ops.MERGES, "y", "x"),
    (BRANCH_VIEWS, "i", "m"),
  ],
)
def test_loops_are_left_by_what_enters_them(through, name, origin):
  found = origin_of(graph_of(LOOP), TensorRef(name), through)
  assert found == TensorRef(origin)


def test_circles_end():
  """A Merge may name what closes its loop first."""
  graph = graph_of(LOOP.replace("Merge(e, n)", "Merge(n, e)"))
  through = LOOP_VIEWS | ops.SWITCHES | ops.MERGES
  found = list(viewed(graph, TensorRef("m"), through))
  assert found == refs("m", "n", "i", "s:1")
  assert graph.op(origin_of(graph, TensorRef("m"), through).node) in through
  assert variable_of(graph, TensorRef("m")) is None
  assert stored_name(graph, TensorRef("m")) is None


def test_index_of_a_merge_is_no_view():
  graph = graph_of(BRANCHES)
  through = VIEWS | ops.MERGES
  assert origin_of(graph, TensorRef("m"), through) == TensorRef("s")
  assert origin_of(graph, TensorRef("m", 1), through) == TensorRef("m", 1)


def test_holders_are_told_by_op():
  graph = graph_of(BRANCHES)
  for name in ("a", "s", "v"):
    assert variable_of(graph, TensorRef(name)) == "v"
  assert variable_of(graph, TensorRef("d")) == "h"
  assert variable_of(graph, TensorRef("q")) is None  # a view, and not the value
  assert stored_name(graph, TensorRef("d")) is None
  inside = STORED_VIEWS | ops.SWITCHES
  assert stored_name(graph, TensorRef("d"), inside) == "h"
  assert holder_of(graph, TensorRef("q"), ("RefSwitch",), VIEWS) == "s"
  assert holder_of(graph, TensorRef("q"), ("VariableV2",), VIEWS) is None
  assert is_chosen(graph, TensorRef("c"))
  assert not is_chosen(graph, TensorRef("q"))


def test_references_are_no_values():
  graph = graph_of(BRANCHES)
  kinds = {name: is_reference(graph, TensorRef(name)) for name in graph.names()}
  assert [name for name in kinds if kinds[name]] == ["v", "h", "s", "t"]
  # Nothing was added to a node by looking.
  assert "T" not in graph.node("d").attr


def test_constants_keep_their_value_in_loops():
  graph = graph_of(LOOP + "  z = Enter(w)  j = Snapshot(z)")
  assert constant_value(graph, TensorRef("j")).tolist() == [1, 2]
  assert constant_value(graph, TensorRef("c")).tolist() == [1, 2]
  assert constant_value(graph, TensorRef("r")) is None
  assert constant_of(graph, TensorRef("j")) == "w"


def test_a_view_of_nothing_is_its_own_origin():
  graph_def = text.loads("x = Placeholder()\ny = Identity(x)")
  del graph_def.node[1].input[:]
  graph = Graph(graph_def)
  assert origin_of(graph, TensorRef("y"), ("Identity",)) == TensorRef("y")
