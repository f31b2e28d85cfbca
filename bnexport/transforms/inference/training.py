# SPDX-License-Identifier: Apache-2.0
"""The order of graphs: one that trains, and its inference.

Two values of a switch leave two graphs of one model. One is the inference of
the other where training hangs on the switch: it updates nothing, takes no
statistic of the batch and draws nothing at random that the other does not;
it does less of that; stored statistics stand where those of the batch were;
and it uses all the weights that the other uses. A switch about data, such as
a domain, trains on both sides, or has weights on each.
"""

from __future__ import annotations

from typing import Dict, Set

from bnexport.analysis.dependence import uses_batch
from bnexport.analysis.flow import holds_weights, is_product, is_setting
from bnexport.analysis.trials import Needed
from bnexport.batchnorm.averages import Averages
from bnexport.batchnorm.forms import op_form
from bnexport.batchnorm.settling import is_taken_of_data
from bnexport.batchnorm.weight_averages import weight_averages
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value, uniform_value
from bnexport.graph.origins import BRANCH_VIEWS
from bnexport.graph.variables import variable_of


class Training:
  """The training in one graph, before its phase is decided."""

  def __init__(self, model):
    """Reads the updates.

    Args:
      model: stays as it is.
    """
    self._graph = model.graph
    averages = Averages.read(model.graph, model.needed())
    # Variables that average what a node computes of the batch.
    self._stored: Dict[str, Set[str]] = {}
    # Nodes that reduce the batch, and no update tells what for.
    self._reductions: Set[str] = set()
    for average in averages.all:
      if is_taken_of_data(model.graph, averages.dependence, average.statistic):
        found = self._stored.setdefault(average.statistic.node, set())
        found.add(average.variable)
    self._is_whole = model.has_training_graph
    for name in model.needed():
      self._look_for_averages(averages, name)
    self._averaged = weight_averages(model.graph)
    self._tracked = set(_written(model.graph)) | {
      node.name
      for node in model.graph
      if node.op in ops.VARIABLES and averages.is_updated(node.name)
    }

  def is_inference(self, one: Needed, other: Needed) -> bool:
    """Whether one graph is what the other becomes at inference."""
    return self.is_less(one, other) and self._hangs(one, other)

  def is_less(self, one: Needed, other: Needed) -> bool:
    """Whether one graph trains less than another, and nowhere more."""
    lost, gained = other.without(one), one.without(other)
    if any(map(self._is_mark, gained)):
      return False
    return (
      any(map(self._is_mark, lost))
      or self._is_replaced(lost, gained)
      or len(self._without_averaged(lost, gained)) < len(lost)
    )

  def are_apart(self, one: Needed, other: Needed) -> bool:
    """Whether each of two graphs has weights that the other has not."""
    return self._has_weights(one.without(other)) and self._has_weights(
      other.without(one)
    )

  def without_random(self, names: Needed) -> Needed:
    """The names but for those of nodes that draw random numbers."""
    return names.where(lambda n: not ops.is_random(self._graph.op(n)))

  def _is_mark(self, name):
    """Whether a node is there for training's sake."""
    op = self._graph.op(name)
    return op in ops.UPDATES or name in self._stored or ops.is_random(op)

  def _hangs(self, one, other):
    """Whether what one graph lacks is there to train the other."""
    lost, gained = other.without(one), one.without(other)
    batch = [name for name in lost if name in self._stored]
    if any(not gained.isdisjoint(self._stored[name]) for name in batch):
      return True
    if self._has_weights(self._without_averaged(lost, gained)):
      return False
    if not all(self._has_stand_in(name, one, gained) for name in batch):
      return False
    return (
      bool(batch)
      or len(self._without_averaged(lost, gained)) < len(lost)
      or any(self._graph.op(name) in ops.UPDATES for name in lost)
      or self._is_replaced(lost, gained)
      # Labels stand in training where a sampler stands at inference.
      or not self._has_data(gained)
    )

  def _is_replaced(self, lost, gained):
    """Whether stored values stand where the batch was reduced.

    Where a phase scales, they are there on both sides.
    """
    return (
      not self._reductions.isdisjoint(lost)
      and self._reductions.isdisjoint(gained)
      and (
        any(map(self._is_stand_in, gained)) or not any(map(self._holds, lost))
      )
    )

  def _has_stand_in(self, name, one, gained):
    """Whether a batch statistic has something stored in its place."""
    variables = self._stored[name]
    if variables:
      return any(map(one.has, variables))
    # No update tells the averages, as where freezing pruned them.
    return any(map(self._is_stand_in, gained))

  def _is_stand_in(self, name):
    node = self._graph.node(name)
    if node.op in ops.FUSED_NORMS:
      return not uses_batch(node)
    return holds_weights(node)

  def _look_for_averages(self, averages, name):
    """Notes what a node computes of the batch, and what averages it."""
    node, refs = self._graph.node(name), [TensorRef(name)]
    is_norm = uses_batch(node)
    if is_norm:
      form = op_form(node.op)
      refs = [form.output(name, which) for which in ("mean", "variance")]
    elif node.op not in ("Mean", "Sum") or not is_taken_of_data(
      self._graph, averages.dependence, refs[0]
    ):
      return
    found = {a.variable for ref in refs for a in averages.of(ref)}
    if found or is_norm:
      self._stored.setdefault(name, set()).update(found)
    elif name not in self._stored:
      self._reductions.add(name)

  def _without_averaged(self, lost, gained):
    """The losses, but for weights whose averages are used instead."""
    return [
      name for name in lost if gained.isdisjoint(self._averaged.get(name, ()))
    ]

  def _has_weights(self, names):
    return any(
      name not in self._tracked and self._holds(name) and self._is_weight(name)
      for name in names
    )

  def _is_weight(self, name):
    """Whether a variable or constant is no average that was frozen.

    Where the training graph is lost, only what multiplies data is none.
    """
    graph = self._graph
    if self._is_whole and graph.op(name) != "Const":
      return True
    stack, seen = [name], {name}
    while stack:
      for reader in graph.readers(stack.pop()):
        if is_product(graph.op(reader)):
          return True
        if graph.op(reader) in BRANCH_VIEWS and reader not in seen:
          seen.add(reader)
          stack.append(reader)
    return False

  def _holds(self, name):
    """Whether a node holds weights; branches have ones and zeros each."""
    if not holds_weights(self._graph.node(name)):
      return False
    value = constant_value(self._graph, TensorRef(name))
    return value is None or uniform_value(value) is None

  def _has_data(self, names):
    """Whether data that is no setting enters at some node."""
    return any(
      ops.is_data_source(self._graph.op(name))
      and not is_setting(self._graph, self._graph.node(name))
      for name in names
    )


