# SPDX-License-Identifier: Apache-2.0
"""What a BatchNormWithGlobalNormalization answers as a form of a norm."""

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
  only,
  run,
  with_other_statistics,
)

from bnexport.batchnorm.folding import CannotFold
from bnexport.batchnorm.form import Slot
from bnexport.batchnorm.forms import batch_statistic, op_form
from bnexport.batchnorm.norm import BATCH, STORED
from bnexport.graph import TensorRef

OP = "BatchNormWithGlobalNormalization"


def norm(scale="true", mean="mean", more=""):
  # TensorFlow takes the op in graphs as old as the op is.
  return graph_of(
    "graph {producer=8} x = Placeholder() {shape=[?,3,2,2]}"
    + CONSTANTS
    + more
    + f"y = {OP}(x, {mean}, variance, beta, gamma) "
    + f"{{variance_epsilon=0.01, scale_after_normalization={scale}}}"
  )


def test_stored_statistics_are_found():
  found = only(norms_of(norm()))
  assert found.form.name == "global"
  assert (found.name, found.x) == ("y", TensorRef("x"))
  assert found.statistics == STORED
  assert (found.moving_mean, found.moving_variance) == ("mean", "variance")
  assert found.epsilon == pytest.approx(EPSILON)


def test_mean_of_the_batch_is_found():
  """The op has no training mode, and may be handed the batch's statistics."""
  more = "all = Const() {value=<int32 [3] 0 1 2>} m = Mean(x, all)\n"
  found = only(norms_of(norm(mean="m", more=more)))
  assert (found.statistics, found.mean) == (BATCH, TensorRef("m"))


@pytest.mark.parametrize("scale, gamma", [("true", GAMMA), ("false", 1.0)])
def test_other_statistics_are_used_as_by_hand(scale, gamma):
  graph = norm(scale)
  with_other_statistics(graph, only(norms_of(graph)), MEAN + 1, VARIANCE * 2)
  right = normalised(X, MEAN + 1, VARIANCE * 2, gamma)
  np.testing.assert_allclose(run(graph, {"x": X}), right, 1e-4, 1e-5)


def test_inference_is_all_there_is():
  graph = norm()
  before = graph.to_graph_def()
  form = op_form(OP)
  form.to_inference(graph.node("y"))
  assert graph.to_graph_def() == before
  assert not form.computes_statistics
  assert batch_statistic(graph, TensorRef("y")) is None


def test_place_is_the_inputs_of_the_op():
  graph = norm()
  found = only(norms_of(graph))
  place = found.form.place(graph, found)
  assert place == ((Slot("y", 1),), (Slot("y", 2),), None)


@pytest.mark.parametrize("scale, gamma", [("true", GAMMA), ("false", 1.0)])
def test_affine_is_what_the_op_does(scale, gamma):
  graph = norm(scale)
  values = [MEAN, VARIANCE, BETA, GAMMA]
  affine = op_form(OP).affine(graph.node("y"), values, 4)
  right = normalised(X, MEAN, VARIANCE, gamma)
  np.testing.assert_allclose(X * affine.scale + affine.shift, right, 1e-6)
  np.testing.assert_allclose(run(graph, {"x": X}), right, 1e-4, 1e-5)


def test_affine_without_gamma_takes_any_gamma():
  node = norm("false").node("y")
  values = [MEAN, VARIANCE, BETA, np.ones(5)]
  op_form(OP).affine(node, values, 4)
  with pytest.raises(CannotFold, match="shapes"):
    op_form(OP).affine(norm().node("y"), values, 4)


def test_channels_are_last():
  assert op_form(OP).channel_axes(norm().node("y"), (6, 3, 2, 2), ()) == (3,)


def test_parameters_are_gamma_and_beta_where_they_count():
  form, beta = op_form(OP), TensorRef("beta")
  assert form.parameters(norm(), "y") == (TensorRef("gamma"), beta)
  assert form.parameters(norm("false"), "y") == (beta,)
  assert form.scale(norm("false"), "y") is None
