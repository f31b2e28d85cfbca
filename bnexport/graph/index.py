# SPDX-License-Identifier: Apache-2.0
"""Index: nodes by name, and who reads them."""

from __future__ import annotations

from typing import (
  TYPE_CHECKING,
  Dict,
  Iterable,
  Iterator,
  List,
  Optional,
  Tuple,
)

from bnexport.errors import GraphError, nearest
from bnexport.graph.refs import TensorRef

if TYPE_CHECKING:  # importing TensorFlow takes seconds
  from bnexport.tf1 import tf1

# The step where a file is malformed.
MENDS = "python -m bnexport.repair mends what can be mended"
# Ops through which a loop begins anew.
_CLOSING = ("NextIteration", "RefNextIteration")
# In place of an output's index: the reader waits for the node.
_WAITS = -1


class Index:
  """The questions about a graph; Graph adds the verbs that change it."""

  def __init__(self) -> None:
    self._nodes: Dict[str, tf1.NodeDef] = {}
    # What a NodeDef writes, read once: the verbs change both.
    self._inputs: Dict[str, Tuple[TensorRef, ...]] = {}
    # By the node that is read: how often a reader takes which output.
    self._readers: Dict[str, Dict[Tuple[str, int], int]] = {}

  def __contains__(self, name: str) -> bool:
    return name in self._nodes

  def __len__(self) -> int:
    return len(self._nodes)

  def __iter__(self) -> Iterator[tf1.NodeDef]:
    """Yields the nodes; the graph may be edited meanwhile."""
    return iter(list(self._nodes.values()))

  def names(self) -> List[str]:
    return list(self._nodes)

  def node(self, name: str) -> tf1.NodeDef:
    """Returns the NodeDef called `name`.

    Raises:
      GraphError: there is none; the nearest names are offered.
    """
    try:
      return self._nodes[name]
    except KeyError:
      raise GraphError(
        f"find node '{name}'",
        "the graph has none of that name",
        nearest(name, self._nodes),
      ) from None

  def op(self, name: str) -> str:
    return self._nodes[name].op

  def inputs(self, name: str) -> List[TensorRef]:
    """All inputs of a node, control inputs last."""
    return list(self._inputs[name])

  def data_inputs(self, name: str) -> List[TensorRef]:
    return [ref for ref in self._inputs[name] if not ref.control]

  def control_inputs(self, name: str) -> List[TensorRef]:
    return [ref for ref in self._inputs[name] if ref.control]

  def readers(self, name: str) -> List[str]:
    """Names of the nodes that read any output of `name`, or wait for it."""
    return list(dict.fromkeys([r for r, _ in self._readers[name]]))

  def readers_of(self, ref: TensorRef) -> List[str]:
    """Names of the nodes that read exactly this tensor, or wait for `^a`."""
    place = _place(ref)
    return [r for r, taken in self._readers[ref.node] if taken == place]

  def reads(self, name: str) -> List[TensorRef]:
    """The tensors of `name` that nodes read, and `^name` where one waits."""
    places = {place for _, place in self._readers[name]}
    tensors = [TensorRef(name, i) for i in sorted(places) if i != _WAITS]
    return tensors + [TensorRef(name, 0, True)] * (_WAITS in places)

  def edges(self, name: str) -> Iterator[Tuple[str, TensorRef, int]]:
    """Yields each reader of a node, the tensor it takes, and how often.

    Who needs few of them need not go through all: a hub has many.
    """
    for (reader, place), count in self._readers[name].items():
      is_control = place == _WAITS
      ref = TensorRef(name, 0 if is_control else place, is_control)
      yield reader, ref, count

  def ancestors(
    self, names: Iterable[str], control: bool = True
  ) -> Dict[str, None]:
    """Nodes that `names` need, themselves included, as an ordered set."""
    seen = dict.fromkeys(names)
    stack = list(seen)
    while stack:
      for ref in self._inputs[stack.pop()]:
        if ref.node not in seen and (control or not ref.control):
          seen[ref.node] = None
          stack.append(ref.node)
    return seen

  def topological(self, names: Optional[Iterable[str]] = None) -> List[str]:
    """Sorts nodes so that inputs come first; loops enter at their Merge.

    Args:
      names: the nodes to sort; all where it is None. Inputs from outside are
        ignored.

    Raises:
      GraphError: the nodes form a cycle that no NextIteration closes.
    """
    members = dict.fromkeys(self._nodes if names is None else names)
    nodes, inputs, readers = self._nodes, self._inputs, self._readers
    closing = {name for name in members if nodes[name].op in _CLOSING}
    sources = members.keys() - closing
    waiting = {}
    for name in members:
      read = [ref.node for ref in inputs[name]]
      waiting[name] = len(sources.intersection(read)) if read else 0
    ready = [name for name in members if not waiting[name]]
    order = []
    for name in ready:
      order.append(name)
      if name in closing:
        continue
      # Each reader once, however many of the outputs it reads.
      for reader in dict(readers[name].keys()):
        if reader in waiting:
          waiting[reader] -= 1
          if not waiting[reader]:
            ready.append(reader)
    if len(order) != len(members):
      left = sorted(set(members) - set(order))
      raise GraphError(
        "order the graph",
        f"'{left[0]}' is part of a cycle",
        "cut the cycle",
      )
    return order

  def unique_name(self, base: str) -> str:
    """Returns `base`, or `base_1`, `base_2`... where that is taken."""
    name, count = base, 0
    while name in self._nodes:
      count += 1
      name = f"{base}_{count}"
    return name

  # Keeping it true.

  def _enter(self, node: tf1.NodeDef) -> None:
    """Takes a node in; its inputs are linked by themselves."""
    self._nodes[node.name] = node
    self._inputs[node.name] = ()
    self._readers[node.name] = {}

  def _read(self, name: str, refs: Iterable[TensorRef]) -> None:
    """Notes the inputs that a node has from now on; it has none so far."""
    self._inputs[name] = tuple(refs)
    for ref in self._inputs[name]:
      self._link(name, ref)

  def _unread(self, name: str) -> None:
    """Notes that a node has no inputs from now on."""
    for ref in self._inputs[name]:
      self._unlink(name, ref)
    self._inputs[name] = ()

  def _forget(self, name: str) -> None:
    """Takes a node out that has no inputs and no readers."""
    del self._nodes[name], self._inputs[name], self._readers[name]

  def _link(self, name: str, ref: TensorRef) -> None:
    try:
      readers = self._readers[ref.node]
    except KeyError:
      raise GraphError(
        "read the graph",
        f"input '{ref.node}' of node '{name}' is not in it",
        MENDS,
      ) from None
    edge = (name, _place(ref))
    readers[edge] = readers.get(edge, 0) + 1

  def _unlink(self, name: str, ref: TensorRef) -> None:
    readers, edge = self._readers[ref.node], (name, _place(ref))
    readers[edge] -= 1
    if not readers[edge]:
      del readers[edge]


def _place(ref: TensorRef) -> int:
  return _WAITS if ref.control else ref.index
