# SPDX-License-Identifier: Apache-2.0
"""The two sides of a proof, compared on feeds for as long as these show more.

A unit that is dead in a few rows hides its weights, and a flag what it does not
choose. So further feeds are compared until every stored statistic shows.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import List, Optional

from bnexport.errors import ComparisonError
from bnexport.graph import TensorRef
from bnexport.proof import feeding, made_up
from bnexport.proof.behind import behind
from bnexport.proof.divergence import depend_on, matched, part, walk
from bnexport.proof.rounding import compared
from bnexport.proof.runs import ImportedGraph, Run
from bnexport.proof.verdict import Comparison


@dataclasses.dataclass(frozen=True)
class Sides:
  """An imported graph and what it is held against.

  Attributes:
    runner: the graph.
    reference: a Run, or None.
    outputs: TensorRefs to compare.
  """

  runner: ImportedGraph
  reference: Optional[Run]
  outputs: List[TensorRef]

  def compare(self, proof, feeds, answers):
    """Gives a Comparison the differences of answers, or why there are none."""
    if self.reference is None:
      proof.missing = "there is no reference"
      return
    try:
      expected = self.reference.run(feeds)
    except ComparisonError as error:
      proof.missing = error.fact
      return
    proof.reference = self.reference.what
    proof.differences = compared(
      self.runner, self.outputs, feeds, answers, expected
    )
    self._compare_behind(proof, feeds)

  def _compare_behind(self, proof, feeds):
    """Compares the floats too that outputs of whole numbers come from."""
    found = behind(self.runner, self.reference, self.outputs, feeds)
    if found.own:
      proof.differences += compared(
        self.runner,
        found.own,
        feeds,
        self.runner.fetch(found.own, feeds),
        self.reference.fetch(found.other, feeds),
      )
    if found.hidden and not proof.missing:
      proof.missing = (
        f"'{found.hidden[0]}' is whole numbers, and the reference does not "
        "have the floats behind it"
      )
      proof.notes.append("name the floats behind it in --output_node too")

  def parting(self, feeds):
    """The Parting of answers that differ; None where it isn't told."""
    try:
      found = part(self.runner, self.reference, feeds)
    except ComparisonError:
      return None
    return None if found.first is None else found

  def look_wider(self, proof):
    """Compares on more rows."""
    bounds = made_up.bounds_of(self.runner.graph)
    feeds = made_up.more_rows(proof.arrays, bounds)
    more = feeds and self._further(feeds)
    if more:
      proof.further += 1
      _take(proof, more)

  def reach(self, proof, sensitivity):
    """Compares on further feeds until every stored statistic shows.

    Where the answers differ on some of them, these are the proof's.

    Args:
      proof: a Comparison.
      sensitivity: makes a Sensitivity of the graph, given the names of what
        is compared.
    """
    watched = None
    try:
      watched = sensitivity([one.output for one in proof.differences])
      watched.use(self.runner.draws)
      blind = watched.unseen(proof.arrays, watched.statistics)
      blind = self._try_others(proof, watched, blind)
      if blind and not proof.stands_against:
        # Two answers to one statistic may cancel, as in a distance.
        watched.watch(self._alike(proof.arrays, watched, blind))
        blind = watched.unseen(proof.arrays, blind)
    except ComparisonError as error:
      proof.missing = (
        f"the norms were not moved to see what shows: {error.fact}"
      )
      return
    finally:
      if watched is not None:
        watched.close()
    proof.statistics = len(watched.statistics)
    proof.blind = [str(one) for one in blind]
    if blind and not proof.missing:
      proof.missing = (
        f"no answer depends on {len(blind)} of {proof.statistics} stored "
        f"statistics, such as the {blind[0]}"
      )
      proof.notes.append("pass rows that reach them with --feeds=FILE.npz")

  def _try_others(self, proof, watched, blind):
    """Compares on other feeds; returns Statistics that none of them shows."""
    given = proof.arrays
    for feeds in made_up.other_choices(given):
      blind = self._try_more(proof, watched, blind, feeds)
    bounds = made_up.bounds_of(self.runner.graph)
    for feeds in made_up.other_feeds(given, bounds):
      if blind:
        blind = self._try_more(proof, watched, blind, feeds)
    return blind

  def _try_more(self, proof, watched, blind, feeds):
    """Compares on other feeds; returns Statistics that do not show yet."""
    if proof.stands_against:
      return blind
    more = self._further(feeds)
    if more is None:
      return blind
    proof.further += 1
    _take(proof, more)
    with contextlib.suppress(ComparisonError):
      return watched.unseen(feeds, blind) if blind else blind
    return blind

  def _alike(self, feeds, watched, blind):
    """Inner tensors behind statistics that the reference has as well."""
    graph = self.runner.graph
    try:
      fed = depend_on(graph, feeds)
      names = {n for n in matched(graph, self.reference.graph) if n in fed}
      found = watched.readers(blind, names)
      return [
        one.output
        for one in walk(self.runner, self.reference, feeds, found)
        if one.holds
      ]
    except ComparisonError:
      return []

  def _further(self, feeds):
    """A Comparison on other feeds; None where these tell nothing."""
    try:
      answers = self.runner.run(feeds)
      more = Comparison(arrays=feeds)
      self.compare(more, feeds, answers)
    except ComparisonError:
      return None
    is_told = more.differences and not more.missing
    return more if is_told and feeding.are_finite(answers) else None

  def with_second(self, proof, second):
    """Compares with another reference too; the Sides, if that differs.

    A training graph may have a batch of a fixed size.
    """
    second.draws = self.runner.draws
    other = dataclasses.replace(self, reference=second)
    said = None
    for feeds in feeding.in_rows(proof.arrays, _rows_of(second)):
      try:
        answers = self.runner.run(feeds)
        expected = second.run(feeds)
      except ComparisonError as error:
        said = said or error.fact
        continue
      found = compared(self.runner, self.outputs, feeds, answers, expected)
      proof.second = second.what
      proof.differences += found
      if all(one.holds for one in found):
        return self
      proof.note_feeds(feeds)
      return other
    proof.notes.append(f"{second.what} was not compared: {said}")
    return self


def _rows_of(run):
  """Numbers of rows that a Run may take; none where it can't be opened."""
  try:
    return feeding.row_counts(run.graph)
  except ComparisonError:
    return []


def _take(proof, more):
  """Takes over what a Comparison on other feeds says, where that is worse."""
  found = {one.output: one for one in more.differences}
  if all(one.holds for one in more.differences):
    proof.differences = [
      max(one, found.get(one.output, one), key=_in_limits)
      for one in proof.differences
    ]
    return
  proof.differences = more.differences
  proof.note_feeds(more.arrays)


def _in_limits(one):
  return one.largest / one.limit if one.limit else one.largest
