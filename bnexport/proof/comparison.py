# SPDX-License-Identifier: Apache-2.0
"""Proof: an exported graph, imported again, against a reference."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Dict, List, Optional

import numpy as np

from bnexport.errors import ComparisonError, OutOfTime
from bnexport.graph import Graph, ops
from bnexport.proof import behind, feeding, rows
from bnexport.proof.alternatives import Alternative
from bnexport.proof.differences import Difference, difference
from bnexport.proof.divergence import (
  Parting,
  depend_on,
  matched,
  part,
  walk,
)
from bnexport.proof.fixed_point import FixedPoint
from bnexport.proof.rounding import compared
from bnexport.proof.runs import ImportedGraph
from bnexport.proof.trust import ALLOW, unsafe_op
from bnexport.tf1 import op_def

# Seconds that a run on made-up feeds may take before others are tried.
_PATIENCE = 30.0
# The verdicts, and there is no fourth.
PROVEN, NOT_PROVEN, DIFFERS = "PROVEN", "NOT PROVEN", "DIFFERS"


@dataclasses.dataclass
class Comparison:
  """The outcome of proving an exported graph.

  Attributes:
    reference: names what it was compared with; empty where that is nothing.
    second: names a second reference that it was compared with, or empty.
    missing: why it is not proven by what it was compared with, or why that is
      nothing; empty where neither is so.
    is_joint: whether rows of the reference depend on each other too.
    differences: one for each output.
    batch: whether one row answers alone as it does within a batch; None
      where it was not looked at, with the reason in `notes`.
    repeats: whether a second run answered the same.
    feeds: shapes of what was fed.
    arrays: what was fed, by node name; None where nothing was.
    is_made_up: whether it was made up rather than given.
    is_run: whether the graph was imported and may be run here.
    fixed_point: the FixedPoint of the training graph's updates, or None where
      it was not asked for.
    parting: where the graph parts from its reference; None where it does not.
    blind: stored statistics that no answer depends on, as texts.
    statistics: how many stored statistics were looked at for that.
    further: how many feeds more were compared for their sake.
    alternatives: what other decisions would have led to, each an Alternative.
    notes: what else to know, a line each.
  """

  reference: str = ""
  second: str = ""
  missing: str = ""
  is_joint: bool = False
  differences: List[Difference] = dataclasses.field(default_factory=list)
  batch: Optional[bool] = None
  repeats: Optional[bool] = None
  feeds: Dict[str, tuple] = dataclasses.field(default_factory=dict)
  arrays: Optional[Dict[str, np.ndarray]] = None
  is_made_up: bool = False
  is_run: bool = True
  fixed_point: Optional[FixedPoint] = None
  parting: Optional[Parting] = None
  blind: List[str] = dataclasses.field(default_factory=list)
  statistics: int = 0
  further: int = 0
  alternatives: List[Alternative] = dataclasses.field(default_factory=list)
  notes: List[str] = dataclasses.field(default_factory=list)

  @property
  def verdict(self) -> str:
    """PROVEN, NOT_PROVEN or DIFFERS."""
    if self.stands_against:
      return DIFFERS
    is_compared = self.is_run and self.differences and not self.missing
    return PROVEN if is_compared else NOT_PROVEN

  @property
  def holds(self) -> bool:
    """Whether it is proven."""
    return self.verdict == PROVEN

  @property
  def stands_against(self) -> bool:
    """Whether something was found that a right graph would not do."""
    return (
      not all(d.holds for d in self.differences)
      or self.batch is False
      or self.repeats is False
      or (self.fixed_point is not None and not self.fixed_point.holds)
    )


def prove(
  graph_def,
  outputs,
  reference,
  feeds=None,
  initializers=(),
  keeps_batch=False,
  restore=None,
  is_trusted=False,
  patience=_PATIENCE,
  sensitivity=None,
  second=None,
):
  """Imports a graph again and compares what it answers.

  Args:
    graph_def: the exported graph, as read from its file.
    outputs: TensorRefs to compare.
    reference: has `what`, a text, and `answers(feeds)`; or None.
    feeds: arrays by node name; made up where it is None.
    initializers: nodes to run first.
    keeps_batch: whether norms use the batch on purpose.
    restore: gives a session's variables their values, or None.
    is_trusted: whether to run it also where ops reach out of the graph.
    patience: seconds that made-up feeds may take before others are tried.
    sensitivity: makes a sensitivity.Sensitivity of the graph, given the names
      of what is compared; None where no norm's statistics are looked for.
    second: another reference, a Run; or None.

  Raises:
    ComparisonError: the exported graph can't be imported.
  """
  if not is_trusted:
    graph = Graph(graph_def, copy=False)
    unsafe = unsafe_op(graph, outputs, initializers)
    if unsafe is not None:
      ImportedGraph(graph_def, ()).close()
      return Comparison(missing=f"{unsafe}; {ALLOW}", is_run=False)
  runner = ImportedGraph(graph_def, outputs, initializers, restore)
  proof = Comparison()
  try:
    if feeds:
      feeding.refuse_other_names(graph_def, feeds)
      answers = feeding.run_given(runner, feeds)
    else:
      feeds, answers = feeding.find(
        graph_def, runner, reference, proof, patience
      )
      proof.is_made_up = True
    if answers is None:
      return proof
    if not feeding.is_alive(feeds, answers):
      proof.missing = "every row that was fed has the same answer"
      proof.notes.append(
        "what lies before dead or saturated activations is not seen; pass real "
        "rows with --feeds=FILE.npz"
      )
    random = [n.name for n in graph_def.node if ops.is_random(n.op)]
    is_steady = not random or _is_steady(runner, feeds)
    if not is_steady:
      proof.notes.append(
        f"answers differ from run to run: there are random ops like "
        f"'{random[0]}'"
      )
      if not _is_steady(reference, feeds):
        _note_feeds(proof, feeds)
        proof.missing = "the graph draws random numbers"
        return proof
    examine(proof, runner, outputs, reference, feeds, answers, keeps_batch)
    if not is_steady:
      proof.repeats = False
    if proof.is_made_up and proof.verdict == PROVEN:
      _look_wider(proof, runner, reference, outputs)
    if sensitivity is not None and proof.verdict == PROVEN:
      _reach(proof, runner, reference, outputs, sensitivity)
    if second is not None and not proof.stands_against:
      if _compare_second(proof, runner, second, outputs):
        reference = second
    if not all(d.holds for d in proof.differences):
      proof.parting = _parting(runner, reference, proof.arrays)
  except OutOfTime as error:
    proof.missing = error.fact
    proof.notes.append(error.step)
  finally:
    runner.close()
  return proof


def _parting(runner, reference, feeds):
  """The Parting of two runs whose answers differ; None where it isn't told."""
  try:
    found = part(runner, reference, feeds)
  except ComparisonError:
    return None
  return None if found.first is None else found


