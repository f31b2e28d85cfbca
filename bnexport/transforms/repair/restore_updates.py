# SPDX-License-Identifier: Apache-2.0
"""Updates that were cut away, put back for keys that a user names."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, FrozenSet, List, Tuple

from bnexport.analysis.dependence import STATISTIC, uses_batch
from bnexport.batchnorm.averages import Averages
from bnexport.batchnorm.forms import find, op_form
from bnexport.batchnorm.norm import BATCH
from bnexport.batchnorm.pairing import Pairing, squeezed
from bnexport.errors import TransformError
from bnexport.graph import ops
from bnexport.graph.nodes import in_scope, static_shape, type_attr
from bnexport.graph.origins import LOOP_VIEWS, is_chosen, origin_of
from bnexport.graph.tensors import shape_proto
from bnexport.model import Model
from bnexport.model.savers import Saved
from bnexport.text import Emitter
from bnexport.tf1 import tf1


@dataclasses.dataclass(frozen=True)
class RestoreUpdates:
  """Gives norms in training mode the updates back that freezing pruned.

  A norm had those of the checkpoint's keys that have its number of channels and
  lie in its scope, or are named for its statistics. A name proves nothing, so
  that `averages` has to have the keys that are meant.

  With:   restore_updates(averages=moving_mean, averages=moving_variance)
  Before: gamma = Const() {value=<float [2] 1>}
          y = FusedBatchNorm(x, gamma, beta, c, c) {is_training=true}
  After:  y = FusedBatchNorm(x, gamma, beta, c, c) {is_training=true}
          moving_mean = VariableV2() {shape=[2]}
          moving_mean/AssignMovingAvg = Assign(moving_mean, y:1)
          moving_variance = VariableV2() {shape=[2]}
          moving_variance/AssignMovingAvg = Assign(moving_variance, y:2)

  That is where the checkpoint has gamma, moving_mean and moving_variance.

  Refuses where several keys are as near, and where `averages` has not those
  that are nearest.

  Attributes:
    keep: scopes of norms that keep their batch statistics.
    averages: names and scopes of the checkpoint's keys that are averages.
  """

  name: ClassVar[str] = "restore_updates"
  keep: Tuple[str, ...] = ()
  averages: Tuple[str, ...] = ()

  def apply(self, model: Model) -> List[str]:
    told = [
      _into_training_mode(node)
      for node in model.graph
      if _has_no_statistics(model.graph, node)
    ]
    if model.values is None or model.values.checkpoint is None:
      return told
    averages = Averages.read(model.graph, model.needed())
    found = {}
    pairing = Pairing(
      model.values.checkpoint.shapes, set(model.graph.names()), self.averages
    )
    for norm in find(model.graph, model.outputs):
      if not any(in_scope(norm.name, scope) for scope in self.keep):
        if _is_bare(model.graph, averages, norm):
          found[norm] = _pair(model, pairing, averages.dependence, norm)
    _refuse_shared(found)
    pairs = {norm: pair for norm, pair in found.items() if pair is not None}
    self._refuse_names_alone(pairs)
    return told + [_restore(model, norm, pair) for norm, pair in pairs.items()]

  def _refuse_names_alone(self, pairs):
    """Asks where nothing but names tells which averages are meant."""
    told_by_names = {
      norm: pair.keys
      for norm, pair in pairs.items()
      if not all(
        any(in_scope(key, scope) for scope in self.averages)
        for key in pair.keys
      )
    }
    if not told_by_names:
      return
    norm, (mean, variance) = next(iter(told_by_names.items()))
    more = len(told_by_names) - 1
    scopes = dict.fromkeys(
      key.split("/")[0] for keys in told_by_names.values() for key in keys
    )
    raise TransformError(
      f"mend norm '{norm.name}'" + (f" and {more} more" if more else ""),
      f"nothing but their names tells that '{mean}' and '{variance}' of the "
      "checkpoint are its averages",
      "give the training graph with --meta_graph=FILE, or pass --averages="
      f"{','.join([*self.averages, *scopes])} if they are",
    )


def _has_no_statistics(graph, node):
  """Whether a norm is set to inference and has nothing to use there."""
  form = op_form(node.op)
  if form is None or not form.computes_statistics or uses_batch(node):
    return False
  return any(
    static_shape(graph, form.input(graph, node.name, which)) == (0,)
    for which in ("mean", "variance")
  )


def _into_training_mode(node):
  op_form(node.op).to_training(node)
  return (
    f"norm '{node.name}' was set to inference without statistics; it is "
    "looked at as in training"
  )


def _is_bare(graph, averages, norm):
  """Whether a norm uses the batch and nothing says what averages that."""
  if norm.statistics != BATCH or norm.mean is None:
    return False
  return all(
    not averages.of(ref) and not is_chosen(graph, ref)
    for ref in (norm.mean, norm.variance)
  )


@dataclasses.dataclass(frozen=True)
class _Pair:
  """The keys of a norm's averages, and the parameters that told them."""

  keys: Tuple[str, str]
  parameters: FrozenSet[str]


