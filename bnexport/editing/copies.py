# SPDX-License-Identifier: Apache-2.0
"""Copies of parts of a Graph, recomputed tensors and renamed scopes.

Tensors are TensorRefs or their text; nodes are names, one or several. In the
examples:

  >>> from bnexport import copies, text
  >>> from bnexport.graph import Graph
  >>> graph = Graph(text.loads('''
  ...   x = Placeholder()        s = Const() {value=<float 2>}
  ...   net/h = Mul(x, s)        net/y = Relu(net/h)   z = Neg(net/y)
  ... '''))
  >>> def show(graph, *names):
  ...   print(text.dumps([graph.node(name) for name in names], brief=True))
"""

from __future__ import annotations

from typing import Collection, Dict, Iterable, List, Optional, Union

from bnexport.editing.additions import add_copies, moved
from bnexport.editing.likeness import refuse_unlike
from bnexport.editing.selection import (
  Names,
  Tensors,
  as_ref,
  as_refs,
  backward,
  forward,
  members,
)
from bnexport.errors import GraphError, nearest
from bnexport.graph import AnyRef, Graph, TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.graph.frames import separate_copied_frames
from bnexport.graph.nodes import in_scope


def copy(
  graph: Graph, names: Names, scope: str, inputs: Optional[Tensors] = None
) -> Dict[str, str]:
  """Copies nodes within a graph.

  The copies read each other; what the originals read from outside they read
  too. Of a whole loop the copy is a loop of its own.

    >>> copies.copy(graph, ["net/h", "net/y"], "twin", inputs={"x": "z"})
    {'net/h': 'twin/net/h', 'net/y': 'twin/net/y'}
    >>> show(graph, "twin/net/h", "twin/net/y")
    twin/net/h = Mul(z, s)
    twin/net/y = Relu(twin/net/h)

  Args:
    graph: the graph.
    names: the nodes.
    scope: a name scope to put them under.
    inputs: tensors that the copies read, by those that the originals read.

  Returns:
    The names of the copies by those of the originals; where a name is taken,
    it is made unique.

  Raises:
    GraphError: there is no such tensor, or its dtype is another.
  """
  own, given = members(graph, names), as_refs(inputs)
  for old, new in given.items():
    refuse_unlike(graph, old, new)
  named = add_copies(graph, [graph.node(name) for name in own], scope, given)
  separate_copied_frames(graph, named.values(), scope)
  return named


def _contexts(graph: Graph) -> Optional[Contexts]:
  """The Contexts of a graph; None where it has no loops."""
  if not any(node.op in ops.ENTERS for node in graph):
    return None
  return Contexts(graph, graph.topological())


def recompute(
  graph: Graph,
  tensors: Union[AnyRef, Iterable[AnyRef]],
  given: Tensors,
  scope: str,
) -> List[TensorRef]:
  """Adds nodes that compute tensors anew, from others in place of `given`.

  Copied is what lies between, loops as a whole.

    >>> new = copies.recompute(graph, ["z", "s"], {"net/h": "x"}, "again")
    >>> [str(ref) for ref in new]
    ['again/z', 's']
    >>> show(graph, "again/net/y", "again/z")
    again/net/y = Relu(x)
    again/z = Neg(again/net/y)

  Args:
    graph: the graph.
    tensors: one, or several.
    given: tensors to use by those in whose place they are.
    scope: a name scope to put the copies under.

  Returns:
    The tensors, computed again; those that depend on nothing given as they
    are.

  Raises:
    GraphError: none depends on a given one; see `copy` as well.
  """
  instead = as_refs(given)
  if isinstance(tensors, (str, TensorRef)):
    tensors = [tensors]
  wanted = [as_ref(ref) for ref in tensors]
  between = _between(graph, instead, wanted)
  named = copy(graph, _with_loops(graph, between), scope, instead)
  return [moved(ref, named, instead) for ref in wanted]


def _between(
  graph: Graph, given: Collection[TensorRef], wanted: List[TensorRef]
) -> Dict[str, None]:
  """The nodes on the way from given tensors to others.

  Raises:
    GraphError: there are none, and no tensor is both.
  """
  needed = backward(
    graph, [ref.node for ref in wanted if ref not in given], stop=given
  )
  readers = dict.fromkeys(r for old in given for r in graph.readers_of(old))
  between = forward(graph, readers, within=needed)
  if not between and not set(wanted) & set(given):
    named = " or ".join(f"'{ref}'" for ref in given) or "anything"
    raise GraphError(
      f"recompute '{wanted[0]}'",
      f"it does not depend on {named}",
      "give tensors on the way to it",
    )
  return between


def _with_loops(graph: Graph, names: Dict[str, None]) -> List[str]:
  """The nodes, and all nodes of the outermost loops that they are in."""
  contexts = _contexts(graph)
  if contexts is None:
    return list(names)
  loops = {contexts.frame(name)[:1] for name in names} - {()}

  def is_of_loops(name: str) -> bool:
    frame = contexts.frame(name)
    if graph.op(name) in ops.EXITS and not frame:
      frame = contexts.frame(graph.inputs(name)[0].node)
    return frame[:1] in loops

  more = [n for n in graph.names() if n not in names and is_of_loops(n)]
  return list(names) + more


def rename_scope(graph: Graph, scope: str, new: str) -> Dict[str, str]:
  """Renames the node called `scope` and all below it.

    >>> copies.rename_scope(graph, "net", "tower/net")
    {'net/h': 'tower/net/h', 'net/y': 'tower/net/y'}

  Args:
    graph: the graph.
    scope: a name scope, `a` or `a/`.
    new: its name from now on; "" takes it away. It may be that of another
      scope, as long as no two nodes get one name.

  Returns:
    The new names by the old ones.

  Raises:
    GraphError: nothing has that scope, or a name is taken.
  """
  scope, new = scope.rstrip("/"), new.rstrip("/")
  named = {
    name: (new + name[len(scope) :]).lstrip("/")
    for name in graph.names()
    if in_scope(name, scope)
  }
  if not named:
    raise GraphError(
      f"rename scope '{scope}'",
      "no node is in it",
      nearest(scope, graph.names()),
    )
  graph.rename(named)
  return named
