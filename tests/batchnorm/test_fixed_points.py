# SPDX-License-Identifier: Apache-2.0
"""The values that updates settle at, and what expressions come to."""

import numpy as np
import pytest
from judges.norms import graph_of

from bnexport.analysis.dependence import Dependence
from bnexport.batchnorm.fixed_points import Reader
from bnexport.graph import TensorRef
from bnexport.graph.origins import VIEWS, origin_of

TEXT = """
x = Placeholder() {shape=[?,2]}
axes = Const() {value=<int32 [1] 0>}
s = Mean(x, axes)
rate = Const() {value=<float 0.1>}
rest = Const() {value=<float 0.9>}
one = Const() {value=<float 1>}
v = VariableV2() {shape=[2]}
"""
ROWS = np.array([1.0, 2.0, 4.0, 7.5])
MOMENTS = """
wide = Cast(x)
m = Mean(wide, axes)
d = SquaredDifference(x, m)
variance = Mean(d, axes)
"""


def reader(text, given=None, rows=None, sources=None, updates=None):
  graph = graph_of(TEXT + text)
  order = graph.topological()
  return graph, Reader(
    graph,
    Dependence(graph, order),
    updates or {},
    {TensorRef.parse(k): value for k, value in (given or {}).items()},
    rows,
    set() if sources is None else sources,
  )


@pytest.mark.parametrize(
  "text, value",
  [
    ("d = Sub(v, s) r = Mul(d, rate) u = AssignSub(v, r)", 2.5),
    ("d = Sub(s, v) r = Mul(d, rate) u = AssignAdd(v, r)", 2.5),
    ("a = Mul(v, rest) b = Mul(s, rate) c = Add(a, b) u = Assign(v, c)", 2.5),
    ("u = Assign(v, s)", 2.5),
    ("c = Add(s, one) u = Assign(v, c)", 3.5),
    ("a = Mul(v, rest) c = Add(a, s) u = Assign(v, c)", 25.0),
    ("u = AssignAdd(v, one)", np.inf),  # counts
    ("u = AssignSub(v, s)", None),  # falls without end
  ],
)
def test_fixed_point(text, value):
  _, read = reader(text, {"s": 2.5}, updates={"v": ["u"]})
  found = read.fixed_point("v", "u")
  assert found == (value if value is None else pytest.approx(value))
  assert read.variables == {"v"}


def test_variable_that_another_update_divides_by():
  """Zero debias: the value settles while its step counter grows for ever."""
  text = """
  step = VariableV2() {shape=[]}
  counted = AssignAdd(step, one)
  power = Pow(rest, counted)
  correction = Sub(one, power)
  a = Mul(v, rest) b = Mul(s, rate) c = Add(a, b) biased = Assign(v, c)
  mean = VariableV2() {shape=[2]}
  right = RealDiv(biased, correction)
  u = Assign(mean, right)
  """
  _, read = reader(
    text,
    {"s": 2.5},
    updates={"v": ["biased"], "step": ["counted"], "mean": ["u"]},
  )
  assert read.fixed_point("mean", "u") == pytest.approx(2.5)
  assert read.variables == {"v", "step", "mean"}


def test_moments_of_rows():
  sources = set()
  _, read = reader(MOMENTS, rows=ROWS, sources=sources)
  assert read.value(TensorRef("m")) == pytest.approx(ROWS.mean())
  assert read.value(TensorRef("variance")) == pytest.approx(ROWS.var())
  assert sources == {TensorRef("x")}


def test_data_is_not_read_without_rows():
  _, read = reader(MOMENTS)
  assert read.value(TensorRef("m")) is None


@pytest.mark.parametrize(
  "ref, value",
  [("y:1", ROWS.mean()), ("y:2", ROWS.var(ddof=1)), ("y", None), ("y:3", None)],
)
def test_statistics_that_a_norm_hands_out(ref, value):
  text = """
  g = Const() {value=<float [2] 1 1>}
  none = Const() {value=<float [0]>}
  y = FusedBatchNorm(x, g, g, none, none)
  """
  graph, read = reader(text, rows=ROWS)
  if ref == "y":  # of rows, and no statistic
    assert np.shape(read.value(TensorRef("y"))) == ROWS.shape
    graph.node("y").attr["is_training"].b = False
    ref = "y:1"
    read = reader(text.replace("none)", "none) {is_training=false}"))[1]
  found = read.value(TensorRef.parse(ref))
  assert found == (value if value is None else pytest.approx(value))


def test_source_is_what_views_show():
  graph, _ = reader(
    "i = Identity(x) shape = Const() {value=<int32 [2] 2 -1>}"
    "r = Reshape(i, shape) c = Cast(r) n = Neg(c)"
  )
  assert origin_of(graph, TensorRef("c"), VIEWS) == TensorRef("x")
  assert origin_of(graph, TensorRef("n"), VIEWS) == TensorRef("n")
