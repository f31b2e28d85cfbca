# SPDX-License-Identifier: Apache-2.0
"""What tensors hold that are computed from constants alone."""

from __future__ import annotations

import numpy as np

from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import static_shape
from bnexport.tf1 import tf1

_FUNCTIONS = {
  "Abs": np.abs,
  "Add": np.add,
  "AddV2": np.add,
  "Div": np.divide,
  "Inv": np.reciprocal,
  "Maximum": np.maximum,
  "Minimum": np.minimum,
  "Mul": np.multiply,
  "Neg": np.negative,
  "OnesLike": np.ones_like,
  "Pow": np.power,
  "RealDiv": np.divide,
  "Reciprocal": np.reciprocal,
  "Relu": lambda a: np.maximum(a, 0.0),
  "Rsqrt": lambda a: 1.0 / np.sqrt(a),
  "Sqrt": np.sqrt,
  "Square": np.square,
  "SquaredDifference": lambda a, b: np.square(a - b),
  "Sub": np.subtract,
  "ZerosLike": np.zeros_like,
}
_REDUCTIONS = {"Max": np.max, "Mean": np.mean, "Min": np.min, "Sum": np.sum}
_SAME = ops.IDENTITIES | ops.ENTERS
_EXPRESSIONS = (
  frozenset(_FUNCTIONS)
  | frozenset(_REDUCTIONS)
  | ops.RESHAPES
  | _SAME
  | {"Cast", "ConcatV2", "Fill", "Transpose"}
)
# Values of so many elements are kept; kernels are computed when needed.
_LARGEST_KEPT = 1 << 16
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
    while self._graph.op(ref.node) in _SAME:
      ref = self._graph.data_inputs(ref.node)[0]
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
    with np.errstate(all="ignore"):
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
    if node.op in _FUNCTIONS:
      if any(value.dtype.kind != "f" for value in values):
        return None  # ints round and overflow
      return np.asarray(_FUNCTIONS[node.op](*values))
    if node.op in _REDUCTIONS:
      return _reduced(node, *values)
    return _arranged(node, values)


def _widened(value):
  if value.dtype.kind == "f" or value.dtype.name == "bfloat16":
    return value.astype(np.float64)
  return value if value.dtype.kind in "iu" else None


def _reduced(node, value, axes):
  if value.dtype.kind != "f" or not value.size:
    return None
  keep = "keep_dims" in node.attr and node.attr["keep_dims"].b
  axes = tuple(int(axis) for axis in axes.reshape(-1))
  return np.asarray(_REDUCTIONS[node.op](value, axis=axes, keepdims=keep))


def _arranged(node, values):
  """What an op gives that computes nothing, or None."""
  value = values[0]
  if node.op in _SAME:
    return value
  if node.op == "Cast":
    wanted = tf1.as_dtype(node.attr["DstT"].type)
    return value.astype(np.float64) if wanted.is_floating else None
  if node.op == "Reshape":
    return value.reshape([int(size) for size in values[1].reshape(-1)])
  if node.op == "ExpandDims":
    return np.expand_dims(value, int(values[1].reshape(-1)[0]))
  if node.op == "Squeeze":
    axes = tuple(node.attr["squeeze_dims"].list.i)
    return np.squeeze(value, axes or None)
  if node.op == "Fill":
    return np.full([int(size) for size in value.reshape(-1)], values[1])
  if node.op == "Transpose":
    return np.transpose(value, [int(axis) for axis in values[1].reshape(-1)])
  assert node.op == "ConcatV2", node.op
  return np.concatenate(values[:-1], int(values[-1].reshape(-1)[0]))
