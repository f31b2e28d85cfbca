# SPDX-License-Identifier: Apache-2.0
"""The one tensor that a graph answers with, where the graph leaves no doubt.

`ends.outputs` ranks what may be meant. What is named here needs no asking:

- in a graph that is trained, the tensor that a loss compares with labels or
  with the input, if all weights lead there and to nowhere else, and if what
  follows is the arithmetic of that comparison, or whole numbers that are
  compared with labels, which is a metric;
- in a graph where nothing is trained or compared, its one end.

Between the last weights and the answer stands nothing that could be the loss's
own: an activation belongs to the network, a logarithm may belong to either.
"""

from __future__ import annotations

from typing import Optional

from bnexport.analysis import ends
from bnexport.analysis.dependence import DATA
from bnexport.analysis.flow import LOSSES, Flow, is_sink
from bnexport.errors import GraphError
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import FLOATS, Signatures

# What a network ends with, and no loss begins with.
_ACTIVATIONS = frozenset(
  "Relu Relu6 Elu Selu LeakyRelu Sigmoid Tanh Softmax Merge Switch".split()
)
_ACTIVATIONS |= ops.IDENTITIES | ops.RESHAPES
# A loss that is one op takes what these give for the answer; a loss by hand may
# have them in it.
_POOLINGS = frozenset(("Mean", "AvgPool", "MaxPool", "Add", "AddV2"))
_DIFFERENCES = frozenset(("Sub", "SquaredDifference"))


def only_output(flow: Flow) -> Optional[str]:
  """The name of the one output that can be meant, or None."""
  found = _Answer(flow)
  if found.ranking.generated:
    return None
  name = found.judged() if found.judges else found.end()
  if name is None or not found.can_be_fetched(name):
    return None
  return name


