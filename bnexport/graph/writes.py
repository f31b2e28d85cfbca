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
# A range of one axis, by numbers.
PIECE = "piece"
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
    kind: ROWS, ELEMENTS, SLICE or PIECE.
    operands: the indices; of a slice its begin, end and strides; none of a
      piece.
    masks: of a slice, the numbers that StridedSlice has as `MASKS`; of a piece
      its axis, where it begins, and how many there are: 0 is one, whose axis
      goes.
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


def part_taken(graph: Graph, ref: TensorRef) -> Optional[Part]:
  """The part of its first operand that a tensor is; None where it is none."""
  node = graph.node(ref.node)
  if node.op != "Unpack":
    return part_read(graph, ref.node) if node.op in PART_READS else None
  shape = static_shape(graph, graph.data_inputs(ref.node)[0])
  axis = node.attr["axis"].i
  if axis < 0:
    if shape is None:
      return None
    axis += len(shape)
  return Part(PIECE, (), (axis, ref.index, 0))


def part_key(graph: Graph, part: Optional[Part]) -> Any:
  """A key that is equal for equal parts, however they are named."""
  if part is None:
    return None
  if part.kind == PIECE:
    axis, begin, size = part.masks
    rows = tuple(range(begin, begin + max(size, 1)))
    return (PIECE,) + part.masks if axis else (ROWS, rows)
  if part.kind != SLICE:
    shape = static_shape(graph, part.operands[0])
    is_row = part.kind == ROWS or (shape is not None and shape[-1:] == (1,))
    key = _index_key(graph, part.operands[0])
    return (ROWS if is_row else part.kind, key)
  row = _row_of(graph, part)
  if row is not None:
    return (ROWS, row)
  keys = tuple(_index_key(graph, ref) for ref in part.operands)
  element = _element_of(keys, part.masks)
  if element is not None:
    return (ELEMENTS, element)
  return _piece_of(keys, part.masks) or (SLICE,) + keys + part.masks


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


def _element_of(
  keys: Tuple[Tuple[Any, ...], ...], masks: Tuple[int, ...]
) -> Optional[Tuple[Any, ...]]:
  """The numbers of the one element or row that a slice of more axes takes."""
  begin_mask, end_mask, ellipsis, new_axis, shrink = masks
  taken = shrink.bit_length()
  rest = ((1 << len(keys[0])) - 1) ^ shrink
  if ellipsis or new_axis or taken < 2 or shrink != (1 << taken) - 1:
    return None
  is_whole = begin_mask & end_mask & rest == rest
  return keys[0][:taken] if is_whole else None


def _piece_of(
  keys: Tuple[Tuple[Any, ...], ...], masks: Tuple[int, ...]
) -> Optional[Tuple[Any, ...]]:
  """The key of a slice that leaves out something of one axis alone."""
  begin_mask, end_mask, ellipsis, new_axis, shrink = masks
  cut = [
    axis
    for axis in range(len(keys[0]))
    if not begin_mask & end_mask & (1 << axis)
  ]
  is_told = all(isinstance(k, int) for key in keys for k in key)
  if (
    ellipsis or new_axis or len(cut) != 1 or not is_told or set(keys[2]) != {1}
  ):
    return None
  (axis,) = cut
  begin = 0 if begin_mask & (1 << axis) else keys[0][axis]
  if shrink:
    return (PIECE, axis, begin, 0) if shrink == 1 << axis else None
  if end_mask & (1 << axis):
    return None  # how long it is stands in the variable
  return (PIECE, axis, begin, keys[1][axis] - begin)


def part_shape(
  graph: Graph, part: Optional[Part], shape: Optional[Tuple[int, ...]]
) -> Optional[Tuple[int, ...]]:
  """The shape of a part of a variable; None where it isn't told.

  Args:
    graph: holds the part's operands.
    part: the Part; None for the whole.
    shape: the variable's, or None.
  """
  if part is None or shape is None:
    return shape
  if part.kind == PIECE:
    axis, _, size = part.masks
    return shape[:axis] + ((size,) if size else ()) + shape[axis + 1 :]
  rows = static_shape(graph, part.operands[0])
  if part.kind != ROWS or rows is None or -1 in rows:
    return None
  return rows + shape[1:]
