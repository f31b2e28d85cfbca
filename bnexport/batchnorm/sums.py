# SPDX-License-Identifier: Apache-2.0
"""Averages that are kept as a sum and a count, which inference divides.

Each run adds to both, of which the same share may decay. What the one grows by
over what the other grows by is the statistic.
"""

from __future__ import annotations

from typing import (
  Dict,
  Iterator,
  List,
  NamedTuple,
  Optional,
  Sequence,
  Set,
  Tuple,
)

import numpy as np

from bnexport.batchnorm.settling import PROBES, Settling, Signature
from bnexport.batchnorm.stored import Step, Stored
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.variables import variable_dtype
from bnexport.graph.writes import write_of
from bnexport.tf1 import tf1

_DIGITS = 6
_SAME = 1e-9


class Ratio(NamedTuple):
  """A sum over a count.

  Attributes:
    stored: its value.
    signature: of the statistic that it is.
    update: name of the sum's update.
  """

  stored: Stored
  signature: Signature
  update: str


class _Growth(NamedTuple):
  """What a run does to a sum or a count.

  Attributes:
    kept: the share of it that stays, 1 where nothing decays.
    added: what is added, for each of the probe batches.
  """

  kept: float
  added: Sequence[float]


def ratios(
  graph: Graph,
  settling: Settling,
  sums: Dict[str, List[str]],
  counts: Dict[str, List[str]],
) -> Iterator[Ratio]:
  """All sums over all counts.

  Args:
    graph: stays as it is.
    settling: reads the updates.
    sums: names of updates that may add a statistic, by variable.
    counts: the same of updates that no batch has a part in.
  """
  grown: Optional[List[Tuple[str, _Growth]]] = None
  for variable, updates in sums.items():
    for update in updates:
      sources: Set[TensorRef] = set()
      added = _growth(graph, settling, variable, update, sources)
      if added is None or len(sources) != 1:
        continue
      if grown is None:  # only now: most graphs count much, and sum nothing
        grown = list(_grown(graph, settling, counts))
      (source,) = sources
      for count, rows in grown:
        if abs(added.kept - rows.kept) > _SAME:
          continue
        values = [
          round(a / n, _DIGITS) for a, n in zip(added.added, rows.added)
        ]
        over = Step("RealDiv", Stored(count))
        part = write_of(graph, update).part
        stored = Stored(variable, part, (over,))
        yield Ratio(stored, (source, *values), update)


def _grown(graph, settling, counts) -> Iterator[Tuple[str, _Growth]]:
  """The counts, and how each of their updates makes them grow."""
  for variable, updates in counts.items():
    if _is_number(graph, variable):
      for rows in _growths(graph, settling, variable, updates):
        yield variable, rows


def _is_number(graph, variable):
  dtype = tf1.as_dtype(variable_dtype(graph, variable))
  return dtype.is_floating or dtype.is_integer


def _is_step(graph, update):
  """Whether a count is of training steps: it waits for the weights' updates."""
  return any(
    ops.is_optimizer(graph.op(name)) for name in graph.ancestors([update])
  )


def _growths(graph, settling, variable, updates) -> Iterator[_Growth]:
  for update in updates:
    if not _is_step(graph, update):
      found = _growth(graph, settling, variable, update, set())
      if found is not None and min(found.added) > 0:
        yield found


def _growth(graph, settling, variable, update, sources) -> Optional[_Growth]:
  """The share that an update keeps and its addends; None for no number."""
  lines = [
    settling.reader({}, probe, sources).line(variable, update)
    for probe in PROBES
  ]
  if any(line is None or not np.isfinite(line).all() for line in lines):
    return None
  shares, added = zip(*lines)
  is_kept = abs(shares[0]) > _SAME and abs(shares[0] - shares[1]) < _SAME
  return _Growth(shares[0], added) if is_kept and any(added) else None
