# SPDX-License-Identifier: Apache-2.0
"""Kernels whose outputs are scaled, now or on their way to the file."""

from __future__ import annotations

import numpy as np

from bnexport.batchnorm import folding
from bnexport.model.stream import StoredValue


def kernel(old, is_deferred, out_axes, is_last, scale, dtype):
  """A scaled kernel: an array, or what gives one where the graph is written.

  Args:
    old: gives the kernel.
    is_deferred: whether it is called where the graph is written.
    out_axes: the kernel's axes that are the output's channels.
    is_last: whether that is its last one alone.
    scale: [channels]
    dtype: name of the kernel's dtype.

  Raises:
    CannotFold: the dtype can't hold it; that is told now in any case.
  """

  def make():
    return folding.scale_outputs(old(), out_axes, scale, dtype)

  if not is_deferred:
    return make()
  if is_last and isinstance(old, StoredValue):
    made = _ByRows(old, make, scale, dtype)
    if made.can_be():
      return made
  folding.check_outputs(old(), out_axes, scale, dtype)
  return make


class _ByRows:
  """A stored kernel [..., channels] that is scaled some rows at a time."""

  def __init__(self, stored, make, scale, dtype):
    self._stored, self._make = stored, make
    self._scale, self._dtype = scale, dtype

  def can_be(self):
    rows = self._rows()
    return rows is not None and folding.can_scale_rows(
      rows, self._scale, self._dtype
    )

  def _rows(self):
    if self._dtype == "bfloat16":  # NumPy has no such array
      return None
    return self._stored.rows(len(self._scale), np.dtype(self._dtype))

  def __call__(self):
    return self._make()

  def content(self):
    """The bytes and how many they are, or None; see StoredValue.content."""
    found, rows = self._stored.content(), self._rows()
    if found is None or rows is None:
      return None
    made = folding.scale_rows(rows, self._scale, self._dtype)
    return found[0], (array.reshape(-1).view(np.uint8).data for array in made)
