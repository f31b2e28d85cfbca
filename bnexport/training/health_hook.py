# SPDX-License-Identifier: Apache-2.0
"""A hook that watches the averages of norms while they are made."""

from __future__ import annotations

import logging
from typing import Dict, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from bnexport.graph import TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.graph.origins import origin_of
from bnexport.tf1 import tf1
from bnexport.training import events
from bnexport.training.checking import CONTROL
from bnexport.training.watched import TrainingNorms, listed

_LOG = logging.getLogger("bnexport")

# Causes of what a look may find, each said once for a norm.
NOT_RUN, NOT_FINITE = "not_run", "not_finite"
VANISHES, LAGS = "vanishes", "lags"
_SAYS = {
  NOT_RUN: "the averages of {} have not moved since the last look, and the "
  f"batches differ from them: their updates do not run; write {CONTROL}",
  NOT_FINITE: "statistics of {} are not finite: no checkpoint from now on is "
  "of use; lower the learning rate, clip the gradients, or go back to an "
  "earlier checkpoint",
  VANISHES: "{} normalise channels that have no variance, in the batch or on "
  "average: they are divided by little more than epsilon; look for filters "
  "that have died, or inputs that are constant",
  LAGS: "the averages of {} are more than two deviations from what the batches "
  "say, though they are updated: a decay this near 1 needs more steps; write "
  "momentum=0.99, or train for longer, before exporting",
}
# Deviations between an average and the batch, for the median channel, and the
# factor between variances, from which on averages lag. One batch is off by
# chance, its median channel hardly.
_FAR, _FACTOR = 2.0, 4.0
# Below this part of the largest channel's variance, one has none.
_NO_VARIANCE = 1e-12
# Elements of a batch that are looked at.
_MOST_ELEMENTS = 1 << 20


class Health(NamedTuple):
  """What a look says of one norm.

  Attributes:
    deviations: |average - mean of the batch| in deviations of the batch, for
      each channel.
    factor: stored variance over that of the batch, for each channel.
    causes: of NOT_RUN, NOT_FINITE, VANISHES, LAGS.
  """

  deviations: np.ndarray
  factor: np.ndarray
  causes: Tuple[str, ...]


class _Fetched(NamedTuple):
  """Names of the tensors that are fetched for a norm."""

  x: str
  mean: str
  variance: str


class NormHealthHook(tf1.train.SessionRunHook):
  """Watches how the averages of norms fare.

  Every so many steps it fetches, with the step of training itself, what each
  norm normalises and its stored mean and variance. What is wrong is logged as
  a warning of the logger "bnexport", once for each cause, with the norms
  grouped by scope and the line of code to write. It adds nothing to the graph.

  Norms inside of loops are not watched, as their tensors can't be fetched.

  Attributes:
    health: the Health of each norm at the last look, by its name.
  """

  def __init__(
    self,
    every_steps: int = 1000,
    directory: Optional[str] = None,
    outputs: Sequence[str] = (),
  ):
    """Prepares; the graph is looked at when the session begins.

    Args:
      every_steps: steps between looks.
      directory: where TensorBoard looks for summaries: for each norm the
        scalars `bnexport/NORM/deviations` and `bnexport/NORM/factor`, of the
        median channel, and histograms over its channels; None writes none.
      outputs: names of the model's outputs; the likely one where there are
        none.
    """
    self.health: Dict[str, Health] = {}
    self._directory, self._outputs = directory, outputs
    self._timer = tf1.train.SecondOrStepTimer(every_steps=every_steps)
    self._watched: Dict[str, _Fetched] = {}
    self._before: Dict[str, Tuple[np.ndarray, ...]] = {}
    self._said: Dict[str, Set[str]] = {}
    self._runs = 0
    self._step: Optional[tf1.Tensor] = None

  def begin(self):
    graph = tf1.get_default_graph()
    norms = TrainingNorms(graph.as_graph_def(), self._outputs)
    self._watched = _fetchable(norms)
    self._step = tf1.train.get_global_step()

  def before_run(self, run_context):
    self._runs += 1
    if not self._timer.should_trigger_for_step(self._runs):
      return None
    fetches = {"norms": self._watched}
    if self._step is not None:
      fetches["step"] = self._step
    return tf1.train.SessionRunArgs(fetches)

  def after_run(self, run_context, run_values):
    if run_values.results is None:
      return
    self._timer.update_last_triggered_step(self._runs)
    step = int(run_values.results.get("step", self._runs))
    self.health = {
      name: self._look(name, *values)
      for name, values in run_values.results["norms"].items()
    }
    self._say()
    self._write(step)

  def _look(self, name, x, mean, variance):
    """The Health of a norm, of one batch."""
    stored = np.float64(mean).reshape(-1), np.float64(variance).reshape(-1)
    before, self._before[name] = self._before.get(name), stored
    return look(x, *stored, before)

  def _say(self):
    """Logs each cause with the norms that it is new for."""
    for cause, text in _SAYS.items():
      said = self._said.setdefault(cause, set())
      new = [
        name
        for name, health in self.health.items()
        if cause in health.causes and name not in said
      ]
      if new:
        said.update(new)
        _LOG.warning(text.format(listed(new)))

  def _write(self, step):
    scalars, histograms = {}, {}
    for name, health in self.health.items():
      for tag in ("deviations", "factor"):
        values = getattr(health, tag)
        scalars[f"bnexport/{name}/{tag}"] = float(np.median(values))
        histograms[f"bnexport/{name}/{tag}_of_channels"] = values
    events.write(self._directory, step, scalars, histograms)


