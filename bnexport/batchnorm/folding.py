# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of folding: kernels that do what scale * x + shift did.

All of it is done in float64 and rounded once, to the dtype of the kernel.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np

# Spacing of numbers near 1, and the smallest number that has all its bits.
_PRECISION = {
  "float16": (2.0**-10, 2.0**-14),
  "bfloat16": (2.0**-7, 2.0**-126),
  "float32": (2.0**-23, 2.0**-126),
  "float64": (2.0**-52, 2.0**-1022),
}
# What folding a shift forward may add to an answer, relative to 1: a tenth of
# what differences.TOLERANCE takes for rounding.
_LARGEST_ERROR = {"float16": 2e-3, "bfloat16": 8e-3, "float32": 1e-5}


class CannotFold(Exception):
  """A reason, as a clause, why a norm stays."""


class Affine(NamedTuple):
  """y = scale * x + shift; float64 arrays that broadcast against x.

  Attributes:
    scale: the factor.
    shift: what is added.
    spread: how large y is, up to a small factor; None where nothing tells.
  """

  scale: np.ndarray
  shift: np.ndarray
  spread: Optional[np.ndarray] = None

  def then(self, other: Affine) -> Affine:
    """This, and `other` of what it gives."""
    spread = other.spread
    if spread is None and self.spread is not None:
      spread = self.spread * np.abs(other.scale)
    return Affine(
      self.scale * other.scale,
      self.shift * other.scale + other.shift,
      spread,
    )


def norm(gamma, beta, mean, variance, epsilon) -> Affine:
  """gamma * (x - mean) / sqrt(variance + epsilon) + beta

  Ioffe and Szegedy 2015, algorithm 2.
  """
  with np.errstate(all="ignore"):
    scale = gamma / np.sqrt(variance + epsilon)
    return Affine(scale, beta - mean * scale, np.abs(gamma) + np.abs(beta))


def per_channel(array, rank, axis, width):
  """An operand of a tensor as one number a channel: a [width] vector.

  Args:
    array: broadcasts against the tensor from the right.
    rank: of the tensor.
    axis: where its channels are.
    width: how many they are.

  Raises:
    CannotFold: it tells more apart than channels, or has another number.
  """
  if array.ndim > rank:
    raise CannotFold(f"its operand has {array.ndim} axes and x {rank}")
  shape = (1,) * (rank - array.ndim) + array.shape
  if any(size != 1 for i, size in enumerate(shape) if i != axis):
    raise CannotFold(
      f"its operand of shape {list(array.shape)} is not one number a channel"
    )
  if array.size not in (1, width):
    raise CannotFold(
      f"its operand has {array.size} numbers for {width} channels"
    )
  return np.broadcast_to(array.reshape(-1), (width,))


def check_finite(affine):
  """Raises CannotFold where a scale or shift is infinite or not a number."""
  for what, vector in zip(("scale", "shift"), affine):
    wrong = np.flatnonzero(~np.isfinite(vector))
    if wrong.size:
      raise CannotFold(
        f"its {what} is {vector[wrong[0]]} in channel {wrong[0]}"
      )


def check_cancellation(affine, dtype):
  """Raises CannotFold where a norm centres what is far off its centre.

  The norm takes the mean from x itself; a kernel behind it would multiply x
  first, round, and subtract large numbers from each other.
  """
  spread = 1.0 if affine.spread is None else np.maximum(affine.spread, 1e-30)
  ratio = float(np.max(np.abs(affine.shift) / spread, initial=0.0))
  if ratio * _PRECISION[dtype][0] > _LARGEST_ERROR.get(dtype, 1e-9):
    raise CannotFold(
      f"it takes away {ratio:.2g} times what it leaves, which {dtype} can't "
      "do behind a kernel"
    )


def scale_outputs(kernel, out_axes, scale, dtype):
  """A kernel whose answers are `scale` times those of `kernel`.

  Args:
    kernel: an array.
    out_axes: its axes that, flattened, are the output's channels.
    scale: [channels]
    dtype: name of the new kernel's dtype.

  Raises:
    CannotFold: the dtype can't hold it.
  """
  check_outputs(kernel, out_axes, scale, dtype)
  kernel, factor = _widened(kernel), _by_outputs(scale, kernel.shape, out_axes)
  if dtype == "bfloat16":  # NumPy has no such array to write to
    return _rounded(kernel * factor, dtype)
  return _scaled(kernel, factor, dtype)


def scale_rows(rows, scale, dtype):
  """Yields what `scale_outputs` makes of arrays [rows, channels], unchecked."""
  for array in rows:
    yield _scaled(array, scale, dtype)


def _scaled(array, factor, dtype):
  made = np.empty(array.shape, dtype)
  with np.errstate(all="ignore"):
    # Float64 a few numbers at a time: all of them are twice the kernel.
    np.multiply(array, factor, made, dtype=np.float64, casting="same_kind")
  return made


def check_outputs(kernel, out_axes, scale, dtype):
  """Raises CannotFold where `scale_outputs` does, without making the kernel."""
  kernel, factor = _widened(kernel), _by_outputs(scale, kernel.shape, out_axes)
  others = tuple(i for i in range(kernel.ndim) if i not in out_axes)
  if not _keeps_precision(_peak(kernel, others).reshape(-1), scale, dtype):
    narrow(kernel * factor, dtype, out_axes, kernel)


def can_scale_rows(rows, scale, dtype):
  """Whether `scale_rows` may take the place of `scale_outputs`.

  Args:
    rows: arrays [rows, channels] of the whole kernel.
    scale: [channels]
    dtype: name of the new kernel's dtype.

  Raises:
    CannotFold: neither can, the numbers are too large.
  """
  peak = np.zeros(scale.shape)
  for array in rows:
    peak = np.maximum(peak, _peak(array, (0,)))
  return _keeps_precision(peak, scale, dtype)


