# SPDX-License-Identifier: Apache-2.0
"""Faults of a GraphDef, found before anything opens it.

TensorFlow refuses such graphs with its first complaint; here all are found,
each with the node it is at. Nothing but the protos is looked at.
"""

from __future__ import annotations

import dataclasses
from typing import (
  Dict,
  Iterable,
  Iterator,
  List,
  NamedTuple,
  Optional,
  Sequence,
  Set,
  Tuple,
)

from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import (
  Signatures,
  arg_dtypes,
  first_missing,
  functions_of,
  missing_attribute,
  required_attributes,
)
from bnexport.tf1 import OpDef, tf1

DUPLICATE = "duplicate"
DANGLING = "dangling"
ORDER = "order"
ARITY = "arity"
ATTRIBUTE = "attribute"
PORT = "port"
FUNCTION = "function"
REFERENCE = "reference"
# A node with one of these can't be used; the others are mended in place, or,
# as clashes of references, by the transforms.
UNUSABLE = (DANGLING, ARITY, ATTRIBUTE, PORT, FUNCTION)
_RESOURCE = tf1.resource.as_datatype_enum


@dataclasses.dataclass(frozen=True)
class Fault:
  """One thing that keeps TensorFlow from importing a graph.

  Attributes:
    kind: DUPLICATE, DANGLING, ORDER, ARITY, ATTRIBUTE, PORT, FUNCTION or
      REFERENCE.
    node: name of the node it is at.
    subject: the input or the function that it is about, as written.
    fact: what is wrong, in words that follow the node's name.
  """

  kind: str
  node: str
  subject: str
  fact: str


def find(graph_def: tf1.GraphDef, signatures: Signatures) -> List[Fault]:
  """All faults of a GraphDef, in the order of its nodes.

  Args:
    graph_def: stays as it is.
    signatures: OpDefs by name; nodes of unknown ops are looked at as far as
      can be without one.
  """
  library = {f.signature.name for f in graph_def.library.function}
  return list(_Reading(graph_def.node, library, signatures).faults())


def unusable(graph: Graph, signatures: Signatures) -> Dict[str, Fault]:
  """Faults of nodes that can't be used as they are, by the node's name.

  Args:
    graph: a Graph, in which inputs exist.
    signatures: OpDefs by name.
  """
  found: Dict[str, Fault] = {}
  for fault in of_graph(graph, signatures):
    if fault.kind in UNUSABLE:
      found.setdefault(fault.node, fault)
  return found


def of_graph(graph: Graph, signatures: Signatures) -> Iterator[Fault]:
  """Yields the faults of a Graph, in which inputs exist."""
  return _Reading(list(graph), set(graph.library), signatures).faults()


class _Plain(NamedTuple):
  """An op whose nodes have the same number of inputs and of outputs.

  Attributes:
    inputs: how many data inputs a node has.
    outputs: how many outputs it has.
    types: names of the attributes that say of which type inputs are.
  """

  inputs: int
  outputs: int
  types: Tuple[str, ...]


