# SPDX-License-Identifier: Apache-2.0
"""Rows of a batch, which may depend on each other.

The model may mean it. It does not where its training graph keeps an average of
what makes them depend: inference reads averages.
"""

from __future__ import annotations

import contextlib
from typing import Iterable, Mapping, Optional

import numpy as np

from bnexport.errors import ComparisonError
from bnexport.graph import TensorRef
from bnexport.proof.differences import is_float, tolerance
from bnexport.proof.divergence import always_run
from bnexport.proof.rounding import compared
from bnexport.proof.runs import ImportedGraph, Run

# How many times the largest number that was fed other rows lie beyond it:
# ranges that training has met are wider than what is made up.
_FAR = 10


def look_at(proof, runner, reference, outputs, answers, is_strict):
  """One row has to answer alone, and beside others, as within its batch.

  Args:
    proof: a Comparison of what was fed; gets the answer.
    runner: the ImportedGraph of an export.
    reference: the Run it is held against.
    outputs: TensorRefs of the export.
    answers: its answers to what was fed.
    is_strict: whether rows that depend on each other count against the graph
      also where it was compared with nothing.
  """
  size = _batch_size(proof.arrays)
  if size is None:
    proof.notes.append(
      "rows were not looked at alone: the inputs have no batch in common"
    )
    return
  by_row = [i for i, a in enumerate(answers) if np.shape(a)[:1] == (size,)]
  if not by_row:
    proof.notes.append(
      "rows were not looked at alone: no output has one for each of the batch"
    )
    return
  try:
    row, alone = _one_row(proof, runner, size)
  except ComparisonError as error:
    proof.notes.append(f"rows were not looked at alone: {error.fact}")
    return

  refs = [outputs[i] for i in by_row]

  def agree(feeds, found, expected):
    pair = [found[i] for i in by_row], [expected[i] for i in by_row]
    known = compared(runner, refs, feeds, *pair, rows=1)
    return all(one.holds for one in known)

  proof.batch = agree(row, alone, answers)
  if not proof.batch:
    _look_at_joint(proof, reference, row, alone, agree, is_strict)
    return
  for feeds, found in _beside_others(proof, runner, size, answers):
    if not agree(row, alone, found):
      proof.is_swayed = True
      with contextlib.suppress(ComparisonError):
        if proof.differences:
          proof.batch = agree(feeds, found, reference.run(feeds))
      return


def _batch_size(feeds):
  """The number of rows of all feeds; None where they differ, or it is one."""
  sizes = {np.shape(value)[0] for value in feeds.values() if np.ndim(value)}
  return sizes.pop() if len(sizes) == 1 and sizes != {1} else None


def _one_row(proof, runner, size):
  """Feeds in which the first row stands apart, and what they are answered."""
  row = {k: v[:1] if np.ndim(v) else v for k, v in proof.arrays.items()}
  try:
    return row, runner.run(row)
  except ComparisonError:
    row = with_others(proof.arrays, np.arange(size) > 0)
    alone = runner.run(row)
  proof.notes.append(
    "one row was looked at beside others, as the graph fixes the size of its "
    "batch"
  )
  return row, alone


def _beside_others(proof, runner, size, answers):
  """Yields feeds in which all rows but the first are others, and answers.

  Numbers of the others are beyond those that were fed: what is least and what
  is largest in a batch moves, which a row alone may leave as it is.
  """
  for beyond in (_FAR, -_FAR):
    feeds = with_others(proof.arrays, np.arange(size) > 0, beyond)
    with contextlib.suppress(ComparisonError):  # numbers that it refuses
      found = runner.run(feeds)
      if _are_alike(answers, found):
        yield feeds, found


def _are_alike(answers, others):
  """Whether answers have the same shapes, and the others are all finite."""
  return all(
    np.shape(a) == np.shape(b)
    and (not is_float(np.asarray(b).dtype) or np.isfinite(b).all())
    for a, b in zip(answers, others)
  )


