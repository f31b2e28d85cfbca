# SPDX-License-Identifier: Apache-2.0
"""Mean and variance of a population, in whatever pieces it comes."""

import numpy as np
import pytest

from bnexport.calibration import moments
from bnexport.calibration.moments import Moments

# Far from zero, so that sums of squares would cancel.
X = np.random.RandomState(2).normal(1e4, 0.5, (7, 3, 2)).astype(np.float32)


def of(*parts, kept=(1,)):
  made = Moments()
  for part in parts:
    made.add(part, kept)
  return made


def assert_those_of(made, x, axes=(0, 2)):
  wide = x.astype(np.float64)
  np.testing.assert_allclose(made.mean, wide.mean(axes).reshape(-1), 1e-12)
  np.testing.assert_allclose(made.variance, wide.var(axes).reshape(-1), 1e-9)
  assert made.samples == x.size // made.mean.size


def test_batches():
  assert_those_of(of(X), X)
  assert_those_of(of(X[:1], X[1:5], X[5:5], X[5:]), X)


def test_merged():
  made, other = of(X[:3]), of(X[3:])
  made.merge(other)
  made.merge(Moments())
  assert_those_of(made, X)
  made = Moments()
  made.merge(other)
  assert_those_of(made, X[3:])


@pytest.mark.parametrize(
  "kept, axes", [((1,), (0, 2)), ((0,), (1, 2)), ((0, 2), (1,)), ((), None)]
)
def test_large_batches_go_in_parts_where_rows_are_reduced(
  monkeypatch, kept, axes
):
  monkeypatch.setattr(moments, "_MOST_ELEMENTS", 10)
  assert_those_of(of(X, kept=kept), X, axes)


def test_state_is_all_there_is():
  made = Moments.of_state(of(X[:3]).state)
  made.add(X[3:], (1,))
  assert_those_of(made, X)
  assert Moments.of_state(Moments().state).samples == 0


def test_numbers_that_are_not_finite_are_told():
  assert of(X).is_finite
  assert not of(X, np.full_like(X, np.inf)).is_finite
