# SPDX-License-Identifier: Apache-2.0
"""A GraphDef: a file, .pb or .pbtxt, or the proto itself."""

from __future__ import annotations

from bnexport.graph.nodes import Signatures
from bnexport.sources.contents import Contents, saved_in
from bnexport.sources.files import read_graph_def, read_parts
from bnexport.tf1 import tf1


def read(request) -> Contents:
  """Reads a GraphDef; nothing of it is imported or run.

  Raises:
    SourceError: the file is missing, unsound or empty.
  """
  is_proto = isinstance(request.source, tf1.GraphDef)
  graph_def = request.source if is_proto else read_graph_def(request.source)
  return _contents(request, graph_def, is_proto)


def take(request) -> Contents:
  """As `read`, for a Graph that is the only one to have it: Parts of a file."""
  parts = None
  if not isinstance(request.source, tf1.GraphDef):
    parts = read_parts(request.source, "the graph")
  return read(request) if parts is None else _contents(request, parts)


def _contents(request, graph_def, is_proto=False):
  return Contents(
    graph_def,
    Signatures(),
    "a GraphDef" if is_proto else request.source,
    request.outputs,
    request.inputs,
    checkpoint=saved_in(request.checkpoint),
  )
