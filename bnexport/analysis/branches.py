# SPDX-License-Identifier: Apache-2.0
"""Which side of which conditional a node is on."""

from __future__ import annotations

from typing import FrozenSet, Tuple

from bnexport.graph import Graph, TensorRef, ops

_NOWHERE: FrozenSet[Tuple[str, bool]] = frozenset()


class Branches:
  """The sides of conditionals that nodes run on.

  A side is a pair of a predicate's node and True or False.
  """

  def __init__(self, graph: Graph, order):
    """Sweeps over `order`, names of nodes with inputs first."""
    self._graph = graph
    self._of = {}
    for name in order:
      self._of[name] = self._sides(graph.node(name))

  def of(self, name):
    """The sides that a node is on, as a frozenset."""
    return self._of.get(name, _NOWHERE)

  def are_opposite(self, a, b):
    """Whether one conditional runs either the node `a` or the node `b`."""
    others = self.of(b)
    return any((of, not side) in others for of, side in self.of(a))

  def _sides(self, node):
    found = [
      self._after(ref)
      for ref in self._graph.inputs(node.name)
      if ref.node in self._of
    ]
    if not found:
      return _NOWHERE
    if node.op in ops.MERGES:
      return frozenset.intersection(*found)
    longest = max(found, key=len)
    if all(sides <= longest for sides in found):
      return longest  # shared, not copied
    return frozenset.union(*found)

  def _after(self, ref):
    sides = self._of[ref.node]
    if self._graph.op(ref.node) not in ops.SWITCHES or ref.control:
      return sides
    predicate = self._graph.data_inputs(ref.node)[1]
    if self._graph.op(predicate.node) == "LoopCond":
      return sides
    root = unswitched(self._graph, predicate)
    return sides | {(root.node, bool(ref.index))}


def viewed(graph, ref: TensorRef) -> TensorRef:
  """The tensor that a tensor is a view of, outside of conditionals."""
  while True:
    op = graph.op(ref.node)
    if not (
      op in ops.IDENTITIES
      or op in ops.RESHAPES
      or op in ops.SWITCHES
      or op == "Cast"
    ):
      return ref
    ref = graph.inputs(ref.node)[0]


def unswitched(graph, ref: TensorRef) -> TensorRef:
  """The tensor that a tensor is, outside of the conditionals it is read in."""
  while True:
    op = graph.op(ref.node)
    if op in ops.IDENTITIES or op in ops.SWITCHES:
      ref = graph.inputs(ref.node)[0]
    else:
      return ref
