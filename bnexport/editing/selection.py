# SPDX-License-Identifier: Apache-2.0
"""Nodes and tensors of a Graph, chosen by op, name, scope and dataflow.

A selection is an ordered set of names; wherever names are asked for, one name
alone is fine too. In the examples:

  >>> from bnexport import selection, text
  >>> from bnexport.graph import Graph
  >>> graph = Graph(text.loads('''
  ...   x = Placeholder()        w = Const() {value=<float [1,2] 1 2>}
  ...   net/h = MatMul(x, w)     net/y = Relu(net/h)
  ...   loss = L2Loss(net/h)
  ... '''))
"""

from __future__ import annotations

import re
from typing import (
  Callable,
  Container,
  Dict,
  Iterable,
  List,
  Mapping,
  NamedTuple,
  Optional,
  Set,
  Tuple,
  Union,
)

from bnexport.errors import GraphError
from bnexport.graph import AnyRef, Graph, TensorRef, as_ref, nodes
from bnexport.graph.nodes import Signatures, in_scope
from bnexport.tf1 import tf1

_SIGNATURES = Signatures()
# One name, or several.
Names = Union[str, Iterable[str]]
# Tensors by tensors; the keys of a Mapping are invariant.
Tensors = Union[
  Mapping[TensorRef, AnyRef], Mapping[str, AnyRef], Mapping[AnyRef, AnyRef]
]


class Boundary(NamedTuple):
  """The tensors at the border of some nodes.

  Attributes:
    inputs: tensors of other nodes that they read, in order.
    outputs: their tensors that other nodes read; of nodes that nobody reads,
      all.
    inside: their tensors that they read themselves.
  """

  inputs: List[TensorRef]
  outputs: List[TensorRef]
  inside: List[TensorRef]


def as_names(names: Names) -> Dict[str, None]:
  """An ordered set of names: of one, or of several."""
  return dict.fromkeys([names] if isinstance(names, str) else names)


def as_refs(tensors: Optional[Tensors]) -> Dict[TensorRef, TensorRef]:
  """TensorRefs by TensorRefs, of a mapping that may have their text."""
  pairs: Iterable[Tuple[AnyRef, AnyRef]] = (tensors or {}).items()
  return {as_ref(old): as_ref(new) for old, new in pairs}


def members(graph: Graph, names: Names) -> Dict[str, None]:
  """An ordered set of names.

  Raises:
    GraphError: one is no node's; the nearest are offered.
  """
  return {graph.node(name).name: None for name in as_names(names)}


def find(
  graph: Graph,
  op: Optional[Names] = None,
  name: Optional[str] = None,
  scope: Optional[str] = None,
  where: Optional[Callable[[tf1.NodeDef], bool]] = None,
  within: Optional[Names] = None,
) -> List[str]:
  """Names of the nodes that meet all of the given conditions.

    >>> selection.find(graph, op=("MatMul", "Conv2D"))
    ['net/h']
    >>> selection.find(graph, name="/[hy]$")
    ['net/h', 'net/y']
    >>> selection.find(graph, scope="net", where=lambda n: len(n.input) == 1)
    ['net/y']

  Args:
    graph: the graph.
    op: an op's name, or several.
    name: a regular expression that a part of the node's name matches; an
      exact name is `graph.node(name)`.
    scope: a name scope: the node called so and all below it.
    where: a function of a NodeDef.
    within: the names to choose from; all where it is None.
  """
  wanted = None if op is None else as_names(op)
  pattern = None if name is None else re.compile(name)
  nodes = graph if within is None else map(graph.node, as_names(within))
  return [
    node.name
    for node in nodes
    if (wanted is None or node.op in wanted)
    and (pattern is None or pattern.search(node.name))
    and (scope is None or in_scope(node.name, scope))
    and (where is None or where(node))
  ]


def forward(
  graph: Graph,
  names: Names,
  within: Optional[Names] = None,
  stop: Iterable[AnyRef] = (),
  control: bool = True,
) -> Dict[str, None]:
  """Nodes that depend on the given ones, these included.

    >>> list(selection.forward(graph, "net/h"))
    ['net/h', 'net/y', 'loss']

  Args:
    graph: the graph.
    names: where to begin; `graph.readers_of(ref)` begins at a tensor.
    within: the names to stay in; all where it is None.
    stop: tensors whose readers are not followed.
    control: whether waiting for a node is depending on it.
  """
  stops = {as_ref(tensor) for tensor in stop}
  followed: Dict[str, Set[str]] = {}

  def reads(reader: str) -> Set[str]:
    # Worked out once: thousands of nodes may lead to one that waits for all.
    if reader not in followed:
      refs = _followed(graph, reader, stops, control)
      followed[reader] = {ref.node for ref in refs}
    return followed[reader]

  return _walk(
    graph,
    names,
    within,
    lambda name: [r for r in graph.readers(name) if name in reads(r)],
  )


