# SPDX-License-Identifier: Apache-2.0
"""A tf.compat.v1.Graph."""

from __future__ import annotations

from bnexport.graph.nodes import Signatures
from bnexport.sources.contents import Contents, saved_in


def read(request) -> Contents:
  """Takes a graph as it is now."""
  return Contents(
    request.source.as_graph_def(add_shapes=True),
    Signatures(),
    "a tf.Graph",
    request.outputs,
    request.inputs,
    checkpoint=saved_in(request.checkpoint),
  )