def _pair(model, pairing, dependence, norm):
  """The _Pair of a norm; None where names do not tell one."""
  shapes = {}
  for ref in norm.form.parameters(model.graph, norm.name):
    if ref.node in (norm.mean.node, norm.variance.node):
      continue
    if dependence(ref) == STATISTIC:
      return None  # corrected, as renorm does: more than two averages
    shape, names = _parameter(model.graph, ref)
    if shape is not None:
      shapes.setdefault(shape, set()).update(names)
  if len(shapes) != 1:
    return None
  ((shape, parameters),) = shapes.items()
  # An op that computes both has no other name than the norm's.
  computed = (norm.mean.node, norm.variance.node)
  statistics = tuple(name for name in computed if name != norm.name)
  anchors = sorted(parameters) + [norm.name] + list(statistics)
  found = pairing.of(shape, anchors, statistics)
  if not all(found):
    return None
  for which, keys in zip(("mean", "variance"), found):
    if len(keys) > 1:
      raise TransformError(
        f"tell which key of checkpoint '{model.values.checkpoint.prefix}' is "
        f"the moving {which} of norm '{norm.name}'",
        " and ".join((f"'{key}'" for key in sorted(keys)[:4])),
        "give the training graph with --meta_graph, or pass the one that is "
        f"meant as --averages=NAME, or --keep_batch_statistics={norm.name}",
      )
  return _Pair((found[0][0], found[1][0]), frozenset(parameters))


def _refuse_shared(found):
  """Only norms that share their parameters share averages."""
  owners = {}
  for norm, pair in found.items():
    for key in pair.keys if pair is not None else ():
      other, parameters = owners.setdefault(key, (norm, pair.parameters))
      if parameters != pair.parameters:
        raise TransformError(
          f"tell whose average '{key}' is",
          f"norms '{other.name}' and '{norm.name}' are equally near to it",
          "give the training graph with --meta_graph",
        )


def _restore(model, norm, pair):
  for ref, key in zip((norm.mean, norm.variance), pair.keys):
    _add_update(model, ref, key)
  model.decisions.named += (norm.name,)
  model.warnings.append(
    "norm '%s': the graph has no updates of its averages; '%s' and '%s' are "
    "taken for them by their names, as asked" % ((norm.name,) + pair.keys)
  )
  return "norm '%s' had '%s' and '%s' as averages, as asked" % (
    (norm.name,) + pair.keys
  )


def _parameter(graph, ref):
  """Squeezed shape of a variable or constant, and the names it has."""
  ref = origin_of(graph, ref, LOOP_VIEWS)
  op = graph.op(ref.node)
  if op == "ConcatV2":  # a partitioned variable
    parts = [_parameter(graph, r) for r in graph.data_inputs(ref.node)[:-1]]
    if any(shape is None or len(shape) != 1 for shape, _ in parts):
      return None, set()
    names = set().union(*(names for _, names in parts))
    return (sum(shape[0] for shape, _ in parts),), names
  shape = None
  if op in ops.VARIABLES or op == "Const":
    shape = static_shape(graph, ref)
  if not shape:
    return None, set()  # no vector: epsilon, or data
  return squeezed(shape), {ref.node}


def _add_update(model, ref, key):
  """Adds `key`'s variable, and an update that sets it to the statistic."""
  graph = model.graph
  dtype = type_attr(model.dtype(ref))
  if key not in graph:
    shape = shape_proto(model.values.checkpoint.shapes[key])
    attrs = {"dtype": dtype, "shape": tf1.AttrValue(shape=shape)}
    graph.add("VariableV2", key, (), attrs)
    model.values.prefer(key, Saved(key, ""))
  text = (
    "AssignMovingAvg = Assign(variable, statistic) {T=$T, validate_shape=false}"
  )
  Emitter(graph).emit(key, text, variable=key, statistic=ref, T=dtype)
