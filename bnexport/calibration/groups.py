# SPDX-License-Identifier: Apache-2.0
"""Norms that get statistics together, and the order in which they can."""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional, Tuple

import numpy as np

from bnexport.batchnorm.form import Place
from bnexport.batchnorm.norm import BatchNorm
from bnexport.errors import TransformError
from bnexport.graph import TensorRef
from bnexport.graph.components import strong_components
from bnexport.graph.contexts import Contexts


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
  """Keys of a norm's statistics, equal where norms share them."""
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
  contexts = Contexts(graph, order)
  for norm in norms:
    fact = None
    if norm.x is None or norm.mean is None:
      fact = "its formula does not tell what it normalises"
    elif contexts.frame(norm.name) or contexts.frame(norm.x.node):
      fact = "it is inside a while loop, where its input can't be fetched"
    elif contexts.sides(TensorRef(norm.name)) or contexts.sides(norm.x):
      fact = "it is inside a conditional, which may leave it out"
    if fact is not None:
      refuse(norm, fact)


# Where a norm reads its statistics.


def find_place(graph, norm):
  """The Place of a norm.

  Raises:
    TransformError: nothing reads the norm's statistics as its form has it.
  """
  place = norm.form.place(graph, norm)
  if place is None:
    refuse(
      norm,
      f"nothing reads its mean '{norm.mean}' and its variance "
      f"'{norm.variance}' as in a batch norm",
    )
  return place


# Depths.


def _set_depths(graph, groups):
  """Sets the depth of each group, and whether it depends on itself.

  A group is needed by what reads its statistics, and needs what its norms'
  inputs need. Groups that need each other are done together.
  """
  owners = {}
  for group in groups:
    for place in group.places.values():
      for slot in place.mean + place.variance:
        owners.setdefault(slot.node, set()).add(group)

  def needs(vertex):
    if isinstance(vertex, Group):
      return [x.node for x in vertex.xs]
    inputs = [ref.node for ref in graph.inputs(vertex)]
    return inputs + list(owners.get(vertex, ()))

  behind = {}  # how many groups have to be done before what reads a vertex
  for part in strong_components(groups, needs):
    depth = max(
      (behind[v] for vertex in part for v in needs(vertex) if v in behind),
      default=0,
    )
    members = [vertex for vertex in part if isinstance(vertex, Group)]
    for group in members:
      group.depth, group.repeats = depth, len(part) > 1
    behind.update(dict.fromkeys(part, depth + bool(members)))
