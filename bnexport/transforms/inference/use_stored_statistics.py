# SPDX-License-Identifier: Apache-2.0
"""Batch statistics give way to the moving averages that track them."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List, Tuple

import numpy as np

from bnexport.analysis.dependence import (
  DATA,
  FREE,
  STATISTIC,
  Dependence,
  reduces_batch,
  uses_batch,
)
from bnexport.analysis.flow import Flow
from bnexport.batchnorm.averages import Averages
from bnexport.batchnorm.bessel import taken_back
from bnexport.batchnorm.forms import op_form
from bnexport.batchnorm.reshaping import shape_for
from bnexport.batchnorm.shared_norms import SharedNorms
from bnexport.batchnorm.stored import Stored, StoredValues
from bnexport.errors import TransformError
from bnexport.graph import TensorRef
from bnexport.graph.contexts import Contexts
from bnexport.graph.nodes import in_scope, static_shape
from bnexport.graph.origins import (
  STORED_VIEWS,
  VIEWS,
  origin_of,
  stored_name,
)
from bnexport.graph.writes import part_shape
from bnexport.model import Model
from bnexport.text import Emitter

_KEEP = "--keep_batch_statistics=%s"


@dataclasses.dataclass(frozen=True)
class UseStoredStatistics:
  """Puts the stored average where a batch statistic was.

  Before: y = FusedBatchNorm(x, gamma, beta, none, none) {is_training=true}
          mm = VariableV2()   a = Assign(mm, y:1)
          mv = VariableV2()   b = Assign(mv, y:2)
  After:  mm/read = Identity(mm)   mv/read = Identity(mv)
          y = FusedBatchNorm(x, gamma, beta, mm/read, mv/read)
              {is_training=false}

  What no update tracks is left as it is and said so: instance and layer
  norms, and norms that are meant to use the batch.

  Refuses when only one of a norm's two statistics has an average, and when
  several variables are its average and nothing tells which is meant.

  Attributes:
    keep: scopes of norms that keep their batch statistics.
    averages: names and scopes of the averages that are meant, where a
      statistic has several.
  """

  name: ClassVar[str] = "use_stored_statistics"
  keep: Tuple[str, ...] = ()
  averages: Tuple[str, ...] = ()

  def apply(self, model: Model) -> List[str]:
    return _Replacement(model, self.keep, self.averages).run()


class _Replacement:
  """The replacement of one model's batch statistics."""

  def __init__(self, model, keep, meant=()):
    self.model = model
    self.graph = model.graph
    self.emitter = Emitter(model.graph, model.signatures)
    self.keep = keep
    self.meant = meant
    self.needed = model.needed()
    self.order = self.graph.topological(self.needed)
    self.averages = Averages.read(self.graph, self.needed)
    self.shared = SharedNorms(self.graph, self.averages)
    self.contexts = Contexts(self.graph, self.graph.topological())
    self.values = StoredValues(self.graph, self.contexts, model.signatures)
    self.sources = {}  # of what was replaced, with a name for messages
    self.told = []

  def run(self):
    self._ops()
    self._recognise()
    self._spelled_out()
    self.model.decisions.averages = frozenset(
      name
      for a in self.averages.all + self.averages.sums
      for name in a.stored.variables
    )
    self.model.decisions.unused = self.model.decisions.averages - self._used()
    self._look_at_rest()
    return self.told

  def _used(self):
    """Variables that track a statistic whose place was taken, and helpers."""
    used = set()
    for ref, stored in self.model.decisions.stored.items():
      used.update(stored.variables)
      if ref.node not in self.graph:
        continue  # its place was taken before, and it is gone
      for average in self.averages.tracking(ref):
        used.update(average.stored.variables, average.helpers)
    return used

  def _recognise(self):
    """Notes what each reduction is of, while all statistics are the batch's.

    Once a norm's mean is the stored one, the mean of (x - mean)^2 is no
    variance any more.
    """
    self.signatures = {
      name: self.averages.signature(TensorRef(name))
      for name in self.order
      if reduces_batch(self.graph, self.graph.node(name))
    }

  def _is_kept(self, name):
    return any(in_scope(name, scope) for scope in self.keep)

  # Norms that are one op.

  def _ops(self):
    """Finds the averages of all, then uses them.

    A norm that has none of its own has those of one in training mode.
    """
    found = []
    for name in self.order:
      node = self.graph.node(name)
      if uses_batch(node) and not self._is_kept(name):
        form = op_form(node.op)
        mean = form.output(name, "mean")
        if self.averages.dependence(mean) == STATISTIC:
          found.append((node, form, self._averages_of(node, form)))
    for node, form, stored in found:
      if stored:
        self._use(node, form, stored)

  def _averages_of(self, node, form):
    """For each statistic of an op: which it is, its Stored, and its read.

    The read is None where the op does not have it yet. Empty where the op is
    meant to use the batch.
    """
    stored = []
    for which in ("mean", "variance"):
      ref = form.output(node.name, which)
      value = self._average(node.name, which, ref)
      if value is not None:
        stored.append((which, value, None))
    if len(stored) == 1:
      self._refuse_half(node.name, *stored[0][:2])
    if stored:
      return stored
    # TF 2 hands the averages to the norm itself.
    handed = [
      (which, form.input(self.graph, node.name, which))
      for which in ("mean", "variance")
    ]
    if not all(self._is_fed_average(ref) for _, ref in handed):
      return []
    held = [
      (which, stored_name(self.graph, ref, STORED_VIEWS), ref)
      for which, ref in handed
    ]
    return [(which, Stored(name or ref.node), ref) for which, name, ref in held]

  def _use(self, node, form, stored):
    """Makes an op use stored averages instead of the batch's statistics."""
    x = form.input(self.graph, node.name, "x")
    self.sources[origin_of(self.graph, x, VIEWS)] = node.name
    for which, value, ref in stored:
      if ref is None:
        ref = self._value(form.output(node.name, which), value)
        self.graph.set_input(node.name, form.slot(which), ref)
      # Quantization-aware training folds norms by what they hand out.
      for output in self._handed_out(node, form, which, x, value):
        self.model.decisions.stored[output] = value
        readers = [n for n in self.graph.readers_of(output) if n in self.needed]
        self.graph.substitute({output: ref}, readers)
      self.told.append(
        f"norm '{node.name}' uses '{value}' for its batch {which}"
      )
    form.to_inference(node)

  def _handed_out(self, node, form, which, x, value):
    """The tensors that are a statistic of an op, those behind it first."""
    output = form.output(node.name, which)
    if which != "variance" or not form.ddof:
      return [output]
    shape = static_shape(self.graph, TensorRef(value.variable)) or (1,)
    shape = part_shape(self.graph, value.part, shape) or shape[-1:]
    channels = int(np.prod(shape))
    return [
      *taken_back(self.graph, output, x, channels, self.needed),
      output,
    ]

  def _is_fed_average(self, ref):
    # An op in training mode reads nothing, which is a constant of no elements.
    source = origin_of(self.graph, ref, STORED_VIEWS)
    return (
      self.averages.dependence(ref) == FREE
      and static_shape(self.graph, source) != (0,)
      and self.graph.op(ref.node) != "Const"
    )

  # Norms that are spelled out.

  def _spelled_out(self):
    """Finds what to replace in order of execution, then replaces it.

    What has an average of its own comes first; of what the outputs need then,
    statistics are computed from averages of others. A statistic that is
    computed from replaced ones alone is no statistic any more: the stddev of a
    stored variance stays as it is spelled.
    """
    replaced, derived = {}, []
    for most_steps in (0, None):
      needed = self._needed_without(replaced)
      order = [name for name in self.order if name in needed]
      derived += self._find(order, replaced, most_steps)
    chosen = {name for value in replaced.values() for name in value.variables}
    refs = list(replaced) + derived
    settled = set(chosen).union(*[self._follow(ref, chosen) for ref in refs])
    self._refuse_other_corrections(refs, settled)
    # Each is read before the others' readers change.
    values = {ref: self._value(ref, value) for ref, value in replaced.items()}
    for ref, value in values.items():
      self._replace(ref, value, replaced[ref])

  def _needed_without(self, replaced):
    """Names of nodes that the outputs need once statistics are replaced."""
    stack = list(self.model.outputs)
    seen = set(stack)
    for ref in stack:
      for source in self.graph.data_inputs(ref.node):
        if source not in seen and source not in replaced:
          seen.add(source)
          stack.append(source)
    return {ref.node for ref in stack}

  def _find(self, order, replaced, most_steps):
    """Adds the Stored of statistics to `replaced`; returns derived ones."""
    read = {}
    for name in order:
      for ref in self.graph.data_inputs(name):
        read.setdefault(ref.node, set()).add(ref)
    settled, derived = set(replaced), []
    for name in order:
      for ref in sorted(read.get(name, ())):
        if self.averages.dependence(ref) != STATISTIC or self._is_kept(name):
          continue
        inputs = self.graph.data_inputs(name)
        if ref in settled:
          continue
        if inputs and all(
          r in settled or self.averages.dependence(r) == FREE for r in inputs
        ):
          settled.add(ref)
          derived.append(ref)
          continue
        value = self._average(name, "statistic", ref)
        if value is not None and most_steps in (None, len(value.steps)):
          settled.add(ref)
          replaced[ref] = value
          self._remember(ref)
    return derived

  def _remember(self, ref):
    signature = self.averages.signature(ref)
    if signature is not None:
      self.sources[signature[0]] = ref.node

  def _follow(self, ref, chosen):
    """Training-time helpers that the outputs read settle at the statistic.

    Renorm corrects towards averages of its own; where the statistic is the
    stored one, the correction is 1 and 0.
    """
    followed = set()
    for average in self.averages.of(ref):
      variable = average.variable
      if (
        not average.stored.is_whole
        or variable in chosen
        or variable not in self.needed
      ):
        continue
      followed.add(variable)
      for reader in self.graph.readers(variable):
        if reader in self.needed and self.graph.op(reader) in (
          "Identity",
          "ReadVariableOp",
        ):
          self.model.decisions.corrections[TensorRef(reader)] = ref
          self.graph.substitute({TensorRef(reader): ref}, self.needed)
    return followed

  def _refuse_other_corrections(self, refs, settled):
    """What settles at something else would go on correcting."""
    for ref in refs:
      for average in self.averages.tracking(ref):
        variable = average.variable
        if (
          average.statistic == ref
          and variable in self.needed
          and variable not in settled
        ):
          raise TransformError(
            f"export the norm of '{ref}'",
            f"'{variable}' has a part in its answers too, and settles at "
            "another value than the statistic",
            f"pass {_KEEP % ref.node} to keep the batch statistic",
          )

  def _value(self, ref, stored):
    """The value of a Stored, of the shape and dtype of a statistic."""
    frame = self.contexts.frame(ref.node)
    value = self.values.emit(stored, ref.node, frame)
    shape = shape_for(self.model, ref, stored)
    if shape is not None:
      text = """
        stored/shape = Const(^value) {value=$shape}
        stored = Reshape(value, stored/shape)
      """
      shape = np.array(shape, np.int32)
      made = self.emitter.emit(ref.node, text, value=value, shape=shape)
      value = made["stored"]
    wanted = self.model.dtype(ref).as_datatype_enum
    return self.values.cast(value, wanted, ref.node)

  def _replace(self, ref, value, stored):
    self.graph.substitute({ref: value}, self.needed)
    self.model.decisions.stored[ref] = stored
    self.told.append(
      f"stored '{stored}' takes the place of batch statistic '{ref}'"
    )

  # Choosing an average.

  def _average(self, name, which, ref):
    """The one Stored that is a statistic's average, or None.

    Args:
      name: of the norm, or of the node that computes the statistic.
      which: what the statistic is to the norm, for messages.
      ref: the statistic.
    """
    every = self.averages.tracking(ref)
    found = list(filter(self._is_meant, every))
    found = self.averages.nearest(found or every) or self.shared.of(ref)
    values = self._unlike(self.averages.stored(found))
    if len(values) > 1:
      names = ", ".join(f"'{value}'" for value in values)
      raise TransformError(
        f"tell which average '{name}' means for its {which}",
        f"{names} all track it",
        f"pass --averages={values[0]} if that one is meant, or "
        f"{_KEEP % name} to keep the batch statistic",
      )
    if values:
      self._note_others(ref, values[0], every)
    return values[0] if values else None

  def _is_meant(self, average):
    return any(in_scope(average.variable, scope) for scope in self.meant)

  def _note_others(self, ref, chosen, every):
    """Remembers what else tracks a statistic, for who tries it."""
    helpers = {helper for average in every for helper in average.helpers}
    for stored in self._unlike([average.stored for average in every]):
      if stored.variable not in {chosen.variable, *helpers}:
        others = self.model.decisions.others.setdefault(ref, [])
        if stored not in others:
          others.append(stored)

  def _unlike(self, values):
    """Those of some Stored whose numbers differ, by what the variables hold.

    Each norm may have its own count of the same rows.
    """
    if len(values) < 2 or self.model.values is None:
      return values
    found = {}
    for value in values:
      held = [
        self.model.values[name].tobytes() if name in self.model.values else name
        for name in value.variables[1:]
      ]
      steps = tuple((step.op, step.is_first) for step in value.steps)
      key = (value.variable, value.part, steps, *held)
      found.setdefault(key, value)
    return list(found.values())

  # What is left.

  def _look_at_rest(self):
    """Notes norms that keep batch statistics; refuses half replaced ones."""
    order = self.graph.topological(self.model.needed())
    dependence = Dependence(self.graph, order)
    kept = {}
    for name in order:
      node = self.graph.node(name)
      if uses_batch(node):
        x = op_form(node.op).input(self.graph, name, "x")
        kept[origin_of(self.graph, x, VIEWS)] = name
      elif reduces_batch(self.graph, node) and any(
        dependence(r) == DATA for r in self.graph.data_inputs(name)
      ):
        self._look_at_statistic(name, kept)
    asked = [name for name in kept.values() if self._is_kept(name)]
    self._refuse_unexplained(order, kept)
    self.model.decisions.unaveraged = tuple(
      n for n in kept.values() if n not in asked
    )
    for name in asked:
      self.model.warnings.append(
        f"norm '{name}' keeps computing its own statistics: as asked"
      )

  def _refuse_unexplained(self, order, kept):
    """Refuses stored values that do not give a norm's statistics."""
    found = self.averages.unexplained()
    gradients = Flow(self.graph).derived if found else ()
    left = set(order)
    for ref, (variable, update) in found.items():
      signature = self.averages.signature(ref)
      name = kept.get(signature[0]) if signature is not None else None
      if name is None and ref.node in left:
        name = ref.node
      if (
        name is not None
        and not self._is_kept(name)
        and (update not in gradients)
      ):
        raise TransformError(
          f"export norm '{name}'",
          f"'{update}' writes something of its batch statistics to "
          f"'{variable}', and they can't be told from that",
          f"pass {_KEEP % name} if it means to use the batch",
        )

  def _look_at_statistic(self, name, kept):
    signature = self.signatures.get(name)
    if signature is None:
      signature = self.averages.signature(TensorRef(name))
    if signature is None:
      return
    source = signature[0]
    is_mean = signature in self.averages.signatures_of(source, "mean")
    is_variance = signature in self.averages.signatures_of(source, "variance")
    if self._is_kept(name):
      kept.setdefault(source, name)
    elif source in self.sources and (is_mean or is_variance):
      self._refuse_half(
        name, "variance" if is_mean else "mean", self.sources[source]
      )
    elif is_variance:
      kept.setdefault(source, name)

  def _refuse_half(self, name, which, by):
    raise TransformError(
      f"export norm '{name}'",
      f"its {which} has a moving average ('{by}') and its other statistic "
      "has none",
      f"pass {_KEEP % name} to keep both batch statistics",
    )
