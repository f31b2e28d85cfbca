# SPDX-License-Identifier: Apache-2.0
"""Mean and variance of a population that comes in batches."""

from __future__ import annotations

import numpy as np

# Elements made float64 at a time: 32 MB.
_MOST_ELEMENTS = 1 << 22


class Moments:
  """Mean and population variance of values seen so far.

  Batches are merged by the pairwise update of Chan, Golub and LeVeque
  ("Updating Formulae and a Pairwise Algorithm for Computing Sample
  Variances", 1979), so neither a large mean nor many batches lose digits:

    d = mean_b - mean_a     mean = mean_a + d * n_b / n
    m2 = m2_a + m2_b + d^2 * n_a * n_b / n

  Means are kept as their distance from the first one, which is smaller.

  Attributes:
    samples: how many values each element of the mean is the mean of.
  """

  def __init__(self):
    self.samples = 0
    self._first = None
    self._mean = 0.0
    self._m2 = 0.0

  @property
  def mean(self):
    """float64, one axis; there is none before the first value."""
    return self._first + self._mean

  @property
  def variance(self):
    """Population variance: divided by the number of samples."""
    return self._m2 / self.samples

  @property
  def is_finite(self):
    return bool(np.isfinite(self._mean).all() and np.isfinite(self._m2).all())

  @property
  def state(self):
    """The moments as arrays by name; `of_state` takes them."""
    if self._first is None:
      return {"samples": np.int64(0)}
    return {
      "samples": np.int64(self.samples),
      "first": self._first,
      "mean": self._mean,
      "m2": self._m2,
    }

  @classmethod
  def of_state(cls, state):
    """The Moments of a `state`."""
    made = cls()
    made.samples = int(state["samples"])
    if made.samples:
      made._first, made._mean = state["first"], state["mean"]
      made._m2 = state["m2"]
    return made

  def add(self, x, kept):
    """Takes in a batch.

    Args:
      x: array of any float dtype.
      kept: axes that are not reduced, ascending; their sizes are the same
        each time.
    """
    parts = [x]
    if x.ndim and 0 not in kept and x.size > _MOST_ELEMENTS:
      count = min(len(x), -(-x.size // _MOST_ELEMENTS))
      parts = np.array_split(x, count)
    axes = tuple(axis for axis in range(x.ndim) if axis not in kept)
    for part in parts:
      if part.size:
        self._add(part.astype(np.float64), axes)

  def merge(self, other):
    """Takes in all that another one has seen; the order changes rounding only.

    Args:
      other: Moments of arrays whose kept axes had the same sizes.
    """
    if not other.samples:
      return
    if self._first is None:
      self._first = other._first
    self._take(
      other._mean + (other._first - self._first), other._m2, other.samples
    )

  def _add(self, x, axes):
    with np.errstate(over="ignore", invalid="ignore"):  # see is_finite
      if self._first is None:
        self._first = x.mean(axis=axes).reshape(-1)
      sizes = [1 if i in axes else size for i, size in enumerate(x.shape)]
      x = x - self._first.reshape(sizes)
      mean = x.mean(axis=axes, keepdims=True)
      m2 = np.square(x - mean).sum(axis=axes).reshape(-1)
      self._take(mean.reshape(-1), m2, x.size // mean.size)

  def _take(self, mean, m2, samples):
    """Merges moments about the first mean."""
    with np.errstate(over="ignore", invalid="ignore"):
      apart = mean - self._mean
      total = self.samples + samples
      self._mean = self._mean + apart * (samples / total)
      self._m2 = (
        self._m2 + m2 + np.square(apart) * (self.samples * samples / total)
      )
      self.samples = total
