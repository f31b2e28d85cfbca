# SPDX-License-Identifier: Apache-2.0
"""The nodes that the outputs need, where values of a few scalars are tried.

A value that is tried changes little of what a PartialEvaluation found, so that
little is visited again: the nodes behind the scalar, as far as something about
them changes, and of the nodes that the outputs need those that lose their last
reader, or get their first one. Thousands of phases are tried so, one by one.
"""

from __future__ import annotations

import collections
import heapq
from typing import (
  Any,
  Callable,
  Dict,
  FrozenSet,
  Iterable,
  Iterator,
  List,
  Mapping,
  Optional,
  Sequence,
  Set,
  Tuple,
)

from bnexport.analysis.partial_evaluation import PartialEvaluation
from bnexport.graph import TensorRef
from bnexport.graph.components import strong_components
from bnexport.graph.overlay import Overlay, Place

# What holds all outputs up.
_ROOT = ""
# What a PartialEvaluation finds of places, a map each.
_FACTS = (
  "uniform",
  "_decided",
  "_scalars",
  "_alias",
  "_shortcuts",
  "_dead",
  "_dead_nodes",
)


class Needed:
  """Names of nodes that outputs need, by what tells them from others' names.

  Attributes:
    base: the names that are needed where nothing is tried; the same object
      for all that are compared.
    lost: those of them that are not needed.
    gained: names that are needed besides.
  """

  def __init__(
    self, base: Set[str], lost: Iterable[str], gained: Iterable[str]
  ):
    self.base = base
    self.lost, self.gained = frozenset(lost), frozenset(gained)

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Needed) and self._key() == other._key()

  def __hash__(self) -> int:
    return hash(self._key())

  def has(self, name: str) -> bool:
    return name in self.gained or (name in self.base and name not in self.lost)

  def without(self, other: Needed) -> FrozenSet[str]:
    """The names that another one has not."""
    return (self.gained - other.gained) | (other.lost - self.lost)

  def where(self, is_looked_at: Callable[[str], bool]) -> Needed:
    """The same, with the differences at some nodes alone."""
    return Needed(
      self.base,
      filter(is_looked_at, self.lost),
      filter(is_looked_at, self.gained),
    )

  def _key(self) -> Tuple[FrozenSet[str], FrozenSet[str]]:
    return self.lost, self.gained


class Trials:
  """Values that are tried on top of what is known.

  Attributes:
    evaluation: the PartialEvaluation of what is known.
    visits: how many edges of the graph all trials together looked at.
  """

  def __init__(
    self, evaluation: PartialEvaluation, outputs: Sequence[TensorRef]
  ):
    """Counts readers once.

    Args:
      evaluation: what follows from what is known; `settle` adds to it.
      outputs: TensorRefs.
    """
    self._outputs = outputs
    self._places = {name: i for i, name in enumerate(evaluation.order)}
    self._looped: Optional[Set[str]] = None
    self.visits = 0
    self._begin(evaluation)

  def _begin(self, evaluation: PartialEvaluation) -> None:
    self.evaluation = evaluation
    # Readers that are needed, of nodes and of outputs of nodes.
    self._counts: Dict[Place, int] = {_ROOT: 1}
    ready: List[Place] = [_ROOT]
    for one in ready:
      for other in self._edges(evaluation, one):
        if other not in self._counts:
          self._counts[other] = 0
          ready.append(other)
        self._counts[other] += 1
    self._needed = {v for v in self._counts if isinstance(v, str)} - {_ROOT}

  def needed(self, assignment: Mapping[str, Any]) -> Needed:
    """The names of what the outputs need under an assignment."""
    trial = _Trial(self.evaluation, self._places, assignment)
    counts = self._moved(trial)
    if counts is None:
      whole = self._whole(assignment).needed(self._outputs).keys()
      return Needed(self._needed, self._needed - whole, whole - self._needed)
    return Needed(self._needed, *self._differences(counts))

  def settle(self, assignment: Mapping[str, Any]) -> None:
    """Makes an assignment known."""
    trial = _Trial(self.evaluation, self._places, assignment)
    counts = self._moved(trial)
    if counts is None:
      self._begin(self._whole(assignment))
      return
    lost, gained = self._differences(counts)
    self._needed -= lost
    self._needed |= gained
    self._counts.update(counts)
    trial.settle()

  def _whole(self, assignment) -> PartialEvaluation:
    base = self.evaluation
    self.visits += len(base.order)
    known = dict(base.known, **assignment)
    return PartialEvaluation(base.graph, base.order, known)

  def _edges(self, evaluation: PartialEvaluation, place: Place) -> List[Place]:
    """The places that one holds up: what it reads, is of or equals."""
    found: List[Place]
    if place == _ROOT:
      found = [evaluation.resolve(ref).node for ref in self._outputs]
    else:
      found = evaluation.reads(place)
    self.visits += len(found)
    return found

  def _moved(self, trial: _Trial) -> Optional[Dict[Place, int]]:
    """The counts of readers that differ, where the trial tells them.

    Where a loop loses a reader from outside, its own nodes may be all that
    reads it.
    """
    self.visits += trial.visits
    if not trial.is_told:
      return None
    more: List[Place] = []
    less: List[Place] = []
    for place in trial.places():
      if self._counts.get(place):
        before = collections.Counter(self._edges(self.evaluation, place))
        after = collections.Counter(self._edges(trial, place))
        more.extend((after - before).elements())
        less.extend((before - after).elements())
    counts: Dict[Place, int] = {}
    while more:
      place = more.pop()
      count = counts.get(place, self._counts.get(place, 0))
      counts[place] = count + 1
      if not count:
        more.extend(self._edges(trial, place))
    while less:
      place = less.pop()
      counts[place] = counts.get(place, self._counts.get(place, 0)) - 1
      if not counts[place]:
        less.extend(self._edges(trial, place))
      elif _name(place) in self._loops():
        return None
    return counts

  def _differences(self, counts) -> Tuple[Set[str], Set[str]]:
    names = [place for place in counts if isinstance(place, str)]
    lost = {name for name in names if not counts[name]} & self._needed
    gained = {name for name in names if counts[name]} - self._needed
    return lost, gained

  def _loops(self) -> Set[str]:
    """Names of the nodes that read what they are read by."""
    if self._looped is None:
      graph = self.evaluation.graph

      def needs(name: str) -> Iterator[str]:
        return (r.node for r in graph.inputs(name) if r.node in self._places)

      self._looped = {
        name
        for part in strong_components(self.evaluation.order, needs)
        if len(part) > 1
        for name in part
      }
    return self._looped


