# SPDX-License-Identifier: Apache-2.0
"""Nodes and functions that a frozen graph lost, from its training graph."""

from __future__ import annotations

import collections
import dataclasses
from typing import (
  Callable,
  Collection,
  Dict,
  Iterable,
  List,
  Optional,
  Set,
  Tuple,
)

from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import Signatures, functions_of
from bnexport.tf1 import tf1

# The least part of a frozen graph's nodes that its training graph has alike.
_LEAST_ALIKE = 0.5


@dataclasses.dataclass
class Completion:
  """The nodes, functions and values that completing a graph gave back.

  Attributes:
    held: values that the frozen graph holds, TensorProtos by variable.
    restored: nodes and functions that the frozen graph used and did not hold.
    is_used: whether the training graph is that of the frozen one.
  """

  held: Dict[str, tf1.TensorProto] = dataclasses.field(default_factory=dict)
  restored: List[str] = dataclasses.field(default_factory=list)
  is_used: bool = False


def complete(
  graph_def: tf1.GraphDef, training: tf1.GraphDef, signatures: Signatures
) -> Completion:
  """Adds to a frozen graph the nodes and functions of its training graph.

  Variables that were made constants are variables again. Nodes that freezing
  changed, or that only training needs, are those of the training graph.
  What somebody else changed in the frozen graph stays changed. It may have
  been imported below a scope; what is added has that scope then.

  Args:
    graph_def: the frozen GraphDef; is edited.
    training: the training GraphDef; stays as it is.
    signatures: OpDefs by name.
  """
  done = Completion()
  own = _of_same_scope(graph_def, training, signatures)
  if own is None:
    return done
  originals = {node.name: node for node in own.node}
  names = {node.name for node in graph_def.node}
  done.is_used = True
  wanted: Set[str] = set()
  for node in graph_def.node:
    wanted.update(TensorRef.parse(text).node for text in node.input)
    original = originals.get(node.name)
    if original is not None:
      _take_back(node, original, names, signatures, done.held)
  done.restored = sorted(
    name for name in wanted if name not in names and name in originals
  )
  called = {name for node in graph_def.node for name in functions_of(node)}
  graph_def.node.extend(
    node for name, node in originals.items() if name not in names
  )
  done.restored += sorted(called & _add_library(graph_def, own))
  return done


def _of_same_scope(
  graph_def: tf1.GraphDef, training: tf1.GraphDef, signatures: Signatures
) -> Optional[tf1.GraphDef]:
  """A training graph in the scope of its frozen graph; None for another's."""
  originals = {node.name: node for node in training.node}
  scope, alike = scope_of(
    graph_def.node,
    lambda node, name: (
      name in originals and _is_alike(node, originals[name], signatures)
    ),
  )
  if alike < _LEAST_ALIKE * len(graph_def.node):
    return None
  return _below(scope, training) if scope else training


def _add_library(graph_def: tf1.GraphDef, training: tf1.GraphDef) -> Set[str]:
  """Adds the functions that a graph lacks; returns their names."""
  library = {f.signature.name for f in graph_def.library.function}
  lost = {
    f.signature.name: f
    for f in training.library.function
    if f.signature.name not in library
  }
  graph_def.library.function.extend(lost.values())
  return set(lost)


def scope_of(
  nodes: Iterable[tf1.NodeDef], is_known: Callable[[tf1.NodeDef, str], bool]
) -> Tuple[str, int]:
  """The scope that a graph was imported below.

  Args:
    nodes: NodeDefs.
    is_known: whether a node, by a name within a scope, was there before.

  Returns:
    The scope, such as `import/` or the empty one, below which most nodes are
    known, and how many are.
  """
  count = collections.Counter({"": 0})
  for node in nodes:
    below, slash = node.name, "/"
    while slash:
      if is_known(node, below):
        count[node.name[: len(node.name) - len(below)]] += 1
        break
      _, slash, below = below.partition("/")
  return count.most_common(1)[0]


def _below(scope: str, training: tf1.GraphDef) -> tf1.GraphDef:
  """A copy of a graph with all names below a scope."""
  moved = type(training)()
  moved.CopyFrom(training)
  for node in moved.node:
    node.name = scope + node.name
    for slot, text in enumerate(node.input):
      control = "^" if text.startswith("^") else ""
      node.input[slot] = control + scope + text[len(control) :]
  return moved


def _is_alike(
  node: tf1.NodeDef, original: tf1.NodeDef, signatures: Signatures
) -> bool:
  return node.op == original.op or _is_frozen_form(node, original, signatures)


def _is_frozen_form(
  node: tf1.NodeDef, original: tf1.NodeDef, signatures: Signatures
) -> bool:
  """Tells whether freezing or mending by renaming makes `node` of `original`.

  That changes variables and what takes or gives their references or handles.
  """
  if original.op in ops.VARIABLES:
    return node.op == "Const"
  return _handles_variables(original, signatures)


def _handles_variables(node: tf1.NodeDef, signatures: Signatures) -> bool:
  if node.op not in signatures:
    return False
  signature = signatures[node.op]
  if any(arg.is_ref for arg in signature.input_arg):
    return True
  resource = tf1.resource.as_datatype_enum
  return any(
    arg.type == resource
    or (arg.type_attr and node.attr[arg.type_attr].type == resource)
    or (
      arg.type_list_attr and resource in node.attr[arg.type_list_attr].list.type
    )
    for arg in signature.input_arg
  )


def _take_back(
  node: tf1.NodeDef,
  original: tf1.NodeDef,
  names: Collection[str],
  signatures: Signatures,
  held: Dict[str, tf1.TensorProto],
) -> None:
  """Makes a node of the frozen graph the original one, unless it was edited."""
  if node.op == "Const" and original.op in ops.VARIABLES:
    tensor = type(node.attr["value"].tensor)()
    tensor.CopyFrom(node.attr["value"].tensor)
    held[node.name] = tensor
    node.CopyFrom(original)
    return
  if _is_frozen_form(node, original, signatures):
    node.CopyFrom(original)
    return
  if node.op != original.op:
    return
  lost = any(TensorRef.parse(text).node not in names for text in node.input)
  if lost or _data(node) == _data(original):
    edited = {
      key: value
      for key, value in node.attr.items()
      if key != "is_training"
      and not value.HasField("type")
      and not value.list.type
    }
    node.CopyFrom(original)
    for key, value in edited.items():
      node.attr[key].CopyFrom(value)


def _data(node: tf1.NodeDef) -> List[TensorRef]:
  return [TensorRef.parse(t) for t in node.input if not t.startswith("^")]
