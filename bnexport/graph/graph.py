# SPDX-License-Identifier: Apache-2.0
"""Graph: an index over a GraphDef, kept true by a few checked verbs."""

from __future__ import annotations

import functools
from typing import (
  TYPE_CHECKING,
  Dict,
  Iterable,
  Iterator,
  List,
  Mapping,
  NamedTuple,
  Optional,
  Union,
)

from bnexport.errors import GraphError, first_line, nearest
from bnexport.graph import placement

if TYPE_CHECKING:  # importing TensorFlow takes seconds
  from bnexport.tf1 import tf1

# The step where a file is malformed.
_MENDS = "python -m bnexport.repair mends what can be mended"


class TensorRef(NamedTuple):
  """One input as a NodeDef writes it: `a`, `a:1` or `^a`."""

  node: str
  # The field hides tuple.index, which nobody asks a reference for.
  index: int = 0  # type: ignore[assignment]
  control: bool = False

  @staticmethod
  @functools.lru_cache(maxsize=1 << 20)
  def parse(text: str) -> TensorRef:
    """Reads `a`, `a:0`, `a:1` or `^a`."""
    if text.startswith("^"):
      return TensorRef(text[1:], 0, True)
    node, colon, index = text.rpartition(":")
    if colon and index.isdigit():
      return TensorRef(node, int(index))
    return TensorRef(text)

  def __str__(self) -> str:
    if self.control:
      return "^" + self.node
    return self.node if self.index == 0 else f"{self.node}:{self.index}"


# A tensor, or an edge of control, as verbs take it: text is parsed.
AnyRef = Union[TensorRef, str]


