# SPDX-License-Identifier: Apache-2.0
"""A training graph whose updates are run until the stored values settle."""

from __future__ import annotations

import copy
import dataclasses
from typing import Dict, List

import numpy as np

from bnexport.errors import ComparisonError
from bnexport.graph import Graph, ops
from bnexport.graph.importing import import_to_run
from bnexport.graph.variables import assignment
from bnexport.proof import noise, stages
from bnexport.proof.channels_last import run_channels_last
from bnexport.proof.differences import precision
from bnexport.proof.filling import filled, shaped
from bnexport.proof.runs import Run, tensor_name
from bnexport.proof.trust import unsafe_op
from bnexport.proof.updates import (
  constants,
  divide_by_rows,
  fed_nodes,
  find,
  round_nothing,
)
from bnexport.tf1 import session, tf1

# Runs of the updates before they are said not to settle.
_MOST_RUNS = 100
# A stored value has settled where it is as near to the fixed point, as a part
# of the largest one of its variable.
_SETTLED = 1e-3
# An update of this slope or less leaves a value where it is, or counts.
_STILL = 1e-6
# So many units in the last place may a run of an update be off.
_UNITS = 2
# A step counter settles at infinity: after so many steps, as good as. Where an
# average is of all batches so far, any number is as right and is solved better.
FAR = 2.0**20
NEAR = 2.0**6


@dataclasses.dataclass
class Settled:
  """Where the updates of a training graph leave the stored values.

  Attributes:
    why_not: why they do not settle, or empty.
    averages: names of the variables that settled.
    runs: how often the updates were run.
    is_idle: whether no update does anything, so that training runs otherwise.
  """

  why_not: str = ""
  averages: List[str] = dataclasses.field(default_factory=list)
  runs: int = 0
  is_idle: bool = False


class Settling(Run):
  """A training graph in training mode, with updates to run by hand.

  Attributes:
    updates: the Updates that are run.
    values: the values that have settled, by variable.
    errors: how far rounding may have left each from where it settles.
    steps: how often counters and sums have been added to.
    counters: whether something counts or adds up.
  """

  what = "the training graph as training runs it"

  def __init__(self, export, trains):
    """Imports it.

    Args:
      export: an export.Export of a training graph.
      trains: whether bools that were decided have the other value.

    Raises:
      ComparisonError: it can't be run so.
    """
    model, original = export.model, copy.copy(export.original)
    decisions = model.decisions
    self._phases = _phases(decisions.values, trains)
    original.warnings = []
    self._original = original
    self._graph = original.graph = original.graph.clone()
    self.outputs = [str(ref) for ref in original.outputs]
    noise.expect(
      original, self._phases, decisions.random_kept, decisions.moments
    )
    self._by_data = fed_nodes(self._graph, original)
    self.updates = find(original, self._by_data, decisions.averages)
    self._rewrite()
    self._constant = constants(self._graph)
    self._import()
    self.values: Dict[str, np.ndarray] = {}
    self.errors: Dict[str, np.ndarray] = {}
    self.steps = FAR
    self.counters = False

  def _rewrite(self):
    """Leaves what the outputs and the updates need, as it can be compared."""
    graph, original = self._graph, self._original
    divide_by_rows(graph, original.needed())
    round_nothing(graph)
    run_channels_last(graph)
    roots = [ref.node for ref in original.outputs] + self.updates.run
    graph.keep(graph.ancestors(roots + list(original.initializers)))
    unsafe = unsafe_op(graph, original.outputs, original.initializers)
    if unsafe is not None and not original.is_trusted:
      raise ComparisonError("run the training graph", unsafe)

  def _import(self):
    graph_def = self._graph.to_graph_def()
    for node in graph_def.node:
      node.attr.pop("_output_shapes", None)
    imported = import_to_run(graph_def)
    with imported.as_default():
      self._assigns, self._reads = {}, {}
      for node in self._graph:
        if node.op in ops.VARIABLES:
          self._assigns[node.name] = assignment(imported, node)
          tensor = imported.get_tensor_by_name(node.name + ":0")
          if node.op == "VarHandleOp":
            tensor = tf1.raw_ops.ReadVariableOp(
              resource=tensor, dtype=node.attr["dtype"].type
            )
          self._reads[node.name] = tensor
      self._session = session(imported)
      self._load({name: self._initial(name) for name in self._assigns})
      if self._original.initializers:
        self._session.run(list(self._original.initializers))

  @property
  def graph(self) -> Graph:
    return self._graph

  def close(self):
    self._session.close()

  def fetch(self, refs, feeds):
    names = [tensor_name(ref) for ref in refs]
    return self._session.run(names, self._fed(feeds))

  def settle(self, feeds) -> Settled:
    """Solves the updates for the values that they leave as they are.

    Nearly every update is affine in the value that it replaces, v' = a v + b:
    two runs tell a and b, and it settles at b / (1 - a). Values that others
    are computed from are settled first. What is not affine takes more rounds.
    """
    names = list(self.updates.of)
    if not names:
      return Settled("no update depends on the batch", is_idle=True)
    fed = self._fed(feeds)
    values = {name: self._original.values[name] for name in names}
    levels, runs = self.updates.levels(self._graph), 0
    slopes: Dict[str, np.ndarray] = {}
    moving: List[str] = []
    while runs < _MOST_RUNS:
      for level in stages.each("solving for the fixed point", levels):
        self._solve(fed, values, level, slopes)
        runs += 2
      found = self._run(fed, values)
      runs += 1
      for name in names:
        if self._is_idle(found, values, slopes, name):
          why = f"its update leaves '{name}' as it is on made-up rates"
          return Settled(why, runs=runs, is_idle=True)
      moving = [
        name
        for name in names
        if not is_settled(found[name], values[name], slopes[name])
        or not adds_alike(found[name], values[name], slopes[name])
      ]
      if not moving:
        self._restore(values)
        self.values = values
        self.errors = {n: error(values[n], slopes[n]) for n in names}
        return Settled(averages=names, runs=runs)
    why = f"'{moving[0]}' does not settle in {runs} runs of the updates"
    return Settled(why, runs=runs)

  def _initial(self, name):
    if name in self._phases:
      return np.asarray(self._phases[name])
    return self._original.values[name]

  def _load(self, values):
    assigns = {name: self._assigns[name] for name in values}
    self._session.run(
      [assign for assign, _ in assigns.values()],
      {holder: values[name] for name, (_, holder) in assigns.items()},
    )

  def _fed(self, feeds):
    feeds = self.drawn(feeds)
    fed, unfed = {}, []
    for node in self._graph:
      name = node.name
      is_fed = node.op in ops.PLACEHOLDERS | {"Const"}
      if name in self._phases and is_fed:
        fed[name] = shaped(self._graph, name, self._phases[name])
      elif name in feeds:
        fed[name] = feeds[name]
      elif node.op in ("Placeholder", "PlaceholderV2"):
        unfed.append(name)
    fed.update(filled(self._graph, unfed, feeds))
    return {tensor_name(name): value for name, value in fed.items()}

  def _is_idle(self, found, values, slopes, name):
    """Whether an update of data changes nothing at all."""
    return (
      any(u in self._by_data for u in self.updates.of[name])
      and bool(np.all(np.abs(1 - slopes[name]) < _STILL))
      and bool(np.all(found[name] == values[name]))
    )

  def _solve(self, fed, values, level, slopes):
    """Moves some values to where their updates leave them."""
    low = {name: values[name] for name in level}
    high = {name: _apart(value) for name, value in low.items()}
    at_low = self._run(fed, dict(values, **low))
    at_high = self._run(fed, dict(values, **high))
    for name in level:
      slopes[name], values[name] = solved(
        low[name], at_low[name], high[name], at_high[name], self.steps
      )
      self.counters |= bool(np.any(np.abs(1 - slopes[name]) < _STILL))

  def _restore(self, values):
    changed = [name for name in self._assigns if name not in self._constant]
    self._load(
      {n: values[n] if n in values else self._initial(n) for n in changed}
    )

  def _run(self, fed, values):
    """Stored values after a run of the updates."""
    self._restore(values)
    self._session.run(self.updates.run, fed)
    return self._session.run({name: self._reads[name] for name in values})


