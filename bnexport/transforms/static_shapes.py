"""Shapes as TensorFlow infers them, where it takes the graph."""

from __future__ import annotations

from bnexport.errors import GraphError
from bnexport.nodes import static_shape


class StaticShapes:
  """Static shapes of a graph as it was when the first one was asked for.

  Rewriting keeps the shape of what it keeps the name of.
  """

  def __init__(self, graph):
    self._graph = graph
    self._tf_graph = None
    self._is_imported = False

  def of(self, ref):
    """A list with None for open sizes; None where the rank is unknown."""
    self._import()
    try:
      tensor = self._tf_graph.get_tensor_by_name(
        "%s:%d" % (ref.node, ref.index)
      )
    except (AttributeError, KeyError):
      shape = static_shape(self._graph, ref)
      return shape and [None if size < 0 else size for size in shape]
    return None if tensor.shape.dims is None else tensor.shape.as_list()

  def _import(self):
    if self._is_imported:
      return
    self._is_imported = True
    try:
      self._tf_graph = self._graph.to_tf_graph()
    except GraphError:
      pass  # an op TensorFlow does not know: what the graph states is left
