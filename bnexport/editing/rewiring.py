# SPDX-License-Identifier: Apache-2.0
"""Verbs that rewire a Graph; each is checked and changes all or nothing.

They are built on the few verbs of Graph. Each refuses what would dangle, be
read as another dtype or run in a circle, and leaves the graph as it was then.
Tensors are TensorRefs or their text, `a`, `a:1`; nodes are names, one or
several. In the examples:

  >>> from bnexport import editing, text
  >>> from bnexport.graph import Graph
  >>> graph = Graph(text.loads('''
  ...   x = Placeholder()        s = Const() {value=<float 2>}
  ...   h = Mul(x, s)            a = Relu(h)   b = Neg(h)
  ... '''))
  >>> def show(*names):
  ...   print(text.dumps([graph.node(name) for name in names], brief=True))
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Optional, Tuple

from bnexport.editing.likeness import refuse_unlike
from bnexport.editing.selection import (
  Names,
  Tensors,
  as_names,
  as_ref,
  as_refs,
  backward,
  boundary,
  forward,
  members,
  output_dtypes,
)
from bnexport.errors import GraphError
from bnexport.graph import AnyRef, Graph, TensorRef, ops
from bnexport.graph.origins import holder_of
from bnexport.graph.variables import variable_of
from bnexport.text import defaults
from bnexport.tf1 import tf1

# The most nodes that are searched for what depends on the rewired ones.
_FEW = 16


def reroute(
  graph: Graph,
  tensors: Tensors,
  within: Optional[Names] = None,
  but: Names = (),
) -> int:
  """Makes the readers of tensors read others; all are changed at once.

    >>> editing.reroute(graph, {"h": "x"}, but="b")
    1
    >>> editing.reroute(graph, {"h": "x", "x": "h"}, within=["a", "b"])
    2
    >>> show("a", "b")
    a = Relu(h)
    b = Neg(x)
    >>> editing.reroute(graph, {"x": "b"})
    Traceback (most recent call last):
    ...
    bnexport.errors.GraphError: cannot rewire 'h': it would depend on itself; \
