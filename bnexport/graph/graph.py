# SPDX-License-Identifier: Apache-2.0
"""Graph: an index over a GraphDef, kept true by a few checked verbs."""

from __future__ import annotations

import copy
from typing import (
  TYPE_CHECKING,
  Any,
  Callable,
  Dict,
  Iterable,
  Iterator,
  List,
  Mapping,
  Optional,
  Sequence,
  Tuple,
  Union,
)

from bnexport.errors import GraphError, first_line
from bnexport.graph.index import MENDS, Index
from bnexport.graph.parts import Parts
from bnexport.graph.placement import Placements, move
from bnexport.graph.refs import AnyRef, TensorRef, as_ref
from bnexport.shown import Shown

if TYPE_CHECKING:  # importing TensorFlow takes seconds
  from bnexport.tf1 import tf1

# The tensor to read in the place of another, perhaps with control inputs.
Instead = Union[TensorRef, Sequence[TensorRef]]


class Graph(Index, Shown):
  """A GraphDef that can be edited without ever dangling.

  Nodes are NodeDef protos. Their attributes may be edited in place, but for
  `_class`, of which an index is kept as of inputs: both change through the
  verbs only. Every verb costs no more than the edges it touches.

  Attributes:
    library: FunctionDef protos by name.
    versions: the GraphDef's VersionDef.
  """

  def __init__(
    self,
    graph_def: Union[tf1.GraphDef, tf1.Graph, Parts],
    copy: bool = True,
  ):
    """Indexes copies of a GraphDef's nodes, or these themselves.

    Each copy is a message of its own, so that the memory of a node that is
    removed is free once nobody holds its NodeDef.

    Args:
      graph_def: a GraphDef; it is not touched where it is copied. Or a
        tf.compat.v1.Graph, which stays as it is; or Parts, which are taken.
      copy: False shares the nodes with `graph_def`, for who only looks at a
        graph that may be large. protobuf keeps all of a GraphDef's nodes in
        memory as long as one is held, so that removing some frees nothing.

    Raises:
      GraphError: two nodes have one name, or an input names no node.
    """
    super().__init__()
    if hasattr(graph_def, "as_graph_def"):
      graph_def = graph_def.as_graph_def()
    rest: Any = graph_def
    if isinstance(graph_def, Parts):
      copy, rest = False, graph_def.rest
    self._proto = type(rest)
    self._node = self._proto.DESCRIPTOR.fields_by_name[
      "node"
    ].message_type._concrete_class
    if copy:
      rest = self._proto(versions=rest.versions, library=rest.library)
    self.library = {f.signature.name: f for f in rest.library.function}
    self._gradients = list(rest.library.gradient)
    self.versions = rest.versions
    self._placements = Placements()
    nodes = graph_def.node
    self._take(map(self._copied, nodes) if copy else nodes)

  def _copied(self, node: tf1.NodeDef) -> tf1.NodeDef:
    made = self._node()
    made.CopyFrom(node)
    return made

  def _take(self, nodes: Iterable[tf1.NodeDef]) -> None:
    for node in nodes:
      if node.name in self._nodes:
        raise GraphError(
          "read the graph",
          f"two nodes are named '{node.name}'",
          MENDS,
        )
      self._enter(node)
    for name, node in self._nodes.items():
      self._placements.note(node)
      self._read(name, map(TensorRef.parse, node.input))

  def every_node(self) -> Iterator[Tuple[tf1.NodeDef, str]]:
    """Yields the nodes of the graph, and those in the bodies of functions.

    Yields:
      The NodeDef, and `'NODE'` or `'NODE' of function 'FUNCTION'`.
    """
    for node in self:
      yield node, f"'{node.name}'"
    for name, function in self.library.items():
      for node in function.node_def:
        yield node, f"'{node.name}' of function '{name}'"

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
    node = self._node(op=op, name=self.unique_name(name))
    for key, value in (attrs or {}).items():
      node.attr[key].CopyFrom(value)
    self._enter(node)
    self._placements.note(node)
    self._write_inputs(node, refs)
    return node

  def set_inputs(self, name: str, inputs: Iterable[AnyRef]) -> None:
    """Replaces all inputs of a node; control inputs are put last, once each.

    Raises:
      GraphError: an input names no node; nothing is changed then.
    """
    node = self.node(name)
    refs = self._checked(name, inputs)
    self._unread(name)
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
    is_fresh: bool = False,
  ) -> None:
    """Makes a node another op of the same name; its readers stay.

    Args:
      name: the node.
      op: the op it is from now on.
      inputs: all its inputs from now on.
      attrs: all its attributes, AttrValue protos by name; they may be the
        node's own.
      is_fresh: whether it gets another NodeDef, so that the memory of a large
        constant is free. None of `attrs` are the node's own then.
    """
    self.set_inputs(name, inputs)
    node = self.node(name)
    self._placements.forget(node)
    if is_fresh:
      node.ClearField("attr")
      node = self._nodes[name] = self._copied(node)
    node.op = op
    for key, attr in attrs.items():
      node.attr[key].CopyFrom(attr)
    # Only now: what was just copied may have been among them.
    for key in [key for key in node.attr if key not in attrs]:
      del node.attr[key]
    self._placements.note(node)

  def substitute(
    self,
    tensors: Mapping[TensorRef, Instead],
    readers: Optional[Iterable[str]] = None,
  ) -> int:
    """Makes the readers of tensors read others; all are changed at once.

    Args:
      tensors: the tensor to read by the one that is read now, of whose node
        other outputs and control edges stay. It may have control inputs
        behind it, in a list. In the place of `^a` stand control inputs, or
        none.
      readers: the nodes to change; all where it is None.

    Returns:
      How many nodes were changed.

    Raises:
      GraphError: what is to be read is not in the graph; nothing is changed
        then.
    """
    changed = self.substituted(tensors, readers)
    for name, refs in changed.items():
      self._checked(name, refs)
    for name, refs in changed.items():
      self.set_inputs(name, refs)
    return len(changed)

  def substituted(
    self,
    tensors: Mapping[TensorRef, Instead],
    readers: Optional[Iterable[str]] = None,
  ) -> Dict[str, List[TensorRef]]:
    """The inputs that nodes have after `substitute`, where they change."""
    # Callers in loops have a set or a dict, which may be large.
    is_set = isinstance(readers, (set, frozenset, dict))
    wanted = readers if readers is None or is_set else set(readers)
    changed = {}
    for name in dict.fromkeys(
      r for ref in tensors for r in self.readers_of(ref)
    ):
      if wanted is None or name in wanted:
        refs: List[TensorRef] = []
        for ref in self.inputs(name):
          new = tensors.get(ref, ref)
          refs.extend([new] if isinstance(new, TensorRef) else new)
        if refs != self.inputs(name):
          changed[name] = refs
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
    self._refuse_taken(new)
    if not new:
      return
    changed = dict.fromkeys(new)
    changed.update((r, None) for old in new for r in self.readers(old))
    placed = {**self._placed_with(new), **dict.fromkeys(new)}
    inputs = {name: self.inputs(name) for name in changed}
    for name in inputs:
      self._unread(name)
    for name in placed:
      self._placements.forget(self._nodes[name])
    nodes = {to: self._nodes[old] for old, to in new.items()}
    for old in new:
      self._forget(old)
    for to, node in nodes.items():
      node.name = to
      self._enter(node)
    for name, refs in inputs.items():
      self._write_inputs(
        self._nodes[new.get(name, name)],
        [ref._replace(node=new.get(ref.node, ref.node)) for ref in refs],
      )
    for name in placed:
      self.place(new.get(name, name), lambda other: new.get(other, other))

  def _refuse_taken(self, new: Mapping[str, str]) -> None:
    """Raises GraphError where renaming would give two nodes one name."""
    given = set()
    for old, to in new.items():
      if to in given or (to in self._nodes and to not in new):
        raise GraphError(
          f"rename node '{old}' to '{to}'",
          "the name is taken",
          "give another",
        )
      given.add(to)

  def place(self, name: str, name_of: Callable[[str], Optional[str]]) -> None:
    """Changes whom a node is placed with, which its `_class` says.

    Args:
      name: the node.
      name_of: gives the name from now on of a name until now, or None where
        the node is placed without it from now on.
    """
    node = self._nodes[name]
    self._placements.forget(node)
    move(node, name_of)
    self._placements.note(node)

  def place_with_present(self) -> None:
    """Places no node with one that is gone: TensorFlow refuses such graphs."""
    gone = [n for n in self._placements.partners() if n not in self._nodes]
    for name in self._placed_with(gone):
      self.place(name, self._if_present)

  def _placed_with(self, names: Iterable[str]) -> Dict[str, None]:
    placed = self._placements.placed_with(names)
    return {name: None for name in placed if name in self._nodes}

  def _if_present(self, name: str) -> Optional[str]:
    return name if name in self._nodes else None

  def remove(self, names: Iterable[str]) -> None:
    """Removes nodes: all of them, or none where one is still read.

    Raises:
      GraphError: a node that stays reads one that would go.
    """
    going = dict.fromkeys(names)
    for name in going:
      for reader in self.readers(self.node(name).name):
        if reader not in going:
          raise GraphError(
            f"remove node '{name}'",
            f"'{reader}' still reads it",
            "rewire or remove that first",
          )
    for name in going:
      self._placements.forget(self._nodes[name])
      self._unread(name)
    for name in going:
      self._forget(name)

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
      move(node, self._if_present)
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
    from bnexport.graph.importing import import_graph
    from bnexport.tf1 import tf1

    graph_def = self.to_graph_def()
    for node in graph_def.node:
      # TensorFlow infers shapes, and refuses noted ones that are stale.
      node.attr.pop("_output_shapes", None)
    try:
      return import_graph(graph_def)
    except (tf1.errors.OpError, ValueError, KeyError, TypeError) as error:
      raise GraphError(
        "import the graph",
        first_line(error),
        "see what python -m bnexport.inspect finds in it",
      ) from error

  def clone(self) -> Graph:
    """Returns an independent copy."""
    rest = self._proto()
    self.copy_rest(rest)
    made = Graph(rest)
    try:
      order = self.topological()
    except GraphError:
      order = list(self._nodes)  # a cycle may be cut away yet
    for name in order:
      made._enter(self._copied(self._nodes[name]))
    for name in order:
      made._placements.note(made._nodes[name])
      made._read(name, self._inputs[name])
    made.place_with_present()
    return made

  def twin(self) -> Graph:
    """An independent copy whose verbs give what this one's would, in order."""
    made = copy.copy(self)
    made._nodes = {name: self._copied(n) for name, n in self._nodes.items()}
    made._inputs = dict(self._inputs)
    made._readers = {name: dict(r) for name, r in self._readers.items()}
    made._placements = copy.deepcopy(self._placements)
    made.library = copy.deepcopy(self.library)
    made._gradients = copy.deepcopy(self._gradients)
    made.versions = copy.deepcopy(self.versions)
    return made

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
          MENDS,
        )
      assert refs == self.inputs(node.name)  # a verb tells the index
    self.topological()

  # The index.

  def _checked(self, name: str, inputs: Iterable[AnyRef]) -> List[TensorRef]:
    refs = []
    for ref in inputs:
      ref = as_ref(ref)
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
    self._read(node.name, data + control)
