# SPDX-License-Identifier: Apache-2.0
"""Adding nodes to a graph as the notation writes them.

  >>> import numpy as np
  >>> from bnexport import text
  >>> from bnexport.graph import Graph
  >>> graph = Graph(text.loads("a = Placeholder()   y = LeakyRelu(a)"))
  >>> emit = text.Emitter(graph)
  >>> emit.become("y", '''
  ...   alpha = Const() {value=$alpha}
  ...   scaled = Mul(x, alpha)
  ...   y = Maximum(x, scaled)''', x="a", alpha=np.float32(0.5))
  {'alpha': TensorRef(node='y/alpha', index=0, control=False), \
'scaled': TensorRef(node='y/scaled', index=0, control=False), \
'y': TensorRef(node='y', index=0, control=False)}
  >>> print(text.dumps(graph, brief=True))
  a = Placeholder()
  y/alpha = Const() {value=<float 0.5>}
  y/scaled = Mul(a, y/alpha)
  y = Maximum(a, y/scaled)

Words of a text may be bound:

  x  ^x    where an input stands: to a tensor, a TensorRef or its text. A list
           gives several inputs, None gives none. A name that an earlier
           statement defines is that node.
  op       where an op stands: to its name.
  $value   where the value of an attribute stands: to an AttrValue, an array
           (for a tensor), a number, bytes, a DType or a list of integers.
  y        where a statement defines `y`: to a dict of further attributes.

Types and counts that follow from inputs are filled in; unlike in `loads`,
nothing else is. An attribute that TensorFlow gave an op later stays out where
it has its default, so that an old TensorFlow reads the nodes.
"""

from __future__ import annotations

import functools
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from bnexport.graph import AnyRef, Graph, TensorRef, as_ref, op_history
from bnexport.graph.nodes import (
  Signatures,
  output_dtypes,
  tensor_attr,
  type_attr,
)
from bnexport.text import defaults
from bnexport.text.reading import loads
from bnexport.tf1 import OpDef, is_dtype, tf1


class Emitter:
  """Adds what is written to one graph; the cost is that of what is added."""

  def __init__(
    self,
    graph: Graph,
    signatures: Optional[Signatures] = None,
    pins: bool = True,
  ):
    """Makes an Emitter.

    Args:
      graph: is edited.
      signatures: OpDefs by name; TensorFlow's own where it is None.
      pins: whether a Const waits for a tensor that a text makes it wait for.
        That keeps it in the tensor's loop, and is of no use in a graph that
        has none: nothing hides then that it is constant.
    """
    self.graph = graph
    self._signatures = Signatures() if signatures is None else signatures
    self._pins = pins

  def emit(
    self, scope: str, notation: str, **bindings: Any
  ) -> Dict[str, TensorRef]:
    """Adds the nodes of a text below a name scope.

    Args:
      scope: goes before the names; where one is taken it is made unique.
      notation: the statements; inputs first.
      **bindings: what words of the text stand for.

    Returns:
      The first output of each node, by its name in the text.
    """
    return self._emit(scope, _statements(notation), bindings)

  def become(
    self, name: str, notation: str, **bindings: Any
  ) -> Dict[str, TensorRef]:
    """Makes a node what the last statement of a text is; its readers stay.

    The statements before are added below its name.

    Args:
      name: the node. It keeps no attribute, and of its control inputs those
        that the text gives it: they are bound to `waits`.
      notation: the statements; inputs first.
      **bindings: what words of the text stand for.

    Returns:
      As `emit` does.
    """
    *before, last = _statements(notation)
    bindings.setdefault("waits", self.graph.control_inputs(name))
    made = self._emit(name, before, bindings)
    self.graph.become(name, *self._parts(last, made, bindings))
    self._add_types(self.graph.node(name))
    made[last.name] = TensorRef(name)
    return made

  def add(
    self,
    op: str,
    name: str,
    inputs: Iterable[AnyRef] = (),
    attrs: Optional[Mapping[str, tf1.AttrValue]] = None,
  ) -> TensorRef:
    """Adds one node, as Graph.add does; returns its first output."""
    node = self.graph.add(op, name, inputs, attrs)
    self._add_types(node)
    return TensorRef(node.name)

  def _emit(
    self,
    scope: str,
    statements: Iterable[tf1.NodeDef],
    bindings: Mapping[str, Any],
  ) -> Dict[str, TensorRef]:
    made: Dict[str, TensorRef] = {}
    for statement in statements:
      name = f"{scope}/{statement.name}" if scope else statement.name
      op, inputs, attrs = self._parts(statement, made, bindings)
      made[statement.name] = self.add(op, name, inputs, attrs)
    return made

  def _parts(
    self,
    statement: tf1.NodeDef,
    made: Mapping[str, TensorRef],
    bindings: Mapping[str, Any],
  ) -> Tuple[str, List[TensorRef], Dict[str, tf1.AttrValue]]:
    """Op, inputs and attributes of a statement."""
    op = bindings.get(statement.op, statement.op)
    more = bindings.get(statement.name)
    attrs = dict(more) if isinstance(more, dict) else {}
    for key, value in statement.attr.items():
      if value.placeholder:
        value = _attr(bindings[value.placeholder])
      attrs[key] = value
    inputs = []
    for ref in map(TensorRef.parse, statement.input):
      for source in _sources(ref.node, made, bindings):
        if not ref.control:
          inputs.append(source._replace(index=source.index + ref.index))
        elif op != "Const" or source.control or self._pins:
          inputs.append(TensorRef(source.node, 0, True))
    return op, inputs, attrs

  def _add_types(self, node: tf1.NodeDef) -> None:
    """Adds the attributes that a node's inputs tell."""
    signature = self._signature(node.op)
    if signature is None:
      return
    told = defaults.told_by_inputs(node, signature, self._dtype)
    for key, value in told.items():
      if key not in node.attr and value != op_history.default(node.op, key):
        node.attr[key].CopyFrom(value)

  def _signature(self, op: str) -> Optional[OpDef]:
    if op in self.graph.library:
      return self.graph.library[op].signature
    return self._signatures[op] if op in self._signatures else None

  def _dtype(self, text: str) -> int:
    ref = TensorRef.parse(text)
    dtypes = output_dtypes(self.graph, ref.node, self._signatures) or ()
    return dtypes[ref.index] if ref.index < len(dtypes) else 0


@functools.lru_cache(maxsize=1024)
def _statements(notation: str) -> List[tf1.NodeDef]:
  """The NodeDefs that a text states; nobody may edit them."""
  return list(loads(notation, fill=False).node)


def _sources(
  word: str, made: Mapping[str, TensorRef], bindings: Mapping[str, Any]
) -> Iterator[TensorRef]:
  """The tensors that a word stands for."""
  bound = made[word] if word in made else bindings[word]
  if isinstance(bound, (str, TensorRef)):
    bound = [bound]
  yield from map(as_ref, bound or ())


def _attr(bound: Any) -> tf1.AttrValue:
  """The AttrValue that is bound, or of what is."""
  if isinstance(bound, tf1.AttrValue):
    return bound
  if isinstance(bound, (np.ndarray, np.generic)):
    return tensor_attr(bound)
  if is_dtype(bound):
    return type_attr(bound)
  if isinstance(bound, (list, tuple)):
    return tf1.AttrValue(list=tf1.AttrValue.ListValue(i=bound))
  kinds = {bool: "b", int: "i", float: "f", bytes: "s"}
  return tf1.AttrValue(**{kinds[type(bound)]: bound})
