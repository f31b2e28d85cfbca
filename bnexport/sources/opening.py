# SPDX-License-Identifier: Apache-2.0
"""Whatever a caller has a model in, opened as a Model."""

from __future__ import annotations

import os

from bnexport.errors import SourceError
from bnexport.graph import Graph
from bnexport.graph.nodes import Signatures, tensor_attr
from bnexport.model.checkpoint import find_prefix
from bnexport.sources import (
  keras_model,
  plain_graph,
  plain_saved_model,
  session_values,
)
from bnexport.sources.keras_file import is_keras
from bnexport.tf1 import tf1

# How a caller names outputs and inputs.
_ARGUMENTS = ("outputs", "inputs")
_SAVED_MODELS = ("saved_model.pb", "saved_model.pbtxt")


def load(source, checkpoint, outputs, inputs, tags, signature, session):
  """Opens a model; see bnexport.load."""
  prefix = None if checkpoint is None else find_prefix(os.fspath(checkpoint))
  if isinstance(source, (tf1.GraphDef, tf1.MetaGraphDef)):
    return _of_proto(source, prefix, outputs, inputs)
  if isinstance(source, tf1.Graph):
    return _of_graph(source, prefix, outputs, inputs, session)
  if not isinstance(source, (str, os.PathLike)):
    raise SourceError(
      f"load a {type(source).__name__}",
      "it holds no graph",
      "give a path, a GraphDef, a MetaGraphDef or a tf.compat.v1.Graph",
    )
  path = os.fspath(source)
  if is_keras(path):
    return keras_model.load(path, outputs, inputs)[0]
  if is_saved_model(path):
    return plain_saved_model.load(
      path, prefix, outputs, inputs, tags, signature
    )
  if not path.endswith(".meta") and _is_checkpoint(path):
    path = find_prefix(path) + ".meta"
  beside = path[: -len(".meta")]
  if prefix is None and path.endswith(".meta") and _is_checkpoint(beside):
    prefix = beside
  return plain_graph.load(path, outputs, inputs, prefix)


def is_saved_model(path):
  """Whether a path of a model is that of a SavedModel."""
  if not tf1.gfile.IsDirectory(path):
    return os.path.basename(path) in _SAVED_MODELS
  # Of a directory that is neither, the SavedModel's error tells more.
  return not tf1.gfile.Exists(os.path.join(path, "checkpoint")) or any(
    tf1.gfile.Exists(os.path.join(path, name)) for name in _SAVED_MODELS
  )


def _is_checkpoint(path):
  return tf1.gfile.IsDirectory(path) or tf1.gfile.Exists(path + ".index")


def _of_proto(proto, prefix, outputs, inputs):
  signatures, graph_def = Signatures(), proto
  if isinstance(proto, tf1.MetaGraphDef):
    signatures = Signatures(proto.meta_info_def.stripped_op_list.op)
    graph_def = proto.graph_def
  return plain_graph.plain_model(
    Graph(graph_def),
    signatures,
    prefix,
    "a GraphDef",
    outputs,
    inputs,
    _ARGUMENTS,
  )


def _of_graph(tf_graph, prefix, outputs, inputs, session):
  model = plain_graph.plain_model(
    Graph(tf_graph.as_graph_def(add_shapes=True), copy=False),
    Signatures(),
    prefix,
    "a tf.Graph",
    outputs,
    inputs,
    _ARGUMENTS,
  )
  if session is not None:
    for name, value in session_values.read(model.graph, session).items():
      model.values.hold(name, tensor_attr(value).tensor)
  return model
