# SPDX-License-Identifier: Apache-2.0
"""How tensors depend on the batch: not, through statistics, or row by row."""

import pytest

from bnexport import text
from bnexport.analysis.dependence import (
  DATA,
  FREE,
  STATISTIC,
  Dependence,
  reduces_batch,
  uses_batch,
)
from bnexport.graph import Graph, TensorRef

NET = """
  x = Placeholder() {shape=[?,4,4,2]}   w = VariableV2() {shape=[2]}
  zero = Const() {value=<int32 0>}   two = Const() {value=<int32 [2] 1 2>}
  minus = Const() {value=<int32 -4>}   c = Const() {value=<float [2] 1>}
"""


def level(statement, ref="y", net=NET):
  graph = Graph(text.loads(net + statement))
  return Dependence(graph, graph.topological())(TensorRef.parse(ref))


@pytest.mark.parametrize(
  "statement, expected",
  [
    ("y = Neg(x)", DATA),
    ("y = Identity(w)", FREE),
    ("y = Mul(x, w)", DATA),
    ("y = Mean(x, zero)", STATISTIC),
    ("y = Mean(x, two)", DATA),
    ("y = Max(x, zero)", STATISTIC),
    ("y = L2Loss(x)", STATISTIC),
    ("m = Mean(x, zero)   y = Sub(m, w)", STATISTIC),
    ("m = Mean(x, zero)   y = Sub(x, m)", DATA),
    ("m = Mean(x, zero)   y = Mean(m, zero)", STATISTIC),
    ("y = Shape(x)", FREE),
  ],
)
def test_what_is_combined_depends_as_the_stronger(statement, expected):
  assert level(statement) == expected


def test_axes_from_the_end_count_where_the_rank_is_known():
  mean = "n = Neg(x) %s   y = Mean(n, minus)"
  assert level(mean % "{_output_shapes=([?,4,4,2])}") == STATISTIC
  assert level(mean % "{_output_shapes=([?,4,4,2,2])}") == DATA
  assert level(mean % "") == DATA


def test_axes_that_are_computed_are_all_axes():
  assert level("r = Rank(x)   y = Mean(x, r)") == STATISTIC


def test_open_first_axis_after_a_reduction_is_the_batch():
  """What was reduced was time then."""
  shaped = "y = Mean(x, zero) {_output_shapes=([%s,4,2])}"
  assert level(shaped % "?") == DATA
  assert level(shaped % "4") == STATISTIC


@pytest.mark.parametrize(
  "placeholder, expected",
  [
    ("{dtype=bool, shape=?}", FREE),
    ("{shape=[]}", FREE),
    ("{shape=[?]}", DATA),
    ("{shape=?}", DATA),
  ],
)
def test_switches_and_rates_are_no_batch(placeholder, expected):
  assert level(f"y = Placeholder() {placeholder}") == expected


@pytest.mark.parametrize(
  "shape, expected", [("[?,3]", DATA), ("[2,3]", DATA), ("[1,3]", FREE)]
)
def test_random_rows_are_a_batch_of_a_generator(shape, expected):
  net = f"n = Placeholder() {{dtype=int32, shape=[2]}}   y = RandomUniform(n) {{_output_shapes=({shape})}}"
  assert level(net, net="") == expected


def test_filled_tensors_depend_on_a_batch_of_open_size_alone():
  filled = "n = Shape(x)   v = Const() {value=<float 0>}   y = Fill(n, v) %s"
  assert level(filled % "{_output_shapes=([?,3])}") == DATA
  assert level(filled % "{_output_shapes=([4,3])}") == FREE


@pytest.mark.parametrize(
  "is_training, of_statistics", [("true", STATISTIC), ("false", FREE)]
)
def test_outputs_of_fused_norms(is_training, of_statistics):
  norm = f"n = FusedBatchNorm(x, c, c, c, c) {{is_training={is_training}}}"
  assert level(norm, "n") == DATA
  assert level(norm, "n:1") == level(norm, "n:2") == of_statistics


def test_loops_carry_data_to_where_they_began():
  graph = Graph(
    text.loads("""
    x = Placeholder() {shape=[?,2]}   w = Const() {value=<float [2] 0>}
    e = Enter(w) {frame_name="f"}   g = Enter(x) {frame_name="f", is_constant=true}
    m = Merge(e, n)   t = Const(^m) {value=<bool true>}   l = LoopCond(t)
    s = Switch(m, l)   b = Add(s:1, g)   n = NextIteration(b)   y = Exit(s)
  """)
  )
  dependence = Dependence(graph, graph.topological())
  assert dependence(TensorRef("y")) == dependence(TensorRef("m")) == DATA


def test_reductions_that_are_known_from_elsewhere():
  graph = Graph(text.loads(NET + "y = Mean(x, two)"))
  order = graph.topological()
  assert Dependence(graph, order)(TensorRef("y")) == DATA
  told = Dependence(graph, order, reductions={"y"})
  assert told(TensorRef("y")) == STATISTIC


def test_norm_without_the_attribute_uses_the_batch():
  graph_def = text.loads("graph {complete=true}   y = FusedBatchNorm()")
  assert uses_batch(graph_def.node[0])


def test_only_reductions_reduce_the_batch():
  graph = Graph(text.loads(NET + "a = Neg(x)   b = Mean(x, zero)"))
  assert not reduces_batch(graph, graph.node("a"))
  assert reduces_batch(graph, graph.node("b"))
