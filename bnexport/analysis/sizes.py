# SPDX-License-Identifier: Apache-2.0
"""Sizes that follow from constants, and from shapes with a given batch."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

import numpy as np

from bnexport.analysis import arithmetic
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape
from bnexport.graph.origins import CONSTANT_COPIES

_COMPUTED = arithmetic.select(
  "Abs Add AddN AddV2 Cast ConcatV2 Div Equal Exp ExpandDims Fill Floor "
  "FloorDiv FloorMod Gather GatherV2 Greater GreaterEqual Less LessEqual Log "
  "LogicalAnd LogicalNot LogicalOr Max Maximum Mean Min Minimum Mul Neg "
  "NotEqual OnesLike Pack Pow Prod RealDiv Reciprocal Reshape Rsqrt Select "
  "SelectV2 Sqrt Square Squeeze StridedSlice Sub Sum Transpose ZerosLike"
)
_MOST_ELEMENTS = 1 << 16
_MOST_DEPTH = 80
# What an open size is taken for that is not the first, which is the batch.
_OPEN = 3


class Sizes:
  """Arrays of tensors that depend on nothing but constants and shapes.

  Attributes:
    rows: what the open first axis of a tensor is taken for.
  """

  def __init__(self, graph: Graph, rows: int):
    self.rows = rows
    self._graph = graph
    self._known: Dict[TensorRef, Optional[np.ndarray]] = {}
    self._depth = 0

  def shape(self, ref: TensorRef) -> Optional[Tuple[int, ...]]:
    """The shape of a tensor with this many rows; None where it isn't stated."""
    shape = static_shape(self._graph, ref)
    if shape is None:
      return None
    return tuple(
      size if size >= 0 else self.rows if axis == 0 else _OPEN
      for axis, size in enumerate(shape)
    )

  def value(self, ref: TensorRef) -> Optional[np.ndarray]:
    """The array of a tensor, or None."""
    if ref not in self._known:
      if self._depth > _MOST_DEPTH:
        return None
      self._depth += 1
      self._known[ref] = self._compute(ref)
      self._depth -= 1
    return self._known[ref]

  def _compute(self, ref: TensorRef) -> Optional[np.ndarray]:
    graph = self._graph
    node, refs = graph.node(ref.node), graph.data_inputs(ref.node)
    if node.op == "Const":
      return constant_value(graph, ref)
    if node.op in CONSTANT_COPIES:
      return self.value(refs[0])
    if node.op in ("Shape", "ShapeN", "Size", "Rank"):
      return self._of_shape(node, refs[ref.index])
    if node.op == "Range":
      return self._spanned([self.value(r) for r in refs])
    if node.op not in _COMPUTED or ref.index:
      return None
    values = [self.value(r) for r in refs]
    known = [v for v in values if v is not None]
    if (
      len(known) < len(values)
      or arithmetic.most_elements(node, known) > _MOST_ELEMENTS
    ):
      return None
    if node.op == "Select" and np.shape(known[0]) != np.shape(known[1]):
      return None  # a vector may choose rows
    made = arithmetic.compute(node, known)
    return None if made is None else np.asarray(made)

  def _of_shape(self, node, ref) -> Optional[np.ndarray]:
    shape = self.shape(ref)
    if shape is None:
      return None
    if node.op == "Size":
      return np.asarray(np.prod(shape, dtype=np.int64))
    return np.asarray(len(shape) if node.op == "Rank" else shape, np.int64)

  def _spanned(
    self, values: List[Optional[np.ndarray]]
  ) -> Optional[np.ndarray]:
    bounds = [float(v) for v in values if v is not None]
    if len(bounds) < 3 or not bounds[2]:
      return None
    start, limit, step = bounds
    if abs((limit - start) / step) > _MOST_ELEMENTS:
      return None
    return np.arange(start, limit, step).astype(np.asarray(values[0]).dtype)


def reduced_count(graph: Graph, sizes: Sizes, name: str) -> Optional[float]:
  """The number of elements that a reduction takes for each it gives."""
  x, axes = graph.data_inputs(name)
  shape, chosen = sizes.shape(x), sizes.value(axes)
  if shape is None or chosen is None or graph.op(name) not in ops.REDUCTIONS:
    return None
  if any(not -len(shape) <= axis < len(shape) for axis in chosen.reshape(-1)):
    return None
  taken = {int(axis) % len(shape) for axis in chosen.reshape(-1)}
  return float(np.prod([shape[axis] for axis in taken]))