def look(x, mean, variance, before=None) -> Health:
  """The Health of a norm, from one batch.

  Args:
    x: what it normalises, an array with one axis of as many elements as it has
      channels; of several such axes the last one counts, but for axis 1 of
      four and more, where images have their channels first.
    mean: the stored mean, one axis, float64.
    variance: the stored variance.
    before: mean and variance at the look before; None at the first.
  """
  batch_mean, batch_variance = _moments(np.asarray(x), mean.size)
  with np.errstate(all="ignore"):
    deviations = np.abs(mean - batch_mean) / np.sqrt(batch_variance)
    deviations = np.where(mean == batch_mean, 0.0, deviations)
    factor = variance / batch_variance
  causes = []
  finite = [np.isfinite(a).all() for a in (mean, variance, batch_mean)]
  if not all(finite):
    return Health(deviations, factor, (NOT_FINITE,))
  least = _NO_VARIANCE * max(batch_variance.max(), variance.max())
  if (batch_variance <= least).any() or (variance <= least).any():
    causes.append(VANISHES)
  is_far = not (
    np.median(deviations) <= _FAR
    and 1 / _FACTOR <= np.median(factor) <= _FACTOR
  )
  if before is not None and _is_still(mean, variance, before):
    causes.append(NOT_RUN)
  elif before is not None and is_far:
    causes.append(LAGS)
  return Health(deviations, factor, tuple(causes))


def _is_still(mean, variance, before):
  return np.array_equal(mean, before[0]) and np.array_equal(variance, before[1])


def _moments(x, channels):
  """Mean and variance of a batch for each channel, float64."""
  axes = [axis for axis, size in enumerate(x.shape) if size == channels]
  axis = 1 if x.ndim >= 4 and axes[0] == 1 else axes[-1]
  rows = np.moveaxis(x, axis, -1).reshape(-1, channels)
  if rows.size > _MOST_ELEMENTS:
    rows = rows[:: -(-rows.size // _MOST_ELEMENTS)]
  rows = rows.astype(np.float64)
  return rows.mean(0), rows.var(0)


def _fetchable(norms: TrainingNorms) -> Dict[str, _Fetched]:
  """What is fetched for each norm that can be watched, by its name."""
  graph = norms.graph
  contexts = Contexts(graph, graph.topological())
  found = {}
  for one in norms.watched:
    if len(one.averages) < 2 or one.norm.x is None:
      continue
    # A conditional hands on what is outside of it.
    x = origin_of(graph, one.norm.x, ops.SWITCHES | ops.IDENTITIES)
    reads = [_read(graph, contexts, name) for name in one.averages]
    tensors = [_tensor(ref) for ref in (x, *reads) if ref is not None]
    if not contexts.is_inside(x) and len(tensors) == len(_Fetched._fields):
      found[one.name] = _Fetched(*tensors)
  return found


def _read(graph, contexts, variable) -> Optional[TensorRef]:
  """A tensor with the value of a variable, outside of all branches."""
  if graph.op(variable) != "VarHandleOp":
    return TensorRef(variable)
  for reader in graph.readers(variable):
    ref = TensorRef(reader)
    if graph.op(reader) == "ReadVariableOp" and not contexts.is_inside(ref):
      return ref
  return None


def _tensor(ref: TensorRef) -> str:
  return f"{ref.node}:{ref.index}"
