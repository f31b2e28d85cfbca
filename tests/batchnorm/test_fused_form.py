# SPDX-License-Identifier: Apache-2.0
"""What a FusedBatchNorm answers as a form of a norm."""

import numpy as np
import pytest
from judges.norms import (
  BETA,
  CONSTANTS,
  EPSILON,
  GAMMA,
  MEAN,
  VARIANCE,
  X,
  graph_of,
  normalised,
  norms_of,
  of_batch,
  only,
  run,
  with_other_statistics,
)

from bnexport.batchnorm.folding import CannotFold
from bnexport.batchnorm.form import Slot
from bnexport.batchnorm.forms import batch_statistic, op_form
from bnexport.batchnorm.norm import BATCH, STORED, UNKNOWN
from bnexport.graph import TensorRef

INPUT = "x = Placeholder() {shape=[?,3,2,2]}" + CONSTANTS


def norm(op="FusedBatchNorm", more="", statistics="mean, variance"):
  return graph_of(
    INPUT
    + "none = Const() {value=<float [0]>}\n"
    + f"y = {op}(x, gamma, beta, {statistics}) {{epsilon=0.01{more}}}"
  )


@pytest.mark.parametrize(
  "op", ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"]
)
def test_stored_statistics_are_found(op):
  found = only(norms_of(norm(op, ", is_training=false")))
  assert found.form.name == "fused"
  assert (found.name, found.x) == ("y", TensorRef("x"))
  assert (found.mean, found.variance) == (
    TensorRef("mean"),
    TensorRef("variance"),
  )
  assert found.statistics == STORED
  assert (found.moving_mean, found.moving_variance) == ("mean", "variance")
  assert found.epsilon == pytest.approx(EPSILON)


def test_statistics_of_the_batch_are_outputs():
  found = only(norms_of(norm(statistics="none, none")))
  assert found.statistics == BATCH
  assert (found.mean, found.variance) == (TensorRef("y", 1), TensorRef("y", 2))
  assert (found.moving_mean, found.moving_variance) == (None, None)


def test_attributes_that_are_left_out_have_defaults():
  graph = norm()
  for key in ("epsilon", "is_training"):
    del graph.node("y").attr[key]
  found = only(norms_of(graph))
  assert found.statistics == BATCH
  assert found.epsilon == pytest.approx(1e-4)


def test_statistics_computed_of_rows_are_unknown():
  """The form is the same; where statistics come from is another question."""
  graph = graph_of(
    INPUT
    + """
    all = Const() {value=<int32 [3] 1 2 0>}
    some = Const() {value=<int32 [2] 1 2>}
    rows = Mean(x, some)
    one = Const() {value=<int32 0>}
    row = Gather(rows, one)
    y = FusedBatchNorm(x, gamma, beta, row, variance) {is_training=false}
    """
  )
  found = only(norms_of(graph))
  assert (found.form.name, found.statistics) == ("fused", UNKNOWN)


@pytest.mark.parametrize(
  "shape, order",
  [
    ("[4] 1 3 2 -1", None),
    ("[4] 1 -1 3 2", "[4] 0 2 3 1"),
  ],
)
def test_norms_of_rows_are_none(shape, order):
  """Instance and group norms hand the op their rows as channels."""
  turned = f"turned = Transpose(h, {'order' if order else 'shape'})"
  graph = graph_of(
    INPUT
    + f"""
    shape = Const() {{value=<int32 {shape}>}}
    order = Const() {{value=<int32 {order or "[4] 0 1 2 3"}>}}
    h = Reshape(x, shape)
    {turned if order else "turned = Identity(h)"}
    y = FusedBatchNorm(turned, gamma, beta, mean, variance) {{is_training=true}}
    """
  )
  assert norms_of(graph) == []
  graph.node("y").attr["is_training"].b = False
  assert only(norms_of(graph)).statistics == STORED


def test_other_statistics_are_used_as_by_hand():
  graph = norm(statistics="none, none")
  found = only(norms_of(graph))
  batch = normalised(X, *of_batch(X))
  np.testing.assert_allclose(run(graph, {"x": X}), batch, 1e-3, 1e-4)
  with_other_statistics(graph, found, MEAN, VARIANCE)
  right = normalised(X, MEAN, VARIANCE)
  np.testing.assert_allclose(run(graph, {"x": X}), right, 1e-4, 1e-5)
  assert only(norms_of(graph)).statistics == STORED
  assert not np.allclose(right, batch, 1e-2)


def test_place_is_the_inputs_of_the_op():
  graph = norm()
  place = only(norms_of(graph)).form.place(graph, only(norms_of(graph)))
  assert place == ((Slot("y", 3),), (Slot("y", 4),), None)


def test_training_mode_comes_and_goes():
  node = norm("FusedBatchNormV3", ", exponential_avg_factor=0.9").node("y")
  form = op_form(node.op)
  form.to_inference(node)
  assert not node.attr["is_training"].b
  assert "exponential_avg_factor" not in node.attr  # unknown to TF 1
  form.to_training(node)
  assert node.attr["is_training"].b and form.computes_statistics


@pytest.mark.parametrize(
  "data_format, shape, axis",
  [
    ("NHWC", (6, 3, 2, 2), 3),
    ("NCHW", (6, 2, 3, 2), 1),
    ("NDHWC", (6, 3, 2, 4, 2), 4),
    ("NCDHW", (6, 2, 3, 4, 2), 1),
  ],
)
def test_channels_and_what_broadcasts_against_them(data_format, shape, axis):
  more = f", is_training=false, data_format={data_format}"
  graph = norm("FusedBatchNormV3", more)
  node, form = graph.node("y"), op_form("FusedBatchNormV3")
  assert form.channel_axes(node, shape, ()) == (axis,)
  affine = form.affine(node, [GAMMA, BETA, MEAN, VARIANCE], len(shape))
  x = np.random.RandomState(3).normal(size=shape)
  last = np.moveaxis(x, axis, -1)
  right = np.moveaxis(normalised(last, MEAN, VARIANCE), -1, axis)
  np.testing.assert_allclose(x * affine.scale + affine.shift, right, 1e-6)


def test_affine_of_vectors_that_differ_is_refused():
  node = norm().node("y")
  values = [GAMMA, BETA, np.zeros(3), VARIANCE]
  with pytest.raises(CannotFold, match="shapes"):
    op_form(node.op).affine(node, values, 4)


def test_parameters_are_scale_and_offset():
  graph = norm()
  form = op_form("FusedBatchNorm")
  assert form.scale(graph, "y") == TensorRef("gamma")
  assert form.parameters(graph, "y") == (TensorRef("gamma"), TensorRef("beta"))


def test_outputs_that_are_statistics_of_the_batch():
  graph = norm("FusedBatchNormV3", statistics="none, none")
  told = [batch_statistic(graph, TensorRef("y", i)) for i in range(5)]
  x = TensorRef("x")
  assert told == [None, (x, "mean"), (x, "variance"), None, None]
  for i, ddof in ((1, 0), (2, op_form("FusedBatchNormV3").ddof)):
    right = of_batch(X, ddof)[i - 1]
    np.testing.assert_allclose(run(graph, {"x": X}, f"y:{i}"), right, 1e-4)
  op_form("FusedBatchNormV3").to_inference(graph.node("y"))
  assert batch_statistic(graph, TensorRef("y", 1)) is None
