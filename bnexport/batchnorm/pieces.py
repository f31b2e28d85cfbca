# SPDX-License-Identifier: Apache-2.0
"""Statistics that share a variable: stacked, joined, or one row of a mask.

One update writes all of them. Each element of the variable is written from one
operand of a Pack or ConcatV2, or by a one-hot mask that leaves all rows but
one. An update is read piece by piece then, as if each had its own variable.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

from bnexport.analysis.dependence import DATA, FREE, STATISTIC, Dependence
from bnexport.batchnorm.fixed_points import KNOWN
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import constant_value, static_shape, uniform_value
from bnexport.graph.variables import variable_of
from bnexport.graph.writes import (
  PIECE,
  ROWS,
  Part,
  part_key,
  part_taken,
  write_of,
)

# How many tensors behind an update are looked at.
MOST_BEHIND = 400
_STACKS = frozenset(("ConcatV2", "Pack"))
# Where what a mask is made of has its elements in their order.
_MASK_VIEWS = frozenset(
  ("Cast", "ExpandDims", "Identity", "Reshape", "StridedSlice")
)


@dataclasses.dataclass(frozen=True)
class Piece:
  """A part of a variable, and how its update is read for that part alone.

  Attributes:
    variable: name of the variable.
    part: the Part.
    chosen: by tensors that are stacked or joined, the operand that is there.
    given: numbers that tensors are there.
  """

  variable: str
  part: Part
  chosen: Mapping[TensorRef, TensorRef] = dataclasses.field(
    default_factory=dict
  )
  given: Mapping[TensorRef, float] = dataclasses.field(default_factory=dict)


def pieces(
  graph: Graph, dependence: Dependence, variable: str, update: str
) -> List[Piece]:
  """The pieces that an update writes; none where it writes a whole alike.

  Args:
    graph: stays as it is.
    dependence: covers the update.
    variable: what the update writes.
    update: its name.
  """
  shape = static_shape(graph, TensorRef(variable))
  write = write_of(graph, update)
  if not shape or write.part is not None:
    return []
  stacks: Dict[TensorRef, Tuple[Part, ...]] = {}
  masks: Dict[TensorRef, TensorRef] = {}
  for ref in _elementwise(graph, dependence, write.value):
    if dependence(ref) == FREE:
      indices = _mask_of(graph, ref, shape)
      if indices is not None:
        masks[ref] = indices
    elif (
      dependence(ref) == STATISTIC
      and graph.op(ref.node) in _STACKS
      and static_shape(graph, ref) == shape
    ):
      stacks[ref] = tuple(_parts(graph, ref.node, shape))
  if stacks:
    return _of_stacks(graph, dependence, variable, stacks)
  return _of_masks(graph, variable, masks)


def _of_stacks(graph, dependence, variable, stacks) -> List[Piece]:
  layouts = set(stacks.values())
  if len(layouts) > 1:
    return []
  found = [
    Piece(
      variable,
      part,
      {ref: graph.data_inputs(ref.node)[slot] for ref in stacks},
    )
    for slot, part in enumerate(layouts.pop())
  ]
  stay = all(_stays(graph, dependence, piece) for piece in found)
  return found if stay else []


def _stays(graph: Graph, dependence: Dependence, piece: Piece) -> bool:
  """Whether no value comes from another part, as in a ring of batches."""
  key = part_key(graph, piece.part)
  stack = list(piece.chosen.values())
  seen = set(stack)
  for ref in stack:
    if dependence(ref) == DATA:
      continue
    if ref.node == piece.variable:
      return False
    refs = graph.data_inputs(ref.node)
    if refs and variable_of(graph, refs[0]) == piece.variable:
      part = part_taken(graph, ref)
      if part is not None:
        if part_key(graph, part) != key:
          return False
        continue
    new = [r for r in refs if r not in seen]
    seen.update(new)
    stack.extend(new)
  return True


def _of_masks(graph, variable, masks) -> List[Piece]:
  """A piece for each row; which rows they are has to be told to be others."""
  rows: Dict[object, Dict[TensorRef, float]] = {}
  parts: Dict[object, Part] = {}
  for mask, indices in masks.items():
    value = constant_value(graph, indices)
    key = indices if value is None else int(value)
    parts[key] = Part(ROWS, (indices,))
    rows.setdefault(key, dict.fromkeys(masks, 0.0))[mask] = 1.0
  if len(rows) > 1 and not all(isinstance(key, int) for key in rows):
    return []
  return [Piece(variable, parts[key], given=rows[key]) for key in rows]


def _elementwise(
  graph: Graph, dependence: Dependence, value: TensorRef
) -> Iterator[TensorRef]:
  """Tensors of which each element of a value is made, with its operands."""
  stack, seen = [value], {value}
  for ref in itertools.islice(stack, MOST_BEHIND):
    yield ref
    op = graph.op(ref.node)
    if op in KNOWN - _STACKS and dependence(ref) != DATA:
      new = [r for r in graph.data_inputs(ref.node) if r not in seen]
      seen.update(new)
      stack.extend(new)


def _parts(graph, name, shape) -> Iterator[Part]:
  """The parts of a variable that the operands of a stack are."""
  node, refs = graph.node(name), graph.data_inputs(name)
  if node.op == "Pack":
    axis = node.attr["axis"].i % len(shape)
    for index in range(len(refs)):
      yield Part(PIECE, (), (axis, index, 0))
    return
  told = constant_value(graph, refs[-1])
  axis = 0 if told is None else int(told) % len(shape)
  sizes = [(static_shape(graph, r) or (-1,) * len(shape)) for r in refs[:-1]]
  begin = 0
  for size in sizes:
    if told is None or size[axis] < 0:
      return
    yield Part(PIECE, (), (axis, begin, size[axis]))
    begin += size[axis]


def _mask_of(graph, ref, shape) -> Optional[TensorRef]:
  """The number of the one row that is 1 in a mask of rows, or None."""
  if static_shape(graph, ref) != shape[:1] + (1,) * (len(shape) - 1):
    return None
  while graph.op(ref.node) in _MASK_VIEWS:
    ref = graph.data_inputs(ref.node)[0]
  if graph.op(ref.node) != "OneHot" or static_shape(graph, ref) != shape[:1]:
    return None
  indices, _, *values = graph.data_inputs(ref.node)
  for value, wanted in zip(values, (1, 0)):
    found = constant_value(graph, value, largest=1)
    if found is None or uniform_value(found) != wanted:
      return None
  return indices
