# SPDX-License-Identifier: Apache-2.0
"""The batch norms of a graph as it is, training graphs included.

What a phase chooses between is one norm: two nodes on the two sides of a
conditional, or one node whose mean and variance are chosen.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import List, NamedTuple, Optional, Set

import numpy as np

from bnexport.analysis.dependence import STATISTIC
from bnexport.analysis.flow import Flow, is_setting
from bnexport.batchnorm.averages import Averages
from bnexport.batchnorm.forms import find_among
from bnexport.batchnorm.health import health
from bnexport.batchnorm.norm import (
  BATCH,
  STORED,
  SWITCHED,
  UNKNOWN,
  BatchNorm,
)
from bnexport.batchnorm.settling import is_taken_of_data
from bnexport.batchnorm.shared_norms import SharedNorms
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape
from bnexport.graph.origins import (
  BRANCH_VIEWS,
  STORED_VIEWS,
  VIEWS,
  origin_of,
  stored_name,
)
from bnexport.graph.variables import variable_of

# Larger constants are no statistics of channels.
_MOST_CHANNELS = 1 << 20

# Arithmetic that a phase may choose by: phase * a + (1 - phase) * b.
_BLENDS = frozenset(("Mul", "Add", "AddV2", "Sub", "AddN", "Maximum"))
# From a norm's scale to its output.
_REACH = 5
_PASSED = (
  ops.CARRIERS
  | ops.RESHAPES
  | ops.RESOURCE_READS
  | ops.SWITCHES
  | ops.MERGES
  | _BLENDS
  | {"Cast", "Select", "SelectV2", "Square", "Relu"}
)


@dataclasses.dataclass
class _Origin:
  """The source of a mean or a variance.

  Attributes:
    roots: tensors that are statistics of the batch.
    stored: names of the variables and constants it is read from.
    updated: names of variables read as they are just updated.
    is_choice: whether a phase chooses between these.
  """

  roots: List[TensorRef]
  stored: List[str]
  updated: List[str]
  is_choice: bool = False

  @property
  def statistics(self):
    if self.roots or self.updated:
      return SWITCHED if self.is_choice and self.stored else BATCH
    return STORED if self.stored else UNKNOWN


def batch_norms(flow: Flow, wanted=()):
  """The batch norms of the forward pass, in order of execution.

  Args:
    flow: of a graph whose functions are inlined.
    wanted: names of the likely outputs; they help to tell averages apart.

  Returns:
    BatchNorms. `statistics` may also be SWITCHED; `moving_mean` and
    `moving_variance` of a norm that uses the batch are what tracks it.
  """
  return _Norms(flow, wanted).all()


class _Norms:
  """The norms of one graph."""

  def __init__(self, flow, wanted):
    self.flow = flow
    self.graph = flow.graph
    self.order = [name for name in flow.order if name not in flow.gradients]
    self.needed = flow.graph.ancestors(wanted, control=False)
    self._averages = None
    self._shared = None

  def all(self):
    found = find_among(self.graph, self.order, self.flow.dependence)
    found = [self._settle(norm) for norm in found]
    kinds = {norm.statistics for norm in found}
    return self._joined(found) if len(kinds) > 1 else found

  def _read_averages(self):
    # Reading every update is the dear part; frozen graphs have none.
    if self._averages is None:
      self._averages = Averages.read(self.graph, self.needed)
      self._shared = SharedNorms(self.graph, self._averages)

  def _settle(self, norm):
    """The norm with its statistics as a phase chooses, and their averages."""
    if norm.statistics == STORED and norm.mean is not None:
      return norm
    refs = (norm.mean, norm.variance)
    origins = [None if ref is None else self._origin(ref) for ref in refs]
    told = {origin.statistics for origin in origins if origin is not None}
    for statistics in (SWITCHED, BATCH, UNKNOWN, STORED):
      if statistics in told:
        break
    place = norm.form.place(self.graph, norm)
    stored = [
      own or self._stored(ref, origin) or self._fed(ref, slots)
      for own, ref, origin, slots in zip(
        (norm.moving_mean, norm.moving_variance),
        refs,
        origins,
        ((), ()) if place is None else place[:2],
      )
    ]
    if stored[0] == stored[1]:
      stored[1] = None  # a variance computed from stored moments
    return dataclasses.replace(
      norm,
      statistics=statistics,
      moving_mean=stored[0],
      moving_variance=stored[1],
    )

  # Where statistics come from.

  def _origin(self, ref):
    origin = _Origin([], [], [])
    stack, seen = [ref], set()
    while stack:
      ref = stack.pop()
      if ref not in seen:
        seen.add(ref)
        stack.extend(self._behind(ref, origin))
    return origin

  def _behind(self, ref, origin):
    """Notes in `origin` what a tensor is; returns what to look at next."""
    graph = self.graph
    node, refs = graph.node(ref.node), graph.data_inputs(ref.node)
    if node.op in ops.VARIABLES or _is_vector(node):
      origin.stored.append(node.name)
    elif node.op in ops.UPDATES:
      origin.updated.append(variable_of(graph, refs[0]))
    elif is_setting(graph, node):
      origin.is_choice = True
    elif is_taken_of_data(graph, self.flow.dependence, ref):
      origin.roots.append(ref)
    elif node.op in _PASSED:
      if node.op in ops.SELECTS:
        origin.is_choice = True
        return refs[1:]
      if node.op in ops.MERGES:
        origin.is_choice |= not any(
          graph.op(r.node) in ("NextIteration", "RefNextIteration")
          for r in refs
        )
      return refs if node.op in ops.MERGES or node.op in _BLENDS else refs[:1]
    elif self.flow.dependence(ref) == STATISTIC:
      origin.roots.append(ref)
    return ()

  # The variables that hold them.

  def _stored(self, ref, origin):
    """Name of what holds, or tracks, a mean or variance; or None."""
    if origin is None:
      return None
    names = list(dict.fromkeys(origin.updated or origin.stored))
    if len(names) == 1 and (origin.updated or origin.statistics != BATCH):
      return names[0]
    if not origin.roots:
      return None
    self._read_averages()
    # Of several roots one may be the other statistic's.
    same = [ref, origin_of(self.graph, ref, VIEWS)]
    for root in same + (origin.roots if len(origin.roots) == 1 else []):
      for source in (self._averages, self._shared):
        name = self._pick(source.of(root))
        if name is not None:
          return name
    return None

  def _fed(self, ref, slots):
    """Name of the average that TF 2 hands to a norm in training, or None.

    Args:
      ref: the mean or variance of the batch that the norm uses.
      slots: where it reads the stored one.
    """
    for slot in slots:
      handed = self.graph.inputs(slot.node)[slot.index]
      name = stored_name(self.graph, handed)
      if (
        handed != ref
        and name is not None
        and static_shape(self.graph, TensorRef(name)) != (0,)
        and self.graph.op(name) in ops.VARIABLES
      ):
        return name
    return None

  def _pick(self, averages):
    """The one variable among averages of the same statistic, or None."""
    stored = self._averages.stored(averages)
    is_told = len(stored) == 1 and stored[0].is_whole
    return stored[0].variable if is_told else None

  # The two sides of a conditional.

  def _joined(self, found):
    """One norm for those of one layer that a phase chooses among."""
    layers = []
    # Layers by what a norm of theirs holds and where it runs: thousands of
    # norms are not held against each other.
    layers_at = collections.defaultdict(set)
    for norm in found:
      seen = _Seen(norm, self._held(norm), self._turns(norm))
      near = set().union(
        *(
          layers_at[held, turn]
          for held in seen.held
          for turn in map(_opposite, seen.turns)
        )
      )
      for i in sorted(near):
        if all(seen.is_alternative(other) for other in layers[i]):
          break
      else:
        i = len(layers)
        layers.append([])
      layers[i].append(seen)
      for held in seen.held:
        for turn in seen.turns:
          # Where a layer has both, nothing else is an alternative to both.
          if i in layers_at[held, _opposite(turn)]:
            layers_at[held, _opposite(turn)].discard(i)
          else:
            layers_at[held, turn].add(i)
    return [_one_of([seen.norm for seen in layer]) for layer in layers]

  def _held(self, norm):
    """What tells a norm's layer: what it norms, and what holds its vectors."""
    parameters = norm.form.parameters(self.graph, norm.name)
    found = {
      stored_name(self.graph, ref, STORED_VIEWS | ops.SWITCHES)
      for ref in parameters
    }
    found |= {norm.moving_mean, norm.moving_variance}
    if norm.x is not None:
      found.add(origin_of(self.graph, norm.x, BRANCH_VIEWS))
    return found - {None}

  def _turns(self, norm):
    """The sides of conditionals that a norm is on, and selects of it."""
    sides = self.flow.contexts.sides(TensorRef(norm.name))
    return {*sides, *((name, None) for name in self._selects(norm.name))}

  def _selects(self, name):
    found, names = set(), [(name, 0)]
    for name, steps in names:
      for reader in self.graph.readers(name) if steps < _REACH else ():
        if self.graph.op(reader) in ops.SELECTS:
          found.add(reader)
        else:
          names.append((reader, steps + 1))
    return found


