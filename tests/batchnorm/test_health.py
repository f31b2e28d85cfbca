# SPDX-License-Identifier: Apache-2.0
"""States of stored statistics, and what is made of them."""

import numpy as np
import pytest
from judges.norms import graph_of, norms_of

from bnexport.batchnorm.health import (
  NEGATIVE,
  NEVER_UPDATED,
  NOT_FINITE,
  OK,
  ZERO,
  examine,
  health,
  look,
)
from bnexport.errors import TransformError
from bnexport.graph import TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.model import Model


def norm(mean, variance, more=""):
  return graph_of(
    f"""
    x = Placeholder() {{shape=[?,3,2,2]}}
    one = Const() {{value=<float [2] 1 1>}}
    mean = Const() {{value=<float [2] {mean}>}}
    variance = Const() {{value=<float [2] {variance}>}}
    y = FusedBatchNorm(x, one, one, mean, variance)
        {{is_training=false, epsilon=0.01{more}}}
    """
  )


def model_of(graph):
  refs = (TensorRef("y"),)
  return Model(graph, None, (), refs, "test", Signatures())


@pytest.mark.parametrize(
  "mean, variance, state",
  [
    ("0 1", "1 2", OK),
    ("0 0", "1 1", NEVER_UPDATED),
    ("0 0.1", "1 1", OK),
    ("0 nan", "1 1", NOT_FINITE),
    ("0 1", "inf -1", NOT_FINITE),  # the worst that applies
    ("0 1", "1 -0.5", NEGATIVE),
    ("0 1", "1 -0.01", NEGATIVE),  # with epsilon it is 0
    ("0 1", "1 -0.005", OK),
    ("0 1", "1 0", ZERO),
  ],
)
def test_states(mean, variance, state):
  mean_array, variance_array = (
    np.array(text.split(), float) for text in (mean, variance)
  )
  assert health(mean_array, variance_array, 0.01) == state
  graph = norm(mean, variance)
  assert look(graph, norms_of(graph)) == {"y": state}


def test_norms_of_the_batch_have_no_state():
  graph = norm("0 0", "1 1")
  graph.node("y").attr["is_training"].b = True
  assert look(graph, norms_of(graph)) == {}


@pytest.mark.parametrize("mean, variance", [("nan 0", "1 1"), ("0 0", "-1 1")])
def test_statistics_of_no_use_are_refused(mean, variance):
  graph = norm(mean, variance)
  with pytest.raises(TransformError, match="norm 'y'.*'mean'.*'variance'"):
    examine(model_of(graph), norms_of(graph))


@pytest.mark.parametrize("mean, variance", [("0 0", "1 1"), ("0 1", "0 1")])
def test_doubtful_statistics_are_warned_of(mean, variance):
  graph = norm(mean, variance)
  model = model_of(graph)
  states = examine(model, norms_of(graph))
  (line,) = model.warnings
  assert states["y"] in line and "'y'" in line


def test_right_statistics_are_not_spoken_of():
  graph = norm("0 1", "1 2")
  model = model_of(graph)
  assert examine(model, norms_of(graph)) == {"y": OK}
  assert model.warnings == []
