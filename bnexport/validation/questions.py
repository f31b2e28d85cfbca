# SPDX-License-Identifier: Apache-2.0
"""The questions that a graph is asked, and what comes of them."""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional

import numpy as np

from bnexport.batchnorm.forms import find
from bnexport.batchnorm.norm import STORED, BatchNorm
from bnexport.errors import ComparisonError, SourceError
from bnexport.graph import TensorRef, ops
from bnexport.graph.frames import shared_frames
from bnexport.graph.nodes import static_shape
from bnexport.proof import comparison, feeding, made_up
from bnexport.proof.comparison import Comparison
from bnexport.proof.differences import tolerance
from bnexport.proof.divergence import Parting, part
from bnexport.proof.rounding import compared
from bnexport.tf1 import tf1
from bnexport.validation.consumers.verdicts import Verdict
from bnexport.validation.data_statistics import (
  FEWEST_ROWS,
  DataStatistics,
  Distance,
)

_ROWS_AT_ONCE = 64
# Rows of made-up input.
_ROWS = 4


@dataclasses.dataclass
class Agreement:
  """In how many rows the largest column is the reference's.

  Attributes:
    output: the tensor's name.
    rows: how many were looked at.
    agree: in how many of them it is; ties within rounding count as well.
  """

  output: str
  rows: int = 0
  agree: int = 0


