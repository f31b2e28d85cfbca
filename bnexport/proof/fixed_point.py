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
import functools
from typing import List

import numpy as np

from bnexport.errors import Error, first_line
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import DEFERRED, static_shape, tensor_attr
from bnexport.graph.writes import write_of
from bnexport.model.stream import to_graph_def
from bnexport.proof.behind import behind
from bnexport.proof.differences import Difference, difference
from bnexport.proof.draws import Draws
from bnexport.proof.feeding import row_counts
from bnexport.proof.rounding import movement
from bnexport.proof.runs import ImportedGraph, restore_variables, tf_errors
from bnexport.proof.settling import FAR, NEAR, Settled, Settling
from bnexport.proof.updates import round_nothing

# So many times the rows tell Bessel's correction from another fault: it falls
# to (n - 1) / (8 n - 1), an eighth or less, and some rounding.
_MORE = 8
_AS_ONE_OVER_N = 0.15
# Rounding of the settled averages is part of the answer that they give.
_ROUNDING = 1e-3
# So many times the movement by such rounding is rounding still.
_MOVEMENTS = 4


@dataclasses.dataclass
class FixedPoint(Settled):
  """The verdict of the updates' fixed point on an export.

  Attributes:
    differences: one for each output; empty where there is no fixed point.
  """

  differences: List[Difference] = dataclasses.field(default_factory=list)

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
    training = Settling(export, trains)
  except (Error, *tf_errors()) as error:
    return FixedPoint(why_not=_reason(error))
  kept = export.model.decisions.random_kept
  training.draws = Draws(kept, training.fetch) if kept else None
  with training:
    for stored in export.model.decisions.stored.values():
      updates = training.updates.of.get(stored.variable, ())
      if any(_is_quotient(training, update) for update in updates):
        return FixedPoint(
          why_not=f"'{stored.variable}' is written from other averages, now "
          "and then"
        )
    found, apart = _examine(export, training, feeds)
    mixed = training.updates.mixed
    if found.holds and not (found.why_not and mixed):
      return found
    for steps, other in _others(training, feeds):
      training.steps = steps
      again, _ = _examine(export, training, other)
      # A distance between what is alike is 0 in any network.
      is_alive = any(one.limit for one in again.differences)
      if again.holds and is_alive:
        return again
    training.steps = FAR
    if found.why_not:
      return found
    if mixed:
      return FixedPoint(
        why_not=f"'{mixed[0]}' is updated several times in a run, by another "
        "statistic each time"
      )
    # Bessel's correction n / (n - 1), written by hand, goes away as n grows.
    again, less = _examine(export, training, _repeated(feeds, None, _MORE))
    if again.why_not or again.holds:
      return found if again.why_not else again
    if _vanishes(apart, less):
      again.differences = [_without(d) for d in again.differences]
      return again
    return found


def _others(training, feeds):
  """Yields numbers of steps and feeds on which right exports hold, too.

  Where groups of the batch are alike, as are inputs, so are their statistics.
  """
  if training.counters:
    yield NEAR, feeds
  sizes = list(row_counts(training.graph))
  rows = max((len(v) for v in feeds.values() if np.ndim(v)), default=1)
  for variable in training.updates.mixed:
    passes = len(training.updates.of[variable])
    sizes += [rows // passes, 1]
    yield FAR, _alike(feeds)
    yield FAR, _alike_within(feeds)
  for size in dict.fromkeys(filter(None, sizes)):
    for is_in_turn in (True, False):
      yield FAR, _repeated(feeds, size, 1, is_in_turn)


def _alike(feeds):
  """Feeds in which all of a shape and dtype are the same."""
  first = {}
  return {
    name: first.setdefault((np.shape(value), np.asarray(value).dtype), value)
    for name, value in feeds.items()
  }


def _alike_within(feeds):
  """Feeds whose rows are of one part, again and again: a frame, or a pair's."""
  return {
    name: np.repeat(value[:, :1], np.shape(value)[1], axis=1)
    if np.ndim(value) > 2
    else value
    for name, value in feeds.items()
  }


def _reason(error):
  said = error.fact if isinstance(error, Error) else first_line(error)
  return f"the training graph does not run so: {said}"


def _examine(export, training, feeds):
  """The FixedPoint on one batch, and how far the outputs are apart there."""
  try:
    found = FixedPoint(**vars(training.settle(feeds)))
    if found.why_not:
      return found, []
  except (Error, *tf_errors()) as error:
    return FixedPoint(why_not=_reason(error)), []
  own = [str(ref) for ref in export.model.outputs]
  other = [str(ref) for ref in export.original.outputs]
  try:
    with _exported(export, training.values) as run:
      run.draws = training.draws
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
  if not found.holds and _is_rounding(export, training, feeds, own, found):
    why = "rounding moves the answers to that batch by as much"
    found = dataclasses.replace(found, differences=[], why_not=why)
  return found, [d.largest for d in found.differences]


def _is_rounding(export, training, feeds, own, found):
  """Whether answers differ by no more than errors of the averages move them.

  As in a deep network in which norms divide by what a few rows vary by.
  """
  feeds = {k: v for k, v in feeds.items() if k in export.model.graph}
  random, moved = np.random.RandomState(9), []
  for scale in (0.0, 1.0):
    values = {
      name: value
      + np.asarray(scale * random.choice([-1, 1], value.shape), value.dtype)
      * training.errors[name].astype(value.dtype)
      for name, value in training.values.items()
    }
    with _exported(export, values) as run:
      run.draws = training.draws
      moved.append(run.fetch(own, feeds))
  return all(
    one.holds or one.largest <= _MOVEMENTS * np.max(movement(before, after))
    for one, before, after in zip(found.differences, *moved)
  )


def _difference(name, value, expected):
  """A Difference that is judged by the answer's own size, be it small."""
  found = difference(name, value, expected, _ROUNDING)
  size = np.abs(np.asarray(expected)) if found.limit else np.zeros(1)
  size = float(np.max(size[np.isfinite(size)], initial=0))
  return dataclasses.replace(found, limit=found.limit * min(1.0, size))


def _is_quotient(training, update):
  """Whether an update writes a sum over a count, in no step of training.

  What a step writes waits for something of the batch.
  """
  graph = training.graph
  behind = graph.ancestors([write_of(graph, update).value.node])
  kinds = {graph.op(name) for name in behind}
  read = [name for name in behind if graph.op(name) in ops.VARIABLES]
  return (
    not kinds.isdisjoint(ops.DIVISIONS)
    and not any(map(ops.is_data_source, kinds))
    and all(
      name in training.updates.of or static_shape(graph, TensorRef(name)) == ()
      for name in read
    )
  )


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
  round_nothing(graph)
  return ImportedGraph(
    to_graph_def(model),
    model.outputs,
    model.initializers,
    functools.partial(restore_variables, model, values=values),
  )
