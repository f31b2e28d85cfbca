# SPDX-License-Identifier: Apache-2.0
"""The likely inputs and outputs of a graph, best first.

An output is where the forward pass ends: a tensor that nothing but the loss
and the rest of the training reads. What a model's author took for the output
can't be known; the list is short, and what is meant is mostly the first.
"""

from __future__ import annotations

import re

from bnexport.analysis.dependence import STATISTIC
from bnexport.analysis.flow import LOSSES, Flow, is_setting
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape

MOST = 10
# What scores this much less than the best is no answer.
_MARGIN = 4.0

# What losses and metrics are made of; walked through backwards from a mean.
LOSS_ARITHMETIC = frozenset(
  (
    "Sub SquaredDifference Square Abs Log Log1p Exp Neg Mul RealDiv Pow Add "
    "AddV2 AddN Sum Mean Max Min Maximum Minimum Select SelectV2 Sqrt Rsqrt "
    "Softplus Cast Equal NotEqual Less LessEqual Greater GreaterEqual "
    "Squeeze ZerosLike OnesLike StopGradient LogicalAnd LogicalOr LogicalNot"
  ).split()
)
# What a loss by hand does to probabilities first.
_OF_LOSS = frozenset(("Log", "Log1p", "Maximum", "Minimum", "Neg"))
_CLOSINGS = frozenset(("Softmax", "LogSoftmax", "Sigmoid", "Tanh", "ArgMax"))
_CLOSINGS |= ops.IDENTITIES | ops.RESHAPES | {"Cast"}
_WORDS = re.compile(
  r"logits?|output|predict|prob|score|softmax|sigmoid|embedding|result|answer"
  r"|class|detection|heatmap|mask",
  re.IGNORECASE,
)
# What they make of a tensor is no answer, and the tensor may still be one.
_ASIDE = re.compile(
  r"^(Eager)?PyFunc|^(Not)?Equal$|^(Less|Greater)(Equal)?$|^Logical"
)
# Parts of conditionals and loops, that nobody can mean.
_INNER = re.compile(
  r"Switch$|^(Ref)?Enter$|NextIteration$|^TensorArray(Write|Scatter|Split)"
)


def outputs(flow: Flow, most=MOST):
  """Names of the likely outputs, best first."""
  return Ranking(flow).best(most)