class Graph:
  """A GraphDef that can be edited without ever dangling.

  Nodes are NodeDef protos; their attributes may be edited in place, their
  inputs only through the verbs, which keep the index of readers true. Every
  verb costs no more than the edges it touches.

  Attributes:
    library: FunctionDef protos by name.
    versions: the GraphDef's VersionDef.
  """

  def __init__(
    self, graph_def: Union[tf1.GraphDef, tf1.Graph], copy: bool = True
  ):
    """Indexes a copy of `graph_def`, or the GraphDef itself.

    Args:
      graph_def: a GraphDef; it is not touched where it is copied. Or a
        tf.compat.v1.Graph, which stays as it is.
      copy: False takes `graph_def` over: it may be large, and the caller has
        no more use for it.

    Raises:
      GraphError: two nodes have one name, or an input names no node.
    """
    own = graph_def
    if hasattr(graph_def, "as_graph_def"):
      own = graph_def.as_graph_def()
    elif copy:
      own = type(graph_def)()
      own.CopyFrom(graph_def)
    self._proto = type(own)
    # The GraphDef owns the node protos, so it has to outlive the index.
    self._own = own
    self.library = {f.signature.name: f for f in own.library.function}
    self._gradients = list(own.library.gradient)
    self.versions = own.versions
    self._nodes: Dict[str, tf1.NodeDef] = {}
    self._readers: Dict[str, Dict[str, int]] = {}
    for node in own.node:
      if node.name in self._nodes:
        raise GraphError(
          "read the graph",
          f"two nodes are named '{node.name}'",
          _MENDS,
        )
      self._nodes[node.name] = node
      self._readers[node.name] = {}
    for node in own.node:
      for text in node.input:
        self._link(node.name, TensorRef.parse(text))

  # Looking.

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
    return [TensorRef.parse(text) for text in self._nodes[name].input]

  def data_inputs(self, name: str) -> List[TensorRef]:
    return [ref for ref in self.inputs(name) if not ref.control]

  def control_inputs(self, name: str) -> List[TensorRef]:
    return [ref for ref in self.inputs(name) if ref.control]

  def readers(self, name: str) -> List[str]:
    """Names of the nodes that read any output of `name`, or wait for it."""
    return list(self._readers[name])

  def readers_of(self, ref: TensorRef) -> List[str]:
    """Names of the nodes that read exactly this tensor."""
    return [r for r in self._readers[ref.node] if ref in self.inputs(r)]

  def ancestors(
    self, names: Iterable[str], control: bool = True
  ) -> Dict[str, None]:
    """Nodes that `names` need, themselves included, as an ordered set."""
    seen = dict.fromkeys(names)
    stack = list(seen)
    while stack:
      for ref in self.inputs(stack.pop()):
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
    waiting = {}
    for name in members:
      waiting[name] = len(
        {
          ref.node
          for ref in self.inputs(name)
          if ref.node in members and not self._closes_loop(ref.node)
        }
      )
    ready = [name for name in members if not waiting[name]]
    order = []
    for name in ready:
      order.append(name)
      if self._closes_loop(name):
        continue
      for reader in self._readers[name]:
        if reader in members:
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

  def _closes_loop(self, name: str) -> bool:
    return self._nodes[name].op in ("NextIteration", "RefNextIteration")

  def unique_name(self, base: str) -> str:
    """Returns `base`, or `base_1`, `base_2`... where that is taken."""
    name, count = base, 0
    while name in self._nodes:
      count += 1
      name = f"{base}_{count}"
    return name

  # Editing.

  def add(
    self,
    op: str,
    name: str,
    inputs: Iterable[AnyRef] = (),
    attrs: Optional[Mapping[str, tf1.AttrValue]] = None,
  ) -> tf1.NodeDef:
    """Adds a node and returns its NodeDef.

    Args:
      op: the op's name.
      name: taken as it is where it is free, else made unique.
      inputs: TensorRefs or their text; every one names a node of the graph.
      attrs: AttrValue protos by name.

    Raises:
      GraphError: an input names no node.
    """
    refs = self._checked(name, inputs)
    node = self._own.node.add()
    node.op = op
    node.name = self.unique_name(name)
    for key, value in (attrs or {}).items():
      node.attr[key].CopyFrom(value)
    self._nodes[node.name] = node
    self._readers[node.name] = {}
    self._write_inputs(node, refs)
    return node

  def set_inputs(self, name: str, inputs: Iterable[AnyRef]) -> None:
    """Replaces all inputs of a node; control inputs are put last, once each.

    Raises:
      GraphError: an input names no node; nothing is changed then.
    """
    node = self.node(name)
    refs = self._checked(name, inputs)
    for ref in self.inputs(name):
      self._unlink(name, ref)
    self._write_inputs(node, refs)

  def set_input(self, name: str, slot: int, ref: AnyRef) -> None:
    """Replaces one data input of a node."""
    refs: List[AnyRef] = [*self.inputs(name)]
    refs[slot] = ref
    self.set_inputs(name, refs)

  def become(
    self,
    name: str,
    op: str,
    inputs: Iterable[AnyRef],
    attrs: Mapping[str, tf1.AttrValue],
  ) -> None:
    """Makes a node another op of the same name; its readers stay.

    Args:
      name: the node.
      op: the op it is from now on.
      inputs: all its inputs from now on.
      attrs: all its attributes, AttrValue protos by name; they may be the
        node's own.
    """
    self.set_inputs(name, inputs)
    node = self.node(name)
    node.op = op
    for key, attr in attrs.items():
      node.attr[key].CopyFrom(attr)
    # Only now: what was just copied may have been among them.
    for key in [key for key in node.attr if key not in attrs]:
      del node.attr[key]

  def redirect(
    self,
    old: TensorRef,
    new: TensorRef,
    readers: Optional[Iterable[str]] = None,
  ) -> int:
    """Makes the readers of the tensor `old` read `new`.

    Args:
      old: the tensor to let go of. Control edges from its node stay.
      new: the tensor to read; must exist.
      readers: the nodes to change; all where it is None.

    Returns:
      How many nodes were changed.
    """
    wanted = None if readers is None else set(readers)
    changed = 0
    for reader in self.readers_of(old):
      if wanted is None or reader in wanted:
        self.set_inputs(
          reader, [new if ref == old else ref for ref in self.inputs(reader)]
        )
        changed += 1
    return changed

  def rename(self, names: Mapping[str, str]) -> None:
    """Gives nodes other names; their readers and colocations follow.

    Args:
      names: new names by old ones. All are changed at once, so two nodes may
        change places.

    Raises:
      GraphError: there is no such node, or a new name is taken; nothing is
        changed then.
    """
    new = {old: to for old, to in names.items() if self.node(old).name != to}
    given = set()
    for old, to in new.items():
      if to in given or (to in self._nodes and to not in new):
        raise GraphError(
          f"rename node '{old}' to '{to}'",
          "the name is taken",
          "give another",
        )
      given.add(to)
    changed = dict.fromkeys(new)
    changed.update((r, None) for old in new for r in self._readers[old])
    inputs = {name: self.inputs(name) for name in changed}
    for name, refs in inputs.items():
      for ref in refs:
        self._unlink(name, ref)
    for old in new:
      del self._readers[old]
    nodes = {to: self._nodes.pop(old) for old, to in new.items()}
    for to, node in nodes.items():
      node.name = to
      self._readers[to] = {}
    self._nodes.update(nodes)
    for name, refs in inputs.items():
      self._write_inputs(
        self._nodes[new.get(name, name)],
        [ref._replace(node=new.get(ref.node, ref.node)) for ref in refs],
      )
    for node in self._nodes.values():
      placement.move(node, lambda name: new.get(name, name))

  def remove(self, names: Iterable[str]) -> None:
    """Removes nodes: all of them, or none where one is still read.

    Raises:
      GraphError: a node that stays reads one that would go.
    """
    going = dict.fromkeys(names)
    for name in going:
      for reader in self._readers[self.node(name).name]:
        if reader not in going:
          raise GraphError(
            f"remove node '{name}'",
            f"'{reader}' still reads it",
            "rewire or remove that first",
          )
    for name in going:
      for ref in self.inputs(name):
        if ref.node in self._readers:
          self._unlink(name, ref)
    for name in going:
      del self._nodes[name], self._readers[name]

  def keep(self, names: Iterable[str]) -> int:
    """Removes every node but these; returns how many went."""
    staying = set(names)
    going = [name for name in self._nodes if name not in staying]
    self.remove(going)
    return len(going)

  # Crossing the border.

  def to_graph_def(self) -> tf1.GraphDef:
    """Returns a new GraphDef: nodes in order of execution, library kept.

    Whom a node is placed with is left out where that node is gone.
    """
    out = self._proto()
    for name in self.topological():
      node = out.node.add()
      node.CopyFrom(self._nodes[name])
      placement.move(
        node, lambda other: other if other in self._nodes else None
      )
    self.copy_rest(out)
    return out

  def copy_rest(self, out: tf1.GraphDef) -> None:
    """Copies the versions and the library into a GraphDef."""
    out.versions.CopyFrom(self.versions)
    out.library.function.extend(self.library.values())
    out.library.gradient.extend(
      g for g in self._gradients if g.function_name in self.library
    )

  def to_tf_graph(self) -> tf1.Graph:
    """Returns a new tf.compat.v1.Graph of these nodes.

    Raises:
      GraphError: TensorFlow does not take them.
    """
    # Only now: a Graph is also used where TensorFlow is not needed.
    from bnexport.tf1 import tf1

    graph, graph_def = tf1.Graph(), self.to_graph_def()
    for node in graph_def.node:
      # TensorFlow infers shapes, and refuses noted ones that are stale.
      node.attr.pop("_output_shapes", None)
    try:
      with graph.as_default():
        tf1.import_graph_def(graph_def, name="")
    except (tf1.errors.OpError, ValueError, KeyError, TypeError) as error:
      raise GraphError(
        "import the graph",
        first_line(error),
        "see what python -m bnexport.inspect finds in it",
      ) from error
    return graph

  def clone(self) -> Graph:
    """Returns an independent copy."""
    return Graph(self.to_graph_def(), copy=False)

  def lint(self) -> None:
    """Checks that inputs exist, data inputs come first and no cycle is left.

    Raises:
      GraphError: an input dangles, a control input stands before a data
        input, or a cycle is left.
    """
    for node in self._nodes.values():
      refs = self._checked(node.name, node.input)
      controls = [ref.control for ref in refs]
      if controls != sorted(controls):
        raise GraphError(
          f"use node '{node.name}'",
          "a control input stands before a data input",
          _MENDS,
        )
    self.topological()

  # The index.

  def _checked(self, name: str, inputs: Iterable[AnyRef]) -> List[TensorRef]:
    refs = []
    for ref in inputs:
      ref = TensorRef.parse(ref) if isinstance(ref, str) else ref
      if ref.node not in self._nodes:
        raise GraphError(
          f"connect node '{name}'",
          f"its input '{ref.node}' is not in the graph",
          "add that first",
        )
      refs.append(ref)
    return refs

  def _write_inputs(self, node: tf1.NodeDef, refs: Iterable[TensorRef]) -> None:
    data = [ref for ref in refs if not ref.control]
    control = list(dict.fromkeys(ref for ref in refs if ref.control))
    del node.input[:]
    node.input.extend(str(ref) for ref in data + control)
    for ref in data + control:
      self._link(node.name, ref)

  def _link(self, name: str, ref: TensorRef) -> None:
    try:
      readers = self._readers[ref.node]
    except KeyError:
      raise GraphError(
        "read the graph",
        f"input '{ref.node}' of node '{name}' is not in it",
        _MENDS,
      ) from None
    readers[name] = readers.get(name, 0) + 1

  def _unlink(self, name: str, ref: TensorRef) -> None:
    readers = self._readers[ref.node]
    readers[name] -= 1
    if not readers[name]:
      del readers[name]