def backward(
  graph: Graph,
  names: Names,
  within: Optional[Names] = None,
  stop: Iterable[AnyRef] = (),
  control: bool = True,
) -> Dict[str, None]:
  """Nodes that the given ones depend on, these included.

    >>> list(selection.backward(graph, "net/y", stop=["x"]))
    ['net/y', 'net/h', 'w']

  Args:
    graph: the graph.
    names: where to begin.
    within: the names to stay in; all where it is None.
    stop: tensors that are not followed.
    control: whether waiting for a node is depending on it.
  """
  stops = {as_ref(tensor) for tensor in stop}
  return _walk(
    graph,
    names,
    within,
    lambda name: [ref.node for ref in _followed(graph, name, stops, control)],
  )


def _followed(
  graph: Graph, name: str, stop: Container[TensorRef], control: bool
) -> List[TensorRef]:
  """Inputs of a node that a walk follows."""
  return [
    ref
    for ref in graph.inputs(name)
    if (control if ref.control else ref not in stop)
  ]


def between(
  graph: Graph, sources: Names, targets: Names, control: bool = True
) -> List[str]:
  """Nodes on the paths from `sources` to `targets`, both ends included.

  >>> selection.between(graph, "x", "net/y")
  ['x', 'net/h', 'net/y']
  """
  behind = backward(graph, targets, control=control)
  ahead = forward(graph, sources, control=control)
  return [name for name in ahead if name in behind]


def _walk(
  graph: Graph,
  names: Names,
  within: Optional[Names],
  onward: Callable[[str], Iterable[str]],
) -> Dict[str, None]:
  within = None if within is None else as_names(within)
  seen = {
    name: None
    for name in members(graph, names)
    if within is None or name in within
  }
  stack = list(seen)
  for name in stack:
    for other in onward(name):
      if other not in seen and (within is None or other in within):
        seen[other] = None
        stack.append(other)
  return seen


def neighbours(graph: Graph, names: Names, control: bool = False) -> List[str]:
  """Nodes that the given ones read, and nodes that read these.

  >>> selection.neighbours(graph, "net/h")
  ['x', 'w', 'net/y', 'loss']
  """
  own = members(graph, names)
  found: Dict[str, None] = {}
  for name in own:
    for ref in _followed(graph, name, (), control):
      found[ref.node] = None
  for reader in dict.fromkeys(r for n in own for r in graph.readers(n)):
    refs = _followed(graph, reader, (), control)
    if any(ref.node in own for ref in refs):
      found[reader] = None
  return list(found)


def enclosed(
  graph: Graph, names: Names, border: Names = (), control: bool = False
) -> Dict[str, None]:
  """Nodes reached from the given ones, up or down, without crossing a border.

    >>> list(selection.enclosed(graph, "net/y", border="net/h"))
    ['net/y', 'net/h']

  Args:
    graph: the graph.
    names: where to begin.
    border: nodes to stop at; those that were reached are included.
    control: whether control edges lead on.

  Raises:
    GraphError: a node to begin at is of the border.
  """
  border = members(graph, border)
  seen = members(graph, names)
  for name in seen:
    if name in border:
      raise GraphError(
        f"begin at '{name}'",
        "it is of the border too",
        "leave it out of one",
      )
  stack = list(seen)
  for name in stack:
    for other in neighbours(graph, name, control):
      if other not in seen:
        seen[other] = None
        if other not in border:
          stack.append(other)
  return seen


def boundary(graph: Graph, names: Names) -> Boundary:
  """Tensors at the border of the given nodes; control edges do not count.

  >>> edge = selection.boundary(graph, ["net/h", "net/y"])
  >>> [[str(ref) for ref in tensors] for tensors in edge]
  [['x', 'w'], ['net/h', 'net/y'], ['net/h']]
  """
  own = members(graph, names)
  read = dict.fromkeys(ref for n in own for ref in graph.data_inputs(n))
  readers = dict.fromkeys(r for n in own for r in graph.readers(n))
  taken = {
    ref
    for reader in readers
    if reader not in own
    for ref in graph.data_inputs(reader)
  }
  outputs: Dict[str, List[TensorRef]] = {name: [] for name in own}
  for ref in sorted(taken):
    if ref.node in own:
      outputs[ref.node].append(ref)
  used = {ref.node for ref in read}
  ends = [n for n in own if n not in used and not outputs[n]]
  for name in ends:
    outputs[name] = tensors(graph, name)
  return Boundary(
    inputs=[ref for ref in read if ref.node not in own],
    outputs=[ref for name in own for ref in outputs[name]],
    inside=[ref for ref in read if ref.node in own],
  )


def tensors(graph: Graph, names: Optional[Names] = None) -> List[TensorRef]:
  """All outputs of the given nodes.

  Of a node whose op nobody knows, those that are read.

    >>> [str(ref) for ref in selection.tensors(graph, ["x", "loss"])]
    ['x', 'loss']

  Args:
    graph: the graph.
    names: the nodes; all where it is None.
  """
  found: List[TensorRef] = []
  for name in graph.names() if names is None else members(graph, names):
    dtypes = output_dtypes(graph, name)
    if dtypes is not None:
      found += [TensorRef(name, index) for index in range(len(dtypes))]
    else:
      found += sorted(
        {
          ref
          for reader in graph.readers(name)
          for ref in graph.data_inputs(reader)
          if ref.node == name
        }
      )
  return found


def output_dtypes(graph: Graph, name: str) -> Optional[List[int]]:
  """DataTypes of a node's outputs; None where its op is unknown."""
  return nodes.output_dtypes(graph, name, _SIGNATURES)
