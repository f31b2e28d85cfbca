# SPDX-License-Identifier: Apache-2.0
"""Runs data through a graph, pass by pass, and collects norms' statistics."""

from __future__ import annotations

import contextlib

import numpy as np

from bnexport.calibration.collectors import Statistics
from bnexport.calibration.fed_graph import (
  as_feeds,
  find_inputs,
  looked_at,
  with_fed_statistics,
)
from bnexport.calibration.gathering import Pass, moments_of
from bnexport.calibration.groups import Group, refuse
from bnexport.errors import ComparisonError, TransformError
from bnexport.proof.runs import ImportedGraph

# Where statistics depend on themselves: how much of a standard deviation
# answers may move by in the last pass, and how many passes may be needed.
_SETTLED = 1e-4
_MOST_REPEATS = 40


class Passes:
  """The passes over the data that groups of norms need.

  The graph is imported once, up to what the norms normalise. Statistics are
  fed: a norm that is done runs with its new ones from then on. One pass is
  made for each depth, so n norms in a row take n passes, each as far as the
  norm. Where statistics change what they are taken of, passes are repeated
  until they agree.

  Attributes:
    rows: how many rows the data has.
    left_out: how many of them are not fed.
  """

  def __init__(self, model, groups, data, elsewhere=None):
    """Checks the data; nothing is imported or run before `run`.

    Args:
      model: a Model; stays as it is.
      groups: Groups, in order of depth; `run` gives them their statistics.
      data: a CalibrationData.
      elsewhere: makes passes elsewhere than in this process. It is called with
        the GraphDef and its initializers, and is a context in which a function
        gives the Moments of a Pass; or None.

    Raises:
      SourceError: the data does not fit the inputs.
    """
    self._model = model
    self._groups = groups
    self._path = data.path
    self._needed = model.graph.ancestors(
      [ref.node for group in groups for ref in looked_at(group)]
      + list(model.initializers)
    )
    self._inputs = find_inputs(model, groups, self._needed, data)
    self._data = data
    self._elsewhere = elsewhere or self._here
    self._feeds = data.feeds(self._inputs)
    self.rows, self.left_out = self._feeds.rows, self._feeds.left_out
    self._settled = {}  # statistics of norms that are done, as feeds
    self._runner = self._first_batch = None

  def run(self, progress):
    """Sets samples, mean, variance and shapes of all groups.

    Raises:
      SourceError: the data holds what can't be fed.
      TransformError: the graph does not run, or a norm has no statistics.
    """
    fed = with_fed_statistics(self._model, self._groups, self._needed)
    initializers = self._model.initializers
    try:
      self._runner = ImportedGraph(fed, (), initializers)
    except ComparisonError as error:
      self._refuse(error)
    count = self._groups[-1].depth + 1
    try:
      with self._elsewhere(fed, initializers) as gather:
        del fed  # as large as the model
        for depth in range(count):
          progress(f"statistics of norms: pass {depth + 1} of {count}")
          groups = [g for g in self._groups if g.depth == depth]
          again = [g for g in groups if g.repeats]
          self._pass([g for g in groups if not g.repeats], gather)
          if again:
            self._repeat(again, gather, progress)
    except ComparisonError as error:
      self._refuse(error)
    finally:
      self._runner.close()

  @contextlib.contextmanager
  def _here(self, graph_def, initializers):
    """Makes passes in this process."""
    yield lambda one: one.gather(self._runner)

  def _pass(self, groups, gather):
    if not groups:
      return
    collected = [self._look(group) for group in groups]
    one = Pass(
      self._data,
      self._inputs,
      dict(self._settled),
      [statistics.kept for statistics in collected],
    )
    for statistics, moments in zip(collected, gather(one)):
      statistics.settle(moments)
    self._feed(groups)

  def _look(self, group):
    """The Statistics of a group, which have seen a first batch."""
    statistics = Statistics(self._model, group, self._fetch)
    values = dict(zip(group.xs, self._fetch(group.xs, self._first)))
    statistics.look(values, self._first)
    return statistics

  @property
  def _first(self):
    """The first batch."""
    if self._first_batch is None:
      self._first_batch = next(iter(self._feeds))
    return self._first_batch

  def _feed(self, groups):
    for group in groups:
      self._settled.update(as_feeds(self._model, group))

  def _repeat(self, groups, gather, progress):
    """Passes until statistics are those of what they themselves lead to."""
    self._begin(groups)
    for count in range(_MOST_REPEATS):
      progress(f"statistics that change their inputs: pass {count + 1}")
      before = [(group.mean, group.variance) for group in groups]
      self._pass(groups, gather)
      if all(
        _agrees(group, mean, variance)
        for group, (mean, variance) in zip(groups, before)
      ):
        return
      for group, (mean, variance) in zip(groups, before):
        # They overshoot: dividing by a small variance makes the next large.
        group.mean = (group.mean + mean) / 2
        group.variance = (group.variance + variance) / 2
      self._feed(groups)
    refuse(
      groups[0].norms[0],
      "its statistics change what they are taken of, and did not settle in "
      f"{_MOST_REPEATS} passes",
    )

  def _begin(self, groups):
    """Starts with what norms make of one batch by themselves, as in training.

    From nothing, values could grow with each norm until they overflow.
    """
    feeds = self._first
    order = {x: i for i, x in enumerate(self._model.graph.topological())}
    members = [(norm, group) for group in groups for norm in group.norms]
    values = {}
    for norm, group in sorted(members, key=lambda pair: order[pair[0].x.node]):
      (values[norm.x],) = self._fetch([norm.x], feeds)
      alone = Group([norm], {norm.name: group.places[norm.name]})
      self._take(alone, values, feeds)
    for group in groups:
      self._take(group, values, feeds)

  def _take(self, group, values, feeds):
    statistics = Statistics(self._model, group, self._fetch)
    statistics.look(values, feeds)
    statistics.settle(moments_of(statistics.kept, values))
    self._feed([group])

  def _fetch(self, refs, feeds):
    try:
      return self._runner.fetch(refs, dict(self._settled, **feeds))
    except ComparisonError as error:
      return self._refuse(error)

  def _refuse(self, error):
    raise TransformError(
      f"recalibrate with '{self._path}'",
      error.fact,
      # TensorFlow's words where there is no kernel for NCHW.
      "pass --data_format=NHWC"
      if "NHWC" in error.fact
      else "give rows that the graph runs on; each file of few rows is fed as "
      "one batch",
    ) from error


def _agrees(group, mean, variance):
  """Whether norms answer with a group's statistics as with the given ones."""
  epsilon = max(group.norms[0].epsilon, np.finfo(np.float32).eps)
  divisor = np.sqrt(group.variance + epsilon)
  moved = np.abs(group.mean - mean) / divisor
  scaled = np.abs(np.sqrt(variance + epsilon) / divisor - 1)
  return bool((np.maximum(moved, scaled) <= _SETTLED).all())
