# SPDX-License-Identifier: Apache-2.0
"""Norms that share variables have their averages in common."""

import pytest
from judges.norms import graph_of, norms_of

from bnexport.batchnorm.averages import Averages
from bnexport.batchnorm.norm import STORED
from bnexport.batchnorm.shared_norms import SharedNorms
from bnexport.batchnorm.stored import Stored
from bnexport.graph import TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.model import Model
from bnexport.transforms.inference.use_stored_statistics import (
  UseStoredStatistics,
)

VARIABLES = """
a = Placeholder() {shape=[?,3,2,2]}
b = Placeholder() {shape=[?,3,2,2]}
none = Const() {value=<float [0]>}
rate = Const() {value=<float 0.1>}
gamma = VariableV2() {shape=[2]}
beta = VariableV2() {shape=[2]}
other = VariableV2() {shape=[2]}
mm = VariableV2() {shape=[2]}
mv = VariableV2() {shape=[2]}
g = Identity(gamma)
h = Identity(beta)
o = Identity(other)
"""


def updates(mean, variance):
  return f"""
  dm = Sub(mm, {mean})
  rm = Mul(dm, rate)
  um = AssignSub(mm, rm)
  dv = Sub(mv, {variance})
  rv = Mul(dv, rate)
  uv = AssignSub(mv, rv)
  """


FUSED = (
  VARIABLES
  + """
first = FusedBatchNorm(a, g, h, none, none)
second = FusedBatchNorm(b, g, h, none, none)
third = FusedBatchNorm(b, o, o, none, none)
"""
  + updates("first:1", "first:2")
)


def spelled(name, x, gamma):
  return f"""
  {name}/m = Mean({x}, axes)
  {name}/d = SquaredDifference({x}, {name}/m)
  {name}/v = Mean({name}/d, axes)
  {name}/sum = Add({name}/v, epsilon)
  {name}/r = Rsqrt({name}/sum)
  {name}/scale = Mul({name}/r, {gamma})
  {name}/shift = Mul({name}/m, {name}/scale)
  {name}/x = Mul({x}, {name}/scale)
  {name}/y = Sub({name}/x, {name}/shift)
  """


SPELLED = (
  VARIABLES
  + "axes = Const() {value=<int32 [3] 0 1 2>}\n"
  + "epsilon = Const() {value=<float 0.001>}\n"
  + spelled("first", "a", "g")
  + spelled("second", "b", "g")
  + spelled("third", "b", "o")
  + updates("first/m", "first/v")
)


def of(text, *refs):
  """Variables that SharedNorms gives for tensors, by Averages of their own."""
  graph = graph_of(text)
  averages = Averages.read(graph, graph.names())
  shared = SharedNorms(graph, averages)
  refs = [TensorRef.parse(ref) for ref in refs]
  return [[a.variable for a in shared.of(ref)] for ref in refs]


@pytest.mark.parametrize(
  "text, mean, variance",
  [(FUSED, "second:1", "second:2"), (SPELLED, "second/m", "second/v")],
)
def test_second_norm_has_the_averages_of_the_first(text, mean, variance):
  assert of(text, mean, variance) == [["mm"], ["mv"]]
  averages = Averages.read(graph_of(text), graph_of(text).names())
  assert averages.of(TensorRef.parse(mean)) == []  # none of its own


@pytest.mark.parametrize(
  "text, mean, variance",
  [(FUSED, "third:1", "third:2"), (SPELLED, "third/m", "third/v")],
)
def test_norm_of_other_variables_has_none(text, mean, variance):
  assert of(text, mean, variance) == [[], []]


def test_both_norms_use_the_averages_of_one():
  """Also where one average is of the norm's output and one is not."""
  text = (
    FUSED.replace("first:2", "v")
    + "axes = Const() {value=<int32 [3] 0 1 2>} m = Mean(a, axes)\n"
    + "d = SquaredDifference(a, m) v = Mean(d, axes) y = Add(first, second)"
  )
  graph = graph_of(text)
  outputs = (TensorRef("y"),)
  model = Model(graph, None, (), outputs, "test", Signatures())
  UseStoredStatistics().apply(model)
  assert model.decisions.stored == {
    TensorRef("first", 1): Stored("mm"),
    TensorRef("first", 2): Stored("mv"),
    TensorRef("second", 1): Stored("mm"),
    TensorRef("second", 2): Stored("mv"),
  }
  for norm in norms_of(graph):
    assert norm.statistics == STORED
    assert (norm.moving_mean, norm.moving_variance) == ("mm", "mv")


def test_parameters_that_are_constants_are_not_shared():
  text = FUSED.replace("gamma = VariableV2() {shape=[2]}", "").replace(
    "beta = VariableV2() {shape=[2]}", ""
  )
  constant = "Const() {value=<float [2] 1 1>}"
  text = f"gamma = {constant}\nbeta = {constant}\n{text}"
  assert of(text, "second:1") == [[]]


def test_what_is_no_statistic_has_none():
  assert of(SPELLED, "a", "g", "second/scale") == [[], [], []]
