# SPDX-License-Identifier: Apache-2.0
"""Weights as eight-bit integers in the file."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

import numpy as np

from bnexport.graph.nodes import constant, type_attr
from bnexport.model import Model
from bnexport.tf1 import tf1
from bnexport.transforms.quantizing.round_weights import (
  has_finite_range,
  large_constants,
)

_LEVELS = 256  # of quint8
# Their scalar inputs are ranges. They are small; with a `minimum_size` of 1
# they would be taken for weights.
_RANGED = ("Dequantize", "Quantize", "Requantiz", "FakeQuant")


@dataclasses.dataclass(frozen=True)
class QuantizeWeights:
  """A large float constant is stored as bytes, and read through Dequantize.

  The file gets about four times smaller; whoever reads the constant reads a
  float tensor of the same name. The mode is MIN_FIRST: the range holds 0 and
  is cut into 255 steps, and 0 is exact. A value changes by one step at most.
  Formulas: FloatToQuantized in TensorFlow's core/kernels/quantization_utils.h.

  Before: w = Const() {value=<float [1024] 0.5>}   y = Add(x, w)
  After:  y = Add(x, w)
          w = Dequantize(w_quantized_const, w_quantized_min, w_quantized_max)
              {T=quint8, mode="MIN_FIRST"}
          w_quantized_const = Const() {dtype=quint8}
          w_quantized_min = Const() {value=<float 0>}
          w_quantized_max = Const() {value=<float 0.5>}

  Leaves constants alone that hold NaN or infinity, or whose range overflows.

  Attributes:
    minimum_size: constants of fewer elements stay.
  """

  name: ClassVar[str] = "quantize_weights"
  minimum_size: int = 1024

  def apply(self, model: Model) -> List[str]:
    graph, told, count = model.graph, [], 0
    for node, values in large_constants(model, self.minimum_size):
      if _is_range(graph, node.name):
        continue
      if not has_finite_range(values):
        told.append(
          f"left constant '{node.name}' as it is: its range is not finite"
        )
        continue
      _quantize(graph, node, values)
      count += 1
    if count:
      told.append(f"quantized {count} constants to 8 bits")
    return told


def _is_range(graph, name):
  readers = graph.readers(name)
  return bool(readers) and all(
    graph.op(reader).startswith(_RANGED) for reader in readers
  )


def _quantize(graph, node, values):
  """Makes a Const a Dequantize of the same name."""
  name, control = node.name, graph.control_inputs(node.name)
  low, high = quantization_range(values)
  # Constants inside of a loop or branch are held there by control inputs.
  eight_bit = graph.add(
    "Const",
    name + "_quantized_const",
    control,
    {
      "dtype": type_attr(tf1.quint8),
      "value": _quint8_attr(quantize(values, low, high)),
    },
  )
  range_min = constant(graph, name + "_quantized_min", low, control=control)
  range_max = constant(graph, name + "_quantized_max", high, control=control)
  graph.become(
    name,
    "Dequantize",
    [eight_bit.name, range_min, range_max],
    {
      "T": type_attr(tf1.quint8),
      "mode": tf1.AttrValue(s=b"MIN_FIRST"),
    },
  )


def quantization_range(values):
  """The float32 range that a tensor is quantized in: it holds 0."""
  low = min(values.min(), np.float32(0))
  high = max(values.max(), np.float32(0))
  if low == high:  # all are 0, and a range of no width divides by 0
    high = np.float32(1)
  return low, high


def quantize(values, low, high):
  """uint8 of float32 values, the nearest steps, in float64."""
  step = np.float64(high - low) * (_LEVELS / (_LEVELS - 1.0))
  scale = _LEVELS / step
  levels = _rounded(values.astype(np.float64) * scale) - _rounded(low * scale)
  return np.clip(levels, 0, _LEVELS - 1).astype(np.uint8)


def _rounded(x):
  """C's round(): halves go away from 0."""
  whole = np.floor(np.abs(x))
  return np.copysign(whole + (np.abs(x) - whole >= 0.5), x)


def _quint8_attr(levels):
  attr = tf1.AttrValue()
  attr.tensor.dtype = tf1.quint8.as_datatype_enum
  for size in levels.shape:
    attr.tensor.tensor_shape.dim.add().size = size
  attr.tensor.tensor_content = levels.tobytes()
  return attr
