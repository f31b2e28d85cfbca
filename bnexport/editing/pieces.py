# SPDX-License-Identifier: Apache-2.0
"""Parts of a Graph detached, extracted, cut out and spliced in.

A piece is a Graph of its own, a GraphDef, or text as bnexport.text describes
it. A text that begins with no header leaves out attributes; types follow from
what is read. Texts and GraphDefs may read nodes that they do not hold: they are
then those of the graph that they are added to.

Tensors are TensorRefs or their text; nodes are names, one or several. In the
examples:

  >>> from bnexport import pieces, text
  >>> from bnexport.graph import Graph
  >>> graph = Graph(text.loads('''
  ...   x = Placeholder()        s = Const() {value=<float 2>}
  ...   net/h = Mul(x, s)        net/y = Relu(net/h)   z = Neg(net/y)
  ... '''))
  >>> def show(graph, *names):
  ...   print(text.dumps([graph.node(name) for name in names], brief=True))
"""

from __future__ import annotations

import contextlib
import re
from typing import (
  Dict,
  Iterable,
  Iterator,
  Mapping,
  Optional,
  Tuple,
  Union,
)

from bnexport import text
from bnexport.editing.additions import (
  add_copies,
  add_functions,
  below,
  moved,
)
from bnexport.editing.likeness import dtype_of, refuse_unlike
from bnexport.editing.rewiring import (
  fill,
  outside,
  read_outside,
  remove_control,
  reroute,
)
from bnexport.editing.selection import (
  Names,
  Tensors,
  as_ref,
  as_refs,
  boundary,
  members,
)
from bnexport.errors import GraphError, nearest
from bnexport.graph import AnyRef, Graph, TensorRef, ops
from bnexport.graph.frames import separate_copied_frames
from bnexport.graph.nodes import Signatures, static_shape
from bnexport.graph.placeholders import (
  cut_dtype,
  placeholder_attrs,
  placeholder_name,
)
from bnexport.graph.tensors import shape_proto
from bnexport.tf1 import tf1

# The argument of splice.
Piece = Union[Graph, tf1.GraphDef, str]
_HEADER = re.compile(r"(?:\s+|#[^\n]*)*graph\s*\{")


def placeholder(
  graph: Graph, tensor: AnyRef, name: Optional[str] = None
) -> TensorRef:
  """Adds a placeholder of a tensor's dtype, and its shape where it is stated.

    >>> str(pieces.placeholder(graph, "z", "fed"))
    'fed'

  Args:
    graph: the graph.
    tensor: what it is like.
    name: its name, made unique; the tensor's, `a` or `a_1`, where it is None.

  Raises:
    GraphError: nothing tells the dtype.
  """
  ref = as_ref(tensor)
  attrs = _placeholder_attrs(graph, ref)
  name = placeholder_name(ref) if name is None else name
  return TensorRef(graph.add("Placeholder", name, (), attrs).name)


def _placeholder_attrs(
  graph: Graph, ref: TensorRef
) -> Dict[str, tf1.AttrValue]:
  """Attributes of a placeholder for a tensor; see `placeholder`."""
  dtype_of(graph, ref)  # which refuses an output that the node does not have
  stated = static_shape(graph, ref)
  shape = None
  if stated is not None:
    shape = shape_proto(stated)
  return placeholder_attrs(cut_dtype(graph, ref, Signatures()), shape)


def _placeholders(
  graph: Graph, refs: Iterable[TensorRef]
) -> Dict[TensorRef, TensorRef]:
  """Placeholders by the tensors they stand for; for all, or for none."""
  for ref in refs:
    _placeholder_attrs(graph, ref)
  return {ref: placeholder(graph, ref) for ref in refs}


def detach_inputs(
  graph: Graph, names: Names, control: bool = False
) -> Dict[TensorRef, TensorRef]:
  """Makes nodes read new placeholders in place of tensors from outside.

    >>> made = pieces.detach_inputs(graph, "z")
    >>> show(graph, "z", "net/y_1")
    z = Neg(net/y_1)
    net/y_1 = Placeholder()

  Args:
    graph: the graph.
    names: the nodes.
    control: whether they also wait for nobody outside any more.

  Returns:
    The placeholders by the tensors whose places they took.
  """
  own = members(graph, names)
  made = _placeholders(graph, boundary(graph, own).inputs)
  reroute(graph, made, within=own)
  for name in own if control else ():
    waits = [r.node for r in graph.control_inputs(name) if r.node not in own]
    remove_control(graph, name, waits)
  return made


