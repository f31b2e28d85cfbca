# SPDX-License-Identifier: Apache-2.0
"""Shapes as TensorFlow infers them, where it takes the graph."""

from __future__ import annotations

from bnexport.graph import TensorRef
from bnexport.graph.nodes import element_count, static_shape, type_attr
from bnexport.tf1 import tf1

# Shape inference reads the values of small constants, such as axes.
_LARGEST = 1024
STATED = "_output_shapes"


def inferred(graph, names=None):
  """TensorShapes by TensorRef; nothing of the graph is run.

  What the graph itself states may be stale, and is not looked at.

  Args:
    graph: a Graph; stays as it is.
    names: nodes, with all that they need; all where it is None.

  Returns:
    A dict; None where TensorFlow does not take the graph.
  """
  imported = tf1.Graph()
  try:
    with imported.as_default():
      tf1.import_graph_def(
        _skeleton(graph, graph.names() if names is None else names), name=""
      )
  except (tf1.errors.OpError, ValueError, KeyError, TypeError):
    return None
  return {
    TensorRef(operation.name, i): output.shape
    for operation in imported.get_operations()
    for i, output in enumerate(operation.outputs)
  }


def _skeleton(graph, names):
  """A GraphDef with placeholders for large constants."""
  skeleton = tf1.GraphDef()
  graph.copy_rest(skeleton)
  for name in names:
    node = graph.node(name)
    tensor = node.attr["value"].tensor if node.op == "Const" else None
    copy = skeleton.node.add()
    if tensor is None or element_count(tensor) <= _LARGEST:
      copy.CopyFrom(node)
      for key in (STATED, "_class"):  # nothing is placed
        copy.attr.pop(key, None)
      continue
    copy.name, copy.op = name, "Placeholder"
    copy.attr["dtype"].CopyFrom(type_attr(tensor.dtype))
    copy.attr["shape"].shape.CopyFrom(tensor.tensor_shape)
  return skeleton


class StaticShapes:
  """Static shapes of a graph as it was when the first one was asked for.

  Rewriting keeps the shape of what it keeps the name of.
  """

  def __init__(self, graph):
    self._graph = graph
    self._inferred = None

  def of(self, ref):
    """A list with None for open sizes; None where the rank is unknown."""
    if self._inferred is None:
      # An op TensorFlow does not know: what the graph states is left.
      self._inferred = inferred(self._graph) or {}
    shape = self._inferred.get(ref)
    if shape is not None:
      return None if shape.dims is None else shape.as_list()
    stated = static_shape(self._graph, ref)
    return stated and [None if size < 0 else size for size in stated]
