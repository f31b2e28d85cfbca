# SPDX-License-Identifier: Apache-2.0
"""Norms that get statistics together, and the order in which they can."""

from __future__ import annotations

import dataclasses
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from bnexport.batchnorm.norm import BatchNorm
from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
from bnexport.graph.variables import Frames

# From 1 / sqrt(variance + epsilon) to what x is multiplied with.
_SCALES = (
  ops.CARRIERS
  | ops.RESHAPES
  | {"Mul", "RealDiv", "Neg", "Reciprocal", "Inv", "Cast"}
)
# What a mean may go through before it is scaled.
_HANDS_ON = ops.IDENTITIES | {"Neg"}
_LOOP_ENDS = ("NextIteration", "RefNextIteration")


class Slot(NamedTuple):
  """One data input of a node."""

  node: str
  # It hides tuple.index, which nobody asks a slot for.
  index: int  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a norm reads its statistics.

  Attributes:
    mean: slots that read its mean.
    variance: slots that read its variance.
    scale: the tensor that x is multiplied with, or divided by; None where
      the form tells the channels.
  """

  mean: Tuple[Slot, ...]
  variance: Tuple[Slot, ...]
  scale: Optional[TensorRef] = None


@dataclasses.dataclass(eq=False)
class Group:
  """Norms that share a mean or a variance.

  Attributes:
    norms: in order of execution.
    places: where each reads its statistics, by the norm's name.
    depth: how many groups have to be done one after the other before it.
    repeats: whether its statistics change what they are taken of, as where a
      layer is called on what it has answered.
    samples: how many values each element of the mean is the mean of.
    mean: the population's; float64, one axis, in the order of the elements
      of the norms' statistics.
    variance: the same.
    shapes: of statistics where norms read them, by the norm's name and
      "mean" or "variance".
  """

  norms: List[BatchNorm]
  places: Dict[str, Place]
  depth: int = 0
  repeats: bool = False
  samples: int = 0
  mean: Optional[np.ndarray] = None
  variance: Optional[np.ndarray] = None
  shapes: Dict[Tuple[str, str], Tuple[int, ...]] = dataclasses.field(
    default_factory=dict
  )

  @property
  def xs(self):
    return list(dict.fromkeys(norm.x for norm in self.norms))


def refuse(norm, fact, step=None):
  """Raises TransformError for a norm."""
  raise TransformError(
    f"recalibrate norm '{norm.name}'",
    fact,
    step
    or "name the others with --recalibrate, or keep it with "
    f"--keep_batch_statistics={norm.name}",
  )


def shared_keys(norm):
  """What two norms have in common that share a mean or a variance."""
  return (
    ("mean", norm.moving_mean or norm.mean),
    ("variance", norm.moving_variance or norm.variance),
  )


def group_norms(graph, outputs, norms):
  """Groups of the norms, each with its depth, in order of depth.

  Args:
    graph: a Graph; stays as it is.
    outputs: the TensorRefs that the norms were found behind.
    norms: BatchNorms to group.

  Raises:
    TransformError: a norm's input can't be looked at.
  """
  order = graph.topological(
    graph.ancestors((ref.node for ref in outputs), control=True)
  )
  _refuse_unreachable(graph, order, norms)
  groups, by_key = [], {}
  position = {name: i for i, name in enumerate(order)}
  for norm in sorted(norms, key=lambda norm: position[norm.x.node]):
    found = {by_key[k] for k in shared_keys(norm) if k in by_key}
    group = Group([norm], {norm.name: find_place(graph, norm)})
    for other in [g for g in groups if g in found]:
      group.norms = other.norms + group.norms
      group.places.update(other.places)
      groups.remove(other)
    groups.append(group)
    for member in group.norms:
      by_key.update(dict.fromkeys(shared_keys(member), group))
  _set_depths(graph, groups)
  return sorted(groups, key=lambda group: group.depth)


def _refuse_unreachable(graph, order, norms):
  """Raises TransformError where no run can show a norm's input."""
  frames = Frames(graph, order)
  branches = _branches(graph, order)
  for norm in norms:
    fact = None
    if norm.x is None or norm.mean is None:
      fact = "its formula does not tell what it normalises"
    elif frames.of(norm.name) or frames.of(norm.x.node):
      fact = "it is inside a while loop, where its input can't be fetched"
    elif branches[norm.name] or branches[norm.x.node]:
      fact = "it is inside a conditional, which may leave it out"
    if fact is not None:
      refuse(norm, fact)