def _keeps_precision(peak, scale, dtype):
  """Whether a dtype holds a scaled kernel as well as it held the kernel.

  Multiplying and rounding keep an order, so that the largest number of a
  channel stands for the others.

  Args:
    peak: the largest magnitude of each channel.
    scale: [channels]
    dtype: name of the new kernel's dtype.

  Raises:
    CannotFold: the numbers are too large.
  """
  with np.errstate(all="ignore"):
    return not _are_small(peak * np.abs(scale), dtype).any()


def _by_outputs(scale, shape, out_axes):
  """A number for each output channel, broadcast against a kernel."""
  return scale.reshape([n if i in out_axes else 1 for i, n in enumerate(shape)])


def absorb_inputs(kernel, in_axis, out_axes, affine, dtype):
  """A kernel that takes x where `kernel` took scale * x + shift.

  Args:
    kernel: an array.
    in_axis: its axis that is the input's channels, of each group by itself
      where the convolution is grouped.
    out_axes: as for scale_outputs. The axis `in_axis` among them means that
      each channel is convolved by itself.
    affine: scale and shift of shape [channels of x].
    dtype: name of the new kernel's dtype.

  Returns:
    The kernel, and what the answers lack: float64, [channels of the output].
    That is exact where no zeros are put around x.

  Raises:
    CannotFold: the dtype can't hold it, or numbers of channels do not fit.
  """
  kernel = _widened(kernel)
  scale, shift = (
    _by_taps(vector, kernel.shape, in_axis, out_axes)
    for vector in (affine.scale, affine.shift)
  )
  kept = set(out_axes)
  summed = tuple(i for i in range(kernel.ndim) if i not in kept)
  with np.errstate(all="ignore"):
    lacking = np.sum(kernel * shift, axis=summed).reshape(-1)
  return narrow(kernel * scale, dtype, (in_axis,), kernel), lacking


def _by_taps(vector, shape, in_axis, out_axes):
  """A number for each input channel, broadcast against a kernel."""
  taps = shape[in_axis]
  if len(vector) == taps:
    return vector.reshape(
      [taps if i == in_axis else 1 for i in range(len(shape))]
    )
  out_axis = out_axes[-1]
  groups = len(vector) // max(taps, 1)
  if (
    groups < 1
    or groups * taps != len(vector)
    or in_axis in out_axes
    or in_axis > out_axis
    or shape[out_axis] % groups
  ):
    raise CannotFold(f"x has {len(vector)} channels and the kernel {taps}")
  # Output channels of a group stand together, as its input channels do.
  table = np.repeat(
    vector.reshape(groups, taps).T, shape[out_axis] // groups, axis=1
  )
  return table.reshape(
    [n if i in (in_axis, out_axis) else 1 for i, n in enumerate(shape)]
  )


def narrow(wide, dtype, axes, before=None):
  """Rounds to a dtype; only what that costs in precision is refused.

  Args:
    wide: float64.
    dtype: name of a floating dtype.
    axes: each place along these has a scale of its own; None where size does
      not matter.
    before: what `wide` was made of; where that had lost its precision, the
      same may happen again.

  Returns:
    Numbers that the dtype holds, as that dtype; bfloat16 ones, which NumPy
    lacks, as float32.

  Raises:
    CannotFold: there are infinite numbers, or too small ones.
  """
  epsilon, tiny = _PRECISION[dtype]
  rounded = _rounded(wide, dtype)
  others = tuple(i for i in range(wide.ndim) if i not in (axes or ()))
  peak = _peak(wide, others)
  if not _are_small(peak, dtype).any() or axes is None:
    return rounded
  held = _held(wide, rounded, dtype, tiny)
  lost = np.max(np.abs(held - wide), axis=others) > epsilon * peak
  if before is not None:
    lost &= np.max(np.abs(before), axis=others) >= tiny
  if lost.any():
    raise CannotFold(f"{dtype} can't hold a kernel as small as it makes it")
  return rounded


def _peak(array, axes):
  """The largest magnitude along axes; not a number where there is none."""
  return np.maximum(
    np.max(array, axis=axes, initial=0.0),
    -np.min(array, axis=axes, initial=0.0),
  )


def _are_small(peak, dtype):
  """Whether numbers up to a peak may lose their precision in a dtype.

  Raises:
    CannotFold: they are too large for it.
  """
  if not np.isfinite(_rounded(peak, dtype)).all():
    raise CannotFold(f"{dtype} can't hold the numbers it would take")
  epsilon, tiny = _PRECISION[dtype]
  return (peak < tiny / epsilon) & (peak > 0)


def _held(wide, rounded, dtype, tiny):
  """The numbers that TensorFlow's threads compute with.

  Those below the smallest normal one are taken for zero; float16 is computed
  in float32.
  """
  if dtype == "float16":
    return rounded
  return np.where(np.abs(wide) < tiny, 0.0, rounded)


def _rounded(wide, dtype):
  """Rounds to the nearest; see `narrow`."""
  with np.errstate(all="ignore"):
    if dtype == "bfloat16":
      return _to_bfloat16(wide)
    return wide.astype(dtype)


def _widened(kernel):
  """A kernel that gives float64 when it is multiplied with it."""
  # bfloat16 is no floating dtype to NumPy.
  return kernel if kernel.dtype.kind == "f" else kernel.astype(np.float64)


def _to_bfloat16(wide):
  """Rounds to the nearest bfloat16, half to even."""
  single = np.ascontiguousarray(wide, np.float32)
  bits = single.view(np.uint32).astype(np.uint64)
  bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
  rounded = bits.astype(np.uint32).view(np.float32)
  return np.where(np.isnan(single), single, rounded)
