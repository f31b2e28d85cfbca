# SPDX-License-Identifier: Apache-2.0
"""Statistics of batch norms, computed anew from data.

For models whose averages were never saved, never updated, or destroyed: the
population's mean and variance take their place, and no training is needed.
"""

from __future__ import annotations

import dataclasses
from typing import Optional, Tuple

import numpy as np

from bnexport.batchnorm.form import Slot
from bnexport.batchnorm.health import OK, look
from bnexport.batchnorm.norm import BATCH, STORED, UNKNOWN
from bnexport.calibration import ALL, BROKEN
from bnexport.calibration.fed_graph import as_kept
from bnexport.calibration.groups import group_norms, refuse, shared_keys
from bnexport.calibration.passes import Passes
from bnexport.errors import SourceError, nearest
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import (
  constant,
  constant_value,
  element_count,
  in_scope,
  tensor_attr,
)
from bnexport.graph.origins import STORED_VIEWS
from bnexport.model.changes import changes_by
from bnexport.transforms.tidying.strip_unused_nodes import StripUnusedNodes

_KEPT = "--keep_batch_statistics keeps it as it is"


@dataclasses.dataclass(frozen=True)
class Summary:
  """Smallest and largest element of a norm's mean and of its variance."""

  mean: Tuple[float, float]
  variance: Tuple[float, float]

  def __str__(self):
    return "mean %.3g to %.3g, variance %.3g to %.3g" % (
      self.mean + self.variance
    )


@dataclasses.dataclass(frozen=True)
class Recalibrated:
  """The old and new statistics of one norm.

  Attributes:
    name: the norm's.
    samples: how many values each element of its mean is the mean of; with
      images, rows times positions.
    old: its statistics before; None where it used the batch's.
    new: its statistics now.
  """

  name: str
  samples: int
  old: Optional[Summary]
  new: Summary

  def __str__(self):
    return "recalibrated norm '%s' from %d samples: %s; before: %s" % (
      self.name,
      self.samples,
      self.new,
      self.old or "the batch's",
    )


def recalibrate(
  model,
  norms,
  data,
  which=(ALL,),
  keep=(),
  progress=lambda text: None,
  elsewhere=None,
):
  """Gives norms the mean and variance of the data as stored statistics.

  Norms are taken in order of depth: each sees what those before it make with
  their new statistics. Norms that share a stored mean or variance get those of
  all their inputs. One that used the batch's is one of inference afterwards.

  Args:
    model: a Model without variables; is edited when all has gone well. Its
      history and warnings tell what was done and left out.
    norms: its batch norms, from forms.find.
    data: CalibrationData.
    which: names and scopes; ALL is one of every norm, BROKEN one of those that
      are not OK in batchnorm.health and of those that use the batch's. Norms
      that share statistics with a chosen one come along.
    keep: names and scopes of norms to leave as they are.
    progress: called with what is being done.
    elsewhere: makes passes elsewhere than in this process; see passes.Passes.

  Returns:
    A Recalibrated for each norm, in order of depth.

  Raises:
    SourceError: the data does not fit the inputs, or a name is no norm's.
    TransformError: a norm can't be recalibrated; it is named.
  """
  chosen = _choose(model, norms, which, keep)
  if not chosen:
    such = "" if ALL in which else " that is broken"
    model.history.append(f"recalibrated nothing: there is no norm{such}")
    return []
  return _settled(model, _passed(model, chosen, data, progress, elsewhere))


def _passed(model, chosen, data, progress, elsewhere):
  """Groups of norms with their statistics, once the data has passed them."""
  groups = group_norms(model.graph, model.outputs, chosen)
  passes = Passes(model, groups, data, elsewhere)
  if passes.left_out:
    model.warnings.append(
      f"the last {passes.left_out} of {passes.rows} rows of '{data.path}' "
      "were not used: an input takes an exact number of rows"
    )
  passes.run(progress)
  return groups


def _settled(model, groups):
  """Writes the groups' statistics; returns a Recalibrated for each norm."""
  pairs = [(group, norm) for group in groups for norm in group.norms]
  done = [_recalibrated(model.graph, *pair) for pair in pairs]
  _write(model, groups)
  model.history += changes_by("recalibrate", map(str, done))
  return done


def _recalibrated(graph, group, norm):
  return Recalibrated(
    norm.name,
    group.samples,
    _old_summary(graph, norm),
    _summary(group.mean, group.variance),
  )


# Choosing.


def _choose(model, norms, which, keep):
  """The norms to recalibrate."""
  free = [n for n in norms if not any(in_scope(n.name, k) for k in keep)]
  reasons = {n.name: _reason_to_leave(model.graph, n) for n in free}
  usable = [n for n in free if reasons[n.name] is None]
  groups = {ALL, BROKEN} & set(which)
  names = [name for name in which if name not in groups]
  named = {n for name in names for n in _find(norms, name, reasons)}
  for norm in free:
    if norm not in usable and (groups or norm in named):
      model.history.append(
        f"left the statistics of norm '{norm.name}' alone: {reasons[norm.name]}"
      )
  if BROKEN in groups:
    named.update(_broken(model, [n for n in usable if n not in named]))
  chosen = [n for n in usable if ALL in groups or n in named]
  taken = _keys(chosen)
  return [n for n in usable if n in chosen or _keys([n]) & taken]


