# SPDX-License-Identifier: Apache-2.0
"""Statistics of the batch that an export computes although they are averaged.

Where answers of a row depend on the rest of its batch, the model may mean it.
It does not where its training graph keeps an average of what makes them depend:
inference reads averages.
"""

from __future__ import annotations

from typing import Iterable, Mapping, Optional

import numpy as np

from bnexport.errors import ComparisonError
from bnexport.graph import TensorRef
from bnexport.proof.differences import difference, is_float
from bnexport.proof.divergence import always_run
from bnexport.proof.runs import ImportedGraph, Run


def averaged(
  runner: ImportedGraph,
  tensors: Iterable[TensorRef],
  feeds: Mapping[str, np.ndarray],
) -> Optional[TensorRef]:
  """A tensor that mixes the rows of the batch and is averaged, or None.

  Args:
    runner: the ImportedGraph of an export.
    tensors: TensorRefs of it.
    feeds: arrays by node name.

  Raises:
    ComparisonError: the graph does not run on the feeds.
  """
  rows = {np.shape(value)[0] for value in feeds.values() if np.ndim(value)}
  if len(rows) != 1 or rows == {1} or not tensors:
    return None
  size = rows.pop()
  runs = always_run(runner.graph)
  refs = [ref for ref in tensors if ref.node in runs]
  # The first row stays as it is, and the batch keeps its size.
  repeated = {
    name: np.repeat(value[:1], size, axis=0) if np.ndim(value) else value
    for name, value in feeds.items()
  }
  pairs = zip(refs, runner.fetch(refs, feeds), runner.fetch(refs, repeated))
  for ref, before, after in pairs:
    before, after = np.asarray(before), np.asarray(after)
    if not is_float(before.dtype):
      continue
    if before.shape == after.shape and before.shape[:1] == (size,):
      before, after = before[:1], after[:1]
    if not difference(str(ref), after, before).holds:
      return ref
  return None


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
