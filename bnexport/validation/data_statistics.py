# SPDX-License-Identifier: Apache-2.0
"""Distances of norms' stored statistics from those of some data.

For each channel, with m and v the stored mean and variance, and M and V those
of the data at the norm's input:

  shift = (M - m) / sqrt(v + epsilon)     ratio = (V + epsilon) / (v + epsilon)

Of data like those of the training both are near 0 and 1.
"""

from __future__ import annotations

import dataclasses
from typing import List

import numpy as np

from bnexport.batchnorm.norm import STORED
from bnexport.calibration.moments import Moments
from bnexport.graph import TensorRef, ops
from bnexport.proof.divergence import always_run, stream

FEWEST_ROWS = 32
# The mean of 32 samples is 0.18 standard deviations off by chance, the variance
# a factor of 1.3. Half of the channels are beyond these limits for a reason.
_SHIFT, _RATIO = 0.5, 2.0
# One channel of thousands is further off than most, and more so where values
# are seldom large; none is this far off by chance.
_LARGEST_SHIFT, _LARGEST_RATIO = 5.0, 25.0
# Fewer samples have no variance.
_FEWEST_SAMPLES = 2


@dataclasses.dataclass(frozen=True)
class Distance:
  """The distance of a norm's stored statistics from the data's.

  Attributes:
    norm: the norm's name.
    samples: how many values each channel's statistics are of.
    shift: median over the channels of |shift|.
    ratio: median over the channels of the ratio.
    largest_shift: the largest |shift|.
    extreme_ratio: the ratio that is furthest from 1, as a factor.
  """

  norm: str
  samples: int
  shift: float
  ratio: float
  largest_shift: float
  extreme_ratio: float

  @property
  def is_far(self):
    """Whether chance does not explain the distance; see the limits above."""
    return not (
      self.shift <= _SHIFT
      and _factor(self.ratio) <= _RATIO
      and self.largest_shift <= _LARGEST_SHIFT
      and _factor(self.extreme_ratio) <= _LARGEST_RATIO
    )


def _factor(ratio):
  return max(ratio, 1 / ratio) if ratio > 0 else np.inf


class DataStatistics:
  """Collects the data's statistics at each stored norm, batch by batch.

  Attributes:
    left_out: names of the norms whose input is unknown or can't be fetched.
  """

  def __init__(self, runner, graph, norms):
    """Runs nothing.

    Args:
      runner: a comparison.Runner.
      graph: its Graph.
      norms: its BatchNorms; those without stored statistics are skipped.
    """
    # What is fed can be read, too: a norm may be the first thing behind it.
    fed = {node.name for node in graph if node.op in ops.PLACEHOLDERS}
    runs = always_run(graph) | fed
    stored = [norm for norm in norms if norm.statistics == STORED]
    self._runner, self._graph = runner, graph
    self._told_by = {}  # the tensors whose shapes tell a norm's channels
    self._norms = []
    for norm in stored:
      if norm.x is None or norm.mean is None:
        continue
      refs = norm.form.shape_tensors(norm, norm.form.place(graph, norm))
      if all(ref.node in runs for ref in (norm.x, TensorRef(norm.name), *refs)):
        self._norms.append(norm)
        self._told_by[norm.name] = refs
    self.left_out = [n.name for n in stored if n not in self._norms]
    self._moments = {norm.name: Moments() for norm in self._norms}
    self._stored = {}
    self._shapes = {}

  def add(self, feeds):
    """Runs the graph on a batch and takes in the norms' inputs.

    Raises:
      ComparisonError: TensorFlow can't run the graph.
    """
    if not self._stored:
      self._read_stored(feeds)
    by_x = {}
    for norm in self._norms:
      by_x.setdefault(str(norm.x), []).append(norm)
    for x, value in stream(self._runner, by_x, feeds):
      for norm in by_x[x]:
        node = self._graph.node(norm.name)
        kept = norm.form.channel_axes(
          node, value.shape, self._shapes[norm.name]
        )
        if kept is not None:
          self._moments[norm.name].add(value, kept)

  def _read_stored(self, feeds):
    wanted = {
      norm.name: [norm.mean, norm.variance, *self._told_by[norm.name]]
      for norm in self._norms
    }
    names = dict.fromkeys(str(ref) for refs in wanted.values() for ref in refs)
    read = dict(stream(self._runner, names, feeds))
    for name, refs in wanted.items():
      arrays = [read[str(ref)] for ref in refs]
      self._stored[name] = arrays[:2]
      self._shapes[name] = [array.shape for array in arrays[2:]]

  def distances(self) -> List[Distance]:
    """A Distance for each norm that was looked at, the furthest first."""
    found = []
    for norm in self._norms:
      moments = self._moments[norm.name]
      stored = self._stored.get(norm.name, ())
      if moments.samples < _FEWEST_SAMPLES or not moments.is_finite:
        continue
      if all(a.size == moments.mean.size for a in stored):
        data = (moments.mean, moments.variance)
        found.append(distance(norm, moments.samples, data, stored))
    return sorted(
      found, key=lambda d: (not d.is_far, -max(d.shift, _factor(d.ratio)))
    )


def distance(norm, samples, data, stored) -> Distance:
  """The Distance of a norm's stored statistics from some data's.

  Args:
    norm: the BatchNorm.
    samples: how many values each channel's statistics are of.
    data: arrays of the data's mean and variance.
    stored: arrays of those that are stored.
  """
  mean, variance = (
    np.asarray(a).astype(np.float64).reshape(-1) for a in stored
  )
  with np.errstate(all="ignore"):  # stored variances may be anything
    shift = np.abs(data[0] - mean) / np.sqrt(variance + norm.epsilon)
    ratio = (data[1] + norm.epsilon) / (variance + norm.epsilon)
    factors = np.maximum(ratio, 1 / ratio)
  extreme = ratio[np.argmax(np.where(np.isnan(factors), np.inf, factors))]
  return Distance(
    norm.name,
    samples,
    float(np.median(shift)),
    float(np.median(ratio)),
    float(np.max(shift)),
    float(extreme),
  )
