# SPDX-License-Identifier: Apache-2.0
"""Growth of the time of each step of an export with the graph."""

from __future__ import annotations

import collections
import contextlib
import gc
import os
import tempfile
import time
from unittest import mock

from benchmarks.results import Chart, Goal, Part, Table

_SIZES = (1000, 10000, 100000)
_SIZES_SMALL = (500, 1000, 2000)
_NOTES = """
Seconds of CPU for every 1,000 nodes of a training graph, a norm to every 70
nodes; the least of %d runs. Growth is the time per node of the largest graph
over that of the one before it: 1 is linear, and %d would be quadratic.
"""
# Steps below this part of the whole are not worth a goal.
_LEAST_PART = 0.05
# Caches, and Python's garbage collector, make larger graphs dearer, too.
_LIMIT = 1.5
_READ, _WRITE = "read the graph", "write the graph"
_REST = "everything else"
_WHOLE = "**all steps**"


def measure(is_small):
  """Returns a Part."""
  from bnexport.tf1 import tf1

  tf1.disable_v2_behavior()
  sizes = _SIZES_SMALL if is_small else _SIZES
  repeats = 1 if is_small else 2
  by_size = [_least(size, repeats) for size in sizes]
  largest = by_size[-1]
  steps = sorted(largest, key=largest.get, reverse=True)
  rows = []
  for step in steps:
    # A step may be one that a smaller graph has no use for.
    cells = [1000 * times.get(step, 0.0) for times in by_size]
    growth = cells[-1] / cells[-2] if cells[-2] else float("nan")
    rows.append((step, *cells, growth))
  goals = [
    Goal("growth of %s" % step, growth, _LIMIT)
    for step, *_, growth in rows
    if largest[step] >= _LEAST_PART * largest[_WHOLE]
  ]
  columns = ("step", *("%d nodes" % size for size in sizes), "growth")
  chart = Chart(
    "Growth",
    "ms per 1,000 nodes",
    [row[0].strip("*") for row in rows[:8]],
    {
      columns[i]: [1000 * row[i] for row in rows[:8]]
      for i in range(1, 1 + len(sizes))
    },
  )
  notes = _NOTES % (repeats, sizes[-1] // sizes[-2])
  return Part("Growth", notes, Table(columns, rows), goals, chart)


def _least(size, repeats):
  """Seconds per node of each step, the least of some runs."""
  from benchmarks import training_graphs

  with tempfile.TemporaryDirectory() as folder:
    prefix = os.path.join(folder, "model.ckpt")
    count = training_graphs.save(prefix, size)
    runs = [_export(prefix) for _ in range(repeats)]
  return {
    step: min(run[step] for run in runs) / count
    for step in runs[0]
    if all(step in run for run in runs)
  }


def _export(prefix):
  """Exports a training graph; returns the seconds of each step."""
  from bnexport import sources
  from bnexport.exporting import export as exporting
  from bnexport.exporting import steps
  from bnexport.exporting.export import Options
  from bnexport.exporting.export import export as export_model
  from bnexport.model import stream
  from bnexport.model.request import Request

  gc.collect()
  clock = _Clock()
  with clock.watch(exporting), clock.watch(steps):
    with clock.step(_WHOLE):
      with clock.step(_READ):
        model = sources.open(
          Request("meta_graph", prefix + ".meta", prefix, ("y",))
        )
      with clock.step(_REST):
        export = export_model(model, Options())
      with clock.step(_WRITE):
        for _ in stream.pieces(export.model):
          pass
  return clock.seconds


class _Clock:
  """Measures the time of steps without that of the steps within them."""

  def __init__(self):
    self.seconds = collections.defaultdict(float)
    self._within = []

  @contextlib.contextmanager
  def step(self, name):
    begin = time.process_time()
    self._within.append(0.0)
    yield
    seconds = time.process_time() - begin
    inner = self._within.pop()
    self.seconds[name] += seconds - (0.0 if name == _WHOLE else inner)
    if self._within:
      self._within[-1] += seconds

  @contextlib.contextmanager
  def watch(self, module):
    """Makes steps of the functions that a module imports and calls."""
    with contextlib.ExitStack() as stack:
      for name, value in list(vars(module).items()):
        if isinstance(value, type) and hasattr(value, "apply"):
          timed = self._timed(value.apply, value.name)
          stack.enter_context(mock.patch.object(value, "apply", timed))
        elif (
          callable(value)
          and not isinstance(value, type)
          and value.__module__.startswith("bnexport.")
          and value.__module__ != module.__name__
        ):
          timed = self._timed(value, name)
          stack.enter_context(mock.patch.object(module, name, timed))
      yield

  def _timed(self, function, name):
    def call(*args, **kwargs):
      with self.step("`%s`" % name):
        return function(*args, **kwargs)

    return call
