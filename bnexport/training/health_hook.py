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
  NOT_RUN: "the averages of {} have not moved from one look to the next, and "
  f"the batches differ from them: their updates do not run; write {CONTROL}",
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


class _Seen(NamedTuple):
  """Mean and variance by channel, float64: the stored ones, and a batch's."""

  stored: Tuple[np.ndarray, np.ndarray]
  batch: Tuple[np.ndarray, np.ndarray]


class NormHealthHook(tf1.train.SessionRunHook):
  """Watches how the averages of norms fare.

  Every so many steps it fetches, with the step of training itself, what each
  norm normalises and its stored mean and variance. What is wrong is logged as
  a warning of the logger "bnexport", once for each cause, with the norms
  grouped by scope and the line of code to write. At the end of training the
  averages are held against the batch that was fetched last. So that a short job
  has one, steps 1, 2, 4, 8 and so on below `every_steps` are fetched, too. It
  adds nothing to the graph.

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
    self._every = every_steps
    self._first: Dict[str, _Seen] = {}
    self._before: Dict[str, _Seen] = {}
    self._last: Dict[str, _Seen] = {}
    self._said: Dict[str, Set[str]] = {}
    # Of the session, and the global step at the one that was fetched last.
    self._runs = self._at = 0
    self._step: Optional[tf1.Tensor] = None

  def begin(self):
    graph = tf1.get_default_graph()
    norms = TrainingNorms(graph.as_graph_def(), self._outputs)
    self._watched = _fetchable(norms)
    self._step = tf1.train.get_global_step()

  def before_run(self, run_context):
    self._runs += 1
    is_early = self._runs < self._every and not self._runs & (self._runs - 1)
    if not (is_early or self._timer.should_trigger_for_step(self._runs)):
      return None
    return tf1.train.SessionRunArgs(self._fetches(self._watched))

  def _fetches(self, norms):
    """What is asked of the session: tensors by norm, and the global step."""
    is_counted = self._step is not None
    return {"norms": norms, **({"step": self._step} if is_counted else {})}

  def after_run(self, run_context, run_values):
    if run_values.results is None:
      return
    self._at = int(run_values.results.get("step", self._runs))
    for name, (x, *stored) in run_values.results["norms"].items():
      mean, variance = _flat(stored)
      batch = _moments(np.asarray(x), mean.size)
      self._last[name] = _Seen((mean, variance), batch)
    self._first = self._first or dict(self._last)
    if self._timer.should_trigger_for_step(self._runs):
      self._timer.update_last_triggered_step(self._runs)
      self._look(self._before)
      self._before = dict(self._last)

  def end(self, session):
    reads = {name: one[1:] for name, one in self._watched.items()}
    fetched = session.run(self._fetches(reads))
    self._at = int(fetched.get("step", self._runs))
    for name, stored in fetched["norms"].items():
      if name in self._last:
        self._last[name] = self._last[name]._replace(stored=_flat(stored))
    # What one step fetches may be from before its update or behind it.
    self._look(self._first if self._runs > 1 else {})

  def _look(self, before):
    """Tells the health of all norms, from what was fetched last."""
    self.health = {
      name: look(seen, before.get(name)) for name, seen in self._last.items()
    }
    self._say()
    self._write(self._at)

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


def look(seen: _Seen, before: Optional[_Seen] = None) -> Health:
  """The Health of a norm.

  Args:
    seen: its averages, and the statistics of a batch.
    before: the same of an earlier step; None where there was none.
  """
  (mean, variance), (batch_mean, batch_variance) = seen
  with np.errstate(all="ignore"):
    deviations = np.abs(mean - batch_mean) / np.sqrt(batch_variance)
    deviations = np.where(mean == batch_mean, 0.0, deviations)
    factor = variance / batch_variance
  if not all(np.isfinite(a).all() for a in (mean, variance, batch_mean)):
    return Health(deviations, factor, (NOT_FINITE,))
  causes = []
  least = _NO_VARIANCE * max(batch_variance.max(), variance.max())
  if (batch_variance <= least).any() or (variance <= least).any():
    causes.append(VANISHES)
  is_far = not (
    np.median(deviations) <= _FAR
    and 1 / _FACTOR <= np.median(factor) <= _FACTOR
  )
  if before is not None and _is_still(seen, before):
    causes.append(NOT_RUN)
  elif before is not None and is_far:
    causes.append(LAGS)
  return Health(deviations, factor, tuple(causes))


def _is_still(seen: _Seen, before: _Seen) -> bool:
  return all(map(np.array_equal, seen.stored, before.stored))


def _flat(arrays):
  """Mean and variance by channel, float64."""
  mean, variance = (np.float64(array).reshape(-1) for array in arrays)
  return mean, variance


def _moments(x: np.ndarray, channels: int) -> Tuple[np.ndarray, np.ndarray]:
  """Mean and variance of a batch for each channel, float64.

  Args:
    x: one axis has as many elements as there are channels; of several such
      axes the last one counts, but for axis 1 of four and more, where images
      have their channels first.
    channels: how many there are.
  """
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
