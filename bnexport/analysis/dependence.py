# SPDX-License-Identifier: Apache-2.0
"""The dependence of tensors on the batch: none, through statistics, by row."""

from __future__ import annotations

from typing import Dict

from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape
from bnexport.tf1 import tf1

# In order: what combines two tensors depends on the batch as the stronger.
FREE = 0  # the same for every batch
STATISTIC = 1  # depends on the batch as a whole: a mean over its rows
DATA = 2  # each row has its own value

# One value for every row of a batch, such as a recurrent net's first state.
_FILLS = frozenset(("Fill", "ZerosLike", "OnesLike", "BroadcastTo"))
_WHOLE = frozenset(("L2Loss",))  # reduce all axes


class Dependence:
  """The dependence of the outputs of some nodes.

  A reduction over axis 0 turns rows into a statistic, and so does a product
  that contracts it. Where the axes are not constants they are computed from
  the rank, and mean all axes.
  """

  def __init__(self, graph: Graph, order, reductions=frozenset()):
    """Sweeps over the nodes.

    Args:
      graph: stays as it is.
      order: names of nodes, inputs first.
      reductions: names of nodes known to reduce the batch, on another axis.
    """
    self._graph = graph
    self._reductions = reductions
    self._levels: Dict[str, int] = {}
    changed = True
    while changed:  # once, and once more for each loop around a loop
      changed = False
      for name in order:
        level = self._level(graph.node(name))
        changed |= level != self._levels.get(name, level) or (
          graph.op(name) in ("NextIteration", "RefNextIteration")
          and name not in self._levels
          and level != FREE
        )
        self._levels[name] = level

  def __call__(self, ref: TensorRef) -> int:
    node = self._graph.node(ref.node)
    level = self._levels.get(ref.node, FREE)
    if node.op in ops.FUSED_NORMS and ref.index:
      if not uses_batch(node):
        return FREE
      return min(level, STATISTIC)
    return level

  def _is_setting(self, node):
    """Whether a placeholder is a switch or a rate, and no batch."""
    if node.op not in ops.PLACEHOLDERS:
      return False
    return (
      node.attr["dtype"].type == tf1.bool.as_datatype_enum
      or static_shape(self._graph, TensorRef(node.name)) == ()
    )

  def _level(self, node):
    if node.op in ops.SHAPES:
      return FREE
    if node.op in _FILLS:
      shape = static_shape(self._graph, TensorRef(node.name))
      return DATA if shape and len(shape) > 1 and shape[0] < 0 else FREE
    if ops.is_random(node.op):
      # A generator may draw its own batch; rows of one are no batch.
      shape = static_shape(self._graph, TensorRef(node.name))
      return DATA if shape and len(shape) > 1 and shape[0] != 1 else FREE
    if ops.is_data_source(node.op):
      return FREE if self._is_setting(node) else DATA
    refs = self._graph.data_inputs(node.name)
    level = max(map(self, refs), default=FREE)
    if level == DATA and (
      node.name in self._reductions
      or reduces_batch(self._graph, node)
      or self._contracts_batch(node, refs)
    ):
      return STATISTIC
    return level

  def _contracts_batch(self, node, refs):
    """Whether a node sums products of two tensors' rows, as a covariance."""
    return (
      node.op == "MatMul"
      and node.attr["transpose_a"].b
      and not node.attr["transpose_b"].b
      and all(self(ref) == DATA for ref in refs)
    )


def uses_batch(node):
  """Whether a node is a norm that computes with the batch's statistics."""
  if node.op not in ops.FUSED_NORMS:
    return False
  return "is_training" not in node.attr or node.attr["is_training"].b


def reduces_batch(graph, node):
  """Whether a node reduces over axis 0, as far as its axes are known.

  Where the first axis is open after it as well, that is the batch, and what
  was reduced is something else, such as time.
  """
  if node.op in _WHOLE:
    return True
  if node.op not in ops.REDUCTIONS:
    return False
  if (static_shape(graph, TensorRef(node.name)) or (1,))[0] < 0:
    return False
  x, axes = graph.data_inputs(node.name)
  axes = constant_value(graph, axes, largest=16)
  if axes is None:
    return True
  axes = axes.reshape(-1)
  if (axes >= 0).all():
    return 0 in axes
  shape = static_shape(graph, x)
  return shape is not None and 0 in axes % len(shape)