class _Reading:
  """One pass over the nodes."""

  def __init__(
    self,
    nodes: Iterable[tf1.NodeDef],
    library: Set[str],
    signatures: Signatures,
  ):
    self._all = nodes
    self._library = library
    self._signatures = signatures
    self._counts: Dict[str, float] = {}
    # By op: attributes that nodes have to state, and what is plain.
    self._required: Dict[str, Tuple[str, ...]] = {}
    self._lacks: Dict[str, Optional[str]] = {}  # by the node
    self._plain: Dict[str, Optional[_Plain]] = {}
    self._nodes: Dict[str, tf1.NodeDef] = {}
    for node in nodes:
      self._nodes.setdefault(node.name, node)

  def faults(self) -> Iterator[Fault]:
    seen: Set[str] = set()
    for node in self._all:
      if node.name in seen:
        yield Fault(
          DUPLICATE, node.name, node.name, "has the name of another node"
        )
        continue
      seen.add(node.name)
      refs = [TensorRef.parse(text) for text in node.input]
      yield from self._inputs(node, refs)
      yield from self._functions(node)
      yield from self._signature(node, [r for r in refs if not r.control])

  def _inputs(
    self, node: tf1.NodeDef, refs: List[TensorRef]
  ) -> Iterator[Fault]:
    controls = [ref.control for ref in refs]
    if True in controls and controls != sorted(controls):
      yield Fault(
        ORDER,
        node.name,
        str(refs[controls.index(True)]),
        "has a control input before a data input",
      )
    for ref in dict.fromkeys(refs):
      if ref.node not in self._nodes:
        yield Fault(
          DANGLING,
          node.name,
          str(ref),
          "%s '%s', which is not in the graph"
          % ("waits for" if ref.control else "reads", ref.node),
        )
      elif not ref.control and ref.index >= self._outputs(ref.node):
        yield Fault(
          PORT,
          node.name,
          str(ref),
          f"reads '{ref}', and '{ref.node}' has {self._outputs(ref.node)} "
          "outputs",
        )

  def _outputs(self, name: str) -> float:
    """Number of a node's outputs; infinity where its op is unknown."""
    if name not in self._counts:
      node, count = self._nodes[name], float("inf")
      if self._is_whole(node):
        plain = self._plain_op(node.op)
        if plain is None:
          count = len(self._signatures.output_dtypes(node))
        else:
          count = plain.outputs
      self._counts[name] = count
    return self._counts[name]

  def _is_whole(self, node: tf1.NodeDef) -> bool:
    """Whether a node says all that its op, which is known, asks for."""
    return node.op in self._signatures and self._missing(node) is None

  def _missing(self, node: tf1.NodeDef) -> Optional[str]:
    """Name of an attribute that a node of a known op lacks, or None."""
    name, op = node.name, node.op
    if op not in self._required:
      self._required[op] = required_attributes(self._signatures[op])
    if name not in self._lacks:
      self._lacks[name] = first_missing(node, self._required[op])
    return self._lacks[name]

  def _plain_op(self, op: str) -> Optional[_Plain]:
    """What nodes of a known op have in common; None where they differ."""
    if op not in self._plain:
      self._plain[op] = _plain(self._signatures[op])
    return self._plain[op]

  def _is_plain(self, node: tf1.NodeDef, count: int) -> bool:
    """Whether a node takes so many inputs, and none of them is a variable."""
    plain = self._plain_op(node.op)
    return (
      plain is not None
      and plain.inputs == count
      and all(
        key in node.attr and node.attr[key].type != _RESOURCE
        for key in plain.types
      )
    )

  def _functions(self, node: tf1.NodeDef) -> Iterator[Fault]:
    for name in functions_of(node)[1:]:
      if name and name not in self._library:
        yield Fault(
          FUNCTION,
          node.name,
          name,
          f"calls function '{name}', which is not in the library",
        )

  def _signature(
    self, node: tf1.NodeDef, refs: List[TensorRef]
  ) -> Iterator[Fault]:
    """Yields faults of a node's inputs: their number, and references."""
    if node.op not in self._signatures:
      return
    missing = self._missing(node)
    if missing is not None:
      yield Fault(
        ATTRIBUTE,
        node.name,
        missing,
        f"lacks attribute '{missing}', which its op {node.op} has to have",
      )
      return
    if self._is_plain(node, len(refs)):
      return
    slots = slots_of(node, self._signatures)
    if len(slots) != len(refs):
      yield Fault(
        ARITY,
        node.name,
        "",
        f"has {len(refs)} inputs, and its op {node.op} takes {len(slots)}",
      )
      return
    if not any(_is_of_variable(arg, dtype) for arg, dtype in slots):
      return
    sources = [self._nodes.get(ref.node) for ref in refs]
    for slot, arg in clashes(node, sources, self._signatures):
      yield Fault(
        REFERENCE,
        node.name,
        str(refs[slot]),
        "takes a variable's %s as its input '%s' and gets the value of '%s'"
        % (
          "reference" if arg.is_ref else "handle",
          arg.name,
          refs[slot],
        ),
      )


def slots_of(
  node: tf1.NodeDef, signatures: Signatures
) -> List[Tuple[OpDef.ArgDef, int]]:
  """The OpDef args that a node's data inputs belong to, with DataTypes."""
  signature = signatures[node.op]
  return [
    (arg, dtype)
    for arg in signature.input_arg
    for dtype in arg_dtypes(node, signature, arg)
  ]


def _is_of_variable(arg: OpDef.ArgDef, dtype: int) -> bool:
  """Whether an input takes a variable's reference or a handle."""
  return arg.is_ref or dtype == _RESOURCE


def _plain(op: OpDef) -> Optional[_Plain]:
  """What nodes of an op have in common; None where they differ.

  None also where an input takes a variable whatever the attributes are.
  """
  args = [*op.input_arg, *op.output_arg]
  if any(arg.number_attr or arg.type_list_attr for arg in args) or any(
    _is_of_variable(arg, arg.type) for arg in op.input_arg
  ):
    return None
  types = dict.fromkeys(arg.type_attr for arg in op.input_arg if not arg.type)
  return _Plain(len(op.input_arg), len(op.output_arg), tuple(types))


def clashes(
  node: tf1.NodeDef,
  sources: Sequence[Optional[tf1.NodeDef]],
  signatures: Signatures,
) -> List[Tuple[int, OpDef.ArgDef]]:
  """Inputs that want a variable's reference or handle and get a value.

  Args:
    node: a NodeDef of a known op, with as many data inputs as it takes.
    sources: the NodeDefs of its data inputs, None for what is missing.
    signatures: OpDefs by name.

  Returns:
    Pairs of the input's slot and the OpDef's arg.
  """
  refs = [TensorRef.parse(t) for t in node.input if not t.startswith("^")]
  found = []
  for slot, (arg, dtype) in enumerate(slots_of(node, signatures)):
    source = sources[slot]
    if not _is_of_variable(arg, dtype):
      continue
    if source is None or source.op not in signatures:
      continue
    if missing_attribute(source, signatures[source.op]) is not None:
      continue
    outputs = signatures.output_dtypes(source)
    index = refs[slot].index
    if arg.is_ref:
      is_clash = not gives_reference(source, signatures, index)
    else:
      is_clash = index < len(outputs) and outputs[index] != dtype
    if is_clash:
      found.append((slot, arg))
  return found


def gives_reference(
  node: tf1.NodeDef, signatures: Signatures, index: int
) -> bool:
  """Tells whether an output of a node is a variable's reference."""
  if node.op in ops.VARIABLES:
    return node.op != "VarHandleOp"
  signature = signatures[node.op]
  for arg in signature.output_arg:
    count = len(arg_dtypes(node, signature, arg))
    if index < count:
      return arg.is_ref
    index -= count
  return False
