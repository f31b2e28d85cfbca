"""Variables become constants."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Tuple

from bnexport import ops
from bnexport.errors import SourceError
from bnexport.graph import TensorRef
from bnexport.nodes import static_shape, tensor_attr, type_attr


@dataclasses.dataclass(frozen=True)
class FreezeVariables:
  """Replaces each variable by a Const of the same name and value.

  Before: v = VariableV2()   r = Identity(v)
  After:  v = Const()   r = Identity(v)

  Refuses variables that the checkpoint lacks or holds in another shape.
  Run first: read_variables.

  Attributes:
    denylist: variables that stay variables.
  """

  name: ClassVar[str] = "freeze_variables"
  denylist: Tuple[str, ...] = ()

  def apply(self, model):
    graph, frozen = model.graph, 0
    variables = [
      name for name in model.needed(control=True)
      if graph.op(name) in ops.VARIABLES and name not in self.denylist
    ]
    for name in variables:
      check_variable(model, name)
    for name in variables:
      _freeze(graph, name, model.values[name])
      frozen += 1
    return ["froze %d variables" % frozen] if frozen else []


def check_variable(model, name):
  """Raises SourceError where the checkpoint can't give a variable's value."""
  if model.values is None:
    raise SourceError(
      "cannot freeze variable '%s': no checkpoint is given; pass "
      "--checkpoint=PREFIX" % name)
  saved = model.values.shape(name)
  if saved is None:
    model.values[name]  # raises with the nearest keys
  stated = static_shape(model.graph, TensorRef(name))
  if stated is not None and (len(stated) != len(saved) or any(
      a != b and a >= 0 for a, b in zip(stated, saved))):
    raise SourceError(
      "cannot freeze variable '%s': its shape is %s and the checkpoint's %s; "
      "use the checkpoint that was saved with this graph"
      % (name, list(stated), list(saved)))


def _freeze(graph, name, value):
  node = graph.node(name)
  is_resource = node.op == "VarHandleOp"
  dtype = node.attr["dtype"].type
  tensor = tensor_attr(value, dtype)
  graph.set_inputs(name, ())
  node.op = "Const"
  node.attr.clear()
  node.attr["dtype"].CopyFrom(type_attr(dtype))
  node.attr["value"].CopyFrom(tensor)
  if not is_resource:
    return
  for reader in graph.readers(name):
    read = graph.node(reader)
    if read.op == "ReadVariableOp":
      read.op = "Identity"
      read.attr.clear()
      read.attr["T"].CopyFrom(type_attr(dtype))
