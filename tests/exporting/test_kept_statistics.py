# SPDX-License-Identifier: Apache-2.0
"""Norms whose moments are taken as TensorFlow 1.1 took them."""

import numpy as np
import pytest
from judges.transforming import answers, checkpoint, model_of

import bnexport

# Sums about a shift over the rows' count, as tf.nn.sufficient_statistics and
# normalize_moments have them.
SHIFTED = """
  x = Placeholder() {shape=[?,2]}
  w = VariableV2() {shape=[2]}   w/read = Identity(w)
  h = Mul(x, w/read)
  rows = Const() {value=<int32 [1] 0>}
  shift = Mean(h, rows) {keep_dims=%s}   stopped = StopGradient(shift)
  d = Sub(h, stopped)   s = Sum(d, rows)   q = SquaredDifference(h, stopped)
  t = Sum(q, rows)
  shape = Shape(h)   zero = Const() {value=<int32 [1] 0>}
  one = Const() {value=<int32 [1] 1>}
  part = StridedSlice(shape, zero, one, one) {shrink_axis_mask=1}
  n = Cast(part) {SrcT=int32, DstT=float}   m0 = RealDiv(s, n)
  mean = Add(m0, stopped)   t0 = RealDiv(t, n)   m2 = Square(m0)
  variance = Sub(t0, m2)
  epsilon = Const() {value=<float 0.001>}   v = Add(variance, epsilon)
  r = Rsqrt(v)   c = Sub(h, mean)   y = Mul(c, r)
"""
AVERAGES = """
  mm = VariableV2() {shape=[2]}   mv = VariableV2() {shape=[2]}
  rate = Const() {value=<float 0.1>}
  mm/read = Identity(mm)   m/d = Sub(mm/read, mean)   m/u = Mul(m/d, rate)
  m/a = AssignSub(mm, m/u)
  mv/read = Identity(mv)   v/d = Sub(mv/read, variance)   v/u = Mul(v/d, rate)
  v/a = AssignSub(mv, v/u)
"""
X = np.random.RandomState(2).randn(6, 2).astype("f") * 3 + 1


def opened(tmp_path, graph):
  saved = checkpoint(
    tmp_path, {"w": [2, 0.5], "mm": [1, -0.5], "mv": [3, 0.25]}
  )
  return model_of(graph, inputs=("x",), saved=saved)


@pytest.mark.parametrize("keep", ["true", "false"])
def test_what_keeps_the_batchs_statistics_is_named(tmp_path, keep):
  made = bnexport.export(opened(tmp_path, SHIFTED % keep))
  (said,) = made.model.warnings
  assert "keeps computing its own statistics" in said
  asked = bnexport.Options(keep_batch_statistics=(said.node,))
  made = bnexport.export(opened(tmp_path, SHIFTED % keep), asked)
  assert not any("no variable is" in line for line in made.model.warnings)


def test_their_averages_take_their_place(tmp_path):
  made = bnexport.export(opened(tmp_path, SHIFTED % "false" + AVERAGES))
  right = (X * [2, 0.5] - [1, -0.5]) / np.sqrt(np.array([3, 0.25]) + 1e-3)
  assert np.allclose(answers(made.model, {"x": X})[0], right, atol=1e-5)
  assert made.prove().holds
  assert not made.model.warnings
