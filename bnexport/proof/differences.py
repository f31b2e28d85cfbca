# SPDX-License-Identifier: Apache-2.0
"""How far two answers of one output are apart."""

from __future__ import annotations

import dataclasses

import numpy as np

# How far two right answers may be apart, relative to the largest element (at
# least 1): rounding in sums of some thousands of products.
TOLERANCE = {np.float16: 2e-2, np.float32: 1e-4, np.float64: 1e-9}
_BFLOAT16 = 8e-2


def tolerance(dtype):
  """Largest relative difference that is rounding, for a NumPy dtype."""
  if np.dtype(dtype).kind not in "fc" and np.dtype(dtype).name != "bfloat16":
    return 0.0
  return TOLERANCE.get(np.dtype(dtype).type, _BFLOAT16)


@dataclasses.dataclass(frozen=True)
class Difference:
  """How far apart two answers of one output are.

  Attributes:
    output: name of the tensor.
    largest: largest absolute difference; infinite where shapes differ or one
      is not a number.
    scale: largest magnitude of the reference, at least 1.
    limit: largest difference that is taken for rounding.
    magnitude: largest magnitude of the reference as it is.
  """

  output: str
  largest: float
  scale: float
  limit: float
  magnitude: float = 1.0

  @property
  def holds(self):
    return self.largest <= self.limit

  def __str__(self):
    return (
      f"{self.output}: largest difference {self.largest:.2g}, limit "
      f"{self.limit:.2g}"
    )


def difference(output, value, reference, least=0.0):
  """Compares two arrays.

  Args:
    output: the tensor's name.
    value: an array.
    reference: what it should be.
    least: largest relative difference that is rounding where arrays of this
      dtype were computed from coarser ones.
  """
  value, reference = np.asarray(value), np.asarray(reference)
  if value.shape != reference.shape or value.dtype != reference.dtype:
    return Difference(output, np.inf, 1.0, 0.0)
  if not value.size:
    return Difference(output, 0.0, 1.0, 0.0)
  if value.dtype.kind not in "fiuc":
    if value.dtype.name != "bfloat16":
      return Difference(output, float((value != reference).any()), 1.0, 0.0)
  if value.dtype.kind in "iu":
    # Exact; float64 would round large ones.
    wrong = value != reference
    apart = np.abs(value.astype(np.float64) - reference.astype(np.float64))
    largest = max(1.0, float(np.max(apart))) if wrong.any() else 0.0
    return Difference(output, largest, 1.0, 0.0)
  wide = np.complex128 if value.dtype.kind == "c" else np.float64
  a, b = value.astype(wide), reference.astype(wide)
  finite = np.isfinite(b)
  # As text, since a nan is not equal to a nan.
  if a[~finite].astype(str).tolist() != b[~finite].astype(str).tolist():
    return Difference(output, np.inf, 1.0, 0.0)
  if not finite.any():
    return Difference(output, 0.0, 1.0, 0.0)
  magnitude = float(np.max(np.abs(b[finite])))
  scale = max(1.0, magnitude)
  largest = float(np.max(np.abs(a[finite] - b[finite])))
  largest = largest if largest == largest else np.inf
  limit = max(tolerance(value.dtype), least) * scale
  return Difference(output, largest, scale, limit, magnitude)
