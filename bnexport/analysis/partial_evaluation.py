# SPDX-License-Identifier: Apache-2.0
"""What follows in a graph from a few known scalars, without running it.

Three facts about tensors: a *uniform* tensor has one known value in all its
elements; a *dead* one lies on a branch that is not taken; an *alias* equals
another tensor. They are found in one sweep in order of execution.
"""

from __future__ import annotations

import operator
from typing import Dict, Set

import numpy as np

from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import (
  constant_value,
  in_scope,
  static_shape,
  uniform_value,
)
from bnexport.tf1 import tf1

_FUNCTIONS = {
  "LogicalNot": np.logical_not,
  "LogicalAnd": np.logical_and,
  "LogicalOr": np.logical_or,
  "Equal": operator.eq,
  "NotEqual": operator.ne,
  "Less": operator.lt,
  "LessEqual": operator.le,
  "Greater": operator.gt,
  "GreaterEqual": operator.ge,
  "Add": np.add,
  "AddV2": np.add,
  "Sub": np.subtract,
  "Mul": np.multiply,
  "RealDiv": np.true_divide,
  "Neg": np.negative,
  "Maximum": np.maximum,
  "Minimum": np.minimum,
  "Floor": np.floor,
  "FloorMod": np.mod,
  "Abs": np.abs,
  "FloorDiv": np.floor_divide,
}
_SAME = (
  ops.IDENTITIES
  | ops.ENTERS
  | ops.RESHAPES
  | ops.RESOURCE_READS
  | {
    "Tile",
    "BroadcastTo",
    "All",
    "Any",
  }
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
_INITIALIZED = ("IsVariableInitialized", "VarIsInitializedOp")
# Ops through which a known scalar stays known; a predicate's leaves are what
# lies behind them.
TRANSPARENT = frozenset(_FUNCTIONS) | _SAME | {"Cast", "Fill", "Pack"}


class Evaluation:
  """The consequences of `known` for the nodes of `order`.

  Attributes:
    uniform: scalars by TensorRef.
    conditional: names of nodes that an undecided conditional or a loop may
      leave out or repeat.
  """

  def __init__(self, graph: Graph, order, known, exceptions=None):
    """Sweeps over the graph once.

    Args:
      graph: stays as it is.
      order: names of the nodes to look at, inputs first.
      known: NumPy scalars by node name, for first outputs.
      exceptions: an Evaluation that says what predicates are at the nodes
        in its `scope`, or None.
    """
    self.graph = graph
    self.known = known
    self.uniform: Dict[TensorRef, np.generic] = {}
    self.conditional: Set[str] = set()
    # Uniform because of `known`, not of a constant.
    self._decided: Set[TensorRef] = set()
    self._scalars: Set[TensorRef] = set()  # uniform, and sure to have no axes
    self._alias: Dict[TensorRef, TensorRef] = {}
    self._dead: Set[TensorRef] = set()
    self._dead_nodes: Set[str] = set()
    self._exceptions = exceptions
    for name in order:
      self._visit(graph.node(name))
      if self._is_conditional(graph.node(name)):
        self.conditional.add(name)

  def resolve(self, ref: TensorRef) -> TensorRef:
    """The tensor that a ref equals in the end."""
    while ref in self._alias:
      ref = self._alias[ref]
    return ref

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
    """What a node reads in the end: resolved, without what is dead."""
    refs = []
    for ref in self.graph.inputs(name):
      if not ref.control:
        ref = self.resolve(ref)
      if not self.is_dead(ref):
        refs.append(ref)
    return refs

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
        if (
          ref.control
          or ref.node in self.conditional
          or self.folded_value(ref) is None
        ):
          stack.append(ref.node)
    return seen

  def _visit(self, node):
    name, op = node.name, node.op
    out = TensorRef(name)
    refs = self.graph.inputs(name)
    if name in self.known:
      self._set(out, self.known[name], True)
      shape = static_shape(self.graph, out)
      if shape is None or not shape:
        self._scalars.add(out)
      return
    if any(ref.control and ref.node in self._dead_nodes for ref in refs):
      self._dead_nodes.add(name)
      return
    data = [self.resolve(ref) for ref in refs if not ref.control]
    if op in ops.MERGES:
      self._merge(name, data)
    elif any(self.is_dead(ref) for ref in data):
      self._dead_nodes.add(name)
    elif op in ops.SWITCHES:
      self._switch(name, data)
    elif op in ("Select", "SelectV2"):
      self._select(out, data)
    elif op == "Const":
      value = constant_value(self.graph, out, largest=64)
      value = None if value is None else uniform_value(value)
      if value is not None:
        self._set(out, value, False)
        if not node.attr["value"].tensor.tensor_shape.dim:
          self._scalars.add(out)
    elif op in _INITIALIZED:
      self._set(out, np.bool_(True), True)  # a checkpoint is restored
      self._scalars.add(out)
    elif data:
      self._compute(node, out, data)

  def _is_conditional(self, node):
    if node.op in ops.ENTERS:
      return True
    if node.op in ops.SWITCHES and not any(
      TensorRef(node.name, side) in self._dead for side in (0, 1)
    ):
      return True
    return any(ref.node in self.conditional for ref in self.inputs(node.name))

  def _set(self, ref, value, decided):
    self.uniform[ref] = value
    if decided:
      self._decided.add(ref)

  def _predicate(self, name, ref):
    source = self
    if self._exceptions is not None and self._exceptions.covers(name):
      source = self._exceptions
      ref = source.resolve(ref)
    return source.uniform.get(ref)

  def _merge(self, name, data):
    if any(
      ref.node not in self._dead_nodes and self._is_loop(ref) for ref in data
    ):
      if self.is_dead(data[0]):
        self._dead_nodes.add(name)
      return
    live = [i for i, ref in enumerate(data) if not self.is_dead(ref)]
    if not live:
      self._dead_nodes.add(name)
    elif len(live) == 1 and len(data) > 1:
      ref = data[live[0]]
      self._alias[TensorRef(name)] = ref
      self._set(TensorRef(name, 1), np.int32(live[0]), True)
      self._scalars.add(TensorRef(name, 1))

  def _is_loop(self, ref):
    return self.graph.op(ref.node) in ("NextIteration", "RefNextIteration")

  def _switch(self, name, data):
    predicate = self._predicate(name, data[1])
    if predicate is None:
      return
    taken = int(bool(predicate))
    self._alias[TensorRef(name, taken)] = data[0]
    self._dead.add(TensorRef(name, 1 - taken))

  def _select(self, out, data):
    predicate = self._predicate(out.node, data[0])
    if predicate is not None and data[0] in self._decided:
      self._alias[out] = data[1] if predicate else data[2]

  def _compute(self, node, out, data):
    op = node.op
    values = [self.uniform.get(ref) for ref in data]
    decided = any(ref in self._decided for ref in data)
    if op in _FUNCTIONS and all(v is not None for v in values):
      self._set(out, _apply(_FUNCTIONS[op], values), decided)
    elif op in _SAME and values[0] is not None:
      self._set(out, values[0], data[0] in self._decided)
    elif op == "Cast" and values[0] is not None:
      dtype = tf1.as_dtype(node.attr["DstT"].type).as_numpy_dtype
      self._set(out, dtype(values[0]), decided)
    elif op == "Fill" and values[1] is not None:
      self._set(out, values[1], data[1] in self._decided)
    elif op == "Pack" and all(v is not None and v == values[0] for v in values):
      self._set(out, values[0], decided)
    elif decided:
      self._absorb(op, out, data, values)
    if (
      out in self.uniform
      and op not in _SHAPING
      and all(ref in self._scalars for ref in data)
    ):
      self._scalars.add(out)

  def _absorb(self, op, out, data, values):
    """One decided operand may settle the result, whatever the other is."""
    for value, ref, other in zip(values, data, reversed(data)):
      if value is None or ref not in self._decided or len(data) != 2:
        continue
      if (op, bool(value)) in _SETTLES:
        self._set(out, value, True)
      elif (op, value) in _NEUTRAL and (ref == data[1] or op in _SYMMETRIC):
        self._alias[out] = other
      else:
        continue
      return


def _apply(function, values):
  with np.errstate(all="ignore"):
    result = function(*values)
  return result if isinstance(result, np.generic) else np.bool_(result)


class Exceptions(Evaluation):
  """An evaluation under other values, for the nodes below some scopes."""

  def __init__(self, graph, order, known, scopes):
    super().__init__(graph, order, known)
    self._scopes = tuple(scopes)

  def covers(self, name):
    return any(in_scope(name, scope) for scope in self._scopes)