def examine(
  proof,
  runner,
  outputs,
  reference,
  feeds,
  answers,
  keeps_batch=False,
  is_strict=False,
):
  """Asks all questions of a graph that runs.

  Args:
    proof: a Comparison; gets the answers.
    runner: an ImportedGraph.
    outputs: TensorRefs to compare.
    reference: see `prove`.
    feeds: arrays by node name.
    answers: the runner's answers for them.
    keeps_batch: whether norms use the batch on purpose.
    is_strict: whether rows that depend on the rest of their batch count
      against the graph also where there is nothing to compare with.
  """
  _note_feeds(proof, feeds)
  if not all(
    np.isfinite(a).all() for a in answers if np.asarray(a).dtype.kind == "f"
  ):
    proof.notes.append(
      "some answers are not finite for these inputs; pass "
      "real ones with --feeds=FILE.npz"
    )
  proof.repeats = _repeats(runner, feeds, answers)
  _compare_with(runner, reference, outputs, feeds, answers, proof)
  if keeps_batch:
    proof.notes.append(
      "rows were not looked at alone: norms keep their batch statistics"
    )
  else:
    rows.look_at(proof, runner, reference, outputs, answers, is_strict)
  if reference is not None and not proof.batch and not proof.missing:
    proof.missing = rows.note(runner, reference, feeds)


def _look_wider(proof, runner, reference, outputs):
  """Compares on more rows: a unit that is dead in a few hides its weights."""
  feeds = feeding.more_rows(proof.arrays, feeding.bounds_of(runner.graph))
  more = feeds and _further(runner, reference, outputs, feeds)
  if more:
    proof.further += 1
    _take(proof, more)


def _compare_second(proof, runner, second, outputs):
  """Compares with another reference too; whether that stands against it.

  A training graph may have a batch of a fixed size.
  """
  said = None
  for feeds in feeding.in_rows(proof.arrays, _rows_of(second)):
    try:
      answers = runner.run(feeds)
      expected = second.run(feeds)
    except ComparisonError as error:
      said = said or error.fact
      continue
    found = compared(runner, outputs, feeds, answers, expected)
    proof.second = second.what
    proof.differences += found
    if not all(one.holds for one in found):
      _note_feeds(proof, feeds)
      return True
    return False
  proof.notes.append(f"{second.what} was not compared: {said}")
  return False


def _rows_of(run):
  """Numbers of rows that a Run may take; none where it can't be opened."""
  try:
    return feeding.row_counts(run.graph)
  except ComparisonError:
    return []


