# SPDX-License-Identifier: Apache-2.0
"""What each norm normalised with before, and what it does now."""

from __future__ import annotations

import dataclasses
from typing import Optional

import numpy as np

from bnexport.analysis.origins import is_chosen
from bnexport.batchnorm.forms import find
from bnexport.batchnorm.norm import STORED
from bnexport.errors import ComparisonError
from bnexport.graph import TensorRef
from bnexport.graph.nodes import constant_value
from bnexport.proof.divergence import always_run, conditional_depth, stream

SWITCHED = "switched"

CONSTANTS = "the constants it had"


@dataclasses.dataclass(frozen=True)
class NormStatistics:
  """Statistics of one norm, before and after; arrays have one shape.

  Attributes:
    norm: the norm's name.
    mean: what it uses now, one value a channel.
    variance: as `mean`.
    before_is: what the two below are, in words; None where there are none.
    mean_before: what it used before, or None.
    variance_before: as `mean_before`.
  """

  norm: str
  mean: np.ndarray
  variance: np.ndarray
  before_is: Optional[str] = None
  mean_before: Optional[np.ndarray] = None
  variance_before: Optional[np.ndarray] = None


def used_before(original):
  """What norms took their statistics from before, by the norm's name.

  Args:
    original: the Model before the phase was decided, or None.

  Returns:
    "stored", "batch", "unknown", or SWITCHED where a conditional chose.
  """
  if original is None:
    return {}
  graph = original.graph
  order = graph.topological(original.needed(control=True))
  depth = conditional_depth(graph, order)
  found = {}
  for norm in find(graph, original.outputs):
    is_switched = depth.get(norm.name) or is_chosen(graph, norm.variance)
    found[norm.name] = SWITCHED if is_switched else norm.statistics
  return found


def collect(export, running, feeds):
  """Returns the NormStatistics of the norms that use stored statistics.

  Before were the constants that the graph had, where they are others now;
  else the statistics of the batch that is fed, measured at the norm's input.

  Args:
    export: an export.Export.
    running: (what it is in words, what runs it, its Graph) of the graphs to
      measure in, the preferred one first.
    feeds: arrays by node name; None where nothing can be run.
  """
  now = {norm.name: norm for norm in export.norms if norm.statistics == STORED}
  found = dict(_constants(export, now))
  for name, norm in now.items():
    values = _values(export.unfolded, norm)
    if values is not None:
      kept = found.get(name)
      found[name] = NormStatistics(name, *values, *(kept or ()))
  for what, runner, graph in running if feeds is not None else ():
    _measure(export.unfolded, now, found, (what, runner, graph), feeds)
  return [found[name] for name in now if name in found]


def _values(graph, norm):
  """Stored mean and variance as flat arrays, or None."""
  refs = (norm.moving_mean, norm.moving_variance)
  values = [constant_value(graph, TensorRef(r), 1 << 30) for r in refs]
  if any(v is None or v.dtype.kind == "O" for v in values):
    return None
  if values[0].size != values[1].size:
    return None
  return [v.reshape(-1).astype(np.float64) for v in values]


def _constants(export, now):
  """Yields what was stored as constants and is another value now."""
  if export.original is None:
    return
  graph = export.original.graph
  for old in find(graph, export.original.outputs):
    new = now.get(old.name)
    if new is None or old.statistics != STORED:
      continue
    before, after = _values(graph, old), _values(export.unfolded, new)
    if before is None or after is None:
      continue
    if any(a.shape != b.shape for a, b in zip(before, after)):
      continue
    if not all(np.array_equal(a, b) for a, b in zip(before, after)):
      yield old.name, (CONSTANTS,) + tuple(before)


def _measure(graph, norms, found, running, feeds):
  """Fills in batch statistics where nothing is known of before."""
  what, runner, run_graph = running
  fetched = always_run(run_graph)
  wanted = {}
  for name, statistics in found.items():
    x = norms[name].x
    if statistics.before_is is None and x is not None:
      if x.node in feeds or x.node in fetched:
        wanted.setdefault(str(x), []).append(name)
  try:
    for x, array in stream(runner, wanted, feeds):
      for name in wanted[x]:
        moments = _moments(array, graph.node(name), found[name].mean.size)
        if moments is not None:
          found[name] = dataclasses.replace(
            found[name],
            before_is=what,
            mean_before=moments[0],
            variance_before=moments[1],
          )
  except ComparisonError:
    return  # Another graph may be measured in; where none is, it shows.


def _moments(array, node, channels):
  """Mean and variance over all axes but that of the channels, or None."""
  if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
    return None
  layout = node.attr["data_format"].s if "data_format" in node.attr else b""
  axes = list(range(array.ndim))
  axis = [1] if layout.startswith(b"NC") else axes[:0:-1]
  channel = [a for a in axis if array.shape[a] == channels][:1]
  if not channel and channels != 1:
    return None
  over = tuple(a for a in axes if a not in channel)
  array = array.astype(np.float64)
  return array.mean(over).reshape(-1), array.var(over).reshape(-1)
