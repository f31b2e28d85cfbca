# SPDX-License-Identifier: Apache-2.0
"""The results of ops, in NumPy: one table for every evaluation of a graph.

Each of them trusts some ops, which it selects by name, and gives arrays or
NumPy scalars. NumPy's numbers are TensorFlow's up to rounding; what NumPy
divides by zero is an infinity or a NaN.
"""

from __future__ import annotations

import functools
import operator

import numpy as np

from bnexport.analysis.shapes import flag, slice_parts, squeezed
from bnexport.tf1 import tf1


def _divide_no_nan(a, b):
  quotient = np.divide(a, b)
  return np.where(np.equal(b, 0), np.zeros_like(quotient), quotient)


# Of the operands alone, which broadcast. Up to NumPy 1, a number of Python's
# beside a scalar would widen it.
_ELEMENTWISE = {
  "Abs": np.abs,
  "Add": np.add,
  "AddN": lambda *operands: functools.reduce(np.add, operands),
  "AddV2": np.add,
  "Ceil": np.ceil,
  "Div": np.divide,  # of floats: TensorFlow's quotient of ints is an int
  "DivNoNan": _divide_no_nan,
  "Equal": operator.eq,  # of strings as well, as NotEqual
  "Exp": np.exp,
  "Expm1": np.expm1,
  "Floor": np.floor,
  "FloorDiv": np.floor_divide,
  "FloorMod": np.mod,
  "Greater": np.greater,
  "GreaterEqual": np.greater_equal,
  "Inv": np.reciprocal,
  "Less": np.less,
  "LessEqual": np.less_equal,
  "Log": np.log,
  "Log1p": np.log1p,
  "LogicalAnd": np.logical_and,
  "LogicalNot": np.logical_not,
  "LogicalOr": np.logical_or,
  "Maximum": np.maximum,
  "Minimum": np.minimum,
  "Mul": np.multiply,
  "Neg": np.negative,
  "NotEqual": operator.ne,
  "OnesLike": np.ones_like,
  "Pow": np.power,
  "RealDiv": np.divide,
  "Reciprocal": np.reciprocal,
  "Relu": lambda value: np.maximum(value, np.zeros_like(value)),
  "Round": np.round,
  "Rsqrt": lambda value: np.reciprocal(np.sqrt(value)),
  "Sigmoid": lambda value: np.reciprocal(np.ones_like(value) + np.exp(-value)),
  "Sqrt": np.sqrt,
  "Square": np.square,
  "Select": np.where,  # of operands of one shape
  "SelectV2": np.where,
  "SquaredDifference": lambda a, b: np.square(a - b),
  "Sub": np.subtract,
  "ZerosLike": np.zeros_like,
}
REDUCTIONS = {
  "Max": np.max,
  "Mean": np.mean,
  "Min": np.min,
  "Prod": np.prod,
  "Sum": np.sum,
}


def _ints(array):
  return tuple(int(element) for element in np.reshape(array, -1))


def _cast(node, value):
  dtype = tf1.as_dtype(node.attr["DstT"].type).as_numpy_dtype
  return np.asarray(value).astype(dtype)


def _reduce(node, value, axes):
  reduce = REDUCTIONS[node.op]
  return reduce(value, axis=_ints(axes), keepdims=bool(flag(node, "keep_dims")))


def _strided_slice(node, value, *vectors):
  index = [
    np.newaxis
    if part.begin is None
    else int(part.begin)
    if part.is_index
    else slice(
      None if part.is_open_begin else int(part.begin),
      None if part.is_open_end else int(part.end),
      int(part.stride),
    )
    for part in slice_parts(node, vectors, np.ndim(value))
  ]
  return value[tuple(index)]


# Of the NodeDef and the operands.
_BY_ATTRIBUTES = {
  "Cast": _cast,
  "ConcatV2": lambda node, *operands: np.concatenate(
    operands[:-1], *_ints(operands[-1])
  ),
  "ExpandDims": lambda node, value, axis: np.expand_dims(value, *_ints(axis)),
  "Fill": lambda node, sizes, value: np.full(_ints(sizes), value),
  "Gather": lambda node, value, rows: np.take(value, rows, axis=0),
  "GatherV2": lambda node, value, rows, axis: np.take(
    value, rows, axis=int(axis)
  ),
  "Pack": lambda node, *operands: np.stack(operands, axis=flag(node, "axis")),
  "Reshape": lambda node, value, shape: np.reshape(value, _ints(shape)),
  "Squeeze": lambda node, value: np.squeeze(
    value, tuple(squeezed(node, np.shape(value)))
  ),
  "StridedSlice": _strided_slice,
  "Transpose": lambda node, value, order: np.transpose(value, _ints(order)),
  **dict.fromkeys(REDUCTIONS, _reduce),
}


def select(names):
  """The ops that a text names, as a frozenset; `compute` knows all of them."""
  selected = frozenset(names.split())
  unknown = selected - set(_ELEMENTWISE) - set(_BY_ATTRIBUTES)
  assert not unknown, unknown
  return selected


def most_elements(node, operands):
  """A bound on the elements of what `compute` makes of arrays, a number."""
  most = float(sum(np.size(operand) for operand in operands))
  if node.op == "Fill":
    return max(most, np.prod(operands[0], dtype=np.float64))
  if node.op in _ELEMENTWISE and len(operands) == 2:
    # Axes of one element are repeated, those of a column and of a row each.
    rank = max(map(np.ndim, operands))
    shapes = [(1,) * (rank - np.ndim(o)) + np.shape(o) for o in operands]
    return max(most, np.prod(np.maximum(*shapes), dtype=np.float64))
  return most


def compute(node, operands):
  """The value of a node's first output.

  Args:
    node: a NodeDef whose op was selected.
    operands: arrays or NumPy scalars, one for each data input.

  Returns:
    An array, or a NumPy scalar where that has no axes; None where operands
    do not fit each other: the graph does not run, or a caller knows shapes up
    to broadcasting only.
  """
  try:
    with np.errstate(all="ignore"):
      if node.op in _ELEMENTWISE:
        found = _ELEMENTWISE[node.op](*operands)
      else:
        found = _BY_ATTRIBUTES[node.op](node, *operands)
      return np.asarray(found)[()]
  except (ValueError, IndexError, TypeError, OverflowError):
    return None
