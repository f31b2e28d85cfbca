# SPDX-License-Identifier: Apache-2.0
"""Reading variables in a graph, and setting them."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import AnyType, identity, type_attr
from bnexport.graph.origins import HANDOVERS, holder_of, viewed
from bnexport.tf1 import op_def, tf1

_RESOURCE = tf1.resource.as_datatype_enum


def variable_dtype(graph: Graph, variable: str) -> int:
  """DataType enum of a variable's value."""
  return graph.node(variable).attr["dtype"].type


def variable_of(graph: Graph, ref: TensorRef) -> Optional[str]:
  """Name of the variable whose handle, reference or value this is, or None."""
  return holder_of(graph, ref, ops.VARIABLES, HANDOVERS)


def constant_of(graph: Graph, ref: TensorRef) -> Optional[str]:
  """Name of the Const whose value a tensor is, or None."""
  return holder_of(graph, ref, ("Const",), HANDOVERS)


def read(graph: Graph, variable: str) -> TensorRef:
  """The value of a variable outside of all loops; a read is added if needed."""
  is_resource = graph.op(variable) == "VarHandleOp"
  wanted = "ReadVariableOp" if is_resource else "Identity"
  for reader in graph.readers(variable):
    if graph.op(reader) == wanted and graph.inputs(reader) == [
      TensorRef(variable)
    ]:
      return TensorRef(reader)
  if is_resource:
    return own_read(graph, variable)
  dtype = variable_dtype(graph, variable)
  return identity(graph, variable + "/read", TensorRef(variable), dtype)


def own_read(graph: Graph, variable: str) -> TensorRef:
  """The read of a handle by the name that tf.Variable gives it; added if new.

  TensorFlow's graph_util and its loaders look for that one.
  """
  name = variable + "/Read/ReadVariableOp"
  if name not in graph:
    dtype = {"dtype": type_attr(variable_dtype(graph, variable))}
    graph.add("ReadVariableOp", name, [TensorRef(variable)], dtype)
  return TensorRef(name)


def become_resource(
  graph: Graph, name: str, dtype: AnyType, shape: Any
) -> None:
  """Makes a node a resource variable; its readers read its value.

  Args:
    graph: the graph.
    name: the node.
    dtype: DType or DataType enum of the value.
    shape: a TensorShapeProto.
  """
  readers = graph.readers_of(TensorRef(name))
  attrs = {
    "dtype": type_attr(dtype),
    "shape": tf1.AttrValue(shape=shape),
    # Handles without a shared name would all be one variable.
    "shared_name": tf1.AttrValue(s=name.encode()),
  }
  graph.become(name, "VarHandleOp", graph.control_inputs(name), attrs)
  graph.substitute({TensorRef(name): read(graph, name)}, readers)


def is_reference(graph: Graph, ref: TensorRef) -> bool:
  """Tells whether a tensor is a variable's reference or handle."""
  nodes = (graph.node(view.node) for view in viewed(graph, ref, HANDOVERS))
  return all(
    node.op in ops.VARIABLES
    or node.op.startswith("Ref")
    or ("T" in node.attr and node.attr["T"].type == _RESOURCE)
    for node in nodes
  )


def is_only_read(graph: Graph, variable: str) -> bool:
  """Tells whether nothing in the graph could write a variable."""
  for reader in graph.readers(variable):
    known = op_def(graph.op(reader))
    if graph.op(variable) == "VarHandleOp":
      if graph.op(reader) != "ReadVariableOp":
        return False
    elif known is None or any(arg.is_ref for arg in known.input_arg):
      return False
  return True


def assignment(
  imported: tf1.Graph, node: tf1.NodeDef
) -> Tuple[tf1.Operation, tf1.Tensor]:
  """An operation that sets a variable in a tf Graph, and its placeholder.

  Args:
    imported: the tf.compat.v1.Graph with the variable; the default graph.
    node: the variable's NodeDef.
  """
  tensor = imported.get_tensor_by_name(node.name + ":0")
  holder = tf1.placeholder(node.attr["dtype"].type)
  if node.op == "VarHandleOp":
    return tf1.raw_ops.AssignVariableOp(resource=tensor, value=holder), holder
  assign = tf1.raw_ops.Assign(ref=tensor, value=holder, validate_shape=False)
  return assign, holder