class Ranking:
  """The forward pass of one graph, and how it ends.

  Attributes:
    forward: nodes whose value could be an answer.
    statistics: what norms take of the batch; the forward pass goes on there.
    losses: forward nodes that judge answers, row by row.
    generated: what one network makes and another takes for data.
  """

  def __init__(self, flow):
    self.flow = flow
    self.graph = flow.graph
    self.forward = {name for name in flow.order if flow.is_forward(name)}
    self.statistics = self._statistics()
    self.losses = self._losses()
    self.generated = self._generated()

  def best(self, most):
    found = {}  # name: how much speaks for it
    deepest = max(map(self.flow.depth, self.forward), default=0) or 1
    for name in self.flow.order:
      score = self._score(name) if self._can_be_meant(name) else None
      if score is not None:
        score += _name_score(name, self.graph.op(name))
        found[name] = score + 3.0 * self.flow.depth(name) / deepest
    ranked = sorted(found, key=lambda name: -found[name])
    return [n for n in ranked if found[n] > found[ranked[0]] - _MARGIN][:most]

  def _can_be_meant(self, name):
    op = self.graph.op(name)
    return (
      name in self.forward
      and name not in self.losses
      and self.flow.depth(name) > 0
      and not _ASIDE.search(op)
      and not _INNER.search(op)
      and not self.flow.contexts.frame(name)  # nothing in a loop can be fetched
    )

  def _score(self, name):
    """The rank of a node as an output; None where it is none."""
    readers = self.readers(name)
    onward = [reader for reader in readers if self._goes_on(reader)]
    is_judged = any(map(self._judges, readers))
    if name in self.generated:
      return 2.0
    if not onward and is_judged and self.graph.op(name) in _OF_LOSS:
      return 0.4
    if not onward:
      return 2.0 if is_judged else 1.0
    if is_judged:
      return 1.0
    return 0.5 if all(map(self._closes, onward)) else None

  def readers(self, name):
    """Nodes that read a node's value, but for gradients."""
    return [
      reader
      for reader in self.graph.readers(name)
      if reader not in self.flow.gradients
      and any(ref.node == name for ref in self.graph.data_inputs(reader))
    ]

  def _goes_on(self, name):
    if name in self.statistics:
      return True
    return (
      name in self.forward
      and name not in self.losses
      and not _ASIDE.search(self.graph.op(name))
    )

  def _judges(self, name):
    """Whether the loss begins at a node."""
    return (
      name in self.losses
      or self.graph.op(name) in LOSSES
      or self.flow.reads_labels(name)
    )

  def _closes(self, name):
    """Whether a node makes an answer of logits, and no more follows."""
    while self.graph.op(name) in _CLOSINGS | _OF_LOSS:
      readers = [r for r in self.readers(name) if r in self.forward]
      if not readers:
        return True
      if len(readers) > 1:
        return False
      name = readers[0]
    return False

  def _statistics(self):
    found = set()
    for name in reversed(self.flow.order):
      if name not in self.forward and self._is_statistic(name):
        readers = self.readers(name)
        if any(r in self.forward or r in found for r in readers):
          found.add(name)
    return found

  def _is_statistic(self, name):
    return self.flow.dependence(TensorRef(name)) == STATISTIC

  def _losses(self):
    found, derived = set(), self._of_judged()
    for name in reversed(self.flow.order):
      if name not in self.forward:
        continue
      if self.is_rows_of_loss(name):
        found.add(name)
      if not _is_arithmetic(self.graph, name):
        continue
      readers = self.readers(name)
      onward = [r for r in readers if r in self.forward or r in self.statistics]
      if self.flow.applies_weights(name) or any(r not in found for r in onward):
        continue
      if (
        onward
        or name in derived
        or any(
          self.graph.op(r) in ops.REDUCTIONS and self._is_statistic(r)
          for r in readers
        )
      ):
        found.add(name)
    return found

  def _of_judged(self):
    """Labelled arithmetic of what is compared with labels itself.

    Cross entropies that are spelled out read logits several times.
    """
    found, judged = set(), set()
    for name in self.flow.order:
      if name not in self.forward:
        continue
      if _is_arithmetic(self.graph, name) and any(
        ref.node in judged for ref in self.graph.data_inputs(name)
      ):
        judged.add(name)
        if any(map(self.flow.reads_labels, self.readers(name))):
          found.add(name)
      elif self._is_compared(name):
        judged.add(name)
    return found

  def _is_compared(self, name):
    return any(
      self.graph.op(reader) in LOSSES or self.flow.reads_labels(reader)
      for reader in self.readers(name)
    )

  def is_rows_of_loss(self, name):
    """Whether a node is a loss op's own Reshape, of all but the last axis.

    TensorFlow's cross entropies flatten logits so.
    """
    graph = self.graph
    readers = self.readers(name)
    if graph.op(name) != "Reshape" or not readers:
      return False
    shape = graph.node(graph.data_inputs(name)[1].node)
    if shape.op not in ("Concat", "ConcatV2") or any(
      graph.op(reader) not in LOSSES for reader in readers
    ):
      return False
    parts = [constant_value(graph, r) for r in graph.data_inputs(shape.name)]
    return any(part is not None and part.tolist() == [-1] for part in parts)

  def _generated(self):
    """A GAN's samples: a network's answer that takes the place of data.

    The other network is applied to real data too, with the same weights.
    """
    uses = {}  # weights: what they are applied to
    for name in self.flow.order:
      if name not in self.flow.gradients:
        for weights in self.flow.weights_of(name):
          refs = self.graph.data_inputs(name)
          uses.setdefault(weights, []).extend(refs)
    return {
      ref.node
      for refs in uses.values()
      if any(map(self.flow.is_raw, refs))
      for ref in refs
      if ref.node in self.forward and not self.flow.is_raw(ref)
    }


def _is_arithmetic(graph, name):
  op = graph.op(name)
  if op == "Relu":  # a hinge, where what it bends is arithmetic
    op = graph.op(graph.inputs(name)[0].node)
  return op in LOSS_ARITHMETIC


def _name_score(name, op):
  """Between what the graph says as much of, names choose."""
  last = name.rsplit("/", 1)[-1]
  is_own = re.sub(r"_\d+$", "", last).lower() != op.lower()
  is_reworked = op in ("Cast", "ArgMax") and not is_own
  return 0.2 * is_own + 0.3 * bool(_WORDS.search(name)) - 0.7 * is_reworked


def inputs(flow: Flow, wanted, most=MOST):
  """Tensors to feed for some outputs, as text, best first.

  What brings data in comes first; behind it, where data are prepared in the
  graph, what the first weights are applied to.

  Args:
    flow: a Flow.
    wanted: names of outputs.
    most: how many to list.
  """
  graph = flow.graph
  found = sorted(flow.features_of(wanted), key=lambda r: -_rank(graph, r))
  for ref in flow.prepared():
    if ref not in found:
      found.append(ref)
  return [str(ref) for ref in found[:most]]


def settings(flow: Flow, wanted):
  """Names of the phases and rates that some outputs need."""
  needed = flow.graph.ancestors(wanted)
  return [
    name
    for name in flow.order
    if name in needed and is_setting(flow.graph, flow.graph.node(name))
  ]


def _rank(graph, ref):
  return len(static_shape(graph, ref) or ())