def _find(norms, name, reasons):
  """Norms of a name or scope.

  Raises:
    SourceError: there is none; the nearest names are offered.
    TransformError: none of them can be recalibrated.
  """
  found = [norm for norm in norms if in_scope(norm.name, name)]
  if not found:
    raise SourceError(
      f"find norm '{name}' of --recalibrate",
      "the graph has no batch norm of that name or scope",
      nearest(name, _scopes(norms)),
    )
  if not any(reasons.get(norm.name, _KEPT) is None for norm in found):
    refuse(
      found[0],
      reasons.get(found[0].name, _KEPT),
      "take it out of one of the flags",
    )
  return found


def _scopes(norms):
  """Names of the norms, and every scope around them."""
  for norm in norms:
    parts = norm.name.split("/")
    for i in range(len(parts), 0, -1):
      yield "/".join(parts[:i])


def _reason_to_leave(graph, norm):
  """A reason against a norm's statistics of a population, or None."""
  if norm.statistics == UNKNOWN:
    refs = [ref for ref in (norm.mean, norm.variance) if ref is not None]
    fact = "its statistics depend on '%s' row by row"
  elif norm.statistics == BATCH:
    scale = norm.form.scale(graph, norm.name)
    refs = [] if scale is None else [scale]
    fact = "its scale has the size of '%s', as where each row has its own norm"
  else:
    return None
  for name in graph.ancestors((ref.node for ref in refs), control=False):
    if ops.is_data_source(graph.op(name)):
      return fact % name
  return None


def _broken(model, norms):
  states = look(model.graph, norms)
  for norm in norms:
    if norm.statistics != BATCH and norm.name not in states:
      model.warnings.append(
        f"norm '{norm.name}': nothing tells whether its statistics are right; "
        f"pass --recalibrate={norm.name} if they are not"
      )
  return [
    norm
    for norm in norms
    if norm.statistics == BATCH or states.get(norm.name, OK) != OK
  ]


def _keys(norms):
  return {key for norm in norms for key in shared_keys(norm)}


# Writing.


def _summary(mean, variance):
  # NumPy has no least bfloat16.
  both = (a.astype(np.float64) for a in (mean, variance))
  return Summary(*((float(a.min()), float(a.max())) for a in both))


def _old_summary(graph, norm):
  if norm.statistics != STORED:
    return None
  return _summary(
    *(
      constant_value(graph, TensorRef(name), largest=1 << 30)
      for name in (norm.moving_mean, norm.moving_variance)
    )
  )


def _write(model, groups):
  """Puts the new statistics into the graph; drops what computed old ones."""
  graph = model.graph
  computed = set()
  for group in groups:
    for norm in group.norms:
      if norm.statistics == BATCH:
        refs = (norm.mean.node, norm.variance.node)
        computed |= set(graph.ancestors(refs, control=False))
    for which in ("mean", "variance"):
      _write_statistic(model, group, which)
    for norm in group.norms:
      norm.form.to_inference(graph.node(norm.name))
  strip = StripUnusedNodes()
  model.history += changes_by(strip.name, strip.apply(model))
  settled = {name for name in computed if name not in graph}
  settled.update(norm.name for group in groups for norm in group.norms)
  # A doubt about a norm that now has statistics of its own is settled.
  model.warnings[:] = [
    doubt
    for doubt in model.warnings
    if getattr(doubt, "node", None) not in settled
  ]


def _write_statistic(model, group, which):
  """Puts the mean or the variance of a group where its norms read it.

  A constant that nothing else reads gets the new value, and keeps its name,
  dtype and shape; otherwise the norms get one of their own.
  """
  graph = model.graph
  flat = getattr(group, which)
  slots = {
    slot for place in group.places.values() for slot in getattr(place, which)
  }
  own = {}
  for norm in group.norms:
    stored = getattr(norm, "moving_" + which)
    if (
      stored is not None
      and not _is_read_elsewhere(model, stored, slots)
      # Else it was of another norm's shape.
      and element_count(graph.node(stored).attr["value"].tensor) == flat.size
    ):
      tensor = graph.node(stored).attr["value"].tensor
      shape = [dim.size for dim in tensor.tensor_shape.dim]
      value = flat.astype(model.dtype(TensorRef(stored)).as_numpy_dtype)
      graph.node(stored).attr["value"].CopyFrom(
        tensor_attr(value.reshape(shape), tensor.dtype)
      )
      continue
    value = as_kept(model, norm, which, flat).reshape(
      group.shapes[norm.name, which]
    )
    dtype = model.dtype(getattr(norm, which))
    key = value.shape, dtype
    if key not in own:
      scope = norm.name.rpartition("/")[0] or norm.name
      name = f"{scope}/moving_{which}"
      own[key] = constant(graph, name, value, dtype)
    for slot in getattr(group.places[norm.name], which):
      graph.set_input(slot.node, slot.index, own[key])


def _is_read_elsewhere(model, stored, slots):
  """Whether a value is read by anything but these slots, or is no constant."""
  graph = model.graph
  if graph.op(stored) != "Const":
    return True
  outputs = {ref.node for ref in model.outputs}
  names = [stored]
  for name in names:
    if name in outputs:
      return True
    for reader in graph.readers(name):
      for i, ref in enumerate(graph.data_inputs(reader)):
        if ref.node != name or Slot(reader, i) in slots:
          continue
        if i or graph.op(reader) not in STORED_VIEWS:
          return True
        if reader not in names:
          names.append(reader)
  return False
