# SPDX-License-Identifier: Apache-2.0
"""Differences of two answers of one output."""

from __future__ import annotations

import dataclasses

import numpy as np

# The spacing of numbers near 1.
_PRECISION = {
  "float16": 2.0**-10,
  "bfloat16": 2.0**-7,
  "float32": 2.0**-23,
  "float64": 2.0**-52,
  "complex64": 2.0**-23,
  "complex128": 2.0**-52,
}
# The most that rounding may be taken to do to two right answers, relative to
# the largest element (at least 1): rounding in sums of some thousands of
# products.
TOLERANCE = {np.float16: 2e-2, np.float32: 1e-4, np.float64: 1e-9}
_BFLOAT16 = 8e-2
# So many times the measured movement of an answer is rounding. Over the zoo,
# the difference of right answers is at most 0.4 of the movement.
_MOVEMENTS = 4
# Rounding of the last few operations, in the spacing of a column's numbers, and
# of those of the whole answer.
_OWN_UNITS, _UNITS = 16, 2


def is_float(dtype):
  """Whether a NumPy dtype holds real numbers that are rounded."""
  return np.dtype(dtype).kind == "f" or np.dtype(dtype).name == "bfloat16"


def precision(dtype):
  """Spacing of a floating NumPy dtype's numbers near 1."""
  return _PRECISION[np.dtype(dtype).name]


def tolerance(dtype):
  """Largest relative difference that may be rounding, for a NumPy dtype."""
  if not is_float(dtype) and np.dtype(dtype).kind != "c":
    return 0.0
  return TOLERANCE.get(np.dtype(dtype).type, _BFLOAT16)


def by_column(array):
  """The largest numbers of an array's columns, along its last axis.

  What answers for different things, such as boxes and scores, lies there in one
  array. An array without rows is one column.
  """
  axes = tuple(range(array.ndim - 1)) if array.ndim > 1 else None
  return np.max(array, axis=axes, initial=0.0)


@dataclasses.dataclass(frozen=True)
class Difference:
  """The distance of two answers of one output.

  Attributes:
    output: name of the tensor.
    largest: largest absolute difference, in the column that exceeds its limit
      most or comes nearest to it; infinite where shapes differ or one is not a
      number.
    limit: largest difference that is taken for rounding there.
  """

  output: str
  largest: float
  limit: float

  @property
  def holds(self):
    return self.largest <= self.limit

  def __str__(self):
    return (
      f"{self.output}: largest difference {self.largest:.2g}, limit "
      f"{self.limit:.2g}"
    )


def difference(output, value, reference, least=0.0, moved=None):
  """Compares two arrays.

  Args:
    output: the tensor's name.
    value: an array.
    reference: what it should be.
    least: largest relative difference that is rounding where arrays of this
      dtype were computed from coarser ones.
    moved: how far rounding moves each column, see `rounding.measured`; None
      where that was not measured.
  """
  value, reference = np.asarray(value), np.asarray(reference)
  if value.shape != reference.shape or value.dtype != reference.dtype:
    return Difference(output, np.inf, 0.0)
  if not value.size:
    return Difference(output, 0.0, 0.0)
  if value.dtype.kind in "iu":
    return _of_integers(output, value, reference, moved)
  if not is_float(value.dtype) and value.dtype.kind != "c":
    return Difference(output, float((value != reference).any()), 0.0)
  wide = np.complex128 if value.dtype.kind == "c" else np.float64
  a, b = value.astype(wide), reference.astype(wide)
  finite = np.isfinite(b)
  # As text, since a nan is not equal to a nan.
  if a[~finite].astype(str).tolist() != b[~finite].astype(str).tolist():
    return Difference(output, np.inf, 0.0)
  apart = by_column(np.abs(np.where(finite, a, 0) - np.where(finite, b, 0)))
  return Difference(output, *_worst(apart, limits(reference, least, moved)))


def limits(reference, least=0.0, moved=None):
  """The largest differences that are rounding, one for each column.

  Args:
    reference: an array of floats; numbers that are not finite count as 0.
    least: see `difference`.
    moved: see `difference`.
  """
  b = np.asarray(reference)
  wide = np.complex128 if b.dtype.kind == "c" else np.float64
  sizes = np.abs(b.astype(wide))
  sizes = by_column(np.where(np.isfinite(sizes), sizes, 0))
  magnitude = float(np.max(sizes))
  most = max(tolerance(b.dtype), least) * max(1.0, magnitude)
  found = np.full_like(sizes, most)
  if moved is None:
    return found
  unit = precision(b.dtype)
  own = _MOVEMENTS * moved + unit * (_OWN_UNITS * sizes + _UNITS * magnitude)
  return np.minimum(found, own)


def _of_integers(output, value, reference, moved):
  """Exact, but for what rounding makes another number before it is cut off."""
  wrong = value != reference  # float64 would round large ones
  apart = np.abs(value.astype(np.float64) - reference.astype(np.float64))
  apart = by_column(np.where(wrong, np.maximum(apart, 1.0), 0.0))
  limits = np.zeros_like(apart) if moved is None else moved
  return Difference(output, *_worst(apart, limits + 0.0 * apart))


def _worst(apart, limits):
  """Difference and limit of the column that is furthest beyond its limit."""
  apart, limits = np.ravel(apart), np.ravel(limits)
  apart = np.where(np.isnan(apart), np.inf, apart)
  with np.errstate(all="ignore"):
    worst = np.argmax(np.where(apart > 0, apart / limits, 0.0))
  return float(apart[worst]), float(limits[worst])
