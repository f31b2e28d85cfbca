# SPDX-License-Identifier: Apache-2.0
"""Attributes of nodes get another name, or go."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.errors import TransformError
from bnexport.model import Model
from bnexport.text import dumps
from bnexport.tf1 import tf1


@dataclasses.dataclass(frozen=True)
class RenameAttribute:
  """Gives an attribute another name, in functions as well.

  With:   rename_attribute(old_attribute_name=axes, new_attribute_name=_axes)
  Before: y = Relu(x) {axes=1}
  After:  y = Relu(x) {_axes=1}

  Refuses where a node has an attribute of the new name.

  Attributes:
    old_attribute_name: the attribute.
    new_attribute_name: what it is called from then on.
    op_name: the op whose nodes are changed; `*` for all.
  """

  name: ClassVar[str] = "rename_attribute"
  old_attribute_name: str
  new_attribute_name: str
  op_name: str = "*"

  def apply(self, model: Model) -> List[str]:
    old, new = self.old_attribute_name, self.new_attribute_name
    if old == new:
      return []
    found = list(_having(model.graph, old, self.op_name))
    for node, place in found:
      if new in node.attr:
        raise TransformError(
          f"rename attribute '{old}' of node {place}",
          f"it has a '{new}' as well",
          f"remove that first, with remove_attribute(attribute_name={new})",
        )
    for node, _ in found:
      node.attr[new].CopyFrom(node.attr[old])
      del node.attr[old]
    if not found:
      return []
    return [f"renamed '{old}' of {len(found)} nodes to '{new}'"]


@dataclasses.dataclass(frozen=True)
class RemoveAttribute:
  """Removes an attribute from nodes, in functions as well.

  TensorFlow takes the default for it then. Where that is another value it is
  said so, since the node does something else from then on.

  With:   remove_attribute(attribute_name=_output_shapes)
  Before: y = Relu(x) {_output_shapes=([3],)}
  After:  y = Relu(x)

  Refuses attributes that an op has to have.

  Attributes:
    attribute_name: the attribute.
    op_name: the op whose nodes are changed; `*` for all.
  """

  name: ClassVar[str] = "remove_attribute"
  attribute_name: str
  op_name: str = "*"

  def apply(self, model: Model) -> List[str]:
    key = self.attribute_name
    found = list(_having(model.graph, key, self.op_name))
    warnings = []
    for node, place in found:
      default = _default(model.signatures, node, key)
      if default is not None and default != node.attr[key]:
        warnings.append(
          f"node {place} is another without {_text(node, key)}: the default "
          f"is {_text_of(key, default)}"
        )
      elif default is None and _is_required(model.signatures, node, key):
        raise TransformError(
          f"remove attribute '{key}' of node {place}",
          f"its op {node.op} has no default for it",
          "name other nodes with op_name=OP",
        )
    for node, _ in found:
      del node.attr[key]
    model.warnings.extend(warnings)
    return [f"removed '{key}' of {len(found)} nodes"] if found else []


def _having(graph, key, op):
  """Nodes of an op that have an attribute, with their places."""
  for node, place in graph.every_node():
    if key in node.attr and op in ("*", node.op):
      yield node, place


def _arg(signatures, node, key):
  if node.op not in signatures:
    return None
  return next((a for a in signatures[node.op].attr if a.name == key), None)


def _default(signatures, node, key):
  arg = _arg(signatures, node, key)
  if arg is None or not arg.HasField("default_value"):
    return None
  return arg.default_value


def _is_required(signatures, node, key):
  return _arg(signatures, node, key) is not None


def _text(node, key):
  return _text_of(key, node.attr[key])


def _text_of(key, value):
  """`key=value`, as the notation for graphs writes it."""
  node = tf1.NodeDef(name="n", op="Op")
  node.attr[key].CopyFrom(value)
  return dumps(node, brief=True).partition("{")[2].rpartition("}")[0]
