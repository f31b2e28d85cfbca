# SPDX-License-Identifier: Apache-2.0
"""The split of a training graph: its forward pass, and what trains it.

Nothing in a GraphDef says so. It is told by what ops do: gradients are what
follows from ops that only gradients use, labels are data that no weight is
applied to.
"""

from __future__ import annotations

import re
from typing import Dict, Set

from bnexport.analysis.dependence import DATA, Dependence
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.graph.nodes import FLOATS, element_count, static_shape
from bnexport.graph.origins import stored_name
from bnexport.tf1 import tf1

# Conv2DBackpropInput is missing: it is also what a transposed convolution is.
_GRADIENT_OP = re.compile(
  r"Grad(V\d+|Ext|Grad|GradV\d+|WithArgmax)*$|BackpropFilter|RNNBackprop"
  r"|^BroadcastGradientArgs$|^FakeQuant\w*Gradient$"
)
# Gradients of plain arithmetic are plain arithmetic; tf.gradients and
# GradientTape put them below these names.
_GRADIENT_SCOPE = re.compile(r"(^|/)(gradients(_\d+)?|gradient_tape)/")
# They compute their gradient along with themselves, as second output.
LOSSES = frozenset(
  (
    "SoftmaxCrossEntropyWithLogits",
    "SparseSoftmaxCrossEntropyWithLogits",
    "CTCLoss",
    "CTCLossV2",
  )
)
_SINK = re.compile(
  r"Summary(V\d+)?$|^Write\w*Summary|^Save|^Restore|^ShardedFilename|^Merge\w*"
  r"Checkpoints|^Assert$|^NoOp$|^PrintV2$|Enqueue|^Stage$|^Queue(Close|Size)"
  r"|^(Resource)?(Sparse)?Apply|^Resource(Sparse|Scatter)|^Scatter\w*(Update"
  r"|Add|Sub|Mul|Div|Min|Max)$|^Stack(Push|Pop)"
)
_PRODUCTS = re.compile(
  r"^(Quantized|_Fused)*(Depthwise)?(Conv\d?D|MatMul|BatchMatMul|Gather|Einsum)"
  r"|^BiasAdd|^FusedBatchNorm|^BatchNormWithGlobal|^SparseMatMul"
  r"|^SparseTensorDenseMatMul|^ResourceGather|^CudnnRNN|^BlockLSTM|^(LSTM|GRU)Block"
)
_CALLS = re.compile(r"^(Stateless)?(If|While|Case)$|PartitionedCall$")
_SCALINGS = frozenset(("Mul", "Add", "AddV2", "Sub", "RealDiv"))
# The bit of random numbers: no data, and no weights either.
_NOISE = 1
_COMPARISONS = frozenset(("Equal", "NotEqual"))
_ORDERINGS = frozenset(("Less", "LessEqual", "Greater", "GreaterEqual"))


def is_sink(op):
  """Whether a node is run for what it does, not for its value."""
  return op in ops.UPDATES or _SINK.search(op) is not None


def is_product(op):
  """Whether an op is one that weights are applied with."""
  return _PRODUCTS.search(op) is not None


