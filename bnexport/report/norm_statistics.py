# SPDX-License-Identifier: Apache-2.0
"""The statistics of each norm, before the export and now."""

from __future__ import annotations

import dataclasses
from typing import Optional

import numpy as np

from bnexport.analysis.flow import Flow
from bnexport.batchnorm.forms import find
from bnexport.batchnorm.norm import STORED
from bnexport.batchnorm.norms import batch_norms
from bnexport.calibration.moments import Moments
from bnexport.errors import ComparisonError
from bnexport.graph import TensorRef
from bnexport.graph.nodes import constant_value
from bnexport.proof.divergence import always_run, stream

CONSTANTS = "the constants it had"


@dataclasses.dataclass(frozen=True)
class NormStatistics:
  """Statistics of one norm, before and after; arrays have one shape.

  Attributes:
    norm: the norm's name.
    mean: the mean that it uses now, one value a channel.
    variance: as `mean`.
    before_is: the source of the next two, in words; None without them.
    mean_before: the mean that it used before, or None.
    variance_before: as `mean_before`.
    samples: how many values of a batch each of the latter two are of; 0 where
      they are no batch's.
  """

  norm: str
  mean: np.ndarray
  variance: np.ndarray
  before_is: Optional[str] = None
  mean_before: Optional[np.ndarray] = None
  variance_before: Optional[np.ndarray] = None
  samples: int = 0


def used_before(original):
  """Provenance of norms' statistics in a graph, by the norm's name.

  Args:
    original: the Model before the phase was decided, or None.

  Returns:
    STORED, BATCH, UNKNOWN or SWITCHED.
  """
  if original is None:
    return {}
  outputs = [ref.node for ref in original.outputs]
  norms = batch_norms(Flow(original.graph), outputs)
  return {norm.name: norm.statistics for norm in norms}


def collect(export, running, feeds):
  """Returns the NormStatistics of the norms that use stored statistics.

  The statistics before are the constants that the graph had, where they are
  others now; else those of the batch that is fed, measured at the norm's input.

  Args:
    export: an export.Export.
    running: (words for `before_is`, a Run, its Graph) of the graphs to
      measure in, the preferred one first and the exported one last.
    feeds: arrays by node name; None where nothing can be run.
  """
  now = {norm.name: norm for norm in export.norms if norm.statistics == STORED}
  found = dict(_constants(export, now))
  for name, norm in now.items():
    values = _values(export.unfolded, norm)
    if values is not None:
      kept = found.get(name)
      found[name] = NormStatistics(name, *values, *(kept or ()))
  if running and feeds is not None:
    shapes = _shapes(now, running[-1], feeds)
    for one in running:
      _measure(export.unfolded, now, found, one, shapes, feeds)
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
  """Yields norms whose constants were others before, with those."""
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


def _shapes(norms, running, feeds):
  """Shapes of what tells the channels of norms, by the norm's name."""
  _, runner, graph = running
  fetched = always_run(graph)
  told_by = {}
  for name, norm in norms.items():
    if norm.x is not None and norm.mean is not None:
      refs = norm.form.shape_tensors(norm, norm.form.place(graph, norm))
      if all(ref.node in fetched for ref in refs):
        told_by[name] = refs
  names = dict.fromkeys(str(r) for refs in told_by.values() for r in refs)
  try:
    read = {name: a.shape for name, a in stream(runner, names, feeds)}
  except ComparisonError:
    return {}  # nothing else can be measured there either
  return {
    name: [read[str(ref)] for ref in refs] for name, refs in told_by.items()
  }


def _measure(graph, norms, found, running, shapes, feeds):
  """Fills in batch statistics where nothing is known of before."""
  what, runner, run_graph = running
  fetched = always_run(run_graph)
  wanted = {}
  for name, statistics in found.items():
    x = norms[name].x
    if statistics.before_is is None and name in shapes:
      if x.node in feeds or x.node in fetched:
        wanted.setdefault(str(x), []).append(name)
  try:
    for x, array in stream(runner, wanted, feeds):
      for name in wanted[x]:
        form, node = norms[name].form, graph.node(name)
        axes = form.channel_axes(node, array.shape, shapes[name])
        moments = _moments(array, axes)
        if moments is not None and moments.mean.size == found[name].mean.size:
          found[name] = dataclasses.replace(
            found[name],
            before_is=what,
            mean_before=moments.mean,
            variance_before=moments.variance,
            samples=moments.samples,
          )
  except ComparisonError:
    return  # The next graph is measured in; the report shows if none was.


def _moments(array, axes):
  """Moments over all axes but those of the channels, or None."""
  is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
  if axes is None or not is_float or not array.size:
    return None
  moments = Moments()
  moments.add(array, axes)
  return moments