def _phases(values, trains):
  """Values as they were decided, or as training has them."""
  if not trains:
    return dict(values)
  for name, value in values.items():
    if np.asarray(value).dtype != bool:
      raise ComparisonError(
        "run the training graph",
        f"which value of '{name}' means training is not known",
      )
  return {name: np.logical_not(value) for name, value in values.items()}


def _apart(value):
  """Other values, as far from these as is handy for telling a slope."""
  wide = np.float64(value)
  return np.asarray(wide + np.maximum(1.0, np.abs(wide)), value.dtype)


def solved(low, at_low, high, at_high, steps):
  """Slope of an update, and where it settles, elementwise.

  Args:
    low: stored values.
    at_low: what the update makes of them.
    high: other stored values.
    at_high: what the update makes of those.
    steps: how often counters and sums have been added to.
  """
  x, fx, y, fy = map(np.float64, (low, at_low, high, at_high))
  slope = (fy - fx) / (y - x)
  left = 1 - slope
  is_still = np.abs(left) < _STILL
  solved = x + (fx - x) / np.where(is_still, 1.0, left)
  # A counter goes on for ever, and a sum; what nothing changes stays.
  counted = np.where(np.abs(fx - x) > 0, (fx - x) * steps, x)
  value = np.where(is_still, counted, solved)
  return slope, np.asarray(value, np.asarray(low).dtype)


def error(value, slope):
  """The rounding of a value that was solved for, elementwise.

  The step of an update is rounded as the value is, and is a part of it.
  """
  value = np.asarray(value)
  left = np.abs(1 - slope)
  if value.dtype.kind != "f":
    return np.zeros_like(left)
  largest = float(np.max(np.abs(np.float64(value)), initial=0))
  units = _UNITS * precision(value.dtype) * largest
  return np.where(left < _STILL, 0.0, units / np.maximum(left, _STILL))


def is_settled(found, value, slope):
  """Whether a value is near enough to where its update goes."""
  found, value = np.float64(found), np.float64(value)
  left = np.abs(1 - slope)
  # What still moves on such a slope is a counter or a sum.
  apart = np.abs(found - value) / np.maximum(left, _STILL)
  apart = np.where(left < _STILL, 0.0, apart)
  scale = float(np.max(np.abs(value), initial=0))
  return bool(np.all(apart <= _SETTLED * max(scale, 1e-30)))


def adds_alike(found, value, slope):
  """Whether what was taken for a counter or a sum goes on as it was solved.

  An update that is clipped moves by as much everywhere but near its end.
  """
  found, value = np.float64(found), np.float64(value)
  is_counter = (np.abs(1 - slope) < _STILL) & (found != value)
  return bool(np.all(np.where(is_counter, value * (found - value) > 0, True)))
