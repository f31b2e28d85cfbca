# SPDX-License-Identifier: Apache-2.0
"""Distances of stored statistics from those of data, and which are far."""

import dataclasses

import numpy as np
import pytest
from judges.norms import CONSTANTS, EPSILON, graph_of, norms_of

from bnexport.proof.runs import ImportedGraph
from bnexport.validation.data_statistics import DataStatistics, Distance

NEAR = Distance("y", 40, 0.1, 1.1, 1.0, 2.0)
GRAPH = CONSTANTS + (
  "x = Placeholder() {shape=[?,?,?,2]}   y = FusedBatchNorm(x, gamma, beta, "
  "mean, variance) {is_training=false, epsilon=0.01}"
)
# Far from the stored statistics, in either channel by another distance.
X = (
  np.random.RandomState(1)
  .normal([-1.0, 6.0], [4.0, 0.25], (50, 3, 2, 2))
  .astype(np.float32)
)


@pytest.mark.parametrize(
  "changed, is_far",
  [
    ({}, False),
    ({"shift": 0.6}, True),
    ({"shift": np.nan}, True),
    ({"ratio": 2.1}, True),
    ({"ratio": 1 / 2.1}, True),
    ({"ratio": 0.0}, True),
    ({"largest_shift": 5.1}, True),
    ({"extreme_ratio": 26.0}, True),
    ({"extreme_ratio": 1 / 26}, True),
    ({"extreme_ratio": 24.0}, False),
    ({"shift": 0.5, "ratio": 0.5, "largest_shift": 5.0}, False),
  ],
)
def test_far_is_beyond_any_limit(changed, is_far):
  assert dataclasses.replace(NEAR, **changed).is_far == is_far


@pytest.fixture
def collected():
  graph = graph_of(GRAPH)
  runner = ImportedGraph(graph.to_graph_def(), ["y"])
  yield DataStatistics(runner, graph, norms_of(graph))
  runner.close()


def test_distances_are_in_units_of_what_is_stored(collected):
  for rows in (X[:7], X[7:]):
    collected.add({"x": rows})
  (found,) = collected.distances()
  mean, variance = np.array([1.5, -3.0]), np.array([4.0, 0.7])
  wide = X.astype(np.float64)
  shifts = np.abs(wide.mean((0, 1, 2)) - mean) / np.sqrt(variance + EPSILON)
  ratios = (wide.var((0, 1, 2)) + EPSILON) / (variance + EPSILON)
  assert found.samples == X.size // 2
  assert found.shift == pytest.approx(np.median(shifts), 1e-4)
  assert found.largest_shift == pytest.approx(shifts.max(), 1e-4)
  assert found.ratio == pytest.approx(np.median(ratios), 1e-4)
  # The second channel's is below 1 by more than the first one's is above.
  assert found.extreme_ratio == pytest.approx(ratios[1], 1e-4)
  assert ratios[1] < 1 / ratios[0] < 1
  assert found.is_far


def test_one_sample_has_no_distance(collected):
  collected.add({"x": X[:1, :1, :1]})
  assert collected.distances() == []


def test_data_that_are_not_finite_have_no_distance(collected):
  collected.add({"x": np.full_like(X, np.nan)})
  assert collected.distances() == []
