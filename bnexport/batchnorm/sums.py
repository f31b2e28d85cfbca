# SPDX-License-Identifier: Apache-2.0
"""Averages that are kept as a sum and a count, which inference divides.

Neither settles: each grows by as much in every run. What the one grows by
over what the other grows by is the statistic.
"""

from __future__ import annotations

import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Set

import numpy as np

from bnexport.batchnorm.settling import PROBES, Settling, Signature
from bnexport.batchnorm.stored import Step, Stored
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.variables import variable_dtype
from bnexport.graph.writes import write_of
from bnexport.tf1 import tf1

_DIGITS = 6
_TRAINS = re.compile(r"(Resource)?(Sparse)?Apply")


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
  grown = [
    (variable, rows)
    for variable, updates in counts.items()
    if _is_number(graph, variable)
    for rows in _growths(graph, settling, variable, updates)
  ]
  for variable, updates in sums.items() if grown else ():
    for update in updates:
      sources: Set[TensorRef] = set()
      added = _growth(graph, settling, variable, update, sources)
      if added is None or len(sources) != 1:
        continue
      (source,) = sources
      for count, rows in grown:
        values = [round(a / n, _DIGITS) for a, n in zip(added, rows)]
        over = Step("RealDiv", Stored(count))
        part = write_of(graph, update).part
        stored = Stored(variable, part, (over,))
        yield Ratio(stored, (source, *values), update)


def _is_number(graph, variable):
  dtype = tf1.as_dtype(variable_dtype(graph, variable))
  return dtype.is_floating or dtype.is_integer


def _is_step(graph, update):
  """Whether a count is of training steps: it waits for the weights' updates."""
  return any(
    _TRAINS.match(graph.op(name)) for name in graph.ancestors([update])
  )


def _growths(graph, settling, variable, updates) -> Iterator[List[float]]:
  for update in updates:
    if graph.op(update) in ops.UPDATES - ops.ASSIGN and not _is_step(
      graph, update
    ):
      found = _growth(graph, settling, variable, update, set())
      if found is not None and min(found) > 0:
        yield found


def _growth(
  graph, settling, variable, update, sources
) -> Optional[List[float]]:
  """The addend of an update for each probe batch; None for no number."""
  found = []
  for probe in PROBES:
    reader = settling.reader({}, probe, sources)
    value = reader.growth(variable, update)
    if value is None or not np.isfinite(value):
      return None
    found.append(float(value))
  return found
