# SPDX-License-Identifier: Apache-2.0
r"""Formulas found in a Graph, written as they read: `y = Add(Mul(x, a), b)`.

A pattern is one statement or several, as bnexport.text writes them, and more:

  y = Mul(Rsqrt(v), x)         an input may be an expression
  y = Add|AddV2|BiasAdd(a, b)  any of several ops; `*` is any op
  y = ConcatV2(x, ...)         any inputs from there on
  s = Const() {dtype=float}    attributes that the node has to have
  z = Relu(n:1)                the second output of n

A name that no statement gives is any tensor, the same one wherever it stands.
The inputs of Add, Mul and whatever else does not mind are tried both ways.
Control inputs do not count. One statement is the root: none reads it.

  >>> from bnexport import patterns, pieces, text
  >>> from bnexport.graph import Graph
  >>> graph = Graph(text.loads('''
  ...   i = Placeholder()   w = Const()   c = Const()
  ...   m = Mul(w, i)       s = Add(m, c)   t = Sub(m, c)
  ... '''))
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Dict, Iterator, List, Optional, Tuple

from bnexport import text
from bnexport.editing.formulas import Pattern, read
from bnexport.editing.selection import Names, members
from bnexport.graph import Graph, TensorRef
from bnexport.graph.tensors import array_of
from bnexport.tf1 import op_def, tf1

COMMUTATIVE = frozenset(
  (
    "Add",
    "AddV2",
    "Mul",
    "Maximum",
    "Minimum",
    "SquaredDifference",
    "Equal",
    "NotEqual",
    "LogicalAnd",
    "LogicalOr",
  )
)


@dataclasses.dataclass(frozen=True)
class Match:
  """A place of a graph that matches a pattern.

  Attributes:
    root: name of the node that is the pattern's root.
    tensors: the graph's tensors by the pattern's names.
    nodes: names of all nodes that are part of it, the root first.
  """

  root: str
  tensors: Dict[str, TensorRef]
  nodes: Tuple[str, ...]

  def __getitem__(self, name: str) -> TensorRef:
    return self.tensors[name]


@dataclasses.dataclass(frozen=True)
class NearMiss:
  """A place of a graph that matches a part of a pattern.

  Attributes:
    root: name of the node that would be the pattern's root.
    matched: how many of the pattern's nodes were found there.
    count: how many it has.
    fact: what is another way, and where.
  """

  root: str
  matched: int
  count: int
  fact: str

  def __str__(self) -> str:
    return (
      f"at '{self.root}' {self.matched} of {self.count} nodes match: "
      f"{self.fact}"
    )


def find(
  graph: Graph, pattern: str, within: Optional[Names] = None
) -> List[Match]:
  """All matches of a pattern, one for each node that can be its root.

  What is found can be replaced: here by a node that reads the same.

    >>> found, = patterns.find(graph, "y = Add(Mul(x, a), b)")
    >>> found.nodes, str(found["x"]), str(found["b"])
    (('s', 'm'), 'w', 'c')
    >>> new = pieces.splice(
    ...   graph, "y = AddN(x, a, b)", found.tensors, {found.root: "y"})

  Args:
    graph: the graph.
    pattern: the pattern's text.
    within: the nodes that may be its root; all where it is None.

  Raises:
    GraphError: the pattern can't be read.
  """
  return [match for match, _ in _tried(graph, read(pattern), within) if match]


def near_misses(
  graph: Graph, pattern: str, within: Optional[Names] = None, most: int = 3
) -> List[NearMiss]:
  """Places that match a part of a pattern, the largest parts first.

    >>> for miss in patterns.near_misses(graph, "y = Sub(Mul(x, a), Neg(b))"):
    ...   print(miss)
    at 't' 2 of 3 nodes match: input 1 of 't' is 'c' (Const), not Neg

  Args:
    graph: the graph.
    pattern: the pattern's text.
    within: the nodes that may be its root; all where it is None.
    most: how many to tell.

  Returns:
    The nearest ones; none where no node has the root's op, and none for nodes
    where the pattern is.
  """
  found = [
    miss for _, miss in _tried(graph, read(pattern), within) if miss is not None
  ]
  found.sort(key=lambda miss: -miss.matched)
  return found[:most]


def _tried(
  graph: Graph, pattern: Pattern, within: Optional[Names]
) -> Iterator[Tuple[Optional[Match], Optional[NearMiss]]]:
  """Yields (Match or None, NearMiss or None) for each node that has the op."""
  wanted = pattern.nodes[pattern.root].ops
  names = graph.names() if within is None else members(graph, within)
  for name in names:
    if not wanted or graph.op(name) in wanted:
      yield _Search(graph, pattern).at(name)


# The search.


class _Search:
  """Looks for a pattern at one node."""

  def __init__(self, graph, pattern):
    self._graph = graph
    self._pattern = pattern
    self._deepest = (0, None)

  def at(self, name):
    """A Match and None, or None and a NearMiss."""
    pattern = self._pattern
    first = (TensorRef(pattern.root), TensorRef(name), None)
    found = self._solve((first, None), {})
    if found is None:
      matched, fact = self._deepest
      return None, NearMiss(name, matched, len(pattern.nodes), fact())
    nodes = dict.fromkeys(found[n].node for n in pattern.nodes)
    tensors = {n: ref for n, ref in found.items() if "(" not in n}
    return Match(name, tensors, tuple(nodes)), None

  def _solve(self, goals, bound) -> Optional[Dict[str, TensorRef]]:
    """Tensors by the pattern's names for which all goals hold, or None.

    Args:
      goals: pairs of a goal and further goals. A goal is what the pattern
        reads, what the graph reads, and where.
      bound: tensors by name that are settled.
    """
    if goals is None:
      return bound
    (want, have, where), rest = goals
    node = self._pattern.nodes.get(want.node)
    settled = have if node is None else TensorRef(have.node)
    if want.node in bound:
      if bound[want.node] != settled or (node and want.index != have.index):
        return self._fail(bound, where, have, f"'{want}' as elsewhere")
      return self._solve(rest, bound)
    if node is None:
      return self._solve(rest, dict(bound, **{want.node: settled}))
    wrong = self._mismatch(node, want, have)
    if wrong is not None:
      return self._fail(bound, where, have, wrong)
    bound = dict(bound, **{want.node: settled})
    for order in self._orders(node, have.node):
      further = rest
      for slot in reversed(range(len(node.inputs))):
        have_slot, ref = order[slot]
        goal = (node.inputs[slot], ref, (have_slot, have.node))
        further = (goal, further)
      found = self._solve(further, bound)
      if found is not None:
        return found
    return None

  def _orders(self, node, name):
    """Yields a node's inputs with their slots, in each order to match."""
    refs = list(enumerate(self._graph.data_inputs(name)))
    yield refs
    if self._graph.op(name) in COMMUTATIVE and len(node.inputs) == 2:
      yield refs[::-1]

  def _mismatch(self, node, want, have):
    """Words for the node that the pattern wants; None where `have` fits."""
    graph = self._graph
    if node.ops and graph.op(have.node) not in node.ops:
      return " or ".join(sorted(node.ops))
    if want.index != have.index:
      return f"output {want.index}"
    count = len(graph.data_inputs(have.node))
    if count < len(node.inputs) or (
      count > len(node.inputs) and not node.has_more
    ):
      return f"one of {len(node.inputs)} inputs"
    stated = graph.node(have.node)
    for key, value in node.attrs.items():
      if not _is_same(_attr(stated, key), value):
        return f"one with {_attr_text(key, value)}"
    return None

  def _fail(self, bound, where, have, wanted):
    """Notes the deepest failure of the search; returns None."""
    matched = sum(name in self._pattern.nodes for name in bound)
    if matched > self._deepest[0] or self._deepest[1] is None:
      op = self._graph.op(have.node)
      self._deepest = matched, functools.partial(_fact, where, have, op, wanted)
    return None


def _fact(where, have, op, wanted):
  here = f"'{have}' ({op})"
  if where is not None:
    here = "input %d of '%s' is %s" % (where + (here,))
  return f"{here}, not {wanted}"


def _attr(node, key):
  """An attribute, or the default that TensorFlow takes, or None."""
  if key in node.attr:
    return node.attr[key]
  known = op_def(node.op)
  for attr in known.attr if known is not None else ():
    if attr.name == key and attr.HasField("default_value"):
      return attr.default_value
  return None


def _is_same(attr, wanted):
  if attr is None or not wanted.HasField("tensor"):
    return attr == wanted
  if not attr.HasField("tensor"):
    return False
  # One value may be stored in several ways.
  one, other = map(array_of, (attr.tensor, wanted.tensor))
  return (
    one.dtype == other.dtype
    and one.shape == other.shape
    and bool((one == other).all())
  )


def _attr_text(key, value):
  node = tf1.NodeDef(name="n", op="n")
  node.attr[key].CopyFrom(value)
  return text.dumps(node, largest=8)[len("graph {complete=true}\nn = n() ") :]