def detach_outputs(
  graph: Graph, names: Names, control: bool = False
) -> Dict[TensorRef, TensorRef]:
  """Makes other nodes read new placeholders in place of these nodes' tensors.

    >>> made = pieces.detach_outputs(graph, "net/h")
    >>> show(graph, "net/y", "net/h_1")
    net/y = Relu(net/h_1)
    net/h_1 = Placeholder()

  Args:
    graph: the graph.
    names: the nodes.
    control: whether nobody outside waits for them any more either.

  Returns:
    The placeholders by the tensors whose places they took.
  """
  own = members(graph, names)
  made = _placeholders(graph, read_outside(graph, own))
  reroute(graph, made, but=own)
  for name in outside(graph, own) if control else ():
    waits = [r.node for r in graph.control_inputs(name) if r.node in own]
    remove_control(graph, name, waits)
  return made


def extract(graph: Graph, names: Names) -> Graph:
  """A new Graph of copies of some nodes.

  What they read from outside is a placeholder there, named `a` for `a` and
  `a_1` for `a:1`; they wait for nobody outside. Functions come along.

    >>> from bnexport import selection
    >>> piece = pieces.extract(
    ...   graph, selection.backward(graph, "net/y", stop=["net/h"]))
    >>> show(piece, "net/h", "net/y")
    net/h = Placeholder()
    net/y = Relu(net/h)

  Args:
    graph: stays as it is.
    names: the nodes; `selection.backward` gives those between given inputs
      and outputs.

  Raises:
    GraphError: nothing tells the dtype of what is read from outside.
  """
  own = members(graph, names)
  proto = tf1.GraphDef(versions=graph.versions)
  proto.library.function.extend(graph.library.values())
  piece = Graph(proto)
  fed: Dict[TensorRef, TensorRef] = {}
  for ref in boundary(graph, own).inputs:
    name = placeholder_name(ref)
    while name in own:
      name += "_"
    attrs = _placeholder_attrs(graph, ref)
    fed[ref] = TensorRef(piece.add("Placeholder", name, (), attrs).name)
  waits = [ref for name in own for ref in graph.control_inputs(name)]
  gone = {ref for ref in waits if ref.node not in own}
  add_copies(piece, [graph.node(name) for name in own], "", fed, gone)
  return piece


def cut(graph: Graph, names: Names) -> Graph:
  """Takes nodes out of a graph; returns them as a Graph, as `extract` does.

  Who read them reads placeholders of the tensors' names; nobody waits for
  them any more.

    >>> piece = pieces.cut(graph, ["net/h", "net/y"])
    >>> show(graph, "net/y", "z")
    net/y = Placeholder()
    z = Neg(net/y)
    >>> pieces.splice(
    ...   graph, piece, {"x": "x", "s": "s"}, {"net/y": "net/y"})
    {'net/h': 'net/h', 'net/y': 'net/y'}
    >>> show(graph, "net/y", "z")
    net/y = Relu(net/h)
    z = Neg(net/y)
  """
  own = members(graph, names)
  piece = extract(graph, own)
  made = detach_outputs(graph, own, control=True)
  graph.remove(own)
  free = {new.node: placeholder_name(as_ref(old)) for old, new in made.items()}
  graph.rename({old: to for old, to in free.items() if to not in graph})
  return piece


def splice(
  graph: Graph,
  piece: Piece,
  inputs: Optional[Tensors] = None,
  outputs: Optional[Tensors] = None,
  scope: str = "",
) -> Dict[str, str]:
  """Adds a piece to a graph, or changes nothing and raises.

    >>> pieces.splice(
    ...   graph, "c = Minimum(h, six)   six = Const() {value=<float 6>}",
    ...   inputs={"h": "net/h"}, outputs={"net/h": "c"}, scope="clip")
    {'c': 'clip/c', 'six': 'clip/six'}

  Args:
    graph: the graph.
    piece: what is added.
    inputs: tensors of the graph by those that the piece reads; a placeholder
      of the piece that is named here is not added.
    outputs: tensors of the piece by those of the graph whose place they take;
      a placeholder of the graph that nobody needs then goes.
    scope: a name scope to put the piece under, with its loops' frames.

  Returns:
    The names that the nodes have, made unique, by those in the piece.

  Raises:
    GraphError: names, dtypes or functions do not fit, or it made a cycle.
  """
  read, handed = as_refs(inputs), as_refs(outputs)
  proto, is_open = _proto_of(piece)
  nodes = _without_inputs(proto, read)
  _refuse_missing(graph, nodes, read, handed)
  _refuse_dtypes(graph, piece, read)
  placed = add_functions(graph, proto.library.function)
  named = add_copies(graph, nodes.values(), scope, read)
  with _removed_again(graph, named, placed):
    _connect(graph, named, handed, is_open)
  separate_copied_frames(graph, named.values(), scope)
  return _rename_back(graph, named, scope)


