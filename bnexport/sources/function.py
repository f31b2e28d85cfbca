# SPDX-License-Identifier: Apache-2.0
"""A ConcreteFunction, or a tf.function of one signature, of TF 2."""

from __future__ import annotations

from bnexport.errors import SourceError, first_line
from bnexport.graph import Graph
from bnexport.graph.nodes import Signatures, tensor_attr, type_attr
from bnexport.sources.contents import Contents
from bnexport.tf1 import tf1


def is_function(source):
  """Whether an object is a ConcreteFunction or a tf.function."""
  return hasattr(source, "structured_outputs") or hasattr(
    source, "get_concrete_function"
  )


def read(request) -> Contents:
  """Takes the graph of a function, with variables as they are now.

  Raises:
    SourceError: it has no signature of its own, or eager execution is off.
  """
  traced = _concrete(request.source)
  graph = Graph(traced.graph.as_graph_def(add_shapes=True), copy=False)
  held, captured = {}, set()
  variables = {id(v.handle): v for v in traced.graph.variables}
  for outer, inner in zip(
    traced.graph.external_captures, traced.graph.internal_captures
  ):
    name = inner.op.name
    captured.add(name)
    if id(outer) in variables:
      _become_variable(graph, name, variables[id(outer)])
      held[name] = tensor_attr(variables[id(outer)].numpy()).tensor
    elif inner.dtype == tf1.resource:
      raise SourceError(
        f"load function '{traced.graph.name}'",
        f"it reads '{name}', which is no variable, such as a lookup table",
        "look up before it is called, and give a function of what was found",
      )
    else:
      attrs = {
        "dtype": type_attr(inner.dtype),
        "value": tensor_attr(outer.numpy()),
      }
      graph.become(name, "Const", [], attrs)
  fed = [t.name for t in traced.inputs if t.op.name not in captured]
  return Contents(
    graph.to_graph_def(),
    Signatures(),
    f"function '{traced.graph.name}'",
    request.outputs or tuple(t.name for t in traced.outputs),
    request.inputs or tuple(fed),
    label="function",
    held=held,
  )


def _concrete(source):
  if not tf1.executing_eagerly():
    raise SourceError(
      "load a function",
      "eager execution is off, so values of its variables can't be read",
      "save it with tf.saved_model.save, and load that",
    )
  if hasattr(source, "structured_outputs"):
    return source
  try:
    return source.get_concrete_function()
  except (TypeError, ValueError) as error:
    raise SourceError(
      "load a tf.function",
      f"it has no signature of its own: {first_line(error)}",
      "give FUNCTION.get_concrete_function(tf.TensorSpec(...))",
    ) from error


def _become_variable(graph, name, variable):
  """Makes the placeholder of a captured handle that variable's handle."""
  shape = tf1.AttrValue(shape=variable.shape.as_proto())
  attrs = {
    "dtype": type_attr(variable.dtype.base_dtype),
    "shape": shape,
    "shared_name": tf1.AttrValue(s=name.encode()),
    "container": tf1.AttrValue(s=b""),
  }
  graph.become(name, "VarHandleOp", [], attrs)
