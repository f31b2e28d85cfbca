# SPDX-License-Identifier: Apache-2.0
"""The pairing of variables with the batch statistics that they average.

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
import itertools
from typing import (
  Collection,
  Dict,
  FrozenSet,
  Iterable,
  List,
  Optional,
  Set,
  Tuple,
)

from bnexport.analysis.dependence import DATA, FREE, STATISTIC, Dependence
from bnexport.batchnorm.forms import batch_statistic
from bnexport.batchnorm.inverses import inverses
from bnexport.batchnorm.pieces import Piece, pieces
from bnexport.batchnorm.reductions import (
  ends_behind,
  groups_behind,
  reductions_behind,
)
from bnexport.batchnorm.sequences import in_one
from bnexport.batchnorm.settling import (
  MOST_BEHIND,
  Settling,
  Signature,
  is_taken_of_data,
)
from bnexport.batchnorm.stored import Step, Stored
from bnexport.batchnorm.sums import ratios
from bnexport.batchnorm.weight_averages import weight_averages
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.origins import VIEWS, origin_of
from bnexport.graph.writes import SET, Part, write_of, written_variable

# What a quotient may be computed with, corrected, and averaged.
_QUOTIENTS = (
  ops.DIVISIONS
  | VIEWS
  | ops.VARIABLES
  | ops.RESOURCE_READS
  | {"Add", "AddV2", "Cast", "Const", "Maximum", "Mul", "Sub"}
)


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


class Averages:
  """All moving averages of batch statistics in a graph.

  Attributes:
    dependence: the Dependence of what the outputs or an update need.
    all: an Average for each update that keeps one.
    sums: those that are kept as a sum and a count; of the statistic that each
      comes to only the signature is known.
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
    self.all: List[Average] = []
    self.sums: List[Average] = []
    self._graph = graph
    self._needed = needed
    self._updates = updates
    self._counts: Dict[str, List[str]] = {}
    self._order: List[str] = []
    self._use(dependence)
    self._by_statistic: Dict[TensorRef, List[Average]]
    self._by_signature: Dict[Signature, List[Average]]
    self._by_statistic = collections.defaultdict(list)
    self._by_signature = collections.defaultdict(list)

  def _use(self, dependence: Dependence) -> None:
    self.dependence = dependence
    self._settling = Settling(
      self._graph, dependence, self._needed, self._updates
    )

  @classmethod
  def read(cls, graph: Graph, needed: Collection[str]) -> Averages:
    """Reads every update of a graph.

    Args:
      graph: with the training part still in it; stays as it is.
      needed: names of the nodes that the outputs need.
    """
    averages = cls._opened(graph, needed)
    written = [
      name
      for names in averages._updates.values()
      for name in names
      if averages._written(name) != FREE
    ]
    joined = in_one(graph, written)
    if joined is not graph:
      averages = cls._opened(joined, needed)
    averages._reduce_other_axes()
    averages._drop_fixed()
    averages._find()
    return averages

  @classmethod
  def _opened(cls, graph: Graph, needed: Collection[str]) -> Averages:
    updates = _updates(graph)
    region = dict.fromkeys(needed)
    names = [name for found in updates.values() for name in found]
    region.update(graph.ancestors(names, control=False))
    order = graph.topological(region)
    averages = cls(graph, needed, updates, Dependence(graph, order))
    averages._order = order
    return averages

  def _drop_fixed(self) -> None:
    """Initialisers and restores write what no batch has a part in."""
    kept: Dict[str, List[str]] = {}
    for variable, names in self._updates.items():
      for name in names:
        is_fixed = self._written(name) == FREE
        found = self._counts if is_fixed else kept
        found.setdefault(variable, []).append(name)
    self._updates = kept
    self._use(self.dependence)

  def _find(self) -> None:
    for variable, updates in self._updates.items():
      for update in updates:
        for average in self._read(variable, update):
          self._add(average)
    self._find_averages_of_copies()
    told = {average.variable for average in self.all}
    sums = {v: names for v, names in self._updates.items() if v not in told}
    of_sums = list(ratios(self._graph, self._settling, sums, self._counts))
    quotients = self._quotients() if of_sums else {}
    for ratio in of_sums:
      variables, stored = frozenset(ratio.stored.variables), ratio.stored
      kept = quotients.get(variables)
      if kept is not None:
        stored = Stored(kept)
      elif any(variables <= others for others in quotients):
        continue  # something else is made of it, which inference may read
      average = Average(
        TensorRef(ratio.update),
        stored,
        ratio.signature,
        frozenset(),
        ratio.update,
      )
      self._by_signature[ratio.signature].append(average)
      self.sums.append(average)

  def _quotients(self) -> Dict[FrozenSet[str], Optional[str]]:
    """Variables to which a quotient of others is written, by the others.

    Such as a sum over a count at the end of an epoch, after which both begin
    anew: inference reads what was written, or what averages that. None where
    it is more than a quotient.
    """
    graph = self._graph
    found: Dict[FrozenSet[str], Optional[str]] = {}
    for variable, updates in self._counts.items():
      for update in updates:
        write = write_of(graph, update)
        names = graph.ancestors([write.value.node], control=False)
        kinds = {graph.op(name) for name in names}
        if kinds & ops.DIVISIONS:
          read = {name for name in names if graph.op(name) in ops.VARIABLES}
          is_plain = write.part is None and kinds <= _QUOTIENTS
          found[frozenset(read - {variable})] = variable if is_plain else None
    return found

  def _add(self, average: Average) -> None:
    self.all.append(average)
    self._by_statistic[average.statistic].append(average)
    if average.signature is not None:
      self._by_signature[average.signature].append(average)

  def is_last(self, average: Average) -> bool:
    """Tells whether a variable is a copy of what the last batch had."""
    write = write_of(self._graph, average.update)
    if write.change != SET or write.part is not None:
      return False
    own = {average.variable, *average.helpers}
    # What it held is near to what is written, if it is part of that.
    stack, seen = [write.value.node], {write.value.node}
    for name in itertools.islice(stack, MOST_BEHIND):
      if name in own:
        return False
      new = [ref.node for ref in self._graph.data_inputs(name)]
      new = [node for node in dict.fromkeys(new) if node not in seen]
      seen.update(new)
      stack.extend(new)
    return True

  def _find_averages_of_copies(self) -> None:
    """Finds what averages a variable that holds the last batch's statistic."""
    copies = [average for average in self.all if self.is_last(average)]
    others = weight_averages(self._graph) if copies else {}
    for copy in copies:
      for variable in others.get(copy.variable, ()):
        stored = dataclasses.replace(copy.stored, variable=variable)
        helpers = copy.helpers | {copy.variable}
        self._add(dataclasses.replace(copy, stored=stored, helpers=helpers))

  def _reduce_other_axes(self) -> None:
    """Looks for averaged reductions that leave axis 0, mostly the batch.

    Time may be first, or channels may have been moved there. What is averaged
    into a variable of fixed size has no batch in it.
    """
    found: Set[str] = set()
    first = self.dependence
    for variable, updates in self._updates.items():
      for update in updates:
        level = first(write_of(self._graph, update).value)
        if level == DATA:
          behind = reductions_behind(self._graph, first, update)
        else:
          behind = groups_behind(self._graph, first, update, self._needed)
        if behind and not behind <= found:
          self._use(Dependence(self._graph, self._order, behind))
          if self._read(variable, update):
            found |= behind
    self._use(first)
    if found:
      self._use(Dependence(self._graph, self._order, found))

  def _moves(self, part: Optional[Part]) -> bool:
    """Whether another part is written each time, as in a ring of batches."""
    graph = self._graph
    if part is None:
      return False
    refs = [ref.node for ref in part.operands]
    for name in graph.ancestors(refs, control=False):
      for update in self._counts.get(name, []) + self._updates.get(name, []):
        is_set = graph.op(update) in ops.ASSIGN
        value = write_of(graph, update).value.node
        if not is_set or name in graph.ancestors([value], control=False):
          return True
    return False

  def unexplained(self) -> Dict[TensorRef, Tuple[str, str]]:
    """Statistics of data that go into a variable that is no average of any.

    Returns:
      The variable and its update, by the statistic.
    """
    known = {average.variable for average in self.sums}
    for average in self.all:
      ref = average.statistic
      if ref.node in self._needed or is_taken_of_data(
        self._graph, self.dependence, ref
      ):
        known.add(average.variable)
    found: Dict[TensorRef, Tuple[str, str]] = {}
    for variable, updates in self._updates.items():
      for update in updates if variable not in known else ():
        for ref in self._roots_behind(update):
          found.setdefault(ref, (variable, update))
    return found

  def _roots_behind(self, update: str) -> List[TensorRef]:
    """Statistics of data that a written value is made of, by any ops."""
    return ends_behind(
      self._graph,
      update,
      lambda ref: self.dependence(ref) == STATISTIC,
      lambda ref: is_taken_of_data(self._graph, self.dependence, ref),
      self._written_operands,
    )

  def _written_operands(self, ref: TensorRef) -> List[TensorRef]:
    """Operands of any op; whether it is written is not what is written."""
    refs = self._graph.data_inputs(ref.node)
    return refs[:1] if self._graph.op(ref.node) in ops.SWITCHES else refs

  def is_updated(self, variable: str) -> bool:
    """Whether some update writes batch dependent values into a variable."""
    return variable in self._updates

  def of(self, ref: TensorRef) -> List[Average]:
    """Averages of a statistic, or else of an equal one elsewhere.

    Those that are the statistic itself, where there are any; else those of
    which it can be computed in the fewest steps.
    """
    return self.nearest(self.tracking(ref))

  def tracking(self, ref: TensorRef) -> List[Average]:
    """All from which a statistic, or an equal one, can be computed."""
    found = self._by_statistic.get(ref) or self._own(ref)
    if not found:
      for signature in self._signatures(ref):
        found = found + self._by_signature.get(signature, [])
    return found or self._of_two(ref)

  def nearest(self, found: Iterable[Average]) -> List[Average]:
    """Those of some averages that a statistic is in the fewest steps from."""
    found = list(found)
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
    """One Stored for all averages of one statistic, if it can be told.

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
    chosen: Dict[object, Stored] = {}
    for stored in (a.stored for a in unread or left):
      # Both settle at the statistic, so what is computed of the same variables
      # is the same function of them.
      of = frozenset(stored.variables), stored.part
      if of not in chosen or len(stored.steps) < len(chosen[of].steps):
        chosen[of] = stored
    return sorted(chosen.values(), key=str)

  def signature(self, ref: TensorRef) -> Optional[Signature]:
    """A key of a statistic: equal for equal statistics of equal tensors."""
    return self._settling.signature(ref)

  def signatures_of(self, x: TensorRef, which: str) -> List[Signature]:
    """Signatures that "mean", "variance" or "squares", E[x^2], may have."""
    return self._settling.signatures_of(x, which)

  def _signatures(self, ref: TensorRef) -> List[Signature]:
    """Signatures by which an equal statistic elsewhere is known."""
    statistic = batch_statistic(self._graph, ref)
    if statistic is not None:
      return self.signatures_of(*statistic)
    signature = self.signature(ref)
    return [] if signature is None else [signature]

  def _written(self, update: str) -> int:
    return self.dependence(write_of(self._graph, update).value)

  def _read(self, variable: str, update: str) -> List[Average]:
    """The Averages that an update keeps: of a statistic and of what is behind.

    An update that writes several statistics keeps some of each.
    """
    if self._written(update) != STATISTIC:
      return []
    found: List[Average] = []
    for piece in pieces(self._graph, self.dependence, variable, update):
      if not piece.given or self._settling.leaves(variable, update, piece):
        found += self._read_part(variable, update, piece.part, piece)
    part = write_of(self._graph, update).part
    return found or self._read_part(variable, update, part, None)

  def _read_part(
    self,
    variable: str,
    update: str,
    part: Optional[Part],
    piece: Optional[Piece],
  ) -> List[Average]:
    """What a part settles at is first, then what that is computed of."""
    if self._moves(part):
      return []
    stored = Stored(variable, part)
    known, others = self._settling.candidates(update, piece)
    found: List[Average] = []
    for candidate in known + others:
      is_blend = self._settling.is_blend(candidate)
      if is_blend and (found or candidate in others):
        continue
      helpers = self._settling.settles_at(
        variable, update, candidate, candidate in others, piece
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


def _updates(graph: Graph) -> Dict[str, List[str]]:
  """Names of update nodes by the variable that they write, in order."""
  updates: Dict[str, List[str]] = {}
  for node in graph:
    if node.op in ops.UPDATES:
      variable = written_variable(graph, node.name)
      if variable is not None:
        updates.setdefault(variable, []).append(node.name)
  return updates