read a tensor that does not need it

  Args:
    graph: the graph.
    tensors: the tensors to read by those that are read now; `^a` is waiting
      for a node. `{a: b, b: a}` swaps two.
    within: the nodes that may be changed; all where it is None.
    but: the nodes that may not.

  Returns:
    How many inputs were changed.

  Raises:
    GraphError: there is no such tensor, dtypes differ, or a node would
      depend on itself.
  """
  changed, count = _rerouted(graph, tensors, within, but)
  set_all(graph, changed)
  return count


def _rerouted(
  graph: Graph,
  tensors: Tensors,
  within: Optional[Names],
  but: Names,
) -> Tuple[Dict[str, List[TensorRef]], int]:
  """New inputs by the names of nodes that change, and the number of changes."""
  refs = as_refs(tensors)
  for old, new in refs.items():
    refuse_unlike(graph, old, new)
  allowed = None if within is None else members(graph, within)
  refused = members(graph, but)
  changed = graph.substituted(refs, allowed)
  changed = {name: new for name, new in changed.items() if name not in refused}
  pairs = [
    pair for name in changed for pair in zip(graph.inputs(name), changed[name])
  ]
  return changed, sum(before != after for before, after in pairs)


def set_all(
  graph: Graph,
  inputs: Mapping[str, Iterable[TensorRef]],
  is_safe: bool = False,
) -> None:
  """Replaces all inputs of some nodes at once.

  Args:
    graph: the graph.
    inputs: TensorRefs by name.
    is_safe: whether no node can come to depend on itself. Else all that
      depends on the nodes is looked at, where they come to depend on more than
      a few nodes.

  Raises:
    GraphError: an input names no node, or a node would depend on itself.
  """
  before = {name: graph.inputs(name) for name in members(graph, inputs)}
  try:
    for name, refs in inputs.items():
      graph.set_inputs(name, refs)
    if not (is_safe or _is_near(graph, before)):
      _refuse_cycle(graph, inputs)
  except GraphError:
    for name, refs in before.items():
      graph.set_inputs(name, refs)
    raise


def _is_near(graph: Graph, before: Mapping[str, List[TensorRef]]) -> bool:
  """Tells whether nodes come to depend on a few nodes, none of them on these.

  Going back from a node, every way has to end soon: where there are no inputs,
  or at an input that the node had before. Then no order that was there is
  broken.

  Args:
    graph: the graph, with the inputs that the nodes have now.
    before: the inputs that they had.
  """
  for name, refs in before.items():
    seen = {ref.node for ref in refs}
    new = {ref.node for ref in graph.inputs(name)} - seen
    stack = list(new)
    while stack:
      source = stack.pop()
      if source in before or len(new) > _FEW:
        return False
      further = {ref.node for ref in graph.inputs(source)} - seen - new
      new |= further
      stack.extend(further)
  return True


def _refuse_cycle(graph: Graph, names: Iterable[str]) -> None:
  """Raises GraphError where a node depends on itself and on one of these."""
  try:
    graph.topological(forward(graph, names))
  except GraphError as error:
    raise GraphError(
      f"rewire '{next(iter(names))}'",
      "it would depend on itself",
      "read a tensor that does not need it",
    ) from error


def insert(
  graph: Graph,
  tensor: AnyRef,
  op: str,
  name: str,
  more: Iterable[AnyRef] = (),
  attrs: Optional[Mapping[str, tf1.AttrValue]] = None,
  within: Optional[Names] = None,
  but: Names = (),
) -> TensorRef:
  """Puts a new node between a tensor and its readers.

    >>> str(editing.insert(graph, "h", "Maximum", "clipped", more=["s"]))
    'clipped'
    >>> show("clipped", "a", "b")
    clipped = Maximum(h, s)
    a = Relu(clipped)
    b = Neg(clipped)

  Args:
    graph: the graph.
    tensor: the first input of the node.
    op: the node's op.
    name: its name; made unique where it is taken.
    more: its other inputs.
    attrs: AttrValue protos by name; bnexport.text fills in the others.
    within: the readers that may be changed; all where it is None.
    but: the readers that may not.

  Returns:
    The node's output, which has the tensor's dtype.

  Raises:
    GraphError: see `reroute`.
  """
  refs = [as_ref(ref) for ref in (tensor, *more)]
  new = TensorRef(graph.add(op, name, refs, attrs).name)
  _hand_on(graph, refs[0], new, within, but)
  return new


def _hand_on(
  graph: Graph,
  old: TensorRef,
  new: TensorRef,
  within: Optional[Names],
  but: Names,
) -> None:
  """Lets the readers of a tensor read a new node, which goes if they can't."""
  try:
    fill(graph, [new.node])
    but = [*as_names(but), new.node]
    changed, _ = _rerouted(graph, {old: new}, within, but)
    set_all(graph, changed)
  except GraphError:
    graph.remove([new.node])
    raise


def bypass(graph: Graph, names: Names) -> None:
  """Removes nodes; readers of their outputs read their inputs.

  Inputs and outputs belong together in their order. Constants and variables
  are no inputs where there are too many otherwise. Who waited for the nodes
  waits for what they read and waited for.

    >>> editing.bypass(graph, "h")
    >>> show("a", "b")
    a = Relu(x)
    b = Neg(x)

  Args:
    graph: the graph.
    names: the nodes.

  Raises:
    GraphError: the nodes read more or fewer tensors than others read of
      them; see `reroute` as well.
  """
  own = members(graph, names)
  edge = boundary(graph, own)
  outputs = read_outside(graph, own)
  inputs = edge.inputs
  if len(inputs) != len(outputs):
    inputs = [ref for ref in inputs if not _is_stored(graph, ref)]
  if len(inputs) != len(outputs):
    raise GraphError(
      f"bypass '{next(iter(own))}'",
      f"{len(edge.inputs)} tensors are read from outside "
      f"({', '.join(map(str, edge.inputs))}) and {len(outputs)} are handed "
      f"out ({', '.join(map(str, outputs))})",
      "say which belong together with reroute, then remove the nodes",
    )
  changed, _ = _rerouted(graph, dict(zip(outputs, inputs)), None, own)
  # Readers of a single node depend on its inputs already.
  set_all(graph, changed, is_safe=len(own) == 1)
  _wait_instead(graph, own)
  graph.remove(own)


