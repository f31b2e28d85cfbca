# SPDX-License-Identifier: Apache-2.0
"""The spread of random draws through a graph.

A tensor that random draws reach is *noise* where no data reaches it, and
*noisy* where data does. All else is free of draws.
"""

from __future__ import annotations

from typing import Dict, FrozenSet, Iterable, List

from bnexport.analysis.flow import is_setting
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.graph.nodes import FLOATS, static_shape
from bnexport.tf1 import tf1

UNIFORMS = frozenset(
  (
    "RandomUniform",
    "StatelessRandomUniform",
    "StatelessRandomUniformV2",
    "StatefulUniform",
  )
)
SYMMETRIC = frozenset(
  (
    "RandomStandardNormal",
    "StatefulStandardNormal",
    "StatefulStandardNormalV2",
    "StatefulTruncatedNormal",
    "StatelessRandomNormal",
    "StatelessRandomNormalV2",
    "StatelessTruncatedNormal",
    "StatelessTruncatedNormalV2",
    "TruncatedNormal",
  )
)
# What a random op gives on average.
MEANS = {**dict.fromkeys(UNIFORMS, 0.5), **dict.fromkeys(SYMMETRIC, 0.0)}
COMPARISONS = frozenset(("Less", "LessEqual", "Greater", "GreaterEqual"))
ROUNDINGS = frozenset(("Ceil", "Floor", "Round"))
# Of one uniform number each: what these make of it has few values.
STEPS = COMPARISONS | ROUNDINGS
SUMS = frozenset(("Add", "AddV2", "AddN", "Sub", "Neg", "BiasAdd"))
QUOTIENTS = frozenset(("Div", "RealDiv"))
PRODUCTS = QUOTIENTS | {"Mul"}
# The same value in each element, whatever the shape.
FILLS = frozenset(("Fill", "BroadcastTo", "Tile"))
# Of another tensor they have the shape alone.
LIKES = {"OnesLike": 1.0, "ZerosLike": 0.0}
# The input that is handed on, by op.
CARRIED = {"TensorArrayReadV3": 2, "TensorArrayScatterV3": 2}
_ITEMS = frozenset(("Gather", "GatherV2", "StridedSlice", "Unpack"))
_PARTS = _ITEMS | frozenset(
  (
    "Pack",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
  )
)


class Randomness:
  """The ways of draws and data to the tensors of some nodes.

  Attributes:
    order: names of the nodes, inputs first.
    contexts: the Contexts of the nodes.
  """

  def __init__(
    self,
    graph: Graph,
    order: Iterable[str],
    kept: FrozenSet[str] = frozenset(),
  ):
    """Sweeps over the nodes.

    Args:
      graph: stays as it is.
      order: names of nodes, inputs first.
      kept: names of random ops that are part of the model: what they draw
        counts as data.
    """
    self._graph = graph
    self.order = list(order)
    self.contexts = Contexts(graph, self.order)
    self._kept = kept
    self._numbers: Dict[str, int] = {}  # of random ops, by name
    self._draws: Dict[str, int] = {}  # bits of the random ops
    self._data: Dict[str, bool] = {}
    self._rates = self._find_rates()
    changed = True
    while changed:  # once, and once more for each loop around a loop
      changed = False
      for name in self.order:
        before = self._draws.get(name, 0), self._data.get(name, False)
        self.visit(graph.node(name))
        after = self._draws[name], self._data[name]
        changed |= after != before and (
          graph.op(name) in ("NextIteration", "RefNextIteration")
        )

  def draws(self, ref: TensorRef) -> int:
    """The bits of the draws that reach a tensor; 0 where it is free."""
    return self._draws.get(ref.node, 0)

  def is_noise(self, ref: TensorRef) -> bool:
    return self.draws(ref) != 0 and not self._data[ref.node]

  def is_noisy(self, ref: TensorRef) -> bool:
    return self.draws(ref) != 0 and self._data[ref.node]

  def is_data(self, ref: TensorRef) -> bool:
    return self._data.get(ref.node, False)

  def is_free(self, ref: TensorRef) -> bool:
    """Whether neither draws nor data reach a tensor."""
    return not self.draws(ref) and not self.is_data(ref)

  def sources(self, bits: int) -> List[str]:
    """Names of the random ops that bits stand for."""
    return [name for name, i in self._numbers.items() if bits >> i & 1]

  def predicates(self, node: tf1.NodeDef) -> List[TensorRef]:
    """The predicates of conditionals on whose sides a Merge's inputs are."""
    found = {
      name
      for ref in self._graph.data_inputs(node.name)
      for name, _ in self.contexts.sides(ref)
    } - {name for name, _ in self.contexts.sides(TensorRef(node.name))}
    return [TensorRef(name) for name in sorted(found)]

  def _find_rates(self):
    """Placeholders that are no batch and that draws are compared with.

    Keep probabilities may be a vector, such as one for each layer.
    """
    graph, found = self._graph, set()
    for name in self.order:
      if graph.op(name) not in STEPS:
        continue
      stack, seen = list(graph.data_inputs(name)), set()
      leaves, is_random = set(), False
      while stack and len(seen) < 64:
        ref = stack.pop()
        op = graph.op(ref.node)
        if ref.node in seen:
          continue
        seen.add(ref.node)
        is_random |= op in UNIFORMS
        if op in ops.PLACEHOLDERS:
          leaves.add(ref.node)
        elif op in _PARTS | SUMS | PRODUCTS | ops.IDENTITIES | ops.ENTERS:
          stack.extend(graph.data_inputs(ref.node))
      if is_random:
        found |= {leaf for leaf in leaves if self._is_rate(leaf)}
    return found

  def _is_rate(self, name):
    graph, node = self._graph, self._graph.node(name)
    shape = static_shape(graph, TensorRef(name))
    if shape is None or node.attr["dtype"].type not in FLOATS:
      return False
    # A batch is not taken apart by constant numbers.
    return all(size > 0 for size in shape) or (
      len(shape) == 1
      and all(graph.op(r) in _ITEMS for r in graph.readers(name))
    )

  def _is_source(self, node):
    return ops.is_data_source(node.op) and not (
      is_setting(self._graph, node) or node.name in self._rates
    )

  def visit(self, node: tf1.NodeDef) -> None:
    """Looks at a node whose inputs have changed."""
    draws, data = 0, self._is_source(node)
    # Data is fed in the place of a default. Shapes and seeds of draws are no
    # part of their distribution.
    if not (data or node.op in ops.SHAPES or node.op in LIKES | MEANS.keys()):
      refs = self._graph.data_inputs(node.name)
      if node.op in ops.SWITCHES:
        refs = refs[:1]  # which branch is taken shows in its Merge
      elif node.op in ops.MERGES:
        refs = refs + self.predicates(node)
      for ref in refs:
        draws |= self.draws(ref)
        data |= self.is_data(ref)
    if ops.is_random(node.op):
      if node.name in self._kept:
        data = True
      else:
        number = self._numbers.setdefault(node.name, len(self._numbers))
        draws |= 1 << number
    self._draws[node.name], self._data[node.name] = draws, bool(data)


def sides_of(contexts, refs, predicate):
  """Inputs of a Merge: taken where a predicate is true, and where it is not."""
  a, b = refs
  if (predicate.node, True) in contexts.sides(b):
    a, b = b, a
  is_true = (predicate.node, True) in contexts.sides(a)
  is_false = (predicate.node, False) in contexts.sides(b)
  return [a, b] if is_true and is_false else None
