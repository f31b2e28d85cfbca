# SPDX-License-Identifier: Apache-2.0
"""The fixed point of a training graph's own updates, which proves an export.

Run the graph's updates on one batch, with the weights left alone, until the
stored values settle. In training mode every norm uses the batch; at the fixed
point every average equals what it tracks. So an export of that state has to
answer the batch as training mode does. Nothing of this asks which tensor is a
statistic or which variable is its average: where the export took the wrong one,
the two answers part.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from typing import Dict, List

import numpy as np

from bnexport.analysis.flow import Flow
from bnexport.errors import ComparisonError, Error, first_line
from bnexport.graph import TensorRef, ops
from bnexport.graph.importing import import_graph
from bnexport.graph.nodes import (
  DEFERRED,
  tensor_attr,
)
from bnexport.graph.variables import assignment
from bnexport.graph.writes import are_apart, write_of, written_variable
from bnexport.model.stream import to_graph_def
from bnexport.proof import noise
from bnexport.proof.behind import behind
from bnexport.proof.channels_last import run_channels_last
from bnexport.proof.differences import Difference, difference
from bnexport.proof.feeding import row_counts
from bnexport.proof.filling import filled, shaped
from bnexport.proof.runs import ImportedGraph, tensor_name, tf_errors
from bnexport.proof.trust import unsafe_op
from bnexport.text import Emitter
from bnexport.tf1 import session, tf1

# Runs of the updates before they are said not to settle.
_MOST_RUNS = 100
# A stored value has settled where it is as near to the fixed point, as a part
# of the largest one of its variable.
_SETTLED = 1e-3
# An update of this slope or less leaves a value where it is, or counts.
_STILL = 1e-6
# A step counter settles at infinity: after so many steps, as good as. Where an
# average is of all batches so far, any number is as right and is solved better.
_FAR = 2.0**20
_NEAR = 2.0**6
# So many times the rows tell Bessel's correction from another fault: it falls
# to (n - 1) / (8 n - 1), an eighth or less, and some rounding.
_MORE = 8
_AS_ONE_OVER_N = 0.15
# Rounding of the settled averages is part of the answer that they give.
_ROUNDING = 1e-3


@dataclasses.dataclass
class FixedPoint:
  """The verdict of the updates' fixed point on an export.

  Attributes:
    differences: one for each output; empty where there is no fixed point.
    why_not: why there is none, or empty.
    averages: names of the variables that settled.
    runs: how often the updates were run.
    is_idle: whether no update does anything, so that training runs otherwise.
  """

  differences: List[Difference] = dataclasses.field(default_factory=list)
  why_not: str = ""
  averages: List[str] = dataclasses.field(default_factory=list)
  runs: int = 0
  is_idle: bool = False

  @property
  def holds(self) -> bool:
    return all(one.holds for one in self.differences)


def examine(export, feeds) -> FixedPoint:
  """Settles the averages on a batch, and compares the export with training.

  Args:
    export: an export.Export of a training graph.
    feeds: arrays by node name; the more rows the better.
  """
  if export.original is None:
    return FixedPoint(why_not="the model was rebuilt for inference")
  # What was decided may be a phase, or an option beside norms that are built
  # for training: then training has it as it was decided.
  found = _in_mode(export, feeds, trains=False)
  if export.model.decisions.values and (found.why_not or not found.holds):
    other = _in_mode(export, feeds, trains=True)
    if not other.why_not and (found.why_not or other.holds):
      return other
    if found.is_idle and other.why_not:
      return other  # the updates run in that mode, and it says what is amiss
  return found


def _in_mode(export, feeds, trains):
  """The FixedPoint with decided bools as they are, or the other way round."""
  try:
    training = _Training(export, trains)
  except (Error, *tf_errors()) as error:
    return FixedPoint(why_not=_reason(error))
  try:
    found, apart = _examine(export, training, feeds)
    if found.holds:
      return found
    if training.counters:
      training.steps = _NEAR
      again, _ = _examine(export, training, feeds)
      if again.holds and not again.why_not:
        return again
      training.steps = _FAR
    # Norms over groups of the batch, of which every one is the same now.
    for size in row_counts(training.graph):
      for is_in_turn in (True, False):
        alike = _repeated(feeds, size, 1, is_in_turn)
        again, _ = _examine(export, training, alike)
        if again.holds and not again.why_not:
          return again
    # Bessel's correction n / (n - 1), written by hand, goes away as n grows.
    again, less = _examine(export, training, _repeated(feeds, None, _MORE))
    if again.why_not or again.holds:
      return found if again.why_not else again
    if _vanishes(apart, less):
      again.differences = [_without(d) for d in again.differences]
      return again
    return found
  finally:
    training.close()


def _reason(error):
  said = error.fact if isinstance(error, Error) else first_line(error)
  return f"the training graph does not run so: {said}"


def _examine(export, training, feeds):
  """The FixedPoint on one batch, and how far the outputs are apart there."""
  try:
    found = training.settle(feeds)
    if found.why_not:
      return found, []
  except (Error, *tf_errors()) as error:
    return FixedPoint(why_not=_reason(error)), []
  own = [str(ref) for ref in export.model.outputs]
  other = [str(ref) for ref in export.original.outputs]
  try:
    with _exported(export, training.values) as run:
      # A class number is the same for many a wrong network.
      floats = behind(run, training, export.model.outputs, feeds)
      own += map(str, floats.own)
      other += map(str, floats.other)
      given = run.fetch(own, {k: v for k, v in feeds.items() if k in run.graph})
  except Error as error:
    why = f"the export does not run on that batch: {error.fact}"
    return dataclasses.replace(found, why_not=why), []
  if floats.hidden:
    why = f"what '{floats.hidden[0]}' is computed from is not in both"
    return dataclasses.replace(found, why_not=why), []
  try:
    expected = training.fetch(other, feeds)
  except (Error, *tf_errors()) as error:
    return FixedPoint(why_not=_reason(error)), []
  found.differences = [_difference(*one) for one in zip(own, given, expected)]
  return found, [d.largest for d in found.differences]


def _difference(name, value, expected):
  """A Difference that is judged by the answer's own size, be it small."""
  found = difference(name, value, expected, _ROUNDING)
  size = np.abs(np.asarray(expected)) if found.limit else np.zeros(1)
  size = float(np.max(size[np.isfinite(size)], initial=0))
  return dataclasses.replace(found, limit=found.limit * min(1.0, size))


