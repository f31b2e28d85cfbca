# SPDX-License-Identifier: Apache-2.0
"""A graph that was frozen, perhaps wrongly, and what it was frozen from."""

from __future__ import annotations

from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.graph.soundness import refuse_unsound
from bnexport.graph.void_attributes import drop_void_attributes
from bnexport.mending import mending
from bnexport.mending.completion import complete, scope_of
from bnexport.model.checkpoint import Checkpoint
from bnexport.sources.contents import Contents
from bnexport.sources.files import read_graph_def
from bnexport.sources.meta_graph import read_meta_graph


def read(request) -> Contents:
  """Reads a frozen GraphDef and mends what keeps it from opening.

  Of the request, `training` names the .meta of the training graph, which gives
  back what freezing lost; nothing is run.

  Raises:
    SourceError: a file is missing or unsound.
    GraphError: an output needs what can't be mended.
  """
  contents = Contents(
    read_graph_def(request.source),
    Signatures(),
    request.source,
    has_training_graph=False,
  )
  graph_def = contents.graph_def
  placed = sum(bool(node.device) for node in graph_def.node)
  if placed:
    contents.changes.append(f"removed the devices of {placed} nodes")
  if request.training is not None:
    _complete(contents, request.training)
  missing = mending.missing(graph_def, request.inputs)
  contents.changes += mending.mend(
    graph_def,
    contents.signatures,
    [TensorRef.parse(name) for name in request.outputs],
    [TensorRef.parse(name) for name in request.inputs],
  )
  contents.outputs = request.outputs
  contents.inputs = tuple(missing.get(name, name) for name in request.inputs)
  if request.checkpoint is not None:
    # A training graph has Savers, which know the keys.
    contents.checkpoint = (
      Checkpoint(request.checkpoint)
      if contents.has_training_graph
      else _ByName(request.checkpoint, Graph(graph_def, copy=False))
    )
  return contents


def _complete(contents, training):
  """Gives a graph back what only its training graph holds."""
  meta = read_meta_graph(training)
  contents.saver = meta.saver_def.save_tensor_name or None
  contents.signatures = Signatures(meta.meta_info_def.stripped_op_list.op)
  refuse_unsound(meta.graph_def, contents.signatures, f"'{training}'")
  whole = drop_void_attributes(meta.graph_def)
  done = complete(contents.graph_def, whole, contents.signatures)
  contents.held, contents.has_training_graph = done.held, done.is_used
  if not done.is_used:
    contents.doubts.append(
      f"'{training}' is of another model, and not used: too few nodes are the "
      "same"
    )
  contents.changes += [
    f"'{name}' is restored from '{training}'" for name in done.restored
  ]


class _ByName(Checkpoint):
  """A checkpoint whose keys are below the scope that a graph is below."""

  def __init__(self, prefix, graph):
    super().__init__(prefix)
    constants = (node for node in graph if node.op == "Const")
    scope, _ = scope_of(constants, lambda _, name: name in self.shapes)
    self._scope = scope
    self.shapes = {scope + key: shape for key, shape in self.shapes.items()}

  def read(self, key, slice_spec=""):
    return super().read(key[len(self._scope) :], slice_spec)

  def dtype(self, key):
    return super().dtype(key[len(self._scope) :])

  def content(self, key, slice_spec=""):
    return super().content(key[len(self._scope) :], slice_spec)

  def _is_large(self, key):
    return super()._is_large(self._scope + key)
