# SPDX-License-Identifier: Apache-2.0
"""Statistics of norms before and after, measured in small graphs."""

import types

import numpy as np
import pytest
from judges.norms import graph_of, norms_of

from bnexport.batchnorm.norm import BATCH, STORED, SWITCHED
from bnexport.graph import TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.model import Model
from bnexport.proof.runs import ImportedGraph
from bnexport.report.norm_statistics import collect, used_before
from bnexport.validation.data_statistics import DataStatistics

# Channels first and as many as columns: sizes alone do not tell the axis.
X = np.random.RandomState(5).normal(2.0, 3.0, (40, 3, 4, 3)).astype(np.float32)
X *= np.array([1, 5, 0.2], np.float32).reshape(1, 3, 1, 1)
FIRST = """
p = Placeholder() {shape=[?,3,4,3]}
x = Relu(p)
epsilon = Const() {value=<float 0.001>}
mean = Const() {value=<float [3] 1 2 3>}
variance = Const() {value=<float [3] 4 5 6>}
sum = Add(variance, epsilon)
r = Rsqrt(sum)
shift = Mul(mean, r)
less = Neg(shift)
shape = Const() {value=<int32 [4] 1 3 1 1>}
scales = Reshape(r, shape)
shifts = Reshape(less, shape)
scaled = Mul(x, scales)
y = Add(scaled, shifts)
"""
VALUES = np.maximum(X, 0).astype(np.float64)


@pytest.fixture
def runner():
  running = ImportedGraph(graph_of(FIRST).to_graph_def(), ["y"])
  yield running
  running.close()


def test_batch_is_measured_along_the_channels(runner):
  graph = graph_of(FIRST)
  export = types.SimpleNamespace(
    norms=norms_of(graph), unfolded=graph, original=None
  )
  (found,) = collect(export, [("the batch's", runner, graph)], {"p": X})
  assert (found.norm, found.before_is) == ("r", "the batch's")
  np.testing.assert_allclose(found.mean, [1, 2, 3])
  np.testing.assert_allclose(found.mean_before, VALUES.mean((0, 2, 3)), 1e-4)
  np.testing.assert_allclose(found.variance_before, VALUES.var((0, 2, 3)), 1e-4)


def test_data_are_measured_along_the_channels(runner):
  graph = graph_of(FIRST)
  collected = DataStatistics(runner, graph, norms_of(graph))
  assert collected.left_out == []
  for rows in (X[:15], X[15:]):
    collected.add({"p": rows})
  (distance,) = collected.distances()
  assert distance.samples == X.size // 3
  shifts = (VALUES.mean((0, 2, 3)) - [1, 2, 3]) / np.sqrt([4, 5, 6])
  assert distance.largest_shift == pytest.approx(np.abs(shifts).max(), 1e-3)


CHOSEN = """
x = Placeholder() {shape=[?,3,2,2]}
on = Placeholder() {dtype=bool, shape=[]}
one = Const() {value=<float [2] 1 1>}
none = Const() {value=<float [0]>}
rate = Const() {value=<float 0.1>}
gamma = VariableV2() {shape=[2]}
mm = VariableV2() {shape=[2]}
mv = VariableV2() {shape=[2]}
g = Identity(gamma)
m = Identity(mm)
v = Identity(mv)
s = Switch(x, on)
train = FusedBatchNorm(s:1, g, one, none, none) {is_training=true}
infer = FusedBatchNorm(s, g, one, m, v) {is_training=false}
y = Merge(infer, train)
dm = Sub(mm, train:1)   rm = Mul(dm, rate)   um = AssignSub(mm, rm)
dv = Sub(mv, train:2)   rv = Mul(dv, rate)   uv = AssignSub(mv, rv)
"""
BY_DATA = """
x = Placeholder() {shape=[?,3,2,2]}
domain = Placeholder() {dtype=int32, shape=[?]}
one = Const() {value=<float [2] 1 2>}
zero = Const() {value=<int32 0>}
all = Const() {value=<int32 [1] 0>}
largest = Max(domain, all)
is_b = Greater(largest, zero)
s = Switch(x, is_b)
a = FusedBatchNorm(s, one, one, one, one) {is_training=false}
b = FusedBatchNorm(s:1, one, one, one, one) {is_training=false}
y = Merge(a, b)
"""


def before(statements):
  outputs = (TensorRef("y"),)
  graph = graph_of(statements)
  return used_before(Model(graph, None, (), outputs, "", Signatures()))


def test_norm_that_a_phase_chooses_is_switched():
  assert before(CHOSEN) == {"infer": SWITCHED}


def test_norms_that_data_choose_among_keep_their_statistics():
  assert before(BY_DATA) == {"a": STORED, "b": STORED}


def test_norm_in_training_mode_uses_the_batch():
  text = (
    "x = Placeholder() {shape=[?,3,2,2]} one = Const() {value=<float [2] 1 1>} "
  )
  assert before(text + "y = FusedBatchNorm(x, one, one, one, one)") == {
    "y": BATCH
  }


def test_nothing_was_before_a_model_that_was_rebuilt():
  assert used_before(None) == {}
