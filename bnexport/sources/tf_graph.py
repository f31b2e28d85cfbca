# SPDX-License-Identifier: Apache-2.0
"""A tf.compat.v1.Graph, perhaps with the session that holds its variables."""

from __future__ import annotations

from bnexport.graph import Graph
from bnexport.graph.nodes import Signatures, tensor_attr
from bnexport.sources import session_values
from bnexport.sources.contents import Contents, saved_in


def read(request) -> Contents:
  """Takes a graph as it is now, and values of its variables as they are."""
  graph_def = request.source.as_graph_def(add_shapes=True)
  held = {}
  if request.session is not None:
    values = session_values.read(Graph(graph_def, False), request.session)
    held = {name: tensor_attr(value).tensor for name, value in values.items()}
  return Contents(
    graph_def,
    Signatures(),
    "a tf.Graph",
    request.outputs,
    request.inputs,
    checkpoint=saved_in(request.checkpoint),
    held=held,
  )
