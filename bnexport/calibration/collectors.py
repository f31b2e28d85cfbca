# SPDX-License-Identifier: Apache-2.0
"""The statistics of norms that share them, collected batch by batch."""

from __future__ import annotations

import numpy as np

from bnexport.batchnorm.norm import BATCH
from bnexport.calibration.fed_graph import fed_name
from bnexport.calibration.gathering import moments_of
from bnexport.calibration.groups import refuse
from bnexport.graph.nodes import constant_value, uniform_value

# Up to this part of a standard deviation is a mean, and of a variance is a
# variance, taken for the same; and up to the second part of the mean's size,
# where a mean of squares has lost digits. By the dtype's bytes.
_APART = {2: (0.1, 0.1), 4: (0.02, 1e-3), 8: (0.02, 1e-6)}


class Statistics:
  """The collection of one group's statistics.

  Attributes:
    kept: axes that are not reduced, by x; None before `look`.
  """

  def __init__(self, model, group, fetch):
    self._model = model
    self._group = group
    self._fetch = fetch
    self.kept = None
    self._own = {}  # what norms compute of the first batch

  def look(self, values, feeds):
    """Finds of a batch what is to be reduced.

    Args:
      values: arrays by x.
      feeds: what was fed for them.

    Raises:
      TransformError: a value is not finite, or the norm is no batch norm.
    """
    self._look(values, feeds)
    moments = moments_of(self.kept, values)
    self._refuse_infinite(moments)
    self._refuse_other_statistics(moments)

  def settle(self, moments):
    """Hands the Moments of all data to the group.

    Raises:
      TransformError: there are none, or they are not finite.
    """
    group = self._group
    if not moments.samples:
      refuse(group.norms[0], "no value reaches it", "give other rows")
    self._refuse_infinite(moments)
    group.samples = moments.samples
    group.mean, group.variance = moments.mean, moments.variance

  def _refuse_infinite(self, moments):
    if moments.samples and not moments.is_finite:
      refuse(
        self._group.norms[0],
        "values it normalises are not finite",
        "look for the cause in the weights before it",
      )

  def _look(self, values, feeds):
    """Finds which axes to reduce, and the shapes of the statistics."""
    self.kept, common = {}, None
    for norm in self._group.norms:
      x = values[norm.x]
      kept = self._look_at_norm(norm, x, feeds)
      sizes = [x.shape[axis] for axis in kept]
      common = sizes if common is None else common
      if self.kept.setdefault(norm.x, kept) != kept or sizes != common:
        refuse(
          norm,
          f"it shares statistics with '{self._group.norms[0].name}' and has "
          "other channels",
        )

  def _look_at_norm(self, norm, x, feeds):
    """Axes of x that are not reduced; notes the shapes of the statistics."""
    shapes = []
    if self._group.places[norm.name].scale is not None:
      shapes = self._look_at_formula(norm, feeds)
    node = self._model.graph.node(norm.name)
    kept = norm.form.channel_axes(node, x.shape, shapes)
    if kept is None:
      _, mean, variance = shapes
      refuse(
        norm,
        f"its mean and variance have shapes {list(mean)} and "
        f"{list(variance)}, and what it normalises {list(x.shape)}",
      )
    if not shapes:
      self._refuse_rows(norm, x, feeds)
      shapes = [tuple(x.shape[axis] for axis in kept)] * 3
    for which, shape in zip(("mean", "variance"), shapes[1:]):
      self._group.shapes[norm.name, which] = shape
    return kept

  def _look_at_formula(self, norm, feeds):
    """Shapes of the scale, mean and variance of a norm that is spelled out."""
    (mean,) = self._fetch([norm.mean], feeds)
    fed = dict(feeds, **{fed_name(norm, "mean"): mean})
    (variance,) = self._fetch([norm.variance], fed)
    fed[fed_name(norm, "variance")] = variance
    (scale,) = self._fetch([self._group.places[norm.name].scale], fed)
    if norm.statistics == BATCH:
      self._own[norm.name] = mean, variance
    return [scale.shape, mean.shape, variance.shape]

  def _refuse_rows(self, norm, x, feeds):
    """Refuses a norm that is handed the rows of its batch as channels.

    Instance and layer norms are written with fused ones like this: as one
    row, and a scale of 1.
    """
    graph = self._model.graph
    scale = norm.form.scale(graph, norm.name)
    if norm.statistics != BATCH or scale is None:
      return
    scale = constant_value(graph, scale)
    if (
      len(x) == 1
      and max(len(v) for v in feeds.values() if np.ndim(v)) > 1
      and scale is not None
      and uniform_value(scale) == 1
    ):
      refuse(norm, "it is handed a batch as one row, as an instance norm is")

  def _refuse_other_statistics(self, moments):
    """Refuses where a norm takes statistics of something else than x.

    Weighted ones, or those of a part of the batch, have no population that
    the data could stand for.
    """
    if not moments.samples:
      return
    for norm in self._group.norms:
      if norm.name not in self._own:
        continue
      mean, variance = self._own[norm.name]
      part, digits = _APART.get(mean.dtype.itemsize, _APART[4])
      mean, variance = (
        a.astype(np.float64).reshape(-1) for a in (mean, variance)
      )
      lost = digits * np.square(moments.mean)
      bessel = moments.samples / max(moments.samples - 1, 1)
      is_mean = np.square(mean - moments.mean) <= (
        part**2 * moments.variance + digits * lost
      )
      is_variance = [
        np.abs(variance - moments.variance * factor)
        <= part * moments.variance + lost
        for factor in (1, bessel)
      ]
      if not (is_mean.all() and any(v.all() for v in is_variance)):
        refuse(
          norm,
          f"it uses other statistics than the mean and variance of '{norm.x}'",
        )
