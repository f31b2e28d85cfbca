# SPDX-License-Identifier: Apache-2.0
"""Feeds on which a graph runs and answers: made up, or a user's."""

from __future__ import annotations

import itertools

import numpy as np

from bnexport.errors import FEED, ComparisonError, OutOfTime
from bnexport.graph import ops
from bnexport.graph.nodes import constant_value
from bnexport.proof.differences import precision
from bnexport.proof.made_up import ROWS, bounds_of, made_up_feeds
from bnexport.tf1 import time_limit

# What floats are made up from: none is normal, others go up to a pixel's, or
# are positive and small as a logarithm's.
_RANGES = (None, 255.0, 1.0)
_MOST_ROWS = 1024
# Units in the last place by which answers differ that are the same.
_UNITS = 4
# So many numbers of rows are tried.
_MOST_TRIED = 8


def in_rows(feeds, counts):
  """Yields feeds as they are, and in other numbers of rows.

  Args:
    feeds: arrays by node name.
    counts: numbers of rows.
  """
  yield feeds
  for rows in counts:
    yield {
      name: np.resize(value, (rows, *np.shape(value)[1:]))
      if np.ndim(value)
      else value
      for name, value in feeds.items()
    }


def find(graph_def, runner, reference, proof, patience):
  """Feeds that a graph and its reference run on, and the graph's answers.

  Those are taken first whose answers depend on what is fed.

  Args:
    graph_def: the graph.
    runner: a Run of it.
    reference: a Run, or None.
    proof: a Comparison; is told why nothing runs.
    patience: seconds after which other values are tried.

  Returns:
    Feeds and a list of arrays, or two None.
  """
  found, said, endless = [], None, set()
  counts = row_counts(runner.graph, _graph_of(reference))
  bounds = bounds_of(runner.graph)
  for largest, rows in itertools.product(_RANGES, counts):
    if largest is not None and not found and not isinstance(said, OutOfTime):
      break  # what no shape fits, no values will
    if largest in endless:
      continue
    tried = made_up_feeds(graph_def, rows, largest, bounds)
    try:
      with time_limit(patience):
        feeds, answers = first_that_runs(runner, tried)
        runs = reference is None or _runs(reference, feeds)
    except ComparisonError as error:
      said = said or error
      continue
    except OutOfTime as error:
      said = error  # other values may end a loop, not other sizes
      endless.add(largest)
      continue
    found.append((_rank(runs, feeds, answers), feeds, answers))
    if not any(found[-1][0]):
      break
  if not found:
    _note_unfit(proof, said)
  return min(found, key=lambda one: one[0])[1:] if found else (None, None)


def _rank(runs, feeds, answers):
  """What speaks against feeds, the worst first."""
  return not runs, not are_finite(answers), not is_alive(feeds, answers)


def _note_unfit(proof, error):
  """Says why no made-up feeds ran, given the error that ended a run."""
  proof.missing = error.fact
  if not isinstance(error, OutOfTime):
    proof.missing = "no made-up input fits the graph"
    proof.notes.append(f"not run: {error.fact}")
  proof.notes.append(error.step)


def _graph_of(reference):
  """The Graph that a reference runs, or None."""
  try:
    return None if reference is None else reference.graph
  except ComparisonError:
    return None


def _runs(reference, feeds):
  try:
    reference.run(feeds)
  except ComparisonError:
    return False
  return True


def run_given(runner, feeds):
  """The answers for a user's feeds.

  Raises:
    ComparisonError: the graph does not run on them.
  """
  try:
    return runner.run(feeds)
  except ComparisonError as error:
    raise ComparisonError(
      error.what, error.fact, "give feeds of the inputs' shapes and dtypes"
    ) from error


def refuse_other_names(graph_def, feeds):
  """Raises ComparisonError where feeds and inputs are not the same."""
  inputs = [node.name for node in graph_def.node if node.op in ops.PLACEHOLDERS]
  unknown = [name for name in feeds if name not in inputs]
  if unknown:
    raise ComparisonError(
      "run the graph with the feeds",
      f"'{unknown[0]}' is no input of it",
      "give arrays named %s" % (", ".join((f"'{name}'" for name in inputs)),),
    )


def first_that_runs(runner, tried):
  """The first feeds that a graph runs on, and its answers.

  Args:
    runner: a Run.
    tried: iterable of feeds.

  Raises:
    ComparisonError: it runs on none of them.
    OutOfTime: the limit of time ended a run.
  """
  said = None
  for feeds in tried:
    try:
      return feeds, runner.run(feeds)
    except ComparisonError as error:
      said = said or error.fact
  raise ComparisonError("run the graph on made-up input", said, FEED)


def are_finite(answers):
  """Whether floats among answers are all numbers."""
  return all(
    np.isfinite(a).all()
    for a in map(np.asarray, answers)
    if a.dtype.kind == "f"
  )


def is_alive(feeds, answers):
  """Whether answers depend on what is fed, as far as rows can tell.

  Behind dead ReLUs and saturated sigmoids every row gets the same answer, and
  whatever is wrong before them is not seen.
  """
  fed = [v for v in feeds.values() if np.ndim(v)]
  rows = {len(v) for v in fed}
  if all(_is_alike(v) for v in fed):
    return True
  alike = [
    _is_alike(answer, _UNITS * precision(answer.dtype))
    for answer in map(np.asarray, answers)
    if np.ndim(answer) and answer.dtype.kind == "f" and {len(answer)} == rows
  ]
  return not alike or not all(alike)


def _is_alike(array, least=0.0):
  """Whether all rows are the same, but for so much of the largest number."""
  if not least:
    return bool(np.all(array == array[:1]))
  with np.errstate(all="ignore"):
    apart = np.abs(array - array[:1])
  finite = array[np.isfinite(array)]
  most = least * max(1.0, float(np.max(np.abs(finite), initial=0.0)))
  return bool(np.all((apart <= most) | (array == array[:1])))


def row_counts(*graphs):
  """Numbers of rows to try, likely ones first.

  Where a batch is cut into groups or has a fixed size, a constant of the graph
  says so: the first sizes of a Reshape, or those of another placeholder or of
  what a loop collects.

  Args:
    *graphs: Graphs that the rows are for, or None.
  """
  found = [ROWS]
  for graph, node in ((g, node) for g in graphs if g for node in g):
    sizes = []
    if node.op in ops.PLACEHOLDERS:
      sizes = [d.size for d in node.attr["shape"].shape.dim][:1]
    elif node.op == "Reshape":
      shape = constant_value(graph, graph.data_inputs(node.name)[1])
      sizes = [] if shape is None or shape.ndim != 1 else list(shape[:2])
    elif node.op == "TensorArrayV3":
      sizes = [d.size for d in node.attr["element_shape"].shape.dim][:1]
    found += [int(size) for size in sizes if 1 < size <= _MOST_ROWS]
  return list(dict.fromkeys(found))[:_MOST_TRIED]