def _reach(proof, runner, reference, outputs, sensitivity):
  """Compares on further feeds until every stored statistic shows.

  Where the answers differ on some of them, these are the proof's.
  """
  watched = None
  try:
    watched = sensitivity([one.output for one in proof.differences])
    blind = watched.unseen(proof.arrays, watched.statistics)
    blind = _try_others(proof, runner, reference, outputs, watched, blind)
    if blind and not proof.stands_against:
      # Two answers to one statistic may cancel, as in a distance.
      watched.watch(_alike(runner, reference, proof.arrays, watched, blind))
      blind = watched.unseen(proof.arrays, blind)
  except ComparisonError as error:
    proof.missing = f"the norms were not moved to see what shows: {error.fact}"
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


def _try_others(proof, runner, reference, outputs, watched, blind):
  """Compares on other feeds; returns the Statistics that none of them shows."""
  given, sides = proof.arrays, (runner, reference, outputs, watched)
  for feeds in feeding.other_choices(given):
    blind = _try_more(proof, *sides, blind, feeds)
  for feeds in feeding.other_feeds(given, feeding.bounds_of(runner.graph)):
    if blind:
      blind = _try_more(proof, *sides, blind, feeds)
  return blind


def _try_more(proof, runner, reference, outputs, watched, blind, feeds):
  """Compares on other feeds; returns the Statistics that do not show yet."""
  if proof.stands_against:
    return blind
  more = _further(runner, reference, outputs, feeds)
  if more is None:
    return blind
  proof.further += 1
  _take(proof, more)
  with contextlib.suppress(ComparisonError):
    return watched.unseen(feeds, blind) if blind else blind
  return blind


def _alike(runner, reference, feeds, watched, blind):
  """Names of inner tensors behind statistics that the reference has as well."""
  try:
    fed = depend_on(runner.graph, feeds)
    names = {n for n in matched(runner.graph, reference.graph) if n in fed}
    found = watched.readers(blind, names)
    return [
      one.output for one in walk(runner, reference, feeds, found) if one.holds
    ]
  except ComparisonError:
    return []


def _further(runner, reference, outputs, feeds):
  """A Comparison on other feeds; None where these tell nothing."""
  try:
    answers = runner.run(feeds)
    more = Comparison(arrays=feeds)
    _compare_with(runner, reference, outputs, feeds, answers, more)
  except ComparisonError:
    return None
  is_told = more.differences and not more.missing
  return more if is_told and feeding.are_finite(answers) else None


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
  _note_feeds(proof, more.arrays)


def _in_limits(one):
  return one.largest / one.limit if one.limit else one.largest


def _repeats(runner, feeds, answers):
  """Whether a second run answers the same."""
  return all(
    difference("again", a, b).holds for a, b in zip(runner.run(feeds), answers)
  )


def _is_steady(run, feeds):
  """Whether a Run answers twice the same, but for the last digit or so."""
  if run is None:
    return False
  try:
    pairs = zip(run.run(feeds), run.run(feeds))
    return all(difference("", *two, moved=np.zeros(())).holds for two in pairs)
  except ComparisonError:
    return False


def _note_feeds(proof, feeds):
  proof.arrays = feeds
  proof.feeds = {name: np.shape(value) for name, value in feeds.items()}


def unknown_op(graph):
  """A Comparison of a Graph with an op that is not registered, or None."""
  for node in graph:
    if node.op not in graph.library and op_def(node.op) is None:
      return Comparison(
        missing=f"this TensorFlow does not know op {node.op} of "
        f"'{node.name}'; prove the graph with python -m bnexport.validate "
        "where it is registered",
        is_run=False,
      )
  return None


def import_only(graph_def):
  """A Comparison of a graph that is too large to run beside its reference.

  Raises:
    ComparisonError: the graph can't be imported.
  """
  ImportedGraph(graph_def, ()).close()
  return Comparison(
    missing="it was imported, without its weights, and not run; "
    "--validate proves it with as much memory as it takes"
  )


def _compare_with(runner, reference, outputs, feeds, answers, proof):
  if reference is None:
    proof.missing = "there is no reference"
    return
  try:
    expected = reference.run(feeds)
  except ComparisonError as error:
    proof.missing = error.fact
    return
  proof.reference = reference.what
  proof.differences = compared(runner, outputs, feeds, answers, expected)
  _compare_behind(runner, reference, outputs, feeds, proof)


def _compare_behind(runner, reference, outputs, feeds, proof):
  """Compares the floats too that outputs of whole numbers come from."""
  found = behind.behind(runner, reference, outputs, feeds)
  if found.own:
    proof.differences += compared(
      runner,
      found.own,
      feeds,
      runner.fetch(found.own, feeds),
      reference.fetch(found.other, feeds),
    )
  if found.hidden and not proof.missing:
    proof.missing = (
      f"'{found.hidden[0]}' is whole numbers, and the reference does not have "
      "the floats behind it"
    )
    proof.notes.append("name the floats behind it in --output_node too")
