# SPDX-License-Identifier: Apache-2.0
"""Undoing what was computed of a statistic before it was averaged."""

from __future__ import annotations

from typing import Iterator, Optional, Set, Tuple

from bnexport.analysis.dependence import FREE, STATISTIC, Dependence
from bnexport.batchnorm.stored import Step
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import constant_value, uniform_value
from bnexport.graph.origins import BRANCH_VIEWS, origin_of

_SAME = BRANCH_VIEWS | {"Relu"}  # which averages of variances go through
_UNARY = {
  "Exp": ("Log",),
  "Expm1": ("Log1p",),
  "Inv": ("Reciprocal",),
  "Log": ("Exp",),
  "Log1p": ("Expm1",),
  "Neg": ("Neg",),
  "Reciprocal": ("Reciprocal",),
  "Rsqrt": ("Square", "Reciprocal"),
  "Sqrt": ("Square",),
}
_POWERS = {
  -1.0: ("Reciprocal",),
  -0.5: ("Square", "Reciprocal"),
  0.5: ("Square",),
  1.0: (),
}
# For f(x, c) and f(c, x): the op that gives x of the value and c, and whether
# the value is its first operand.
_BINARY = {
  "Add": (("Sub", True), ("Sub", True)),
  "AddV2": (("Sub", True), ("Sub", True)),
  "Div": (("Mul", True), ("RealDiv", False)),
  "Mul": (("RealDiv", True), ("RealDiv", True)),
  "RealDiv": (("Mul", True), ("RealDiv", False)),
  "Sub": (("Add", True), ("Sub", False)),
}
# Ops that give nothing below zero.
_POSITIVE = frozenset(("Abs", "Exp", "Relu", "Rsqrt", "Sqrt", "Square"))
_SQUARES = frozenset(("Square", "SquaredDifference"))
# Leaves that have one value in training and inference.
_FIXED = ops.VARIABLES | {"Const"}
_MOST_OPERANDS = 200
# Tensors on the way back from what is averaged; people write a few.
_MOST_BEHIND = 40


def inverses(
  graph: Graph, dependence: Dependence, ref: TensorRef
) -> Iterator[Tuple[TensorRef, Tuple[Step, ...]]]:
  """The statistics that a tensor is computed of, and how to get back to them.

  Args:
    graph: stays as it is.
    dependence: covers it.
    ref: a statistic.

  Yields:
    A TensorRef, first `ref` itself, and the Steps from the value of `ref`.
  """
  steps: Tuple[Step, ...] = ()
  seen: Set[TensorRef] = set()
  while (
    ref not in seen
    and len(seen) < _MOST_BEHIND
    and dependence(ref) == STATISTIC
  ):
    seen.add(ref)
    yield ref, steps
    node, refs = graph.node(ref.node), graph.data_inputs(ref.node)
    undone: Optional[Tuple[Step, ...]] = None
    if node.op in _SAME or (node.op == "Pack" and len(refs) == 1):
      undone = ()
    elif node.op == "Square" or (node.op == "Mul" and refs[0] == refs[1]):
      if _is_positive(graph, refs[0]):
        undone = (Step("Sqrt"),)
    elif node.op in _UNARY:
      undone = tuple(map(Step, _UNARY[node.op]))
    elif len(refs) == 2:
      undone, refs = _binary(graph, dependence, node.op, refs)
    if undone is None:
      return
    ref, steps = refs[0], steps + undone


def _binary(graph, dependence, op, refs):
  """Steps that undo an op of two operands, and the operand that is left."""
  slots = [i for i in (0, 1) if dependence(refs[i]) == STATISTIC]
  if len(slots) != 1 or dependence(refs[1 - slots[0]]) != FREE:
    return None, refs
  (slot,) = slots
  inner, other = refs[slot], refs[1 - slot]
  if op == "Maximum":
    return (), [inner]  # a lower limit, which a stored variance is above
  if op == "Pow" and slot == 0:
    power = constant_value(graph, other)
    power = None if power is None else uniform_value(power)
    found = None if power is None else _POWERS.get(float(power))
    return (None if found is None else tuple(map(Step, found))), [inner]
  if op not in _BINARY or not _is_fixed(graph, other):
    return None, refs
  undoing, is_first = _BINARY[op][slot]
  return (Step(undoing, other, is_first),), [inner]


def _is_positive(graph, ref):
  """Whether a tensor is sure to be a root, or a mean of squares, or such."""
  ref = origin_of(graph, ref, BRANCH_VIEWS)
  op = graph.op(ref.node)
  if op in ("Add", "AddV2"):  # of an epsilon
    return all(_is_positive(graph, r) for r in graph.data_inputs(ref.node))
  if op == "Const":
    value = constant_value(graph, ref, largest=1)
    return value is not None and bool((value > 0).all())
  if op in ("Mean", "Sum"):
    op = graph.op(graph.data_inputs(ref.node)[0].node)
    return op in _SQUARES
  return op in _POSITIVE


def _is_fixed(graph, ref):
  """Whether an operand is the same in training and inference.

  The size of the batch, the phase and rates that are fed are not.
  """
  behind = [ref]
  for seen in behind:
    node = graph.node(seen.node)
    if node.op in _FIXED:
      continue
    refs = graph.data_inputs(seen.node)
    if (
      not refs
      or node.op in ops.SHAPES | ops.UPDATES | ops.PLACEHOLDERS
      or len(behind) > _MOST_OPERANDS
    ):
      return False
    behind += [r for r in refs if r not in behind]
  return True
