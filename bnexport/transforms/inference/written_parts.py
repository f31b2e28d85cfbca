# SPDX-License-Identifier: Apache-2.0
"""A variable after an update, in ops that every TF1 knows."""

from __future__ import annotations

import numpy as np

from bnexport.errors import TransformError
from bnexport.graph.nodes import constant_value, int_attr, type_attr
from bnexport.graph.variables import variable_dtype
from bnexport.graph.writes import (
  ADD,
  ELEMENTS,
  MASKS,
  ROWS,
  SET,
  SLICE,
  SUBTRACT,
  write_of,
)
from bnexport.text import Emitter
from bnexport.tf1 import tf1

_OPS = {
  ADD: "Add",
  SUBTRACT: "Sub",
  "Mul": "Mul",
  "Div": "Div",
  "Max": "Maximum",
  "Min": "Minimum",
}
# Zeros but for the part, which holds `times`, how often it is written, and
# `sums`, of what is written there.
_SPREAD = {
  ROWS: """
    axis = Const(^indices) {value=$last}
    rows = ExpandDims(indices, axis)
    there = Gather(start, indices)
    nothing = ZerosLike(there)
    written = Add(nothing, value)
    ones = OnesLike(there)
    shape = Shape(start) {out_type=$index}
    times = ScatterNd(rows, ones, shape)
    sums = ScatterNd(rows, written, shape)
  """,
  ELEMENTS: """
    there = GatherNd(start, indices)
    nothing = ZerosLike(there)
    written = Add(nothing, value)
    ones = OnesLike(there)
    shape = Shape(start) {out_type=$index}
    times = ScatterNd(indices, ones, shape)
    sums = ScatterNd(indices, written, shape)
  """,
  SLICE: """
    ones = OnesLike(value)
    shape = Shape(start) {out_type=$index}
    times = StridedSliceGrad(shape, indices, ones)
    sums = StridedSliceGrad(shape, indices, value)
  """,
}
# A row that is written several times with one value has that value.
_CHOSEN = """
  never = ZerosLike(times)
  is_written = Greater(times, never)
  once = OnesLike(times)
  divisor = Maximum(times, once)
  each = Div(sums, divisor)
"""


def become_written(model, name, variable, start):
  """Makes an update the value that its variable has after it.

  Args:
    model: the Model; its graph is edited.
    name: of the update.
    variable: name of the variable.
    start: the TensorRef of the value that was there.

  Raises:
    TransformError: the value depends on an order that nothing tells, or is of
      a dtype that has no arithmetic.
  """
  graph = model.graph
  write, dtype = write_of(graph, name), variable_dtype(graph, variable)
  if write.part is None:
    inputs = [write.value] if write.change == SET else [start, write.value]
    op = "Identity" if write.change == SET else _OPS[write.change]
    inputs += graph.control_inputs(name)
    graph.become(name, op, inputs, {"T": type_attr(dtype)})
    return
  _refuse_unclear(graph, name, write, variable, dtype)
  indices = write.part.operands
  index = model.dtype(indices[0])
  masks = dict(zip(MASKS, map(int_attr, write.part.masks)))
  Emitter(graph, model.signatures).become(
    name,
    _notation(write),
    start=start,
    value=write.value,
    indices=list(indices),
    index=index,
    last=np.int32(-1),
    combine=_OPS.get(write.change),
    times=masks,
    sums=masks,
  )


def _notation(write):
  """How the value after a write to a part is computed, as text."""
  spread = _SPREAD[write.part.kind]
  if write.change in (ADD, SUBTRACT):
    return spread + "result = combine(start, sums, ^waits)"
  made, combined = "each", ""
  if write.change != SET:
    made, combined = "made", "made = combine(start, each)\n"
  result = f"result = Select(is_written, {made}, start, ^waits)"
  return spread + _CHOSEN + combined + result


def _refuse_unclear(graph, name, write, variable, dtype):
  dtype = tf1.as_dtype(dtype)
  if not (dtype.is_floating or dtype.is_integer):
    raise TransformError(
      f"tell what '{name}' writes",
      f"variable '{variable}' holds {dtype.name}, and only a part is written",
      "cut behind it with --input_node",
    )
  if write.change in (SET, ADD, SUBTRACT):
    return
  indices = constant_value(graph, write.part.operands[0])
  if indices is None or len(set(indices.reshape(-1))) < indices.size:
    raise TransformError(
      f"tell what '{name}' writes",
      f"it may change one row of '{variable}' several times",
      "cut behind it with --input_node",
    )