def _look_at_joint(proof, reference, feeds, found, agree, is_strict):
  """Rows may depend on each other where those of the reference do, too."""
  said = "answers of a row depend on the rest of its batch"
  if not proof.differences:
    if not is_strict:
      proof.batch = None
      proof.notes.append(said)
    return
  with contextlib.suppress(ComparisonError):
    if agree(feeds, found, reference.run(feeds)):
      proof.batch, proof.is_joint = None, True
      proof.notes.append(f"{said}, in the model itself too")


def averaged(
  runner: ImportedGraph,
  tensors: Iterable[TensorRef],
  feeds: Mapping[str, np.ndarray],
) -> Optional[TensorRef]:
  """A tensor that mixes the rows of the batch and is averaged, or None.

  One with a row for each of the batch is none: it may lie behind a norm that
  means to use the batch.

  Args:
    runner: the ImportedGraph of an export.
    tensors: TensorRefs of it.
    feeds: arrays by node name.

  Raises:
    ComparisonError: the graph does not run on the feeds.
  """
  size = _batch_size(feeds)
  if size is None:
    return None
  runs = always_run(runner.graph)
  refs = [ref for ref in tensors if ref.node in runs]
  arrays = list(map(np.asarray, runner.fetch(refs, feeds)))
  have_rows = _have_rows(runner, refs, feeds, arrays, size)
  pairs = zip(refs, arrays, have_rows)
  left = [(r, a) for r, a, has in pairs if is_float(a.dtype) and not has]
  refs = [ref for ref, _ in left]
  order = np.arange(size)
  # Groups of rows lie side by side, or apart.
  for part in (order % 2 == 0, order < size // 2):
    first = runner.fetch(refs, with_others(feeds, part))
    second = runner.fetch(refs, with_others(feeds, ~part))
    for (ref, before), *after in zip(left, first, second):
      if np.all([_changed(before, one) for one in after], axis=0).any():
        return ref
  return None


def _have_rows(runner, refs, feeds, arrays, size):
  """Whether tensors have as many rows as the batch, whatever its size."""
  longer = {
    name: np.concatenate([value] * 2) if np.ndim(value) else value
    for name, value in feeds.items()
  }
  try:
    doubled = [np.shape(value) for value in runner.fetch(refs, longer)]
  except ComparisonError:  # the graph fixes it
    doubled = [(2 * size,)] * len(refs)
  return [
    one.shape[:1] == (size,) and shape[:1] == (2 * size,)
    for one, shape in zip(arrays, doubled)
  ]


def with_others(feeds, part, beyond=2):
  """Feeds with other rows in a part of the batch.

  Floats are larger there than any before, so that a maximum moves, too: by so
  many times the largest magnitude. They are smaller where that is negative.
  """
  other = {}
  for name, value in feeds.items():
    other[name] = np.array(value)
    if np.ndim(value):
      rolled = np.roll(value, 1, axis=0)[part]
      if is_float(rolled.dtype):
        far = beyond * np.max(np.abs(value))
        rolled = rolled + far.astype(rolled.dtype)
      other[name][part] = rolled
  return other


def _changed(before, after):
  """The elements that differ by more than rounding does."""
  after = np.asarray(after)
  if before.shape != after.shape:
    return np.ones(before.shape, bool)
  before, after = before.astype(np.float64), after.astype(np.float64)
  limit = tolerance(np.float32) * np.max(np.abs(before), initial=0.0)
  return np.abs(after - before) > limit


def note(
  runner: ImportedGraph, reference: Run, feeds: Mapping[str, np.ndarray]
) -> str:
  """Says which average an export does not read, or nothing.

  To be asked where answers of a row may depend on the rest of its batch.

  Args:
    runner: the ImportedGraph of an export.
    reference: the Run it is held against.
    feeds: arrays by node name.
  """
  try:
    found = reference.tracked(runner.graph)
    if found is None:
      return ""
    ref = averaged(runner, found.tensors, feeds)
  except ComparisonError:
    return ""
  if ref is not None:
    return (
      f"it computes '{ref}' of each batch, of which training keeps an average "
      f"in '{found.tensors[ref]}'"
    )
  if found.unread:
    return (
      f"training keeps '{found.unread[0]}' of its batches, and the graph reads "
      "what a batch gives"
    )
  return ""