class _Answer:
  """The end of a graph's forward pass.

  Attributes:
    nodes: names of what weights were applied to, inputs first.
    tail: those of them that no weight is applied to any more, the last
      application included.
    judges: by node, what compares it with labels or with the input.
  """

  def __init__(self, flow: Flow):
    self.flow, self.graph = flow, flow.graph
    self.ranking = ends.Ranking(flow)
    forward = self.ranking.forward
    self.nodes = [n for n in flow.order if n in forward and flow.depth(n) > 0]
    self.tail = self._tail()
    self.judges = {}
    for name in self.nodes:
      found = [r for r in self._readers(name) if self._compares(r, name)]
      if found:
        self.judges[name] = found

  def end(self) -> Optional[str]:
    """The one end of a graph that compares and trains nothing."""
    if self.flow.gradients or self.ranking.losses:
      return None
    found = [name for name in self.nodes if not self._readers(name)]
    leads_on = self.graph.ancestors(found)
    return (
      found[0] if len(found) == 1 and set(self.nodes) <= set(leads_on) else None
    )

  def judged(self) -> Optional[str]:
    """The one tensor that is compared, if nothing else can be the answer."""
    first = next(iter(self.judges))
    name = self._before_rows(first)
    after = self._after([name]) - {name}
    before = self.tail.intersection(self.graph.ancestors([name]))
    judges = set(self.judges[first])
    compared = self._after(judges) | judges
    if not self._is_loss(judges, compared):
      return None
    whole = all(self.graph.op(judge) in LOSSES for judge in judges)
    for other in self.nodes:
      if other in before:
        if not self._belongs(other, whole) or not (
          other == name or self._leads_to(other, before)
        ):
          return None
      elif other in after:
        if other != first and not self._is_of_loss(other, compared):
          return None
      elif other in self.tail and not self._is_aside(other):
        return None
      elif other not in self.tail and other in self.judges:
        return None
    return name if name in before else None

  def _is_loss(self, judges, compared):
    """Whether a comparison can be nothing else, such as a mask that is applied.

    A mask is data, too, to which no weights are applied. Its product with an
    answer is read, or it is compared in its turn.
    """
    for name in compared:
      is_end = not self._readers(name) and not is_sink(self.graph.op(name))
      if is_end and self.flow.dependence(TensorRef(name)) == DATA:
        return False
    if all(self.graph.op(judge) in LOSSES | _DIFFERENCES for judge in judges):
      return True
    labels = {self.flow.labels_of(TensorRef(name)) for name in compared}
    return len(labels) == 1 and not any(
      self.flow.is_raw(ref) and not self.flow.labels_of(ref)
      for name in compared - judges
      for ref in self.graph.data_inputs(name)
    )

  def can_be_fetched(self, name):
    """Whether a node's first output is all that it gives, outside of loops."""
    node = self.graph.node(name)
    return (
      not self.flow.contexts.frame(name)
      and node.op != "Switch"
      and (node.op in ops.FUSED_NORMS or len(self._dtypes(name)) == 1)
    )

  def _tail(self):
    """What leads to no more weights, also by way of a norm's statistics."""
    goes_on = set()
    for name in reversed(self.flow.order):
      for reader in self.ranking.readers(name):
        is_network = reader in self.ranking.statistics or (
          reader in self.ranking.forward and self._is_work(reader)
        )
        if reader in goes_on or is_network:
          goes_on.add(name)
          break
    return set(self.nodes) - goes_on

  def _is_work(self, name):
    """Whether a node applies weights, or a norm's statistics."""
    return self.flow.applies_weights(name) or any(
      ref.node in self.ranking.statistics
      for ref in self.graph.data_inputs(name)
    )

  def _readers(self, name):
    """What reads a node's value for its own, no gradient and no summary."""
    return [
      reader
      for reader in self.ranking.readers(name)
      if not is_sink(self.graph.op(reader))
    ]

  def _compares(self, reader, name):
    """Whether a node compares another with labels, or with what is fed."""
    op = self.graph.op(reader)
    if op in LOSSES or self.flow.reads_labels(reader):
      return not self._is_whole(name)
    return reader in self.ranking.losses and any(
      self.flow.is_raw(ref)
      for ref in self.graph.data_inputs(reader)
      if ref.node != name
    )

  def _before_rows(self, name):
    """What a loss op makes rows of, or the node itself."""
    if not self.ranking.is_rows_of_loss(name):
      return name
    return self.graph.data_inputs(name)[0].node

  def _belongs(self, name, is_whole_loss):
    op = self.graph.op(name)
    return (
      self._is_work(name)
      or op in _ACTIVATIONS
      or (is_whole_loss and op in _POOLINGS)
    )

  def _leads_to(self, name, before):
    """Whether a node's value goes nowhere but to the answer."""
    readers = [r for r in self._readers(name) if r in self.ranking.forward]
    return bool(readers) and all(reader in before for reader in readers)

  def _is_of_loss(self, name, compared):
    """Whether a node that follows the answer is the loss's, or a metric's."""
    readers = self._readers(name)
    if self._is_whole(name):
      return bool(readers)
    if not readers or self.graph.op(name) not in ends.LOSS_ARITHMETIC:
      return False
    return all(reader in compared for reader in self.judges.get(name, ()))

  def _is_aside(self, name):
    """Whether a node only makes a statistic of what is inside of the network.

    Summaries do.
    """
    return (
      name not in self.judges
      and not self._is_work(name)
      and bool(self._readers(name))
      and (self._is_whole(name) or self.graph.op(name) in ends.LOSS_ARITHMETIC)
    )

  def _after(self, names):
    """What follows from some nodes, gradients left out."""
    found, stack = set(), list(names)
    while stack:
      for reader in self.ranking.readers(stack.pop()):
        if reader not in found:
          found.add(reader)
          stack.append(reader)
    return found

  def _is_whole(self, name):
    """Whether a node gives whole numbers or truth values."""
    dtypes = self._dtypes(name)
    return bool(dtypes) and dtypes[0] not in FLOATS

  def _dtypes(self, name):
    try:
      return Signatures().output_dtypes(self.graph.node(name))
    except GraphError:
      return []
