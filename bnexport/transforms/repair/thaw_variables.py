# SPDX-License-Identifier: Apache-2.0
"""Constants that were variables are variables again."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.errors import GraphError
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import FLOATS, static_shape, type_attr
from bnexport.graph.variables import become_resource, constant_of
from bnexport.mending.faults import clashes
from bnexport.model import Model
from bnexport.tf1 import tf1

# What renaming makes of updates, so that a frozen graph imports.
_RENAMED = {
  "Sub": "AssignSub",
  "Add": "AssignAdd",
  "AddV2": "AssignAdd",
  "Identity": "Assign",
}
# What the new value of an average is computed by, from the old one. Divided
# is the helper of a zero debias, which is not the variable that is written.
_ARITHMETIC = frozenset(("Add", "AddV2", "AddN", "Sub", "Mul"))
_ARITHMETIC |= (
  ops.CARRIERS | ops.SWITCHES | ops.MERGES | ops.RESHAPES | {"Cast"}
)


@dataclasses.dataclass(frozen=True)
class ThawVariables:
  """Undoes freezing where the training part is still in the graph.

  A constant was a variable where an op wants its reference or handle, where
  the checkpoint has its name and shape, and where something is computed from it
  that is waited for and not read: that is an update that was renamed. The
  variable keeps the value that the file holds.

  Before: v = Const()   u = AssignSub(v, d)   y = Relu(x, ^u)
  After:  v = VariableV2()   u = AssignSub(v, d)   y = Relu(x, ^u)
  """

  name: ClassVar[str] = "thaw_variables"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    told = []
    for node in graph:
      told += _rename_back(model, node)
    for node in graph:
      for slot, wants_handle in _clashes(graph, model.signatures, node):
        variable = constant_of(graph, graph.data_inputs(node.name)[slot])
        if variable is None:
          continue
        _thaw(model, variable, wants_handle)
        graph.set_input(node.name, slot, TensorRef(variable))
        told.append(
          "'%s' takes a variable's %s, and got the constant '%s'; it is a "
          "variable again"
          % (node.name, "handle" if wants_handle else "reference", variable)
        )
    for name in graph.names():
      if _is_saved(model, name):
        _thaw(model, name, False)
    return told


def _clashes(graph, signatures, node):
  """Slots that want a reference or a handle and get a value; which it is."""
  if node.op not in signatures:
    return []
  sources = [graph.node(ref.node) for ref in graph.data_inputs(node.name)]
  return [
    (slot, not arg.is_ref) for slot, arg in clashes(node, sources, signatures)
  ]


def _rename_back(model, node):
  """Makes what is only waited for an update again."""
  graph = model.graph
  if node.op not in _RENAMED or not graph.readers(node.name):
    return []
  ref = TensorRef(node.name)
  if graph.readers_of(ref) or ref in model.outputs:
    return []
  inputs = graph.inputs(node.name)
  if node.op == "Identity":  # the reference is gone, the value was the second
    _refuse_literal(model, node.name, inputs[0].node)
    variable, rest = _vector_behind(graph, inputs[0]), inputs
  else:
    variable, rest = constant_of(graph, inputs[0]), inputs[1:]
  if variable is None or not static_shape(graph, TensorRef(variable)):
    return []
  _thaw(model, variable, False)
  attrs = {"T": node.attr["T"]}
  told = (
    f"'{node.name}' ({node.op}) has no reader: it was the update of "
    f"'{variable}'"
  )
  inputs = [TensorRef(variable)] + rest
  graph.become(node.name, _RENAMED[node.op], inputs, attrs)
  return [told]


def _refuse_literal(model, name, source):
  """Refuses what wrote a literal to a variable that the file does not name."""
  graph, checkpoint = model.graph, model.values.checkpoint
  if checkpoint is None or source in checkpoint:
    return
  if graph.op(source) == "Const" and static_shape(graph, TensorRef(source)):
    raise GraphError(
      f"mend '{name}'",
      f"it is an Identity of '{source}' that is waited for and that nothing "
      "reads: it wrote to a variable, and the file does not tell to which",
      "give the training graph with --meta_graph=FILE",
    )


def _vector_behind(graph, ref):
  """The one Const that is no scalar and that a value is computed from."""
  seen, stack, found = set(), [ref.node], set()
  for name in stack:
    op = graph.op(name)
    if op == "Const" and graph.node(name).attr["dtype"].type in FLOATS:
      if static_shape(graph, TensorRef(name)):
        found.add(name)
    if name in seen or op not in _ARITHMETIC:
      continue
    seen.add(name)
    stack += [r.node for r in graph.data_inputs(name)]
  return found.pop() if len(found) == 1 else None


def _is_saved(model, name):
  node, checkpoint = model.graph.node(name), model.values.checkpoint
  return (
    node.op == "Const"
    and checkpoint is not None
    and name in checkpoint
    and tuple(checkpoint.shapes[name])
    == static_shape(model.graph, TensorRef(name))
  )


def _thaw(model, name, wants_handle):
  """Makes a Const a variable whose value the file holds."""
  graph = model.graph
  node = graph.node(name)
  if node.op != "Const":
    return
  tensor = node.attr["value"].tensor
  model.values.hold(name, tensor)
  if wants_handle:
    become_resource(graph, name, tensor.dtype, tensor.tensor_shape)
    return
  attrs = {
    "dtype": type_attr(tensor.dtype),
    "shape": tf1.AttrValue(shape=tensor.tensor_shape),
  }
  graph.become(name, "VariableV2", graph.control_inputs(name), attrs)
