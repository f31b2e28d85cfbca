# SPDX-License-Identifier: Apache-2.0
"""Writes of variables: which part an update changes, and what it makes of it.

An update changes a whole variable, or the rows, elements or slice that its
operands name. A read of the same part is told by what it names, too.
"""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Tuple

from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape
from bnexport.graph.origins import VIEWS, origin_of
from bnexport.graph.variables import variable_of
from bnexport.tf1 import tf1

ROWS, ELEMENTS, SLICE = "rows", "elements", "slice"
# What an update leaves, of what was there and its operand.
SET, ADD, SUBTRACT = "Update", "Add", "Sub"
MASKS = (
  "begin_mask",
  "end_mask",
  "ellipsis_mask",
  "new_axis_mask",
  "shrink_axis_mask",
)
_READS = {
  "Gather": ROWS,
  "GatherV2": ROWS,
  "ResourceGather": ROWS,
  "GatherNd": ELEMENTS,
  "ResourceGatherNd": ELEMENTS,
  "StridedSlice": SLICE,
}
# Part readers; the variable's value or handle is their first operand.
PART_READS = frozenset(_READS)
_CHANGES = ("Update", "Add", "Sub", "Mul", "Div", "Min", "Max")


class Part(NamedTuple):
  """A part of a variable.

  Attributes:
    kind: ROWS, ELEMENTS or SLICE.
    operands: the indices; of a slice its begin, end and strides.
    masks: of a slice, the numbers that StridedSlice has as `MASKS`.
  """

  kind: str
  operands: Tuple[TensorRef, ...]
  masks: Tuple[int, ...] = ()


class Write(NamedTuple):
  """The effect of an update on its variable.

  Attributes:
    change: SET, ADD, SUBTRACT, or another end of a Scatter op's name.
    part: what it changes; None for the whole variable.
    value: its operand.
  """

  change: str
  part: Optional[Part]
  value: TensorRef


def write_of(graph: Graph, update: str) -> Write:
  """The Write of a node of one of ops.UPDATES."""
  node, refs = graph.node(update), graph.data_inputs(update)
  if node.op in ops.SLICE_UPDATES:
    part = Part(SLICE, tuple(refs[1:4]), _masks(node))
    return Write(SET, part, refs[4])
  if node.op in ops.PARTIAL_UPDATES:
    kind = ROWS if node.op in ops.ROW_UPDATES else ELEMENTS
    change = next(c for c in _CHANGES if node.op.endswith(c))
    return Write(change, Part(kind, (refs[1],)), refs[2])
  if node.op in ops.ASSIGN:
    return Write(SET, None, refs[1])
  change = ADD if node.op in ops.ASSIGN_ADD else SUBTRACT
  return Write(change, None, refs[1])


def written_variable(graph: Graph, update: str) -> Optional[str]:
  """Name of the variable that an update writes; None where it isn't told.

  A ref that an update hands on is the variable's.
  """
  ref = graph.data_inputs(update)[0]
  seen = set()
  while ref.node not in seen:
    seen.add(ref.node)
    ref = origin_of(graph, ref, ops.CARRIERS | ops.SWITCHES)
    if graph.op(ref.node) not in ops.UPDATES:
      break
    ref = graph.data_inputs(ref.node)[0]
  return variable_of(graph, ref)


def part_read(graph: Graph, name: str) -> Optional[Part]:
  """The part of its first operand that a node reads; None where it is none."""
  node, refs = graph.node(name), graph.data_inputs(name)
  kind = _READS.get(node.op)
  if kind is None:
    return None
  if kind == SLICE:
    return Part(kind, tuple(refs[1:4]), _masks(node))
  if node.op == "GatherV2":
    axis = constant_value(graph, refs[2])
    if axis is None or axis.any():
      return None  # of another axis
  if "batch_dims" in node.attr and node.attr["batch_dims"].i:
    return None
  return Part(kind, (refs[1],))


def part_key(graph: Graph, part: Optional[Part]) -> Any:
  """A key that is equal for equal parts, however they are named."""
  if part is None:
    return None
  if part.kind != SLICE:
    shape = static_shape(graph, part.operands[0])
    is_row = part.kind == ROWS or (shape is not None and shape[-1:] == (1,))
    key = _index_key(graph, part.operands[0])
    return (ROWS if is_row else part.kind, key)
  row = _row_of(graph, part)
  if row is not None:
    return (ROWS, row)
  keys = tuple(_index_key(graph, ref) for ref in part.operands)
  return (SLICE,) + keys + part.masks


def are_apart(graph: Graph, a: Optional[Part], b: Optional[Part]) -> bool:
  """Tells whether two parts are sure to have no element in common."""
  if a is None or b is None:
    return False
  one = _constant_rows(part_key(graph, a))
  other = _constant_rows(part_key(graph, b))
  return one is not None and other is not None and not set(one) & set(other)


def _masks(node: tf1.NodeDef) -> Tuple[int, ...]:
  return tuple(node.attr[m].i if m in node.attr else 0 for m in MASKS)


def _constant_rows(key: Any) -> Optional[Tuple[int, ...]]:
  if key[0] != ROWS:
    return None
  # A negative number counts from the end.
  is_told = all(isinstance(k, int) and k >= 0 for k in key[1])
  return key[1] if is_told else None


def _index_key(graph: Graph, ref: TensorRef) -> Tuple[Any, ...]:
  """Numbers of a constant; else the tensors that an index is packed of."""
  ref = origin_of(graph, ref, VIEWS)
  value = constant_value(graph, ref)
  if value is not None:
    return tuple(int(v) for v in value.reshape(-1))
  if graph.op(ref.node) != "Pack":
    return (ref,)
  keys: Tuple[Any, ...] = ()
  for operand in graph.data_inputs(ref.node):
    keys += _index_key(graph, operand)
  return keys


def _row_of(graph: Graph, part: Part) -> Optional[Tuple[Any, ...]]:
  """The number of the one row that a slice is; None where it is another."""
  begin, end, strides = (_index_key(graph, ref) for ref in part.operands)
  masks: Dict[str, int] = dict(zip(MASKS, part.masks))
  if masks["ellipsis_mask"] or masks["new_axis_mask"]:
    return None
  rest = (1 << len(strides)) - 2  # all axes but the first
  if not masks["begin_mask"] & masks["end_mask"] & rest == rest:
    return None
  if masks["begin_mask"] & 1 or any(stride != 1 for stride in strides):
    return None
  if masks["shrink_axis_mask"] == 1:
    return begin[:1]
  is_told = isinstance(begin[0], int) and isinstance(end[0], int)
  if masks["shrink_axis_mask"] or masks["end_mask"] & 1 or not is_told:
    return None
  return tuple(range(begin[0], end[0]))