class _Seen(NamedTuple):
  """A norm, and what tells whether another one is its alternative."""

  norm: BatchNorm
  held: Set
  turns: Set

  def is_alternative(self, other):
    """Whether both are one layer's, and the graph uses either."""
    return bool(self.held & other.held) and any(
      _opposite(turn) in other.turns for turn in self.turns
    )


def _opposite(turn):
  """Where an alternative runs: a conditional's other side, the same select."""
  name, side = turn
  return name, None if side is None else not side


def _one_of(layer):
  """The norm that stands for all of a layer's: the one of inference."""
  stored = [norm for norm in layer if norm.statistics == STORED]
  norm = (stored or layer)[-1]
  if len({n.statistics for n in layer}) > 1:
    norm = dataclasses.replace(norm, statistics=SWITCHED)
  return norm


def _is_vector(node):
  return node.op == "Const" and bool(node.attr["value"].tensor.tensor_shape.dim)


def health_of(graph, norm: BatchNorm, values=None):
  """State of a norm's stored statistics; None where they aren't at hand.

  Args:
    graph: holds the norm.
    norm: a BatchNorm.
    values: a checkpoint's Values, or None.
  """
  if norm.moving_mean is None or norm.moving_variance is None:
    return None
  arrays = [
    _array(graph, name, values)
    for name in (norm.moving_mean, norm.moving_variance)
  ]
  if any(a is None or a.dtype.kind != "f" for a in arrays):
    return None
  return health(arrays[0], arrays[1], norm.epsilon)


def _array(graph, name, values):
  if graph.op(name) == "Const":
    return constant_value(graph, TensorRef(name), largest=_MOST_CHANNELS)
  return values[name] if values is not None and name in values else None


def channels_of(graph, norm: BatchNorm, values=None) -> Optional[int]:
  """The number of a norm's channels, or None where nothing says it."""
  for name in (norm.moving_variance, norm.moving_mean):
    if name is not None:
      shape = static_shape(graph, TensorRef(name))
      if shape is None and values is not None:
        shape = values.shape(name)
      if shape is not None and -1 not in shape:
        return int(np.prod(shape, dtype=np.int64))
  shape = static_shape(graph, norm.variance)
  if shape is not None and -1 not in shape:
    return int(np.prod(shape, dtype=np.int64))
  return None
