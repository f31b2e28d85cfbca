# SPDX-License-Identifier: Apache-2.0
"""A GraphDef as it is: what the user asks for is all that changes."""

from __future__ import annotations

from bnexport.graph import Graph
from bnexport.graph.nodes import Signatures
from bnexport.model.checkpoint import Checkpoint, Values
from bnexport.model.model import open_model
from bnexport.sources.files import read_graph_def, read_proto, refuse_empty
from bnexport.tf1 import tf1


def load(path, outputs, inputs=(), checkpoint=None):
  """Loads a graph whose devices and colocations stay; nothing of it is run.

  Args:
    path: a GraphDef or MetaGraphDef, binary or text; a MetaGraphDef is told
      by its name, which ends in .meta.
    outputs: names of the nodes or tensors to keep.
    inputs: names of the tensors to feed, or none.
    checkpoint: prefix of the checkpoint with its variables, or None.

  Raises:
    SourceError: a file is missing or unsound, or a name is not in the graph.
  """
  signatures = Signatures()
  if path.endswith(".meta"):
    meta = read_proto(path, tf1.MetaGraphDef, "the graph")
    signatures = Signatures(meta.meta_info_def.stripped_op_list.op)
    graph_def = refuse_empty(meta.graph_def, path)
  else:
    graph_def = read_graph_def(path)
  return plain_model(
    Graph(graph_def, copy=False),
    signatures,
    checkpoint,
    path,
    outputs,
    inputs,
    ("--outputs", "--inputs"),
  )


def plain_model(graph, signatures, prefix, origin, outputs, inputs, flags):
  """A Model of a graph that holds values also without a checkpoint."""
  saved = None if prefix is None else Checkpoint(prefix)
  values = Values(saved, graph)
  return open_model(graph, signatures, values, origin, outputs, inputs, flags)
