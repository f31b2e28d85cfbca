# SPDX-License-Identifier: Apache-2.0
"""Counts of functions' calls: bounds for inlining, and recursion."""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, Iterable, List, Optional, Set, Tuple

from bnexport.analysis import arithmetic
from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import constant_value, functions_of

# Nodes that inlining may add, and how deep calls may be nested.
MOST_NODES = 1_000_000
DEEPEST = 500

# What the arguments of a recursion are computed with.
_COMPUTED = arithmetic.select(
  "Add AddV2 Cast Equal FloorDiv FloorMod Greater GreaterEqual Less LessEqual "
  "LogicalAnd LogicalNot LogicalOr Maximum Minimum Mul Neg NotEqual Sub"
)
_COPIES = ops.IDENTITIES | ops.SWITCHES
_STEP = "cut it away with --input_node"


def refuse_many(graph: Graph, names: Iterable[str]) -> None:
  """Refuses calls of which too many nodes would come, or too deep ones.

  Args:
    graph: holds the functions.
    names: of nodes; those that are calls are inlined.

  Raises:
    GraphError: so it is.
  """
  sizes: Dict[str, Tuple[int, int]] = {}
  made = 0
  for name in names:
    for function in functions_of(graph.node(name)):
      if function not in graph.library:
        continue
      _measure(graph, function, sizes)
      size, depth = sizes[function]
      made += size
      if made > MOST_NODES or depth > DEEPEST:
        raise GraphError(
          f"inline function '{function}'",
          f"more than {MOST_NODES} nodes come of its calls"
          if made > MOST_NODES
          else f"its calls are nested more than {DEEPEST} deep",
          _STEP,
        )


def _measure(
  graph: Graph, name: str, sizes: Dict[str, Tuple[int, int]]
) -> None:
  """Notes how many nodes a call makes, and how deep those in it are nested.

  What calls itself counts as one node; that is counted when it is inlined.
  """
  stack = [] if name in sizes else [name]
  entered: Set[str] = set()
  while stack:
    function = stack[-1]
    inner = _called(graph, function)
    if function not in entered:
      entered.add(function)
      more = [f for f in inner if f not in entered and f not in sizes]
      stack += dict.fromkeys(more)
      continue
    stack.pop()
    known = [sizes.get(f, (1, 0)) for f in inner]
    sizes[function] = (
      len(graph.library[function].node_def) + sum(size for size, _ in known),
      1 + max((depth for _, depth in known), default=0),
    )


def _called(graph: Graph, function: str) -> List[str]:
  """Functions that a function calls, once for each call."""
  return [
    name
    for node in graph.library[function].node_def
    for name in functions_of(node)
    if name in graph.library
  ]


def recursive_functions(graph: Graph) -> FrozenSet[str]:
  """Names of the functions that lead to a call of themselves."""
  calls = {name: set(_called(graph, name)) for name in graph.library}
  callers: Dict[str, Set[str]] = {name: set() for name in calls}
  for name, inner in calls.items():
    for other in inner:
      callers[other].add(name)
  # What calls no others, and what only such call, is none of them.
  left = dict(calls)
  ready = [name for name, inner in left.items() if not inner]
  for name in ready:
    del left[name]
    for caller in callers[name]:
      calls[caller].discard(name)
      if caller in left and not calls[caller]:
        ready.append(caller)
  return frozenset(left)


class Recursion:
  """Calls of functions that call themselves, as far as constants tell them.

  A recursion whose depth is told by constants is finite, and is inlined as far
  as it goes.
  """

  def __init__(self, graph: Graph):
    self.functions = recursive_functions(graph)
    self._graph = graph
    self._values: Dict[TensorRef, Any] = {}
    self._alive: Set[str] = set()

  def is_part_of(self, node) -> bool:
    """Tells whether a node calls a function that calls itself."""
    return any(name in self.functions for name in functions_of(node))

  def is_dead(self, name: str) -> bool:
    """Tells whether a call lies on a side that no run takes.

    Raises:
      GraphError: data tells.
    """
    graph = self._graph
    stack, seen = graph.inputs(name), {name}
    for ref in stack:
      if ref.node in seen or ref.node in self._alive:
        continue
      op = graph.op(ref.node)
      if op in ops.SWITCHES:
        side = self.value(graph.inputs(ref.node)[1])
        if side is None:
          raise self._refusal(name)
        if not ref.control and bool(side) != bool(ref.index):
          return True
      else:
        seen.add(ref.node)
      if op not in ops.MERGES:
        stack += graph.inputs(ref.node)
    self._alive |= seen
    return False

  def choice(self, name: str, ref: TensorRef) -> Any:
    """The value by which a conditional that leads to itself chooses.

    Raises:
      GraphError: data tells.
    """
    value = self.value(ref)
    if value is None:
      raise self._refusal(name)
    return value

  def _refusal(self, name: str) -> GraphError:
    node = self._graph.node(name)
    function = next(f for f in functions_of(node) if f in self.functions)
    return GraphError(
      f"inline function '{function}'",
      "it calls itself, and no constant tells how often",
      _STEP,
    )

  def value(self, ref: TensorRef, depth: int = 50) -> Optional[Any]:
    """The scalar that follows from constants for a tensor, or None."""
    if ref in self._values or not depth:
      return self._values.get(ref)
    graph = self._graph
    node, inputs = graph.node(ref.node), graph.data_inputs(ref.node)
    found = None
    if node.op == "Const":
      array = constant_value(graph, ref, largest=1)
      found = None if array is None else array.reshape(-1)[0]
    elif node.op in _COPIES:
      found = self.value(inputs[0], depth - 1)
    elif node.op in _COMPUTED:
      values = [self.value(r, depth - 1) for r in inputs]
      if all(v is not None for v in values):
        found = arithmetic.compute(node, values)
    if found is not None:
      self._values[ref] = found
    return found
