# SPDX-License-Identifier: Apache-2.0
"""Sums with zeros and products with ones go."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List, Optional

import numpy as np

from bnexport.analysis.shapes import Shapes
from bnexport.graph import TensorRef
from bnexport.graph.nodes import type_attr
from bnexport.model import Model
from bnexport.transforms.folding.values import Constants
from bnexport.transforms.tidying.names import protected

# The operand that leaves the other one as it is, and where it may stand.
_ONE = {"Mul": (0, 1), "RealDiv": (1,), "Div": (1,)}
_ZERO = {"Add": (0, 1), "AddV2": (0, 1), "Sub": (1,), "BiasAdd": (1,)}
# Of more elements is no vector of one number a channel.
_LARGEST = 1 << 14


@dataclasses.dataclass(frozen=True)
class RemoveNeutralArithmetic:
  """Takes out sums, products and quotients that change nothing.

  One operand follows from constants and is 0, or 1, in all its elements, and
  does not make the other larger. Quantization-aware training corrects folded
  norms so, by batch statistics over stored ones; where both are the stored
  ones, converters that quantize take a convolution and its offset together
  only with nothing between them.

  Before: x = Placeholder() {shape=[?,2]}   a = Const() {value=<float [2] 4 9>}
          s = RealDiv(a, a)   m = Mul(x, s)   y = Relu(m)
  After:  y = Relu(x)
  """

  name: ClassVar[str] = "remove_neutral_arithmetic"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    order = graph.topological(model.needed())
    constants, shapes = Constants(model, order), Shapes(graph.clone())
    kept, removed = protected(model), []
    for name in order:
      other = _other(graph, name, constants, shapes)
      if other is None or graph.control_inputs(name):
        continue
      if name in kept:
        dtype = model.dtype(TensorRef(name))
        graph.become(name, "Identity", [other], {"T": type_attr(dtype)})
      else:
        graph.substitute({TensorRef(name): other})
        graph.substitute(
          {TensorRef(name, 0, True): other._replace(index=0, control=True)}
        )
        graph.remove([name])
      removed.append(name)
    if not removed:
      return []
    return [f"removed {len(removed)} sums and products that change nothing"]


def _other(graph, name, constants, shapes) -> Optional[TensorRef]:
  """The operand that a node gives again, or None."""
  op = graph.op(name)
  slots = _ONE.get(op) or _ZERO.get(op) or ()
  refs = graph.data_inputs(name)
  for slot in slots:
    other, ref = refs[1 - slot], refs[slot]
    if ref not in constants or other in constants:
      continue
    shape = constants.shape(ref)
    if shape is None or np.prod(shape) > _LARGEST:
      continue
    value = constants.value(ref)
    if value is None or not np.all(value == (op in _ONE)):
      continue
    if op == "BiasAdd" or _fits(value.shape, shapes.of(other)):
      return other
  return None


def _fits(shape, of_other):
  """Whether a tensor keeps its shape beside an operand of another one."""
  if not shape:
    return True
  if of_other is None or len(shape) > len(of_other):
    return False
  return all(
    size == 1 or size == other
    for size, other in zip(shape[::-1], of_other[::-1])
  )
