# SPDX-License-Identifier: Apache-2.0
"""Variables are only read, by value: no references or handles are left."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Dict, List, Optional

import numpy as np

from bnexport.errors import TransformError
from bnexport.graph import ops
from bnexport.graph.nodes import int_attr, type_attr
from bnexport.graph.variables import read, variable_dtype, variable_of
from bnexport.model import Model
from bnexport.text import Emitter
from bnexport.tf1 import tf1

# Ops that hand on values, by those that hand on references.
PLAIN = {
  "RefSwitch": "Switch",
  "RefEnter": "Enter",
  "RefIdentity": "Identity",
  "RefMerge": "Merge",
  "RefExit": "Exit",
  "RefNextIteration": "NextIteration",
}
_CARRIERS = frozenset(PLAIN) | frozenset(PLAIN.values())
# What gives of a variable's value what the op gives of its handle.
_BY_VALUE = {
  "ReadVariableOp": "result = Identity(value, ^waits) {T=$T}",
  "ResourceGather": """
    axis = Const(^indices) {value=$batch_dims}
    result = GatherV2(value, indices, axis, ^waits)
      {Tparams=$T, Tindices=$Tindices}
  """,
  "ResourceGatherNd": """
    result = GatherNd(value, indices, ^waits) {Tparams=$T, Tindices=$Tindices}
  """,
  "VariableShape": "result = Shape(value, ^waits) {T=$T, out_type=$out_type}",
}


@dataclasses.dataclass(frozen=True)
class ReadVariables:
  """Replaces reads through references and handles by plain values.

  Before: v = VariableV2()   s = RefSwitch(v, p)   y = Relu(s)
  After:  v/read = Identity(v)   s = Switch(v/read, p)   y = Relu(s)

  Refuses ops that use a variable's handle in a way that is no read.
  Run first: use_written_values, remove_side_effects.
  """

  name: ClassVar[str] = "read_variables"

  def apply(self, model: Model) -> List[str]:
    variables: Dict[str, Optional[str]] = {}
    for name in model.graph.topological(model.needed(control=True)):
      _make_plain(model.graph, model.graph.node(name), variables)
    return []


def _make_plain(graph, node, variables):
  """Makes one node read values where it read references or handles.

  Args:
    graph: is edited.
    node: one whose inputs have been made plain.
    variables: the variable, or None, that each carrier hands on; is added to.
  """
  name = node.name
  data = graph.data_inputs(name)
  if not data:
    return
  if node.op in _CARRIERS:
    variable = _handed_on(graph, data[0], variables)
    variables[name] = variable
    is_handle = node.attr["T"].type == tf1.resource.as_datatype_enum
    if variable is not None and (node.op in PLAIN or is_handle):
      node.attr["T"].CopyFrom(type_attr(variable_dtype(graph, variable)))
      graph.set_inputs(
        name,
        [
          read(graph, r.node) if graph.op(r.node) in ops.VARIABLES else r
          for r in data
        ]
        + graph.control_inputs(name),
      )
    node.op = PLAIN.get(node.op, node.op)
    return
  source = graph.node(data[0].node)
  if source.op == "VarHandleOp" or node.op in _BY_VALUE:
    _read_handle(graph, node, data)


def _handed_on(graph, ref, variables):
  """The variable behind a tensor; carriers before it are not walked again."""
  is_number = ref.index and graph.op(ref.node) in ops.MERGES
  if ref.node in variables and not is_number:
    return variables[ref.node]
  return variable_of(graph, ref)


def _read_handle(graph, node, data):
  """Gives an op that took a handle the value instead."""
  variable = variable_of(graph, data[0])
  if variable is None:
    return  # a table or another resource
  if node.op == "ReadVariableOp" and data[0].node == variable:
    return
  value = data[0]
  if value.node == variable and graph.op(variable) == "VarHandleOp":
    value = read(graph, variable)
  read_value(graph, node, variable, value)


def read_value(graph, node, variable, value):
  """Makes an op that reads a variable's handle read a value instead.

  Args:
    graph: is edited.
    node: the NodeDef of the op.
    variable: name of the variable.
    value: the TensorRef to read.

  Raises:
    TransformError: there is no such op that takes a value.
  """
  if node.op not in _BY_VALUE:
    raise TransformError(
      f"freeze variable '{variable}'",
      f"op '{node.op}' of node '{node.name}' uses its handle and has no form "
      "that takes a value",
      "cut it away with --input_node",
    )
  batch_dims = node.attr["batch_dims"].i if "batch_dims" in node.attr else 0
  Emitter(graph).become(
    node.name,
    _BY_VALUE[node.op],
    value=value,
    indices=graph.data_inputs(node.name)[1:],
    T=type_attr(variable_dtype(graph, variable)),
    Tindices=node.attr.get("Tindices"),
    out_type=node.attr.get("out_type"),
    batch_dims=np.int32(batch_dims),
    result={"batch_dims": int_attr(batch_dims)} if batch_dims else None,
  )
