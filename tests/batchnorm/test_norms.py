# SPDX-License-Identifier: Apache-2.0
"""Where the statistics of norms come from, and what holds their averages."""

import dataclasses

import pytest
from judges.norms import graph_of

from bnexport.analysis.flow import Flow
from bnexport.batchnorm.norm import BATCH, STORED, SWITCHED
from bnexport.batchnorm.norms import batch_norms, channels_of
from bnexport.graph import TensorRef

GIVEN = """
x = Placeholder() {shape=[?,4,4,2]}
phase = Placeholder() {dtype=bool, shape=[]}
m = VariableV2() {dtype=float, shape=[2]}   mean = Identity(m)
v = VariableV2() {dtype=float, shape=[2]}   variance = Identity(v)
unused = VariableV2() {dtype=float, shape=[0]}
gamma = Const() {value=<float [2] 1 2>}   beta = Const() {value=<float [2] 3 4>}
none = Const() {value=<float [0]>}   axes = Const() {value=<int32 [3] 0 1 2>}
batch_mean = Mean(x, axes)
far = SquaredDifference(x, batch_mean)   batch_variance = Mean(far, axes)
"""
# A norm of the statistics M and V by hand.
NORM = """
epsilon = Const() {value=<float 0.01>}   centred = Sub(x, M)
above = Add(V, epsilon)   root = Rsqrt(above)   scale = Mul(root, gamma)
scaled = Mul(centred, scale)   y = Add(scaled, beta)
"""
# The training side of a conditional may come before or after the other.
SIDES = """
sides = Switch(phase, phase)   pivot = Identity(sides:1)
x1 = Switch(x, phase)   gamma1 = Switch(gamma, phase)
beta1 = Switch(beta, phase)   m1 = Switch(mean, phase)
v1 = Switch(variance, phase)   empty = Const(^pivot) {value=<float [0]>}
trained = FusedBatchNorm(%s, gamma1:1, beta1:1, empty, empty) {is_training=true}
served = FusedBatchNorm(x1, gamma1, beta1, m1, v1) {is_training=false}
y = Merge(served, trained)
"""
UPDATES = """
rate = Const() {value=<float 0.1>}   deviation = Sqrt(batch_variance)
off = Sub(mean, batch_mean)   less = Mul(off, rate)   up = AssignSub(m, less)
off1 = Sub(variance, %s)   less1 = Mul(off1, rate)   up1 = AssignSub(v, less1)
"""
OF_BATCH = NORM.replace("M)", "batch_mean)").replace("V,", "batch_variance,")
FUSED = "y = FusedBatchNorm(x, gamma, beta, %s) {is_training=true}"


def only(statements):
  flow = Flow(graph_of(GIVEN + statements))
  (norm,) = batch_norms(flow, ["y"])
  return flow.graph, norm


@pytest.mark.parametrize(
  "statements, statistics, averages",
  [
    (NORM.replace("M", "mean", 1).replace("V,", "variance,"), STORED, "mv"),
    (OF_BATCH, BATCH, None),
    (UPDATES % "batch_variance" + OF_BATCH, BATCH, "mv"),
    # The average is of the deviation, whose square is the variance.
    (UPDATES % "deviation" + OF_BATCH, BATCH, "m"),
    (
      "M = Select(phase, batch_mean, mean)"
      "  V = Select(phase, batch_variance, variance)" + NORM,
      SWITCHED,
      "mv",
    ),
    # Both sides of the choice are statistics of the batch.
    (
      "again = Identity(batch_mean)   M = Select(phase, batch_mean, again)"
      "  V = Select(phase, batch_variance, batch_variance)" + NORM,
      BATCH,
      None,
    ),
    # What is stored beside the batch's, and chosen by nothing, tracks nothing.
    (
      "M = Add(batch_mean, mean)   V = Add(batch_variance, variance)" + NORM,
      BATCH,
      None,
    ),
    # A variance that is computed of the stored mean is no variable.
    (
      "M = Identity(mean)   square = Square(mean)   V = Sub(mean, square)"
      + NORM,
      STORED,
      "m",
    ),
    (SIDES % "x1:1", SWITCHED, "mv"),
    ("later = Identity(x1:1, ^served)" + SIDES % "later", SWITCHED, "mv"),
    (FUSED % "none, none", BATCH, None),
    # TF 2 hands the averages to a norm that trains as well.
    (FUSED % "mean, variance", BATCH, "mv"),
    (FUSED % "unused, unused", BATCH, None),
  ],
)
def test_source_of_statistics(statements, statistics, averages):
  _, norm = only(statements)
  assert norm.statistics == statistics
  held = [name for name in (norm.moving_mean, norm.moving_variance) if name]
  assert held == list(averages or "")


@pytest.mark.parametrize("trained", ["x1:1", "later"])
def test_norm_of_inference_stands_for_both_sides(trained):
  statements = "later = Identity(x1:1, ^served)" + SIDES % trained
  assert only(statements)[1].name == "served"


@pytest.mark.parametrize("without", ["moving_mean", "moving_variance"])
def test_channels_are_told_by_either_average(without):
  graph, norm = only(FUSED % "mean, variance")
  one = dataclasses.replace(norm, variance=TensorRef("y"), **{without: None})
  assert channels_of(graph, one) == 2
  neither = dataclasses.replace(one, moving_mean=None, moving_variance=None)
  assert channels_of(graph, neither) is None


def test_channels_are_told_by_the_variance_in_use():
  text = "V = Const() {value=<float [2] 1 2>}" + NORM.replace(
    "M)", "batch_mean)"
  )
  graph, norm = only(text)
  assert norm.moving_mean is None
  assert channels_of(graph, norm) == 2
