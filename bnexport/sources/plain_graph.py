"""A GraphDef as it is: what the user asks for is all that changes."""

from __future__ import annotations

from bnexport.checkpoint import Checkpoint, Values
from bnexport.errors import SourceError
from bnexport.graph import Graph
from bnexport.model import Model, find_tensors
from bnexport.nodes import Signatures
from bnexport.sources.files import read_proto
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
    graph_def = meta.graph_def
  else:
    graph_def = read_proto(path, tf1.GraphDef, "the graph")
  if not graph_def.node:
    raise SourceError(
      "cannot use '%s': the graph is empty; give the file "
      "that TensorFlow wrote" % path
    )
  graph = Graph(graph_def, copy=False)
  saved = None if checkpoint is None else Checkpoint(checkpoint)
  return Model(
    graph=graph,
    values=Values(saved, graph),
    inputs=find_tensors(graph, signatures, inputs, "--inputs"),
    outputs=find_tensors(graph, signatures, outputs, "--outputs"),
    origin=path,
    signatures=signatures,
  )