class _Trial(PartialEvaluation):
  """An evaluation where more is known than in another one.

  Attributes:
    is_told: whether all that changes was visited; it was not where a loop's
      nodes would have to be visited in another order than in a sweep.
    visits: how many edges were looked at.
  """

  def __init__(
    self,
    base: PartialEvaluation,
    places: Mapping[str, int],
    assignment: Mapping[str, Any],
  ):
    self._again: Set[str] = set()
    super().__init__(base.graph, (), {})
    self._layers = []
    for fact in _FACTS:
      layer = Overlay(getattr(base, fact), self._again)
      setattr(self, fact, layer)
      self._layers.append(layer)
    self.order = base.order
    self.known = collections.ChainMap(dict(assignment), base.known)
    self._base = base
    self._contexts = base.contexts.laid_over(self._again, self.inputs)
    self._assignment = assignment
    self._positions = places
    self.visits = 0
    self.is_told = self._sweep()

  def places(self) -> Iterator[Place]:
    """Everything whose edges may be others than before."""
    yield _ROOT
    for name in self._again:
      yield name
      yield TensorRef(name)
      yield TensorRef(name, 1)

  def settle(self) -> None:
    """Makes the other evaluation equal to this one."""
    for layer in self._layers:
      layer.settle()
    self.contexts.settle()
    self._base.known.update(self._assignment)

  def _sweep(self) -> bool:
    """Visits what changes, inputs first; tells whether that is all."""
    positions = self._positions
    waiting = [positions[n] for n in self._assignment if n in positions]
    heapq.heapify(waiting)
    while waiting:
      name = self.order[heapq.heappop(waiting)]
      if name in self._again:
        continue
      refs = self.graph.inputs(name)
      if any(self._is_back(ref.node, name) for ref in refs):
        return False
      self._again.add(name)
      self._visit(self.graph.node(name))
      self.contexts.visit(name)
      self.visits += 1 + len(refs)
      if not self._is_changed(name):
        continue
      readers = self.graph.readers(name)
      self.visits += len(readers)
      for reader in readers:
        if reader not in positions:
          continue
        if self._is_back(name, reader):
          return False
        heapq.heappush(waiting, positions[reader])
    return True

  def _is_back(self, source, reader) -> bool:
    """Whether what is read comes after what reads it, in a sweep."""
    return self._positions.get(source, -1) >= self._positions[reader]

  def _is_changed(self, name) -> bool:
    """Whether readers may find another fact than before."""
    refs = TensorRef(name), TensorRef(name, 1), TensorRef(name, 0, True)
    return any(map(self._leads_elsewhere, refs[:2])) or any(
      self.seen(ref) != self._base.seen(ref) for ref in refs
    )

  def _leads_elsewhere(self, ref) -> bool:
    """Whether a tensor no longer equals the one that it equalled.

    Those that equalled it go past it. Where it begins to equal another one,
    they still lead there by way of it.
    """
    before = self._base.alias(ref)
    return before is not None and self.resolve(ref) != self.resolve(before)


def _name(place: Place) -> str:
  return place if isinstance(place, str) else place.node