class Flow:
  """Data, weights and gradients, followed through a graph once.

  Attributes:
    order: names of all nodes, inputs first.
    gradients: names of the nodes that compute or apply gradients, as far as
      ops and scopes tell.
    derived: those of them that ops alone tell. What is decided goes by these:
      whatever stands in a scope called gradients may be anything.
    dependence: a Dependence that covers all nodes.
    contexts: the Contexts of all nodes.
    features: TensorRefs that bring in data which weights are applied to.
  """

  def __init__(self, graph: Graph):
    self.graph = graph
    self.order = graph.topological()
    self.gradients = _gradients(graph, self.order, _is_gradient_by_name)
    self.derived = _gradients(graph, self.order, _is_gradient)
    self.dependence = Dependence(graph, self.order)
    self.contexts = Contexts(graph, self.order)
    self._sources: Set[str] = set()
    self._bits = {None: _NOISE}  # a bit for each tensor that a source gives
    # Bits of the sources that a node depends on.
    self._data: Dict[str, int] = {}
    # Those of them that weights were applied to.
    self._fed: Dict[str, int] = {}
    self._weights: Set[str] = set()  # nodes that hold weights and no data
    self._depth: Dict[str, int] = {}
    changed = True
    while changed:  # once, and once more for each loop behind a loop
      changed = False
      for name in self.order:
        before = self._data.get(name)
        self._visit(graph.node(name))
        if graph.op(name) in ("NextIteration", "RefNextIteration"):
          changed |= self._data[name] != (before or 0)
    used = 0
    for name in self.order:
      if name not in self.gradients:
        used |= self._fed[name]
    bits = [(ref, bit) for ref, bit in self._bits.items() if ref is not None]
    self.features = [ref for ref, bit in bits if bit & used]
    self._labels = sum(bit for _, bit in bits if not bit & used)
    # A generator may have nothing else to start from.
    self._inputs = sum(self._bits[ref] for ref in self.features) or _NOISE

  def depth(self, name):
    """The largest number of times that weights were applied up to a node."""
    return self._depth[name]

  def is_raw(self, ref):
    """Whether a tensor is data that no weight was applied to."""
    return self._mask(ref) != 0 and not self._fed[ref.node]

  def weights_of(self, name):
    """Names of the variables or constants that a product uses as weights."""
    graph = self.graph
    if not _PRODUCTS.search(graph.op(name)):
      return set()
    return {
      stored_name(graph, ref)
      for ref in graph.data_inputs(name)
      if ref.node in self._weights
    } - {None}

  def applies_weights(self, name):
    """Whether a node combines data with weights."""
    return self._applied(self.graph.node(name)) != 0

  def prepared(self):
    """Data that the first weights are applied to, in order of execution."""
    found = {}
    for name in self.order:
      if name in self.gradients or not self._applied(self.graph.node(name)):
        continue
      for ref in self.graph.data_inputs(name):
        if self.is_raw(ref) and self._mask(ref) & self._inputs:
          found[ref] = None
    return list(found)

  def features_of(self, names):
    """Those of the features that some nodes depend on."""
    bits = 0
    for name in names:
      bits |= self._data[name]
      if name in self._sources:
        bits |= self._bits.get(TensorRef(name), 0)
    return [ref for ref in self.features if self._bits[ref] & bits]

  def reads_labels(self, name):
    """Whether a node combines answers with labels."""
    bits = self._data[name]
    return (
      bits & self._labels != 0
      and bits & self._inputs != 0
      and name not in self.gradients
    )

  def labels_of(self, ref):
    """The labels that a tensor is or depends on, as bits; 0 for none."""
    return self._mask(ref) & self._labels

  def is_forward(self, name):
    """Whether a node's value could be an answer of the model.

    Each row of the batch has its own, and labels have no part in it.
    """
    bits, op = self._data[name], self.graph.op(name)
    return (
      bits & self._inputs != 0
      and not bits & self._labels
      and name not in self.gradients
      and op not in LOSSES
      and not is_sink(op)
      and self._has_rows(name)
    )

  def _has_rows(self, name):
    ref = TensorRef(name)
    if self.dependence(ref) == DATA:
      return True
    # Time may be the axis that was reduced; a loss or a statistic has no
    # axis of open size.
    return -1 in (static_shape(self.graph, ref) or ())

  def _visit(self, node):
    name, refs = node.name, self.graph.data_inputs(node.name)
    data = fed = 0
    if node.op not in ops.SHAPES:
      for ref in refs:
        data |= self._mask(ref)
        fed |= self._fed.get(ref.node, 0)
    if ops.is_random(node.op):
      data |= _NOISE
    if self._is_source(node, data):
      self._sources.add(name)
      data = fed = 0
    self._data[name] = data
    if not data and (
      holds_weights(node) or any(ref.node in self._weights for ref in refs)
    ):
      self._weights.add(name)
    else:
      self._weights.discard(name)  # a loop brought data here
    applied = self._applied(node)
    self._fed[name] = fed | applied
    self._depth[name] = (applied != 0) + max(
      (self._depth.get(ref.node, 0) for ref in refs), default=0
    )

  def _mask(self, ref):
    if ref.node in self._sources:
      return self._bits.setdefault(ref, 1 << len(self._bits))
    return self._data.get(ref.node, 0)

  def _is_source(self, node, data):
    """Whether data enters here: behind a default value it is fed."""
    if not ops.is_data_source(node.op) or is_setting(self.graph, node):
      return False
    return not data or node.op == "PlaceholderWithDefault"

  def _applied(self, node):
    """Bits of the data that a node applies weights to; 0 for none."""
    is_product = _PRODUCTS.search(node.op) or _is_call(self.graph, node.op)
    if not is_product and node.op not in _SCALINGS:
      return 0
    refs = self.graph.data_inputs(node.name)
    if not any(ref.node in self._weights for ref in refs):
      return 0
    bits = 0
    for ref in refs:
      bits |= self._mask(ref)
    return bits


def is_setting(graph, node):
  """Whether a placeholder is a phase or a rate, and no data."""
  if node.op not in ops.PLACEHOLDERS:
    return False
  dtype = tf1.as_dtype(node.attr["dtype"].type)
  shape = static_shape(graph, TensorRef(node.name))
  if dtype == tf1.string:  # else a path, or an image's bytes
    return all(graph.op(r) in _COMPARISONS for r in graph.readers(node.name))
  if shape is None:
    return dtype == tf1.bool or _is_rate(graph, node)
  return shape == () or (dtype == tf1.bool and shape == (1,))


def _is_rate(graph, node):
  """Whether a placeholder of unknown shape only scales, shifts or decides."""
  readers = [
    reader
    for reader in graph.readers(node.name)
    if not _GRADIENT_SCOPE.search(reader)
  ]
  return bool(readers) and all(
    graph.op(reader) in _SCALINGS | _ORDERINGS | {"Switch", "Identity"}
    for reader in readers
  )


def _is_call(graph, op):
  return _CALLS.search(op) is not None or op in graph.library


def holds_weights(node):
  """Whether a node is a variable or a constant of more than one float."""
  if node.op in ops.VARIABLES:
    return node.attr["dtype"].type in FLOATS
  if node.op == "Const" and node.attr["dtype"].type in FLOATS:
    return element_count(node.attr["value"].tensor) > 1
  return False


def _is_gradient(node):
  return _GRADIENT_OP.search(node.op) is not None


def _is_gradient_by_name(node):
  return _is_gradient(node) or _GRADIENT_SCOPE.search(node.name) is not None


def _gradients(graph, order, is_one):
  """Gradients and what is computed from them, as a set of names."""
  found = set()
  for name in order:
    op = graph.op(name)
    if is_one(graph.node(name)):
      found.add(name)
      continue
    if _is_call(graph, op):
      continue  # it may fill lists that its gradient reads
    for ref in graph.data_inputs(name):
      if ref.node in found or (graph.op(ref.node) in LOSSES and ref.index == 1):
        found.add(name)
        break
  return found
