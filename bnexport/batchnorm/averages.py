# SPDX-License-Identifier: Apache-2.0
"""Which variable is the moving average of which batch statistic.

Found by what updates compute, not by names. An update is read as an equation:
the value that a variable settles at while the batch stays the same is its
fixed point, and a variable is the average of a statistic where its fixed
point is that statistic. This covers every way an average is written:
`v -= (v - m) * (1 - decay)`, `v = v * decay + m * (1 - decay)`, with zero
debias (whose step counter settles at infinity), with Bessel's factor, and
renorm's `v = relu(stddev ** 2 - epsilon)`. Where it is something that was
computed of a statistic, such as its logarithm, that is undone.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import (
  Any,
  Collection,
  Dict,
  FrozenSet,
  Iterable,
  List,
  Mapping,
  Optional,
  Set,
  Tuple,
)

import numpy as np

from bnexport.analysis.dependence import DATA, FREE, STATISTIC, Dependence
from bnexport.analysis.sizes import Sizes
from bnexport.batchnorm.fixed_points import KNOWN, Reader
from bnexport.batchnorm.forms import batch_statistic
from bnexport.batchnorm.inverses import inverses
from bnexport.batchnorm.stored import Step, Stored
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.origins import VIEWS, origin_of
from bnexport.graph.writes import write_of, written_variable

# The tensor that a statistic is taken of, and its values for probe batches.
Signature = Tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Average:
  """A variable and the batch statistic that its updates put into it.

  Attributes:
    statistic: the tensor it averages; with `exact` the outputs need it.
    stored: the value of the statistic, of the variable.
    signature: what is averaged of what, comparable with `signature()`.
    helpers: variables that the update goes through, such as `biased`.
    update: name of the update node.
  """

  statistic: TensorRef
  stored: Stored
  signature: Optional[Signature]
  helpers: FrozenSet[str]
  update: str

  @property
  def variable(self) -> str:
    """Name of the variable node."""
    return self.stored.variable


def is_taken_of_data(
  graph: Graph, dependence: Dependence, ref: TensorRef
) -> bool:
  """Whether an op makes a statistic of data, and not of other statistics."""
  return batch_statistic(graph, ref) is not None or (
    dependence(ref) == STATISTIC
    and any(dependence(r) == DATA for r in graph.data_inputs(ref.node))
  )


# Factors are the same up to rounding.
_SAME_RATIO = 1e-6
# What a size of unknown value is taken for.
_ROWS = 2.0
# What statistics are taken for that an average may only go by; and what a step
# counter has come to where an average is of all batches alike.
_OTHER = 1.37
_STEPS = 64.0
_MOST_OTHERS = 40
# Rows of the batches that statistics are told apart by.
_PROBES = (np.array([1.0, 2.0, 4.0, 7.5]), np.array([0.5, 3.0, -1.0, 6.0]))


class Averages:
  """All moving averages of batch statistics in a graph.

  Attributes:
    dependence: the Dependence of what the outputs or an update need.
    all: an Average for each update that keeps one.
  """

  def __init__(
    self,
    graph: Graph,
    needed: Collection[str],
    updates: Dict[str, List[str]],
    dependence: Dependence,
  ):
    """Has no averages yet; `read` finds them.

    Args:
      graph: with the training part still in it.
      needed: names of the nodes that the outputs need.
      updates: names of update nodes by the variable that they write.
      dependence: a Dependence that covers both.
    """
    self.dependence = dependence
    self.all: List[Average] = []
    self._graph = graph
    self._needed = needed
    self._updates = updates
    self._sizes = {rows: Sizes(graph, rows) for rows in map(len, _PROBES)}
    self._by_statistic: Dict[TensorRef, List[Average]]
    self._by_signature: Dict[Signature, List[Average]]
    self._by_statistic = collections.defaultdict(list)
    self._by_signature = collections.defaultdict(list)

  @classmethod
  def read(cls, graph: Graph, needed: Collection[str]) -> Averages:
    """Reads every update of a graph.

    Args:
      graph: with the training part still in it; stays as it is.
      needed: names of the nodes that the outputs need.
    """
    updates = _updates(graph)
    region = dict.fromkeys(needed)
    names = [name for found in updates.values() for name in found]
    region.update(graph.ancestors(names, control=False))
    order = graph.topological(region)
    averages = cls(graph, needed, updates, Dependence(graph, order))
    others = averages._reductions_of_other_axes(order)
    if others:
      averages.dependence = Dependence(graph, order, others)
    averages._drop_fixed()
    averages._find()
    return averages

  def _drop_fixed(self) -> None:
    """Initialisers and restores write what no batch has a part in."""
    kept = {
      variable: [name for name in names if self._written(name) != FREE]
      for variable, names in self._updates.items()
    }
    self._updates = {v: names for v, names in kept.items() if names}

  def _find(self) -> None:
    for variable, updates in self._updates.items():
      for update in updates:
        for average in self._read(variable, update):
          self.all.append(average)
          self._by_statistic[average.statistic].append(average)
          if average.signature is not None:
            self._by_signature[average.signature].append(average)

  def _reductions_of_other_axes(self, order: List[str]) -> Set[str]:
    """Averaged reductions that leave axis 0, where the batch mostly is.

    Time may be first, or channels may have been moved there. What is averaged
    into a variable of fixed size has no batch in it.
    """
    found: Set[str] = set()
    first = self.dependence
    for variable, updates in self._updates.items():
      for update in updates:
        if first(write_of(self._graph, update).value) != DATA:
          continue
        behind = self._reductions_behind(update, first)
        if behind and not behind <= found:
          self.dependence = Dependence(self._graph, order, behind)
          if self._read(variable, update):
            found |= behind
    self.dependence = first
    return found

  def _reductions_behind(self, update: str, dependence: Dependence) -> Set[str]:
    graph = self._graph
    stack = [write_of(graph, update).value]
    seen: Set[TensorRef] = set()
    found: Set[str] = set()
    for ref in stack:
      if ref in seen or dependence(ref) != DATA:
        continue
      seen.add(ref)
      op = graph.op(ref.node)
      if op in ("Mean", "Sum"):
        found.add(ref.node)
      elif op in KNOWN:
        stack.extend(graph.data_inputs(ref.node))
    return found

  def is_updated(self, variable: str) -> bool:
    """Whether some update writes batch dependent values into a variable."""
    return variable in self._updates

  def of(self, ref: TensorRef) -> List[Average]:
    """Averages of a statistic, or else of an equal one elsewhere.

    Those that are the statistic itself, where there are any; else those of
    which it can be computed in the fewest steps.
    """
    found = self._by_statistic.get(ref) or self._own(ref)
    if not found:
      for signature in self._signatures(ref):
        found = found + self._by_signature.get(signature, [])
    found = found or self._of_two(ref)
    least = min((len(a.stored.steps) for a in found), default=0)
    found = [a for a in found if len(a.stored.steps) == least]
    return list({a.stored: a for a in found}.values())

  def _of_two(self, ref: TensorRef) -> List[Average]:
    """Averages by which E[x^2] less the mean's square is the variance."""
    found = []
    for source, *values in self._signatures(ref):
      for op, kind, other in (
        ("Sub", "variance", "squares"),
        ("Add", "squares", "variance"),
      ):
        if (source, *values) not in self.signatures_of(source, kind):
          continue
        means = self.stored(self._known(source, "mean"))
        for average in self._known(source, other):
          for mean in means:
            step = Step(op, mean.then(Step("Square")))
            stored = average.stored.then(step)
            found.append(
              dataclasses.replace(average, statistic=ref, stored=stored)
            )
    return found

  def _known(self, x: TensorRef, which: str) -> List[Average]:
    """Averages of "mean", "variance" or "squares" of x, wherever they are."""
    found: List[Average] = []
    for signature in self.signatures_of(x, which):
      found += self._by_signature.get(signature, [])
    return found

  def _own(self, ref: TensorRef) -> List[Average]:
    """Averages of a view of a statistic, such as its Squeeze."""
    source = origin_of(self._graph, ref, VIEWS)
    return [
      average
      for average in self.all
      if origin_of(self._graph, average.statistic, VIEWS) == source
    ]

  def variables(self, found: Iterable[Average]) -> List[str]:
    """Names of the variables that `stored` gives."""
    return [stored.variable for stored in self.stored(found)]

  def stored(self, found: Iterable[Average]) -> List[Stored]:
    """What averages of one statistic come down to: one Stored, if told.

    Args:
      found: Averages.

    Returns:
      Sorted by name: none for none, several where nothing tells which is
      meant.
    """
    found = list(found)
    helpers = {helper for a in found for helper in a.helpers}
    left = [a for a in found if a.variable not in helpers] or found
    # What the training graph itself reads corrects it, as renorm does.
    unread = [a for a in left if a.variable not in self._needed]
    chosen = {a.stored: None for a in unread or left}
    return sorted(chosen, key=str)

  def signature(self, ref: TensorRef) -> Optional[Signature]:
    """What a statistic is of what: equal for equal statistics.

    Returns:
      The tensor it is taken of and its values for two probe batches; None
      where it is no function of one tensor's rows.
    """
    sources: Set[TensorRef] = set()
    values = []
    for probe in _PROBES:
      reader = self._reader({}, probe, sources)
      value = reader.value(ref)
      if value is None or np.ndim(value) or len(sources) != 1:
        return None
      values.append(round(float(value), 6))
    return (next(iter(sources)),) + tuple(values)

  def signatures_of(self, x: TensorRef, which: str) -> List[Signature]:
    """Signatures that "mean", "variance" or "squares", E[x^2], may have."""
    source = origin_of(self._graph, x, VIEWS)
    if which != "variance":
      power = 1 if which == "mean" else 2
      means = [float((probe**power).mean()) for probe in _PROBES]
      return [(source,) + tuple(round(mean, 6) for mean in means)]
    return [
      (source,) + tuple(round(float(p.var(ddof=d)), 6) for p in _PROBES)
      for d in (0, 1)
    ]

  def _signatures(self, ref: TensorRef) -> List[Signature]:
    """Signatures by which an equal statistic elsewhere is known."""
    statistic = batch_statistic(self._graph, ref)
    if statistic is not None:
      return self.signatures_of(*statistic)
    signature = self.signature(ref)
    return [] if signature is None else [signature]

  def _reader(
    self,
    given: Mapping[TensorRef, float],
    rows: Optional[np.ndarray],
    sources: Set[TensorRef],
    **more: float,
  ) -> Reader:
    count = len(_PROBES[0] if rows is None else rows)
    return Reader(
      self._graph,
      self.dependence,
      self._updates,
      given,
      rows,
      sources,
      sizes=self._sizes[count],
      **more,
    )

  def _written(self, update: str) -> int:
    return self.dependence(write_of(self._graph, update).value)

  def _read(self, variable: str, update: str) -> List[Average]:
    """The Averages that an update keeps: of a statistic and of what is behind.

    What it settles at is first; what that is computed of comes in some steps.
    """
    if self._written(update) != STATISTIC:
      return []
    stored = Stored(variable, write_of(self._graph, update).part)
    known, others = self._candidates(update)
    found: List[Average] = []
    for candidate in known + others:
      is_blend = self._is_blend(candidate)
      if is_blend and (found or candidate in others):
        continue
      helpers = self._settles_at(
        variable, update, candidate, candidate in others
      )
      if helpers is None:
        continue
      for ref, steps in inverses(self._graph, self.dependence, candidate):
        one = stored.then(*steps)
        signature, names = self.signature(ref), frozenset(helpers)
        found.append(Average(ref, one, signature, names, update))
        if is_blend:
          break
      if not is_blend:
        break
    return found

  def _candidates(self, update: str) -> Tuple[List[TensorRef], List[TensorRef]]:
    """Statistics behind an update: needed ones, then those of data.

    The second list has the others, from which such a one was computed. Each
    list has the nearest first.
    """
    graph = self._graph
    stack = [write_of(graph, update).value]
    seen: Set[TensorRef] = set()
    needed, roots, others = [], [], []
    for ref in stack:
      if ref in seen or self.dependence(ref) != STATISTIC:
        continue
      seen.add(ref)
      node = graph.node(ref.node)
      is_root = is_taken_of_data(graph, self.dependence, ref)
      if ref.node in self._needed and node.op not in ops.UPDATES:
        needed.append(ref)
      elif is_root:
        roots.append(ref)
      elif node.op in KNOWN and node.op not in ops.UPDATES:
        others.append(ref)
      if not is_root and node.op in KNOWN:
        stack.extend(graph.data_inputs(ref.node))
    return needed + roots, others[:_MOST_OTHERS]

  def _is_blend(self, ref: TensorRef) -> bool:
    """Whether stored averages are part of a statistic, not by way of x."""
    stack, seen = [ref], {ref}
    for ref in stack:
      if ref.node in self._updates:
        return True
      if self.dependence(ref) == DATA:
        continue
      new = [r for r in self._graph.data_inputs(ref.node) if r not in seen]
      seen.update(new)
      stack.extend(new)
    return False

  def _settles_at(
    self,
    variable: str,
    update: str,
    statistic: TensorRef,
    is_exact: bool,
  ) -> Optional[Set[str]]:
    """Helpers of the update, where its fixed point is the statistic.

    Bessel's correction n / (n - 1) is the only factor that there may be: a
    statistic times another number is another statistic.

    Args:
      variable: name of the variable.
      update: name of its update.
      statistic: the tensor.
      is_exact: whether there may be no factor at all.
    """
    ratio, helpers = self._ratio(variable, update, statistic)
    if ratio is None:
      return None
    if abs(ratio - 1) > _SAME_RATIO:
      if is_exact or not self._may_be_corrected(statistic):
        return None
      # Where n is not known, it is taken for a number of rows.
      ratio, _ = self._ratio(variable, update, statistic, unknown=_ROWS)
      if ratio is None or not _is_bessels(ratio):
        return None
    return helpers - {variable}

  def _may_be_corrected(self, statistic: TensorRef) -> bool:
    """Whether a tensor may be a variance; a mean has no Bessel's correction.

    Nor has what a rate was applied to.
    """
    signature = self.signature(statistic)
    return signature is None or signature in self.signatures_of(
      signature[0], "variance"
    )

  def _ratio(
    self, variable: str, update: str, statistic: TensorRef, **more: float
  ) -> Tuple[Optional[float], Set[str]]:
    """The fixed point over the statistic, if that is constant; the helpers."""
    ratios: List[float] = []
    helpers: Set[str] = set()
    for probe in (0.7, 2.3):
      for counted in (np.inf, _STEPS):
        reader = self._reader(
          {statistic: probe},
          None,
          set(),
          counted=counted,
          other=_OTHER,
          **more,
        )
        value = reader.fixed_point(variable, update)
        helpers |= reader.variables
        if value is not None and np.isfinite(value):
          break
      else:
        return None, helpers
      if value == 0:
        return None, helpers
      ratios.append(value / probe)
    if abs(ratios[0] - ratios[1]) > _SAME_RATIO * abs(ratios[0]):
      return None, helpers
    return ratios[0], helpers


def _is_bessels(ratio: float) -> bool:
  """Whether a factor is n / (n - 1) for a whole number n of at least 2."""
  if not 1 < ratio <= 2 + _SAME_RATIO:
    return False
  n = ratio / (ratio - 1)
  return abs(n - round(n)) <= 1e-3 * n


def _updates(graph: Graph) -> Dict[str, List[str]]:
  """Names of update nodes by the variable that they write, in order."""
  updates: Dict[str, List[str]] = {}
  for node in graph:
    if node.op in ops.UPDATES:
      variable = written_variable(graph, node.name)
      if variable is not None:
        updates.setdefault(variable, []).append(node.name)
  return updates
