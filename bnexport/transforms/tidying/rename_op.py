# SPDX-License-Identifier: Apache-2.0
"""Nodes of one op become nodes of another."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.errors import TransformError
from bnexport.mending.faults import slots_of
from bnexport.model import Model


@dataclasses.dataclass(frozen=True)
class RenameOp:
  """Calls an op by another name; inputs and attributes stay.

  For ops that a program registers under its own name, and for twins such as
  AddV2 and Add. Functions' nodes follow.

  With:   rename_op(old_op_name=AddV2, new_op_name=Add)
  Before: y = AddV2(a, b)
  After:  y = Add(a, b)

  Refuses a new op that takes other inputs, or needs attributes that a node
  lacks.

  Attributes:
    old_op_name: the op.
    new_op_name: its name from then on. Where this TensorFlow does not know
      it, nothing is checked.
  """

  name: ClassVar[str] = "rename_op"
  old_op_name: str
  new_op_name: str

  def apply(self, model: Model) -> List[str]:
    if self.old_op_name == self.new_op_name:
      return []
    found = [
      (node, place)
      for node, place in model.graph.every_node()
      if node.op == self.old_op_name
    ]
    if not found:
      return []
    if self.new_op_name in model.signatures:
      for node, place in found:
        self._check(model, node, place)
      _rename_body_outputs(model, self.old_op_name, self.new_op_name)
    elif self.new_op_name not in model.graph.library:
      model.warnings.append(
        f"this TensorFlow does not know op '{self.new_op_name}', so that it "
        "can't import the graph"
      )
    for node, _ in found:
      node.op = self.new_op_name
    return [
      f"{len(found)} nodes are {self.new_op_name}, they were {self.old_op_name}"
    ]

  def _check(self, model, node, place):
    """Raises TransformError where the node can't be of the new op."""
    new = model.signatures[self.new_op_name]
    for attr in new.attr:
      if attr.name not in node.attr and not attr.HasField("default_value"):
        raise TransformError(
          f"make node {place} a {new.name}",
          f"the op needs attribute '{attr.name}', and the node has none",
          "choose an op that takes the same",
        )
    renamed = type(node)()
    renamed.CopyFrom(node)
    renamed.op = new.name
    wanted = len(slots_of(renamed, model.signatures))
    given = sum(not text.startswith("^") for text in node.input)
    if wanted != given:
      raise TransformError(
        f"make node {place} a {new.name}",
        f"the op takes {wanted} inputs, and the node has {given}",
        "choose an op that takes the same",
      )


def _rename_body_outputs(model, old, new):
  """Lets functions call the outputs of the new op by their names there.

  A body writes `node:output_name:index`.
  """
  if old not in model.signatures:
    return
  names = {
    a.name: b.name
    for a, b in zip(
      model.signatures[old].output_arg, model.signatures[new].output_arg
    )
  }
  for function in model.graph.library.values():
    renamed = {node.name for node in function.node_def if node.op == old}
    for node in function.node_def:
      node.input[:] = [_follow(text, renamed, names) for text in node.input]
    for key, text in function.ret.items():
      function.ret[key] = _follow(text, renamed, names)


def _follow(text, renamed, names):
  parts = text.split(":")
  if len(parts) == 3 and parts[0] in renamed:
    parts[1] = names.get(parts[1], parts[1])
  return ":".join(parts)