def _written(graph):
  """Yields names of variables that updates add to, or subtract from."""
  for node in graph:
    if node.op in ops.ASSIGN_ADD | ops.ASSIGN_SUB:
      variable = variable_of(graph, graph.inputs(node.name)[0])
      if variable is not None:
        yield variable


def computations(evaluation, order, outputs, numbers):
  """Keys of tensors' computations: equal for equal ones.

  Args:
    evaluation: a PartialEvaluation.
    order: names of the graph's nodes, inputs first.
    outputs: TensorRefs.
    numbers: a dict that is handed to all calls whose results are compared.

  Returns:
    A tuple of numbers.
  """
  graph, needed = evaluation.graph, evaluation.needed(outputs)
  made, same = {}, {}

  def number(ref):
    value = evaluation.folded_value(ref)
    if value is None and ref.node in same:
      return same[ref.node]
    key = (made.get(ref.node, ref.node), ref.index)
    if value is not None:
      key = (str(value.dtype), value.shape, str(value.reshape(-1)[:1]))
    return numbers.setdefault(key, len(numbers))

  for name in (name for name in order if name in needed):
    node = graph.node(name)
    refs = [ref for ref in evaluation.inputs(name) if not ref.control]
    key = (node.op, _attributes(node), tuple(map(number, refs)))
    if node.op in ops.IDENTITIES and refs:
      same[name] = number(refs[0])
    elif (
      (refs or node.op == "Const")
      and not ops.is_random(node.op)
      and node.op not in ops.UPDATES
    ):
      made[name] = numbers.setdefault(key, len(numbers))
  return tuple(number(evaluation.resolve(ref)) for ref in outputs)


def _attributes(node):
  return tuple(
    (key, node.attr[key].SerializeToString(deterministic=True))
    for key in sorted(node.attr)
    if not key.startswith("_")
  )