def _repeated(feeds, size, times, is_in_turn=True):
  """Feeds of the first rows again and again.

  Args:
    feeds: arrays by node name.
    size: how many rows are repeated; None for all.
    times: so many times the rows that there were are made.
    is_in_turn: whether all rows come before the first comes again.
  """
  made = {}
  for name, value in feeds.items():
    rows = len(value) if np.ndim(value) else 0
    part = value[:size] if rows else value
    if rows:
      count = -(-rows * times // len(part))
      value = np.concatenate([part] * count)
      if not is_in_turn:
        value = np.repeat(part, count, axis=0)
      value = value[: rows * times]
    made[name] = value
  return made


def _vanishes(apart, less):
  """Whether differences fall as 1 / n where the batch has more rows."""
  return all(
    np.isfinite(one) and other <= one * _AS_ONE_OVER_N
    for one, other in zip(apart, less)
  )


def _without(one):
  """A Difference that is Bessel's correction alone."""
  return dataclasses.replace(one, limit=max(one.limit, one.largest))


def _exported(export, values):
  """An ImportedGraph of the export with other values of its averages."""
  model = copy.copy(export.before_folding().model)
  model.graph = graph = model.graph.clone()
  for name, value in values.items():
    if name in graph and graph.op(name) == "Const":
      node = graph.node(name)
      node.attr.pop(DEFERRED, None)
      node.attr["value"].CopyFrom(tensor_attr(value, node.attr["dtype"].type))
  _round_nothing(graph)
  return ImportedGraph(to_graph_def(model), model.outputs, model.initializers)


class _Training:
  """The training graph in training mode, with updates to run by hand."""

  def __init__(self, export, trains):
    model, original = export.model, copy.copy(export.original)
    phases = model.decisions.values
    other = [
      name for name, value in phases.items() if np.asarray(value).dtype != bool
    ]
    if other and trains:
      raise ComparisonError(
        "run the training graph",
        f"which value of '{other[0]}' means training is not known",
      )
    original.warnings = []
    graph = original.graph = original.graph.clone()
    self._original, self._graph = original, graph
    self._phases = {
      name: not value if trains else value for name, value in phases.items()
    }
    decisions = model.decisions
    noise.expect(
      original, self._phases, decisions.random_kept, decisions.moments
    )
    self._by_data = _reached(graph, original)
    self._updates = _updates(
      graph, original, self._by_data, model.decisions.averages
    )
    _divide_by_rows(graph, original.needed())
    _round_nothing(graph)
    run_channels_last(graph)
    roots = [ref.node for ref in original.outputs]
    roots += [u for us in self._updates.values() for u in us]
    graph.keep(graph.ancestors(roots + list(original.initializers)))
    unsafe = unsafe_op(graph, original.outputs, original.initializers)
    if unsafe is not None and not original.is_trusted:
      raise ComparisonError("run the training graph", unsafe)
    self._import()
    self.values: Dict[str, np.ndarray] = {}
    self.steps = _FAR
    self.counters = False

  def _import(self):
    graph_def = self._graph.to_graph_def()
    for node in graph_def.node:
      node.attr.pop("_output_shapes", None)
    imported = import_graph(graph_def)
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
      for name in self._assigns:
        self._load(name, self._initial(name))
      if self._original.initializers:
        self._session.run(list(self._original.initializers))

  @property
  def graph(self):
    return self._graph

  def close(self):
    self._session.close()

  def _initial(self, name):
    if name in self._phases:
      return np.asarray(self._phases[name])
    return self._original.values[name]

  def _load(self, name, value):
    assign, holder = self._assigns[name]
    self._session.run(assign, {holder: value})

  def _fed(self, feeds):
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

  def fetch(self, refs, feeds):
    names = [tensor_name(ref) for ref in refs]
    return self._session.run(names, self._fed(feeds))

  def settle(self, feeds) -> FixedPoint:
    """Solves the updates for the values that they leave as they are.

    Nearly every update is affine in the value that it replaces, v' = a v + b:
    two runs tell a and b, and it settles at b / (1 - a). Values that others
    are computed from are settled first. What is not affine takes more rounds.
    """
    names = list(self._updates)
    if not names:
      return FixedPoint(why_not="no update depends on the batch", is_idle=True)
    fed = self._fed(feeds)
    values = {name: self._original.values[name] for name in names}
    levels, runs = self._levels(), 0
    slopes: Dict[str, np.ndarray] = {}
    while runs < _MOST_RUNS:
      for level in levels:
        self._solve(fed, values, level, slopes)
        runs += 2
      found = self._run(fed, values)
      runs += 1
      moving = [
        name
        for name in names
        if not _is_settled(found[name], values[name], slopes[name])
      ]
      idle = [
        name for name in names if self._is_idle(found, values, slopes, name)
      ]
      if idle:
        return FixedPoint(
          why_not=f"its update leaves '{idle[0]}' as it is on made-up rates",
          runs=runs,
          is_idle=True,
        )
      if not moving:
        self._restore(values)
        self.values = values
        return FixedPoint(averages=names, runs=runs)
    return FixedPoint(
      why_not=f"'{moving[0]}' does not settle in {runs} runs of the updates",
      runs=runs,
    )

  def _is_idle(self, found, values, slopes, name):
    """Whether an update of data changes nothing at all."""
    return (
      any(u in self._by_data for u in self._updates[name])
      and bool(np.all(np.abs(1 - slopes[name]) < _STILL))
      and bool(np.all(found[name] == values[name]))
    )

  def _levels(self):
    """Variables in groups: the updates of one read those before and itself."""
    graph, read = self._graph, {}
    for variable, updates in self._updates.items():
      behind = graph.ancestors(updates, control=False)
      read[variable] = {v for v in self._updates if v in behind} - {variable}
    levels = []
    while read:
      level = [v for v, others in read.items() if not others & set(read)]
      level = level or list(read)  # they read each other
      levels.append(level)
      for variable in level:
        del read[variable]
    return levels

  def _solve(self, fed, values, level, slopes):
    """Moves some values to where their updates leave them."""
    low = {name: values[name] for name in level}
    high = {name: _apart(value) for name, value in low.items()}
    at_low = self._run(fed, dict(values, **low))
    at_high = self._run(fed, dict(values, **high))
    for name in level:
      slopes[name], values[name] = _solved(
        low[name], at_low[name], high[name], at_high[name], self.steps
      )
      self.counters |= bool(np.any(np.abs(1 - slopes[name]) < _STILL))

  def _restore(self, values):
    for name in self._assigns:
      self._load(name, values[name] if name in values else self._initial(name))

  def _run(self, fed, values):
    """Stored values after a run of the updates."""
    self._restore(values)
    updates = [u for us in self._updates.values() for u in us]
    self._session.run(updates, fed)
    return self._session.run({name: self._reads[name] for name in values})


def _apart(value):
  """Other values, as far from these as is handy for telling a slope."""
  wide = np.float64(value)
  return np.asarray(wide + np.maximum(1.0, np.abs(wide)), value.dtype)


def _solved(low, at_low, high, at_high, steps):
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


def _is_settled(found, value, slope):
  """Whether a value is near enough to where its update goes."""
  found, value = np.float64(found), np.float64(value)
  left = np.abs(1 - slope)
  # What still moves on such a slope is a counter or a sum.
  apart = np.abs(found - value) / np.maximum(left, _STILL)
  apart = np.where(left < _STILL, 0.0, apart)
  scale = float(np.max(np.abs(value), initial=0))
  return bool(np.all(apart <= _SETTLED * max(scale, 1e-30)))


def _updates(graph, original, by_data, averages):
  """Updates by variable that carry data into it; what they wait for goes.

  The weights stay: what gradients are part of is no update of an average.
  Initialisers and restores carry no data. A counter moves by itself; it
  matters where an average's update reads it, or a sum is divided by it. What
  the outputs read from an update, such as the range of weights that are
  quantized, settles as well.

  Raises:
    ComparisonError: one variable is updated several times in a run, so that
      it settles at none of the statistics.
  """
  flow = Flow(graph)
  found: Dict[str, List[str]] = {}
  for node in graph:
    if node.op not in ops.UPDATES or node.name in flow.derived:
      continue
    variable = written_variable(graph, node.name)
    if variable is None or variable not in original.values:
      continue
    dtype = tf1.as_dtype(graph.node(variable).attr["dtype"].type)
    if dtype.is_floating or variable in averages:
      found.setdefault(variable, []).append(node.name)
  carrying = [u for us in found.values() for u in us if u in by_data]
  behind = graph.ancestors(carrying, control=False)
  needed = original.needed() if carrying else ()
  chosen = {}
  for variable, updates in found.items():
    own = [u for u in updates if u in by_data or _is_read(graph, u, needed)]
    if not own and (variable in behind or variable in averages):
      own = [
        u for u in updates if graph.op(u) in ops.ASSIGN_ADD | ops.ASSIGN_SUB
      ]
    if own:
      chosen[variable] = own
  _stop_waiting(graph, behind, flow.derived)
  for variable, updates in chosen.items():
    depth = max(len(flow.contexts.frame(u)) for u in updates)
    parts = [write_of(graph, update).part for update in updates]
    if depth or not all(
      are_apart(graph, a, b) for a, b in itertools.combinations(parts, 2)
    ):
      raise ComparisonError(
        "settle the averages",
        f"'{variable}' is updated several times in a run",
      )
  return chosen


def _is_read(graph, update, needed):
  """Whether the outputs need what an update writes."""
  return update in needed or any(
    reader in needed and graph.op(reader) in ops.RESOURCE_READS
    for reader in graph.readers(update)
  )


def _stop_waiting(graph, names, gradients):
  """Lets updates run without the training step that they come behind."""
  for name in names:
    refs = graph.inputs(name)
    left = [r for r in refs if not (r.control and r.node in gradients)]
    if left != refs:
      graph.set_inputs(name, left)


def _reached(graph, original):
  """Names of the nodes that read what is fed."""
  stack = [n for n in original.placeholders()] + [
    ref.node for ref in original.inputs
  ]
  seen = set(stack)
  while stack:
    name = stack.pop()
    for reader in graph.readers(name):
      if reader in seen or graph.op(reader) in ops.SHAPES:
        continue
      if any(ref.node == name for ref in graph.data_inputs(reader)):
        seen.add(reader)
        stack.append(reader)
  return seen


# The variance that a fused norm normalises with, of the one that it hands out:
# with n the rows times the size of the image, that is n / (n - 1) times it
# (Bessel's correction; core/kernels/fused_batch_norm_op.cc of TensorFlow).
_BIASED = """
  biased/size = Size(x) {out_type=int32}
  biased/width = Size(mean) {out_type=int32}
  biased/size/float = Cast(biased/size) {DstT=float}
  biased/width/float = Cast(biased/width) {DstT=float}
  biased/rows = RealDiv(biased/size/float, biased/width/float)
  biased/one = Const() {value=<float 1>}
  biased/less = Sub(biased/rows, biased/one)
  biased/factor = RealDiv(biased/less, biased/rows)
  biased = Mul(variance, biased/factor)
"""


# A FakeQuant op without its rounding, which turns the last bit of x into a
# whole step.
_CLIPPED = """
  below = Minimum(x, high)
  y = Maximum(below, low)
"""


def _round_nothing(graph):
  """Lets FakeQuant ops clip, and no more, in a graph that is compared so."""
  emitter = Emitter(graph)
  for node in list(graph):
    if node.op in ops.FAKE_QUANTS:
      x, low, high = graph.data_inputs(node.name)
      emitter.become(node.name, _CLIPPED, x=x, low=low, high=high)


def _divide_by_rows(graph, needed):
  """Lets updates store the variance that fused norms normalise with.

  What the outputs need of a variance handed out is theirs to correct.
  """
  emitter = Emitter(graph)
  for node in graph:
    if node.op not in ops.FUSED_NORMS or not node.attr["is_training"].b:
      continue
    variance = TensorRef(node.name, 2)
    readers = [n for n in graph.readers_of(variance) if n not in needed]
    if readers:
      x, mean = graph.inputs(node.name)[0], TensorRef(node.name, 1)
      made = emitter.emit(node.name, _BIASED, x=x, mean=mean, variance=variance)
      graph.substitute({variance: made["biased"]}, readers)
