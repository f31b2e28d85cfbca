# SPDX-License-Identifier: Apache-2.0
"""What a graph computes of a tensor's shape, for a shape at hand."""

from __future__ import annotations

import numpy as np

from bnexport.analysis.shapes import flag
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value

_FUNCTIONS = {
  "Add": np.add,
  "AddV2": np.add,
  "Sub": np.subtract,
  "Mul": np.multiply,
  "FloorDiv": np.floor_divide,
  "FloorMod": np.mod,
  "Maximum": np.maximum,
  "Minimum": np.minimum,
  "Reshape": np.reshape,
}


def value_of(graph, ref, tensor, shape):
  """The integer array that `ref` is when `tensor` has this shape.

  Returns:
    None where `ref` depends on anything but that shape.
  """
  known, stack = {}, [ref.node]
  while stack:
    name = stack[-1]
    refs = graph.data_inputs(name)
    if graph.op(name) == "Shape":
      known[name] = np.array(shape) if refs[0] == tensor else None
    waiting = [r.node for r in refs if r.node not in known]
    if name in known or not waiting:
      stack.pop()
    if name not in known and not waiting:
      args = [None if r.index else known[r.node] for r in refs]
      known[name] = _compute(graph, graph.node(name), args)
    elif name not in known:
      if not _is_arithmetic(graph.op(name)):
        return None
      stack.extend(waiting)
  return known[ref.node]


def _is_arithmetic(op):
  return (
    op in _FUNCTIONS
    or op in ops.IDENTITIES
    or op in ("Cast", "Pack", "ConcatV2", "StridedSlice")
  )


def _compute(graph, node, args):
  if node.op == "Const":
    value = constant_value(graph, TensorRef(node.name))
    return value if value is not None and value.dtype.kind == "i" else None
  if not _is_arithmetic(node.op) or any(arg is None for arg in args):
    return None
  if node.op in _FUNCTIONS:
    return _FUNCTIONS[node.op](*args)
  if node.op == "Pack":
    return np.stack(args, axis=flag(node, "axis"))
  if node.op == "ConcatV2":
    return np.concatenate(args[:-1], axis=int(args[-1]))
  if node.op == "StridedSlice":
    return _strided_slice(node, *args)
  return args[0]


def _strided_slice(node, array, begin, end, strides):
  if flag(node, "ellipsis_mask") or flag(node, "new_axis_mask"):
    return None

  def bit(key, axis):
    return flag(node, key) >> axis & 1

  index = tuple(
    int(begin[i])
    if bit("shrink_axis_mask", i)
    else slice(
      None if bit("begin_mask", i) else int(begin[i]),
      None if bit("end_mask", i) else int(end[i]),
      int(strides[i]),
    )
    for i in range(len(strides))
  )
  return array[index]