def _is_stored(graph: Graph, ref: TensorRef) -> bool:
  """Tells whether a tensor is the value of a constant or variable."""
  return (
    variable_of(graph, ref) is not None
    or holder_of(graph, ref, ("Const",), ops.CARRIERS) is not None
  )


def _wait_instead(graph: Graph, own: Dict[str, None]) -> None:
  """Makes the nodes that wait for `own` wait for its inputs from outside."""
  # Readers of data were rerouted; only those that wait are left.
  for reader in outside(graph, own):
    refs = graph.inputs(reader)
    waits = [ref.node for ref in refs if ref.node in own]
    behind = backward(graph, waits, within=own)
    further = dict.fromkeys(
      TensorRef(ref.node, 0, True)
      for name in behind
      for ref in graph.inputs(name)
      if ref.node not in own and graph.op(ref.node) != "Const"
    )
    left = [ref for ref in refs if ref.node not in own]
    graph.set_inputs(reader, left + list(further))


def connect(graph: Graph, tensors: Iterable[AnyRef], names: Names) -> None:
  """Makes nodes read these tensors in place of their inputs from outside.

    >>> editing.connect(graph, ["a"], "b")
    >>> show("b")
    b = Neg(a)

  Args:
    graph: the graph.
    tensors: as many as `selection.boundary(graph, names).inputs`, in their
      order.
    names: the nodes.

  Raises:
    GraphError: there are more or fewer; see `reroute` as well.
  """
  own, refs = members(graph, names), [as_ref(ref) for ref in tensors]
  inputs = boundary(graph, own).inputs
  if len(inputs) != len(refs):
    raise GraphError(
      f"connect {len(refs)} tensors to '{next(iter(own), '')}'",
      f"it reads {len(inputs)} from outside ({', '.join(map(str, inputs))})",
      "give as many",
    )
  reroute(graph, dict(zip(inputs, refs)), within=own)


def read_outside(graph: Graph, names: Names) -> List[TensorRef]:
  """The tensors of some nodes that others read, in order."""
  own = members(graph, names)
  read = {ref for r in outside(graph, own) for ref in graph.data_inputs(r)}
  place = {name: i for i, name in enumerate(own)}
  return sorted(
    (ref for ref in read if ref.node in own),
    key=lambda ref: (place[ref.node], ref.index),
  )


def outside(graph: Graph, own: Dict[str, None]) -> Dict[str, None]:
  """Names of the nodes that read or wait for `own` and are not in it."""
  return dict.fromkeys(
    r for name in own for r in graph.readers(name) if r not in own
  )


def add_control(graph: Graph, name: str, others: Names) -> None:
  """Makes a node wait for others.

    >>> editing.add_control(graph, "b", "a")
    >>> show("b")
    b = Neg(h, ^a)

  Raises:
    GraphError: there is no such node, or one would wait for itself.
  """
  waits = [TensorRef(other, 0, True) for other in members(graph, others)]
  set_all(graph, {name: graph.inputs(graph.node(name).name) + waits})


def remove_control(
  graph: Graph, name: str, others: Optional[Names] = None
) -> None:
  """Makes a node wait no more for others; for any, where `others` is None.

    >>> editing.add_control(graph, "b", ["a", "x"])
    >>> editing.remove_control(graph, "b", "x")
    >>> show("b")
    b = Neg(h, ^a)

  Raises:
    GraphError: it does not wait for one of them.
  """
  refs = graph.inputs(graph.node(name).name)
  waits = {ref.node for ref in refs if ref.control}
  gone = waits if others is None else as_names(others)
  for other in gone:
    if other not in waits:
      raise GraphError(
        f"remove control input '{other}' of node '{name}'",
        "it waits for %s"
        % (", ".join((f"'{w}'" for w in sorted(waits))) or "none",),
        "give one of these",
      )
  graph.set_inputs(
    name, [r for r in refs if not (r.control and r.node in gone)]
  )


def fill(graph: Graph, names: Names) -> None:
  """Adds the attributes that nodes leave out, as bnexport.text tells them.

  Types follow from what the nodes read.
  """
  own = members(graph, names)
  read = {ref.node for name in own for ref in graph.inputs(name)}
  defaults.fill_nodes(
    [graph.node(name) for name in own],
    graph.library,
    {name: output_dtypes(graph, name) or [] for name in read.difference(own)},
  )