@contextlib.contextmanager
def _removed_again(
  graph: Graph, named: Dict[str, str], functions: Iterable[str]
) -> Iterator[None]:
  """Takes out of a graph what was added to it where an edit fails."""
  try:
    yield
  except GraphError:
    graph.remove(named.values())
    for name in functions:
      del graph.library[name]
    raise


def _connect(
  graph: Graph,
  named: Dict[str, str],
  handed: Dict[TensorRef, TensorRef],
  is_open: bool,
) -> None:
  """Lets the graph read the nodes of a piece that were added to it."""
  if is_open:
    fill(graph, named.values())
  graph.topological(named.values())  # a piece may read itself
  there = {old: moved(ref, named, {}) for old, ref in handed.items()}
  reroute(graph, there, but=named.values())
  graph.remove([ref.node for ref in handed if _is_idle(graph, ref.node)])


def _without_inputs(
  proto: tf1.GraphDef, read: Dict[TensorRef, TensorRef]
) -> Dict[str, tf1.NodeDef]:
  """The nodes to add: no placeholder of a tensor that is read.

  Who waits for such a placeholder waits for what is read; `read` says so then.
  """
  nodes = {node.name: node for node in proto.node}
  for old, new in list(read.items()):
    if old.node in nodes and nodes[old.node].op in ops.PLACEHOLDERS:
      del nodes[old.node]
      read[TensorRef(old.node, 0, True)] = TensorRef(new.node, 0, True)
  return nodes


def _proto_of(piece: Piece) -> Tuple[tf1.GraphDef, bool]:
  """A GraphDef, and whether its nodes may leave out attributes."""
  if isinstance(piece, Graph):
    return piece.to_graph_def(), False
  if not isinstance(piece, str):
    return piece, False
  if _HEADER.match(piece):
    return text.loads(piece), False
  return text.loads(piece, fill=False), True


def _refuse_dtypes(
  graph: Graph, piece: Piece, read: Mapping[TensorRef, TensorRef]
) -> None:
  if not isinstance(piece, Graph):
    return
  for old, new in read.items():
    if old.node in piece and not old.control:
      refuse_unlike(graph, old, new, of=piece)


def _refuse_missing(
  graph: Graph,
  nodes: Mapping[str, tf1.NodeDef],
  inputs: Mapping[TensorRef, TensorRef],
  outputs: Mapping[TensorRef, TensorRef],
) -> None:
  """Raises GraphError where a spliced node would read a missing one."""
  same = {name: name for name in nodes}
  for node in nodes.values():
    for ref in map(TensorRef.parse, node.input):
      source = moved(ref, same, inputs)
      there = nodes if source == ref and ref.node in nodes else graph
      if source.node not in there:
        raise GraphError(
          f"splice '{node.name}'",
          f"it reads '{source}', which neither the piece nor the graph has",
          "name it in inputs",
        )
  for old, new in outputs.items():
    graph.node(old.node)
    if new.node not in nodes:
      raise GraphError(
        f"splice '{new}'",
        "the piece adds no node of that name",
        nearest(new.node, nodes),
      )


def _is_idle(graph: Graph, name: str) -> bool:
  """Tells whether a node is a placeholder without readers."""
  return graph.op(name) in ops.PLACEHOLDERS and not graph.readers(name)


def _rename_back(
  graph: Graph, named: Mapping[str, str], scope: str
) -> Dict[str, str]:
  """Gives nodes their wanted names as far as these are free now."""
  back = {}
  for old, new in named.items():
    wanted = below(scope, old)
    if wanted not in graph:
      back[new] = wanted
  graph.rename(back)
  return {old: back.get(new, new) for old, new in named.items()}
