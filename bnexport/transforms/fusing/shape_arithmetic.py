# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of a graph on a tensor's shape, for a shape at hand."""

from __future__ import annotations

import numpy as np

from bnexport.analysis import arithmetic
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value

_COMPUTED = arithmetic.select(
  "Add AddV2 Cast ConcatV2 FloorDiv FloorMod Maximum Minimum Mul Pack Reshape "
  "StridedSlice Sub"
)


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
  return op in _COMPUTED or op in ops.IDENTITIES


def _compute(graph, node, args):
  if node.op == "Const":
    value = constant_value(graph, TensorRef(node.name))
    return value if value is not None and value.dtype.kind == "i" else None
  if not _is_arithmetic(node.op) or any(arg is None for arg in args):
    return None
  return arithmetic.compute(node, args) if node.op in _COMPUTED else args[0]