def _branches(graph, order):
  """In how many conditionals each node is."""
  depths = {}
  for name in order:
    op, refs = graph.op(name), graph.inputs(name)
    depth = max((depths.get(ref.node, 0) for ref in refs), default=0)
    if op in ops.SWITCHES:
      depth += 1
    elif op in ops.EXITS:
      depth -= 1
    elif op in ops.MERGES and not any(
      graph.op(ref.node) in _LOOP_ENDS for ref in refs
    ):
      depth -= 1
    depths[name] = max(depth, 0)
  return depths


# Where a norm reads its statistics.


def find_place(graph, norm):
  """The Place of a norm.

  Raises:
    TransformError: nothing reads the norm's statistics as its form has it.
  """
  if norm.form == "fused":
    return Place((Slot(norm.name, 3),), (Slot(norm.name, 4),))
  if norm.form == "global":
    return Place((Slot(norm.name, 1),), (Slot(norm.name, 2),))
  shifted = graph.inputs(norm.name)[0]
  while graph.op(shifted.node) in ops.IDENTITIES:
    shifted = graph.inputs(shifted.node)[0]
  variance = _slots(graph, shifted.node, norm.variance)
  rows, mean = _rows(graph, norm)
  scales, scale = [norm.name], None
  for name in scales:
    for reader in graph.readers(name):
      refs = graph.data_inputs(reader)
      if any(ref in rows for ref in refs):
        scale = next((r for r in refs if r.node == name), scale)
      elif graph.op(reader) in _SCALES and reader not in scales:
        scales.append(reader)
        mean += _slots(graph, reader, norm.mean)
        for ref in refs:
          if graph.op(ref.node) in _HANDS_ON:
            mean += _slots(graph, ref.node, norm.mean)
  if not (mean and variance and scale):
    refuse(
      norm,
      f"nothing reads its mean '{norm.mean}' and its variance "
      f"'{norm.variance}' as in a batch norm",
    )
  return Place(tuple(mean), tuple(variance), scale)


def _rows(graph, norm):
  """x, x - mean and products of them; and the slots that take the mean."""
  rows, slots = [norm.x], []
  for row in rows:
    for name in graph.readers_of(row):
      refs = graph.data_inputs(name)
      is_centred = graph.op(name) == "Sub" and refs == [row, norm.mean]
      if is_centred:
        slots.append(Slot(name, 1))
      if is_centred or graph.op(name) == "Mul":
        if TensorRef(name) not in rows:
          rows.append(TensorRef(name))
  return rows, slots


def _slots(graph, name, ref):
  return [
    Slot(name, i) for i, r in enumerate(graph.data_inputs(name)) if r == ref
  ]


# Depths.


def _set_depths(graph, groups):
  """Sets the depth of each group, and whether it depends on itself."""
  owners = {}
  for group in groups:
    for place in group.places.values():
      for slot in place.mean + place.variance:
        owners.setdefault(slot.node, set()).add(group)
  needs = {group: set() for group in groups}
  for group in groups:
    for name in graph.ancestors(x.node for x in group.xs):
      needs[group] |= owners.get(name, set())
  before = None
  while before != needs:
    before = {group: set(found) for group, found in needs.items()}
    for found in needs.values():
      found.update(*(needs[other] for other in list(found)))
  # Those that need each other need the same; they are done together.
  for group in sorted(groups, key=lambda group: len(needs[group])):
    others = [o for o in needs[group] if group not in needs[o]]
    group.depth = 1 + max((o.depth for o in others), default=-1)
    group.repeats = group in needs[group]
