# SPDX-License-Identifier: Apache-2.0
"""Averages as sums and counts, by several updates, of groups, of no use."""

import pytest
from judges.norms import graph_of

from bnexport.batchnorm.averages import Averages
from bnexport.batchnorm.sequences import in_one
from bnexport.graph import TensorRef

GRAPH = """
x = Placeholder() {shape=[?,2]}
axes = Const() {value=<int32 [1] 0>}
first = Const() {value=<int32 0>}
rate = Const() {value=<float 0.1>}
rest = Const() {value=<float 0.9>}
one = Const() {value=<float 1>}
m = Mean(x, axes)
d = SquaredDifference(x, m)
v = Mean(d, axes)
mm = VariableV2() {shape=[2]}
mv = VariableV2() {shape=[2]}
n = VariableV2() {shape=[]}
table = VariableV2() {shape=[3,2]}
"""


def averages_of(statements, needed=("m", "v")):
  graph = graph_of(GRAPH + statements)
  return Averages.read(graph, graph.ancestors(needed))


def stored(averages, ref):
  found = averages.stored(averages.of(TensorRef(ref)))
  return [
    (one.variable, [step.op for step in one.steps], one.variables[1:])
    for one in found
  ]


def test_sum_of_means_over_a_count():
  averages = averages_of("u = AssignAdd(mm, m)   c = AssignAdd(n, one)")
  assert stored(averages, "m") == [("mm", ["RealDiv"], ("n",))]
  assert stored(averages, "v") == [] and averages.unexplained() == {}


def test_sum_without_a_count_is_unexplained():
  averages = averages_of("u = AssignAdd(mm, m)")
  assert stored(averages, "m") == []
  assert averages.unexplained() == {TensorRef("m"): ("mm", "u")}


def test_steps_of_training_are_no_count():
  averages = averages_of(
    """u = AssignAdd(mm, m)   w = VariableV2() {shape=[2]}
    t = ApplyGradientDescent(w, rate, m)   k = Const(^t) {value=<float 1>}
    c = AssignAdd(n, k)"""
  )
  assert stored(averages, "m") == []


def test_variance_of_two_moments():
  averages = averages_of(
    """a = Sub(mm, m) b = Mul(a, rate) u = AssignSub(mm, b)
    q = Square(x) s = Mean(q, axes)
    e = Sub(mv, s) f = Mul(e, rate) w = AssignSub(mv, f)"""
  )
  assert stored(averages, "v") == [("mv", ["Sub"], ("mm",))]
  assert stored(averages, "m") == [("mm", [], ())]


CHAINS = {
  "whole": """
    a = Mul(mm, rest)   p = Assign(mm, a)
    b = Mul(m, rate)   u = AssignAdd(mm, b, ^p)""",
  "by reference": """
    a = Mul(mm, rate)   p = AssignSub(mm, a)
    b = Mul(m, rate)   u = AssignAdd(p, b)""",
  "read between": """
    a = Mul(mm, rest)   p = Assign(mm, a)   r = Identity(mm, ^p)
    b = Mul(m, rate)   c = Add(r, b)   u = Assign(mm, c)""",
  "row": """
    row = Const() {value=<int32 1>}   k = Const() {value=<float [2] 0.9 0.9>}
    p = ScatterMul(table, row, k)
    b = Mul(m, rate)   u = ScatterAdd(table, row, b, ^p)""",
}


@pytest.mark.parametrize("chain", sorted(CHAINS))
def test_updates_that_follow_each_other_are_one(chain):
  averages = averages_of(CHAINS[chain])
  (found,) = averages.stored(averages.of(TensorRef("m")))
  assert found.variable == ("table" if chain == "row" else "mm")
  assert not found.steps and (found.part is None) == (chain != "row")


def test_updates_in_no_order_stay():
  text = CHAINS["whole"].replace(", ^p", "")
  graph = graph_of(GRAPH + text)
  assert in_one(graph, ["u"]) is graph
  assert in_one(graph, ["p", "u"]) is graph


def test_average_of_groups_is_theirs():
  averages = averages_of(
    """shape = Const() {value=<int32 [3] -1 2 2>}   g = Reshape(x, shape)
    second = Const() {value=<int32 [1] 1>}
    gm = Mean(g, second) {keep_dims=true}   y = Sub(g, gm)
    both = Const() {value=<int32 [2] 0 1>}   all = Mean(gm, both)
    a = Sub(mm, all) b = Mul(a, rate) u = AssignSub(mm, b)""",
    ("y",),
  )
  assert stored(averages, "gm") == [("mm", [], ())]


def test_pooled_features_are_no_groups():
  """Their mean over the batch is followed, and nothing is subtracted."""
  averages = averages_of(
    """shape = Const() {value=<int32 [3] -1 2 2>}   g = Reshape(x, shape)
    second = Const() {value=<int32 [1] 1>}
    gm = Mean(g, second)   y = Neg(gm)   all = Mean(gm, axes)
    a = Sub(mm, all) b = Mul(a, rate) u = AssignSub(mm, b)""",
    ("y",),
  )
  assert stored(averages, "gm") == []


def test_ring_of_batches_is_no_average():
  averages = averages_of(
    """k = VariableV2() {shape=[], dtype=int32}   i = Const() {value=<int32 1>}
    three = Const() {value=<int32 3>}   at = FloorMod(k, three)
    u = ScatterUpdate(table, at, m)   c = AssignAdd(k, i)"""
  )
  assert stored(averages, "m") == []
  assert averages.unexplained() == {TensorRef("m"): ("table", "u")}


def test_statistics_side_by_side_are_unexplained():
  averages = averages_of(
    """wide = VariableV2() {shape=[4]}   c = ConcatV2(m, v, first)
    a = Sub(wide, c) b = Mul(a, rate) u = AssignSub(wide, b)"""
  )
  assert set(averages.unexplained()) == {TensorRef("m"), TensorRef("v")}
