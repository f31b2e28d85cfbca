# SPDX-License-Identifier: Apache-2.0
"""A training graph: the `.meta` that Saver.save writes beside a checkpoint."""

from __future__ import annotations

import os

from bnexport.errors import SourceError
from bnexport.graph.nodes import Signatures
from bnexport.model.checkpoint import Checkpoint
from bnexport.sources.contents import Contents, saved_in
from bnexport.sources.files import read_proto
from bnexport.tf1 import tf1


def read(request) -> Contents:
  """Reads a MetaGraphDef's file or the proto; nothing of it is run.

  Raises:
    SourceError: the file is missing, unsound or holds no graph.
  """
  is_proto = isinstance(request.source, tf1.MetaGraphDef)
  if is_proto:
    meta, origin = request.source, "a GraphDef"
  else:
    meta = read_meta_graph(request.source, request.checkpoint)
    origin = request.source
  return Contents(
    meta.graph_def,
    Signatures(meta.meta_info_def.stripped_op_list.op),
    origin,
    request.outputs,
    request.inputs,
    checkpoint=saved_in(request.checkpoint),
    saver=meta.saver_def.save_tensor_name or None,
  )


def read_meta_graph(path, checkpoint=None):
  """The MetaGraphDef in a file.

  Args:
    path: the file, binary or text.
    checkpoint: prefix of the checkpoint that the file should be beside.

  Raises:
    SourceError: the file is missing, unsound or holds no graph.
  """
  if checkpoint is not None and path == checkpoint + ".meta":
    if not tf1.gfile.Exists(path):
      held = len(Checkpoint(checkpoint).shapes)
      raise SourceError(
        f"open checkpoint '{checkpoint}'",
        f"it holds {held} tensors and no graph, and there is no such file as "
        f"'{path}'",
        f"pass {_beside(checkpoint)}, or rebuild the model with "
        "--model=FILE.py:FUNCTION",
      )
  meta = read_proto(path, tf1.MetaGraphDef, "the training graph")
  if not meta.graph_def.node:
    raise SourceError(
      f"use '{path}'",
      "it holds no graph",
      "give the .meta that Saver.save wrote, or a GraphDef with --graph_def",
    )
  return meta


def _beside(checkpoint):
  """The flag that gives the graph; Estimators write one beside."""
  folder = os.path.dirname(checkpoint)
  for name in ("graph.pbtxt", "graph.pb"):
    path = os.path.join(folder, name)
    if tf1.gfile.Exists(path):
      return f"--graph_def={path}"
  return "the training graph with --meta_graph=FILE or --graph_def=FILE"
