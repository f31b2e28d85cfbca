# SPDX-License-Identifier: Apache-2.0
"""The consequences of a few known scalars in a graph that is not run.

Three facts about tensors: a *uniform* tensor has one known value in all its
elements; a *dead* one lies on a branch that is not taken; an *alias* equals
another tensor. They are found in one sweep in order of execution.
"""

from __future__ import annotations

from typing import Dict, List, Optional

import numpy as np

from bnexport.analysis import arithmetic
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.graph.nodes import (
  constant_value,
  in_scope,
  static_shape,
  uniform_value,
)
from bnexport.graph.overlay import Place

# Known where all their operands are.
_COMPUTED = arithmetic.select(
  "Abs Add AddV2 Cast Equal Floor FloorDiv FloorMod Greater GreaterEqual Less "
  "LessEqual LogicalAnd LogicalNot LogicalOr Maximum Minimum Mul Neg NotEqual "
  "RealDiv Sub"
)
# What is uniform has the same value in each element, and over all.
PICKS = frozenset(("StridedSlice", "All", "Any"))
# As uniform as their first operand is, and of its value.
_SAME = (
  ops.IDENTITIES
  | ops.ENTERS
  | ops.RESHAPES
  | ops.RESOURCE_READS
  | PICKS
  | {"Tile", "BroadcastTo"}
)
# An operand that settles the result, and one that leaves the other as it is.
_SETTLES = {("LogicalAnd", False), ("LogicalOr", True), ("Mul", False)}
_NEUTRAL = {
  ("LogicalAnd", True),
  ("LogicalOr", False),
  ("Mul", 1),
  ("Add", 0),
  ("AddV2", 0),
  ("Sub", 0),
  ("RealDiv", 1),
}
_SYMMETRIC = ("LogicalAnd", "LogicalOr", "Mul", "Add", "AddV2")
_SHAPING = ops.RESHAPES | {"Tile", "BroadcastTo", "Fill", "Pack"}
# Ops through which a known scalar stays known; a predicate's leaves are what
# lies behind them.
TRANSPARENT = _COMPUTED | _SAME | ops.UPDATES | {"Fill", "Pack"}


