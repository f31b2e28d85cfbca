# SPDX-License-Identifier: Apache-2.0
"""Batch statistics as stored variables give them.

Mostly a variable is the average of the statistic itself. It may also hold a
row for each time step or domain, or track what is computed from the statistic,
such as its logarithm, which is then undone.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Optional, Tuple, Union

import numpy as np

from bnexport.graph import Graph, TensorRef
from bnexport.graph.contexts import Contexts, Frame
from bnexport.graph.nodes import (
  Signatures,
  int_attr,
  output_dtypes,
  type_attr,
)
from bnexport.graph.variables import read
from bnexport.graph.writes import ELEMENTS, MASKS, PIECE, ROWS, SLICE, Part
from bnexport.text import Emitter
from bnexport.tf1 import tf1

_PARTS = {
  ROWS: "part = Gather(value, operands)",
  ELEMENTS: "part = GatherNd(value, operands)",
  SLICE: "part = StridedSlice(value, operands)",
  PIECE: """
    part/begin = Const(^value) {value=$begin}
    part/end = Const(^value) {value=$end}
    part/strides = Const(^value) {value=$strides}
    part = StridedSlice(value, part/begin, part/end, part/strides)
  """,
}


class Step(NamedTuple):
  """One op on the way from what is stored to the statistic.

  Attributes:
    op: of one operand, or of two.
    other: its other operand, where it has one.
    is_first: whether the value so far is the first operand.
  """

  op: str
  other: Union[TensorRef, Stored, None] = None
  is_first: bool = True


@dataclasses.dataclass(frozen=True)
class Stored:
  """The value of a statistic, of variables alone.

  Attributes:
    variable: name of the variable.
    part: the part of it that is meant; None for the whole.
    steps: what is computed of it, in order.
  """

  variable: str
  part: Optional[Part] = None
  steps: Tuple[Step, ...] = ()

  def __str__(self) -> str:
    return self.variable

  @property
  def is_whole(self) -> bool:
    """Whether it is the variable as it is."""
    return self.part is None and not self.steps

  @property
  def variables(self) -> Tuple[str, ...]:
    """Names of all variables that it is computed of."""
    names: Tuple[str, ...] = (self.variable,)
    for step in self.steps:
      if isinstance(step.other, Stored):
        names += step.other.variables
    return names

  def then(self, *steps: Step) -> Stored:
    """The same with further steps."""
    return dataclasses.replace(self, steps=self.steps + steps)


class StoredValues:
  """Adds stored statistics to a graph."""

  def __init__(
    self, graph: Graph, contexts: Contexts, signatures: Signatures
  ) -> None:
    self._graph = graph
    self._contexts = contexts
    self._signatures = signatures
    self._emitter = Emitter(graph, signatures)

  def emit(self, stored: Stored, scope: str, frame: Frame) -> TensorRef:
    """The value of a Stored inside of a loop's frame; nodes are added.

    Args:
      stored: what to compute.
      scope: goes before the names of added nodes.
      frame: of the loop where it is read; () outside of all.
    """
    value = self._carried(read(self._graph, stored.variable), frame)
    part = stored.part
    if part is not None:
      value = self._part(value, part, scope, frame)
    for step in stored.steps:
      value = self._stepped(value, step, scope, frame)
    return value

  def _part(self, value, part, scope, frame):
    masks, numbers = dict(zip(MASKS, part.masks)), {}
    if part.kind == PIECE:
      masks, numbers = _sliced(*part.masks)
    made = self._emitter.emit(
      scope,
      _PARTS[part.kind],
      value=value,
      operands=[self._carried(ref, frame) for ref in part.operands],
      part={key: int_attr(mask) for key, mask in masks.items()},
      **numbers,
    )
    return made["part"]

  def _stepped(self, value, step, scope, frame):
    operands = [value]
    if step.other is not None:
      other = step.other
      if isinstance(other, Stored):
        other = self.emit(other, scope, frame)
      else:
        other = self._carried(other, frame)
      if not tf1.as_dtype(self._dtype(other)).is_floating:
        other = self.cast(other, self._dtype(value), scope)  # a count
      operands = [self.cast(value, self._dtype(other), scope), other]
    if not step.is_first:
      operands.reverse()
    text = "undone = op(operands)"
    made = self._emitter.emit(scope, text, op=step.op, operands=operands)
    return made["undone"]

  def cast(self, value: TensorRef, dtype: int, scope: str) -> TensorRef:
    """A tensor in another dtype; itself where it has that."""
    if self._dtype(value) == dtype:
      return value
    to = type_attr(dtype)
    text = "cast = Cast(value) {DstT=$to}"
    return self._emitter.emit(scope, text, value=value, to=to)["cast"]

  def _carried(self, ref, frame):
    """A tensor inside of a frame; it may be there, or outside of all loops."""
    if self._contexts.frame(ref.node) == frame:
      return ref
    return self._contexts.carry(ref, self._dtype(ref), frame)

  def _dtype(self, ref):
    dtypes = output_dtypes(self._graph, ref.node, self._signatures)
    assert dtypes is not None  # every op here was met by the analysis
    return dtypes[ref.index]


def _sliced(axis, begin, size):
  """The masks and the operands of the StridedSlice that takes a piece."""
  before = [0] * axis
  bounds = before + [begin], before + [begin + max(size, 1)], [1] * (axis + 1)
  whole = (1 << axis) - 1
  masks = {"begin_mask": whole, "end_mask": whole}
  if not size:
    masks["shrink_axis_mask"] = 1 << axis
  arrays = [np.array(numbers, np.int32) for numbers in bounds]
  return masks, dict(zip(("begin", "end", "strides"), arrays))
