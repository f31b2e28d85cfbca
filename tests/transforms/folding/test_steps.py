# SPDX-License-Identifier: Apache-2.0
"""Steps: nodes that scale and shift each channel by constants."""

import numpy as np
import pytest
from judges.transforming import model_of

from bnexport.batchnorm.folding import CannotFold
from bnexport.transforms.folding.steps import Steps
from bnexport.transforms.folding.values import Constants

BASE = """
  x = Placeholder() {shape=[?,4,4,2]}   z = Placeholder() {shape=[?,4,4,2]}
  c = Const() {value=<float [2] 2 4>}   m = Const() {value=<float [2] 1 -1>}
  v = Const() {value=<float [2] 3 8>}   g = Const() {value=<float [2] 6 9>}
  d = Const() {value=<double [2] 2 4>}   i = Placeholder() {dtype=int32}
"""


def steps_of(statements):
  model = model_of(BASE + statements)
  order = model.graph.topological()
  return model.graph, Steps(model.graph, Constants(model, order))


# What each step does: scale and shift of channels 0 and 1.
AFFINE = {
  "Mul(x, c)": ([2, 4], [0, 0]),
  "Mul(c, x)": ([2, 4], [0, 0]),
  "RealDiv(x, c)": ([0.5, 0.25], [0, 0]),
  "Add(x, c)": ([1, 1], [2, 4]),
  "AddV2(c, x)": ([1, 1], [2, 4]),
  "BiasAdd(x, c)": ([1, 1], [2, 4]),
  "Sub(x, c)": ([1, 1], [-2, -4]),
  "Sub(c, x)": ([-1, -1], [2, 4]),
  "Neg(x)": ([-1, -1], [0, 0]),
  "Identity(x)": ([1, 1], [0, 0]),
  "FusedBatchNorm(x, g, c, m, v) {is_training=false, epsilon=1}": (
    [3, 3],
    [-1, 7],
  ),
  "BatchNormWithGlobalNormalization(x, m, v, c, g) {variance_epsilon=1,"
  " scale_after_normalization=true}": ([3, 3], [-1, 7]),
  "BatchNormWithGlobalNormalization(x, m, v, c, g) {variance_epsilon=1,"
  " scale_after_normalization=false}": ([0.5, 1 / 3], [1.5, 13 / 3]),
}


@pytest.mark.parametrize("call", AFFINE)
def test_what_a_step_does(call):
  _, steps = steps_of("y = " + call)
  assert str(steps.input_of("y")) == "x"
  scale, shift = (
    np.broadcast_to(array, [2]) for array in steps.affine("y", 4)[:2]
  )
  np.testing.assert_allclose(scale, AFFINE[call][0])
  np.testing.assert_allclose(shift, AFFINE[call][1])


def test_epsilon_that_is_not_stated_is_the_ops_default():
  graph, steps = steps_of(
    "y = FusedBatchNorm(x, g, c, m, v) {is_training=false}"
  )
  graph.node("y").attr.pop("epsilon")
  np.testing.assert_allclose(
    steps.affine("y", 4).scale, [6 / 3.0001**0.5, 9 / 8.0001**0.5]
  )


@pytest.mark.parametrize(
  "call",
  [
    "Mul(x, z)",  # two inputs
    "Add(c, c)",  # none
    "RealDiv(c, x)",
    "BiasAdd(c, x)",
    "Relu(x)",
    "FusedBatchNorm(x, g, c, m, v) {is_training=true}",
    "FusedBatchNorm(x, g, z, m, v) {is_training=false}",
    "Add(i, i)",
  ],
)
def test_what_is_no_step(call):
  _, steps = steps_of("y = " + call)
  assert steps.input_of("y") is None


@pytest.mark.parametrize(
  "call, shape",
  [
    ("BiasAdd(x, c) {data_format=NCHW}", (2, 1, 1)),
    ("BiasAdd(x, c) {data_format=NHWC}", (2,)),
    (
      "FusedBatchNorm(x, g, c, m, v) {is_training=false, data_format=NCHW}",
      (2, 1, 1),
    ),
  ],
)
def test_vectors_broadcast_along_the_channels(call, shape):
  _, steps = steps_of("y = " + call)
  assert steps.affine("y", 4).shift.shape == shape


@pytest.mark.parametrize(
  "call, is_one",
  [
    ("Mul(x, c)", True),
    ("Mul(x, s)", False),
    ("RealDiv(x, c)", True),
    ("Add(x, c)", False),
    ("FusedBatchNorm(x, g, c, m, v) {is_training=false}", True),
  ],
)
def test_scales_of_their_own(call, is_one):
  _, steps = steps_of("s = Const() {value=<float 3>}   y = " + call)
  assert steps.is_scale("y") == is_one


@pytest.mark.parametrize(
  "call, reason",
  [
    ("(x, g, c, m, v) {is_training=true}", "it is in training mode"),
    ("(x, z, c, m, v) {is_training=false}", "its scale 'z' is not constant"),
    ("(x, g, c, z, v) {is_training=false}", "its mean 'z' is not constant"),
    ("(x, g, c, m, z) {is_training=false}", "its variance 'z' is not constant"),
    ("(c, g, c, m, v) {is_training=false}", "x is constant"),
  ],
)
def test_why_a_norm_is_no_step(call, reason):
  graph, steps = steps_of("y = FusedBatchNorm" + call)
  assert steps.why_none(graph.node("y")) == reason


def test_vectors_of_different_lengths_are_refused():
  _, steps = steps_of(
    "t = Const() {value=<float [3] 1 2 3>}"
    "  y = FusedBatchNorm(x, g, c, m, t) {is_training=false}"
  )
  with pytest.raises(CannotFold, match="shapes"):
    steps.affine("y", 4)


def test_few_constants_do_not_make_many_elements():
  graph, steps = steps_of("""
    n = Const() {value=<int32 [2] 4096 4096>}   k = Const() {value=<float 2>}
    f = Fill(n, k)   y = Mul(x, f)
  """)
  assert not steps.is_scale("y")
  with pytest.raises(CannotFold, match="the value of 'f' is not computed"):
    steps._values(graph.node("y"))
