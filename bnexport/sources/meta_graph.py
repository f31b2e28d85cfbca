# SPDX-License-Identifier: Apache-2.0
"""A training graph: the `.meta` that Saver.save writes beside a checkpoint."""

from __future__ import annotations

from bnexport.errors import SourceError
from bnexport.graph import Graph
from bnexport.graph.nodes import Signatures
from bnexport.model.checkpoint import Checkpoint, Values
from bnexport.model.model import open_model
from bnexport.sources.files import read_proto
from bnexport.tf1 import tf1


def load(path, checkpoint, outputs, inputs=()):
  """Loads a training graph; nothing of it is imported or run.

  Args:
    path: a MetaGraphDef, binary or text.
    checkpoint: prefix, file or directory of the checkpoint with its values.
    outputs: names of the nodes or tensors to export.
    inputs: names of the tensors to feed, or none.

  Raises:
    SourceError: a file is missing or unsound, or a name is not in the graph.
  """
  meta = read_proto(path, tf1.MetaGraphDef, "the training graph")
  if not meta.graph_def.node:
    raise SourceError(
      f"use '{path}'",
      "it holds no graph",
      "give the .meta that Saver.save wrote, or a GraphDef with --graph_def",
    )
  signatures = Signatures(meta.meta_info_def.stripped_op_list.op)
  return open_trained(
    meta.graph_def, signatures, path, checkpoint, outputs, inputs
  )


def open_trained(graph_def, signatures, path, checkpoint, outputs, inputs):
  """A Model of a graph that was read from `path`; see `load`."""
  graph = open_graph(graph_def, copy=False)
  values = None
  if checkpoint is not None:
    values = Values(Checkpoint(checkpoint), graph)
  return open_model(graph, signatures, values, path, outputs, inputs)


def open_graph(graph_def, copy=True):
  """A Graph without placement: devices and colocation are the trainer's.

  Args:
    graph_def: a GraphDef; see Graph for `copy`.
    copy: False where the caller has no more use for `graph_def`.
  """
  graph = Graph(graph_def, copy)
  for node in graph:
    node.device = ""
    if "_class" in node.attr:
      del node.attr["_class"]
  return graph
