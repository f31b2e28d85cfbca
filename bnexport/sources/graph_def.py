# SPDX-License-Identifier: Apache-2.0
"""A GraphDef file, .pb or .pbtxt, with the checkpoint of its variables."""

from __future__ import annotations

from bnexport.graph.nodes import Signatures
from bnexport.sources.files import read_graph_def
from bnexport.sources.meta_graph import open_trained


def load(path, checkpoint, outputs, inputs=()):
  """Loads a graph; nothing of it is imported or run.

  Args:
    path: a GraphDef, binary or text.
    checkpoint: prefix, file or directory of a checkpoint, or None.
    outputs: names of the nodes or tensors to export.
    inputs: names of the tensors to feed, or none.

  Raises:
    SourceError: a file is missing or unsound, or a name is not in the graph.
  """
  proto = read_graph_def(path)
  return open_trained(proto, Signatures(), path, checkpoint, outputs, inputs)