@dataclasses.dataclass
class Validation:
  """The answers about one graph.

  Attributes:
    path: the graph's file.
    nodes: how many there are.
    outputs: names of the tensors that were looked at.
    is_guessed: whether nobody named them.
    is_compared: whether there is a reference.
    refused: why TensorFlow does not import the graph, or None.
    proof: a Comparison.
    parting: where it parts from its reference; None where it does not, or
      where that is not told.
    agreements: one for each output that looks like a classifier's.
    norms: the graph's BatchNorms.
    distances: of norms' stored statistics from the data's; None where they
      were not looked at.
    batches: what was fed, each a dict of arrays by input name.
    verdicts: consumers' verdicts.Verdict, for those that were asked.
  """

  path: str
  nodes: int = 0
  outputs: List[str] = dataclasses.field(default_factory=list)
  is_guessed: bool = False
  is_compared: bool = False
  refused: Optional[str] = None
  proof: Comparison = dataclasses.field(default_factory=Comparison)
  parting: Optional[Parting] = None
  agreements: List[Agreement] = dataclasses.field(default_factory=list)
  norms: List[BatchNorm] = dataclasses.field(default_factory=list)
  distances: Optional[List[Distance]] = None
  batches: List[Dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
  verdicts: List[Verdict] = dataclasses.field(default_factory=list)

  @property
  def holds(self):
    """Whether nothing stands against it; proven, where it has a reference."""
    return (
      self.refused is None
      and (
        self.proof.holds
        if self.is_compared
        else self.proof.is_run and not self.proof.stands_against
      )
      and all(verdict.holds for verdict in self.verdicts)
    )


def validate(
  model,
  runner,
  reference=None,
  feeds=None,
  samples=None,
  keeps_batch=False,
  progress=lambda text: None,
):
  """Runs a graph and asks everything that can be asked of its answers.

  Args:
    model: the Model of the graph.
    runner: an ImportedGraph of it.
    reference: an opening.Reference, or None.
    feeds: arrays by input name; made up where it is None.
    samples: how many rows to make up; None for a few.
    keeps_batch: whether norms use the batch on purpose.
    progress: called with what is being done.

  Returns:
    A Validation.

  Raises:
    SourceError: the data does not fit the graph.
    ComparisonError: TensorFlow can't run the graph, or the reference.
  """
  found = Validation(
    model.origin,
    nodes=len(model.graph),
    outputs=[str(ref) for ref in model.outputs],
    norms=find(model.graph, model.outputs),
  )
  found.batches = _batches(found.proof, model, runner, feeds, samples)
  _examine(found, model, runner, reference, keeps_batch, progress)
  if feeds is not None:
    progress("statistics of the data")
    _look_at_statistics(found, model, runner, found.batches)
  return found


def _examine(found, model, runner, reference, keeps_batch, progress):
  """Runs the graph, beside its reference where it has one."""
  running = reference and reference.running
  found.is_compared = running is not None
  if running is not None:
    _open(running)
  progress("comparing")
  comparison.examine(
    found.proof,
    runner,
    model.outputs,
    running,
    found.batches[0],
    feeding.run_given(runner, found.batches[0]),
    keeps_batch or (reference is not None and reference.keeps_batch),
    is_strict=True,
  )
  if running is not None:
    _hold_against(found, runner, reference, progress)


def _hold_against(found, runner, reference, progress):
  """Compares all batches with the reference, and looks where they part."""
  running = reference.running
  if not found.proof.differences:
    raise ComparisonError(
      f"compare with {running.what}",
      found.proof.missing,
      "give both graphs the same inputs",
    )
  if reference.lost and not found.proof.missing:
    found.proof.missing = (
      f"the reference does not have '{reference.lost[0]}', an end of the "
      "graph; name the outputs that count with --output_node"
    )
  apart = _compare(found, runner, running, found.batches)
  if apart is not None:
    progress("looking for the first tensor that differs")
    found.parting = _part(found, runner, running, apart)


def _open(running):
  try:
    assert running.graph is not None
  except ComparisonError as error:
    raise ComparisonError(
      "run the reference",
      error.fact,
      "give one that runs here, as a frozen graph",
    ) from error


# What is fed.


def _refuse_joined_loops(model):
  """Refuses what TensorFlow runs on no input: loops of one name."""
  for (first, *_), (second, *_), *_ in shared_frames(model.graph):
    raise ComparisonError(
      f"run '{model.origin}'",
      f"no input can run it: the loops that '{first}' and '{second}' enter "
      "have frames of one name",
      "make the frames different with repair",
    )


def _batches(proof, model, runner, feeds, samples):
  """Feeds, each a dict of arrays by input name: the user's, or made up."""
  proof.is_made_up = feeds is None
  if feeds is None:
    return [_made_up(model, runner, samples or _ROWS)]
  feeding.refuse_other_names(_placeholders(model.graph), feeds)
  return _cut(model, feeds, proof)


def _made_up(model, runner, rows):
  """Feeds that the graph runs on."""
  _refuse_joined_loops(model)
  names = model.needed(control=True)
  fed = [model.graph.node(n) for n in names if n not in runner.settings]
  tried = made_up.made_up_feeds(
    _placeholders(fed), rows, bounds=made_up.bounds_of(model.graph)
  )
  try:
    return feeding.first_that_runs(runner, tried)[0]
  except ComparisonError as error:
    raise ComparisonError(
      f"run '{model.origin}' on made-up input", error.fact, error.step
    ) from error


def _placeholders(nodes):
  """A GraphDef of the placeholders among some nodes."""
  return tf1.GraphDef(node=[n for n in nodes if n.op in ops.PLACEHOLDERS])


def _cut(model, feeds, proof):
  """The data in batches: as large as the graph asks, or as is handy."""
  rows = {len(value) for value in feeds.values() if np.ndim(value)}
  if rows == {0}:
    raise SourceError(
      "use the feeds",
      "there are no rows in them",
      "give some",
    )
  if len(rows) != 1:
    return [feeds]
  rows = rows.pop()
  shapes = [static_shape(model.graph, TensorRef(name)) for name in feeds]
  fixed = [shape[0] for shape in shapes if shape and shape[0] > 0]
  size = fixed[0] if fixed else _ROWS_AT_ONCE
  count = rows // size if fixed and rows > size else -(-rows // size)
  if count * size < rows:
    proof.notes.append(
      f"the last {rows - count * size} of {rows} rows were not fed: the graph "
      f"takes {size} at a time"
    )
  return [
    {
      name: value[i * size : (i + 1) * size] if np.ndim(value) else value
      for name, value in feeds.items()
    }
    for i in range(count)
  ]


# How far it is from its reference.


def _compare(found, runner, running, batches):
  """Compares all batches; returns the first whose answers differ, or None."""
  worst = {one.output: one for one in found.proof.differences}
  counts = {name: Agreement(name) for name in found.outputs}
  apart = None
  for feeds in batches:
    answers, expected = runner.run(feeds), running.run(feeds)
    differences = compared(runner, found.outputs, feeds, answers, expected)
    for one, value, other in zip(differences, answers, expected):
      name = one.output
      if one.largest - one.limit > worst[name].largest - worst[name].limit:
        worst[name] = one
      if not one.holds and apart is None:
        apart = feeds
      _count(counts[name], np.asarray(value), np.asarray(other))
  found.proof.differences = list(worst.values())
  found.agreements = [one for one in counts.values() if one.rows]
  return apart


def _count(agreement, value, expected):
  if (
    value.ndim != 2
    or value.shape != expected.shape
    or value.shape[1] < 2
    or value.dtype.kind != "f"
  ):
    return
  value, wide = value.astype(np.float64), expected.astype(np.float64)
  row = np.arange(len(value))
  # What is within rounding of the largest may be the largest.
  limit = tolerance(expected.dtype) * np.maximum(1, np.abs(wide).max(axis=1))
  own, other = value.argmax(axis=1), wide.argmax(axis=1)
  agree = (value[row, other] >= value.max(axis=1) - limit) | (
    wide[row, own] >= wide.max(axis=1) - limit
  )
  agreement.rows += len(value)
  agreement.agree += int(agree.sum())


def _part(found, runner, running, feeds):
  """The tensor where the graph parts from its reference, or None."""
  try:
    parting = part(runner, running, feeds, found.norms)
  except ComparisonError as error:
    found.proof.notes.append(
      f"where they part was not looked for: {error.fact}"
    )
    return None
  return None if parting.first is None else parting


# How far its statistics are from the data's.


def _look_at_statistics(found, model, runner, batches):
  rows = sum(
    max((len(v) for v in feeds.values() if np.ndim(v)), default=1)
    for feeds in batches
  )
  notes = found.proof.notes
  if rows < FEWEST_ROWS:
    notes.append(
      f"statistics of the data were not looked at: {rows} rows are fewer than "
      f"{FEWEST_ROWS}"
    )
    return
  if not any(norm.statistics == STORED for norm in found.norms):
    notes.append(
      "statistics of the data were not looked at: no norm has stored ones; "
      "where norms were folded, freeze with --nofold_batch_norms to see them"
    )
    return
  collected = DataStatistics(runner, model.graph, found.norms)
  for feeds in batches:
    collected.add(feeds)
  found.distances = collected.distances()
  if collected.left_out:
    notes.append(
      f"statistics of {len(collected.left_out)} norms were not looked at: "
      f"what '{collected.left_out[0]}' normalises can't be fetched"
    )
