# SPDX-License-Identifier: Apache-2.0
"""A graph that was frozen, perhaps wrongly, and what it was frozen from."""

from __future__ import annotations

from bnexport.errors import SourceError
from bnexport.graph import TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.mending import mending
from bnexport.mending.completion import complete, scope_of
from bnexport.model.checkpoint import Checkpoint, Values
from bnexport.model.model import open_model
from bnexport.sources.files import read_graph_def, read_proto
from bnexport.sources.meta_graph import open_graph
from bnexport.tf1 import tf1


def load(path, checkpoint, training, outputs, inputs=()):
  """Loads a frozen graph that need not be sound; nothing of it is run.

  Args:
    path: a GraphDef, binary or text.
    checkpoint: prefix of the checkpoint that it was frozen with, or None.
    training: the .meta of the training graph, or None.
    outputs: names of the nodes or tensors to keep.
    inputs: names of the tensors to feed, or none.

  Returns:
    A Model whose history says what was mended.

  Raises:
    SourceError: a file is missing or unsound, or a name is not in the graph.
    GraphError: an output needs what can't be mended.
  """
  graph_def = read_graph_def(path)
  signatures, held, told, warnings = Signatures(), {}, [], []
  has_training_graph = False
  placed = sum(bool(node.device) for node in graph_def.node)
  if placed:
    told.append(f"removed the devices of {placed} nodes")
  if training is not None:
    meta = read_proto(training, tf1.MetaGraphDef, "the training graph")
    if not meta.graph_def.node:
      raise SourceError(
        f"use '{training}'",
        "it holds no graph",
        "give the .meta that Saver.save wrote with --meta_graph",
      )
    signatures = Signatures(meta.meta_info_def.stripped_op_list.op)
    done = complete(graph_def, meta.graph_def, signatures)
    held, has_training_graph = done.held, done.is_used
    if not done.is_used:
      warnings.append(
        f"'{training}' is of another model, and not used: too few nodes are "
        "the same"
      )
    told += [f"'{n}' is restored from '{training}'" for n in done.restored]
  missing = mending.missing(graph_def, inputs)
  told += mending.mend(
    graph_def,
    signatures,
    [TensorRef.parse(name) for name in outputs],
    [TensorRef.parse(name) for name in inputs],
  )
  inputs = [missing.get(name, name) for name in inputs]
  graph = open_graph(graph_def, copy=False)
  saved = None
  if checkpoint is not None:
    # A training graph has Savers, which know the keys.
    saved = (
      Checkpoint(checkpoint)
      if has_training_graph
      else _ByName(checkpoint, graph)
    )
  return open_model(
    graph,
    signatures,
    Values(saved, graph, held),
    path,
    outputs,
    inputs,
    has_training_graph=has_training_graph,
    history=told,
    warnings=warnings,
  )


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

  def _is_large(self, key):
    return super()._is_large(self._scope + key)
