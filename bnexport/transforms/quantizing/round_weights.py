# SPDX-License-Identifier: Apache-2.0
"""Constants of few different values compress well."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

import numpy as np

from bnexport.errors import TransformError
from bnexport.graph.nodes import DEFERRED, element_count, tensor_attr
from bnexport.model import Model
from bnexport.tf1 import tf1

# Smaller ones are no weights but parameters of an op, and save nothing.
_SMALLEST = 16


@dataclasses.dataclass(frozen=True)
class RoundWeights:
  """A float constant has at most `num_steps` different values.

  Its range is cut into `num_steps` buckets of one width, and each value
  becomes the centre of its bucket: min + width * (i + 1/2). It changes by
  half a width at most; graph and size of the file stay, and what a zip makes
  of the file is smaller. In float32, as the Graph Transform Tool computed it,
  but for the largest value: there it was the centre of one bucket more, half a
  width above the range, so that num_steps + 1 values came of it.
  A constant of fewer elements than 16, of another dtype, or of no more
  different values than `num_steps` stays as it is.

  With:   round_weights(num_steps=2)
  Before: w = Const() {value=<float [16]
                              0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 16>}
          y = Add(x, w)
  After:  w = Const() {value=<float [16]
                              4 4 4 4 4 4 4 4 12 12 12 12 12 12 12 12>}
          y = Add(x, w)

  Leaves constants alone that hold NaN or
  infinity, or whose range overflows.

  Attributes:
    num_steps: how many values a constant may have.
  """

  name: ClassVar[str] = "round_weights"
  num_steps: int = 256

  def apply(self, model: Model) -> List[str]:
    if self.num_steps < 1:
      raise TransformError(
        "round weights",
        f"num_steps={self.num_steps} leaves no value",
        "give 1 or more",
      )
    rounded, told = 0, []
    for node, values in large_constants(model, _SMALLEST):
      if not has_finite_range(values):
        told.append(
          f"left constant '{node.name}' as it is: its range is not finite"
        )
      elif len(np.unique(values)) > self.num_steps:
        rounded_values = _round(values, self.num_steps)
        node.attr["value"].CopyFrom(tensor_attr(rounded_values))
        node.attr.pop(DEFERRED, None)
        rounded += 1
    if rounded:
      told.append(f"rounded {rounded} constants to {self.num_steps} values")
    return told


def large_constants(model, smallest):
  """Yields float32 constants of so many elements and more, with their values.

  They are decoded one at a time.
  """
  for node in model.graph:
    if node.op != "Const":
      continue
    tensor = node.attr["value"].tensor
    if tensor.dtype == tf1.float32.as_datatype_enum:
      if element_count(tensor) >= max(smallest, 1):
        yield node, model.array(node.name)


def has_finite_range(values):
  """Whether all values are finite, and the widest difference of two is."""
  with np.errstate(over="ignore", invalid="ignore"):
    return bool(np.isfinite(values.max() - values.min()))


def _round(values, num_steps):
  low = values.min()
  # A bucket of denormal width may round to 0 and hold everything.
  width = (values.max() - low) / np.float32(num_steps)
  width = width or np.finfo(np.float32).tiny
  bucket = np.floor((values - low) / width)
  # The largest value is the end of the last bucket, not one more bucket.
  bucket = np.minimum(bucket, np.float32(num_steps - 1))
  return low + width * (bucket + np.float32(0.5))
