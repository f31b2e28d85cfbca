# SPDX-License-Identifier: Apache-2.0
"""Values of tensors that are computed from constants alone."""

from __future__ import annotations

import numpy as np

from bnexport.analysis import arithmetic
from bnexport.graph import TensorRef
from bnexport.graph.nodes import static_shape
from bnexport.graph.origins import CONSTANT_COPIES, origin_of
from bnexport.tf1 import tf1

_ELEMENTWISE = arithmetic.select(
  "Abs Add AddV2 Div Inv Maximum Minimum Mul Neg OnesLike Pow RealDiv "
  "Reciprocal Relu Rsqrt Sqrt Square SquaredDifference Sub ZerosLike"
)
_REDUCTIONS = arithmetic.select("Max Mean Min Sum")
# They compute nothing.
_ARRANGING = arithmetic.select(
  "ConcatV2 ExpandDims Fill Reshape Squeeze Transpose"
)
_EXPRESSIONS = (
  _ELEMENTWISE | _REDUCTIONS | _ARRANGING | CONSTANT_COPIES | {"Cast"}
)
# Values of so many elements are kept; kernels are computed when needed.
_LARGEST_KEPT = 1 << 16
# More elements are not made of few.
_MOST_MADE = 1 << 22
_DEEPEST = 200


class Constants:
  """The constant tensors of a graph; float values are float64."""

  def __init__(self, model, order):
    """Sweeps over `order`, names of nodes with inputs first."""
    self._model = model
    self._graph = model.graph
    self._is_constant = {}
    self._values = {}
    for name in order:
      self._is_constant[name] = self._is_made_of_constants(name)

  def __contains__(self, ref: TensorRef):
    """Whether a tensor is computed from constants alone."""
    known = self._is_constant.get(ref.node)
    if known is None:  # added since
      known = self._is_made_of_constants(ref.node)
    return known and ref.index == 0

  def _is_made_of_constants(self, name):
    op = self._graph.op(name)
    return op == "Const" or (
      op in _EXPRESSIONS
      and all(ref in self for ref in self._graph.data_inputs(name))
    )

  def shape(self, ref):
    """Shape of a constant tensor as a tuple, or None."""
    ref = origin_of(self._graph, ref, CONSTANT_COPIES)
    if self._graph.op(ref.node) == "Const":
      return static_shape(self._graph, ref)
    value = self.value(ref)
    return None if value is None else value.shape

  def ints(self, ref):
    """A constant scalar's or vector's ints as a list, or None."""
    value = self.value(ref) if ref in self else None
    if value is None or value.dtype.kind not in "iu" or value.ndim > 1:
      return None
    return [int(v) for v in value.reshape(-1)]

  def value(self, ref, depth=0):
    """The array a constant tensor holds; None where it isn't computed here."""
    if ref.node in self._values:
      return self._values[ref.node]
    if depth > _DEEPEST:
      return None
    value = self._compute(ref, depth)
    if value is not None and value.size <= _LARGEST_KEPT:
      self._values[ref.node] = value
    return value

  def forget(self, name):
    """Takes note that a Const got another value; nothing is made of it."""
    self._values.pop(name, None)

  def _compute(self, ref, depth):
    node = self._graph.node(ref.node)
    if node.op == "Const":
      return _widened(self._model.array(ref.node))
    values = [
      self.value(r, depth + 1) for r in self._graph.data_inputs(ref.node)
    ]
    if any(value is None for value in values):
      return None
    if node.op in CONSTANT_COPIES:
      return values[0]
    if node.op == "Cast":
      wanted = tf1.as_dtype(node.attr["DstT"].type)
      return values[0].astype(np.float64) if wanted.is_floating else None
    operands = values if node.op in _ELEMENTWISE else values[:1]
    if node.op not in _ARRANGING and any(v.dtype.kind != "f" for v in operands):
      return None  # ints round and overflow
    if node.op in _REDUCTIONS and not values[0].size:
      return None
    most = arithmetic.most_elements(node, values)
    if most > max(_MOST_MADE, 2 * sum(value.size for value in values)):
      return None
    made = arithmetic.compute(node, values)
    return None if made is None else np.asarray(made)


def _widened(value):
  if value.dtype.kind == "f" or value.dtype.name == "bfloat16":
    return value.astype(np.float64)
  return value if value.dtype.kind in "iu" else None