class PartialEvaluation:
  """The consequences of `known` for the nodes of `order`.

  Attributes:
    order: names of the nodes that were looked at, inputs first.
    known: what is known.
    uniform: scalars by TensorRef.
  """

  def __init__(self, graph: Graph, order, known, scoped=None):
    """Sweeps over the graph once.

    Args:
      graph: stays as it is.
      order: names of the nodes to look at, inputs first.
      known: NumPy scalars by node name, for first outputs.
      scoped: a ScopedEvaluation that says what predicates are at the nodes
        in its scopes, or None.
    """
    self.graph = graph
    self.known = known
    self.uniform: Dict[TensorRef, np.generic] = {}
    self.order = order
    self._contexts: Optional[Contexts] = None
    # Uniform because of `known`, not of a constant.
    self._decided: Dict[TensorRef, bool] = {}
    # Uniform, and sure to have no axes.
    self._scalars: Dict[TensorRef, bool] = {}
    self._alias: Dict[TensorRef, TensorRef] = {}
    # Ends of chains of aliases, or tensors on the way there.
    self._shortcuts: Dict[TensorRef, TensorRef] = {}
    self._dead: Dict[TensorRef, bool] = {}
    self._dead_nodes: Dict[str, bool] = {}
    self._scoped = scoped
    for name in order:
      self._visit(graph.node(name))

  @property
  def contexts(self):
    """The Contexts that are left once what is known is decided."""
    if self._contexts is None:
      self._contexts = Contexts(self.graph, self.order, self.inputs)
    return self._contexts

  def resolve(self, ref: TensorRef) -> TensorRef:
    """The tensor that a ref equals in the end."""
    end = ref
    while end in self._alias:
      end = self._shortcuts.get(end) or self._alias[end]
    if end != ref:
      self._shortcuts[ref] = end
    return end

  def alias(self, ref: TensorRef) -> Optional[TensorRef]:
    """A tensor that a ref equals, if not in the end; None without any."""
    return self._alias.get(ref)

  def is_dead(self, ref: TensorRef) -> bool:
    return ref.node in self._dead_nodes or (
      not ref.control and ref in self._dead
    )

  def folded_value(self, ref: TensorRef):
    """The array a tensor has because of `known`, or None.

    None also where the value is known and its shape is not.
    """
    if ref not in self._decided:
      return None
    shape = () if ref in self._scalars else static_shape(self.graph, ref)
    if shape is None or any(size < 0 for size in shape):
      return None
    return np.broadcast_to(np.asarray(self.uniform[ref]), shape)

  def inputs(self, name):
    """The tensors that a node reads: resolved, without dead ones."""
    refs = []
    for ref in self.graph.inputs(name):
      if not ref.control:
        ref = self.resolve(ref)
      elif self._is_select(ref):
        # What waits for it waits for what it takes, once that is decided.
        ref = self.resolve(TensorRef(ref.node))._replace(index=0, control=True)
      if not self.is_dead(ref):
        refs.append(ref)
    return refs

  def _is_select(self, ref):
    """Whether a control input waits for a select."""
    return ref.control and self.graph.op(ref.node) in ops.SELECTS

  def _place(self, ref):
    """The place that an input leads to; that of a select is what it takes."""
    if self._is_select(ref):
      return TensorRef(ref.node)
    return ref.node if ref.control else ref

  def reads(self, place: Place) -> List[Place]:
    """The places next to one on the way from outputs to what they need.

    From a node that is what it reads, and from a tensor the one that it equals
    or its node; none where its value is put in.
    """
    if isinstance(place, str):
      return [
        self._place(ref)
        for ref in self.graph.inputs(place)
        if not self.is_dead(ref if ref.control else self.resolve(ref))
      ]
    if place in self._alias:
      return [self._alias[place]]
    return [place.node] if self._is_read(place) else []

  def seen(self, ref: TensorRef):
    """All that readers of a tensor may be found to be others by."""
    if not ref.control:
      ref = self.resolve(ref)
    return (
      self.uniform.get(ref),
      ref in self._decided,
      ref in self._scalars,
      self.is_dead(ref),
      self.contexts.place(ref),
    )

  def _is_read(self, ref):
    """Whether a node that reads a tensor in the end needs the tensor's node."""
    return (
      ref.control
      or self.folded_value(ref) is None
      or self.contexts.is_inside(ref)
    )

  def needed(self, outputs, control=True):
    """Nodes that the outputs need in the end, as an ordered set."""
    seen, stack = {}, [self.resolve(ref).node for ref in outputs]
    while stack:
      name = stack.pop()
      if name in seen:
        continue
      seen[name] = None
      for ref in self.inputs(name):
        if ref.control and not control:
          continue
        if self._is_read(ref):
          stack.append(ref.node)
    return seen

  def _visit(self, node):
    name, out = node.name, TensorRef(node.name)
    refs = self.graph.inputs(name)
    if name in self.known:
      self._set(out, self.known[name], True)
      if not static_shape(self.graph, out):
        self._scalars[out] = True
      return
    data = [self.resolve(ref) for ref in refs if not ref.control]
    if any(ref.control and self.is_dead(ref) for ref in refs) or (
      node.op not in ops.MERGES and any(map(self.is_dead, data))
    ):
      self._dead_nodes[name] = True
      return
    if data or node.op == "Const":
      visit = _VISITS.get(node.op, PartialEvaluation._absorb)
      visit(self, node, out, data)
    if (
      data
      and out in self.uniform
      and node.op not in _SHAPING
      and all(ref in self._scalars for ref in data)
    ):
      self._scalars[out] = True

  def _set(self, ref, value, decided):
    self.uniform[ref] = value
    if decided:
      self._decided[ref] = True

  def _set_scalar(self, ref, value, decided):
    self._set(ref, value, decided)
    self._scalars[ref] = True

  # Control flow.

  def _predicate(self, name, ref):
    source = self
    if self._scoped is not None and self._scoped.covers(name):
      source = self._scoped
      ref = source.resolve(ref)
    return source.uniform.get(ref)

  def _merge(self, node, out, data):
    if any(
      ref.node not in self._dead_nodes and self._is_loop(ref) for ref in data
    ):
      if self.is_dead(data[0]):
        self._dead_nodes[node.name] = True
      return
    live = [i for i, ref in enumerate(data) if not self.is_dead(ref)]
    if not live:
      self._dead_nodes[node.name] = True
    elif len(live) == 1 and len(data) > 1:
      self._alias[out] = data[live[0]]
      self._set_scalar(out._replace(index=1), np.int32(live[0]), True)
    else:
      self._packed(node, out, [data[i] for i in live])

  def _is_loop(self, ref):
    return self.graph.op(ref.node) in ("NextIteration", "RefNextIteration")

  def _switch(self, node, out, data):
    predicate = self._predicate(node.name, data[1])
    if predicate is None:
      for side in (out, out._replace(index=1)):
        self._equal(side, data[0])
        if side in self.uniform and data[0] in self._scalars:
          self._scalars[side] = True
      return
    taken = int(bool(predicate))
    self._alias[out._replace(index=taken)] = data[0]
    self._dead[out._replace(index=1 - taken)] = True

  def _select(self, node, out, data):
    predicate = self._predicate(node.name, data[0])
    if predicate is not None and data[0] in self._decided:
      self._alias[out] = data[1] if predicate else data[2]

  # Values.

  def _constant(self, node, out, data):
    value = constant_value(self.graph, out, largest=64)
    value = None if value is None else uniform_value(value)
    if value is not None:
      self._set(out, value, False)
      if not node.attr["value"].tensor.tensor_shape.dim:
        self._scalars[out] = True

  def _initialized(self, node, out, data):
    self._set_scalar(out, np.bool_(True), True)  # a checkpoint is restored

  def _first(self, node, out, data):
    self._equal(out, data[0])

  def _filled(self, node, out, data):
    self._equal(out, data[1])

  def _equal(self, out, ref):
    if ref in self.uniform:
      self._set(out, self.uniform[ref], ref in self._decided)

  def _packed(self, node, out, data):
    values = [self.uniform.get(ref) for ref in data]
    if all(v is not None and v == values[0] for v in values):
      self._set(out, values[0], any(ref in self._decided for ref in data))

  def _computed(self, node, out, data):
    value = None
    if all(ref in self.uniform for ref in data):
      value = arithmetic.compute(node, [self.uniform[ref] for ref in data])
    if value is None:
      self._absorb(node, out, data)
    else:
      self._set(out, value, any(ref in self._decided for ref in data))

  def _written(self, node, out, data):
    """An update gives what it writes, as a step does that counts itself."""
    before, value = (self.uniform.get(ref) for ref in data[:2])
    if node.op in ops.ASSIGN:
      self._equal(out, data[1])
    elif before is not None and value is not None:
      is_add = node.op in ops.ASSIGN_ADD
      written = before + value if is_add else before - value
      self._set(out, written, any(ref in self._decided for ref in data))

  def _absorb(self, node, out, data):
    """One decided operand may settle the result, whatever the other is."""
    if len(data) != 2:
      return
    for ref, other in (data, data[::-1]):
      if ref not in self._decided:
        continue
      value = self.uniform[ref]
      if (node.op, bool(value)) in _SETTLES:
        self._set(out, value, True)
      elif (node.op, value) in _NEUTRAL and (
        ref == data[1] or node.op in _SYMMETRIC
      ):
        self._alias[out] = other
      else:
        continue
      return


_VISITS = {
  **dict.fromkeys(ops.MERGES, PartialEvaluation._merge),
  **dict.fromkeys(ops.SWITCHES, PartialEvaluation._switch),
  **dict.fromkeys(ops.SELECTS, PartialEvaluation._select),
  "Const": PartialEvaluation._constant,
  "IsVariableInitialized": PartialEvaluation._initialized,
  "VarIsInitializedOp": PartialEvaluation._initialized,
  **dict.fromkeys(_SAME, PartialEvaluation._first),
  **dict.fromkeys(_COMPUTED, PartialEvaluation._computed),
  **dict.fromkeys(ops.UPDATES, PartialEvaluation._written),
  "Fill": PartialEvaluation._filled,
  "Pack": PartialEvaluation._packed,
}


class ScopedEvaluation(PartialEvaluation):
  """An evaluation under other values, for the nodes below some scopes."""

  def __init__(self, graph, order, known, scopes):
    super().__init__(graph, order, known)
    self._scopes = tuple(scopes)

  def covers(self, name):
    return any(in_scope(name, scope) for scope in self._scopes)
