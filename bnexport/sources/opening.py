# SPDX-License-Identifier: Apache-2.0
"""The one way in: a Request becomes a Model."""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Optional

from bnexport.errors import SourceError
from bnexport.graph import Graph
from bnexport.graph.nodes import tensor_attr
from bnexport.graph.placeholders import state_open_shapes
from bnexport.model import Model
from bnexport.model.changes import Doubt, changes_by
from bnexport.model.checkpoint import Values
from bnexport.model.model import find_tensors
from bnexport.model.prefixes import find_prefix, prefixes_in
from bnexport.model.request import Request
from bnexport.sources import session_values
from bnexport.sources.contents import Contents
from bnexport.sources.keras_file import is_keras
from bnexport.tf1 import tf1

# The module that reads each kind of source, of which a process imports the one
# that it needs. A kind that is a file is named by the flag of its name.
KINDS = {
  "frozen_graph": "frozen_graph",
  "function": "function",
  "graph_def": "graph_def",
  "hub_module": "hub_module",
  "keras": "keras_model",
  "meta_graph": "meta_graph",
  "model": "model_code",
  "saved_model": "saved_model",
  "tf_graph": "tf_graph",
}
SAVED_MODELS = ("saved_model.pb", "saved_model.pbtxt")
_PARTS_OF_A_CHECKPOINT = (".meta", ".index")


def read(request: Request) -> Contents:
  """The contents of a source; only a source's own code is run.

  Raises:
    SourceError: it is missing or unsound.
    GraphError: it is malformed, and can't be mended.
  """
  return _module(request).read(request)


def _module(request):
  return importlib.import_module(f"bnexport.sources.{KINDS[request.kind]}")


def open(request: Request, contents: Optional[Contents] = None) -> Model:
  """A Model of what a user names.

  Model code and Keras files are run by what they are made of; nothing of any
  other source is imported or run. Devices and colocations stay.

  Args:
    request: what is named, and what is asked of it.
    contents: what `read` gave for the request, where the caller has it.

  Raises:
    SourceError: the source is missing or unsound, or a name is not in it.
    GraphError: its graph is malformed; `frozen_graph` mends what can be.
  """
  if contents is None:
    module = _module(request)
    # Of what nobody else has, a large graph need not be there twice.
    contents = getattr(module, "take", module.read)(request)
  graph = Graph(contents.graph_def)
  state_open_shapes(graph)
  if contents.prepare is not None:
    graph = contents.prepare(graph)
  model = _model_of(graph, request, contents)
  if contents.finish is not None:
    contents.finish(model)
  if contents.run is not None:
    model.own_run = contents.run(model)
  return model


def _model_of(graph, request, contents):
  """The Model of a graph, before its source has finished it."""

  def tensors(names, flag):
    return find_tensors(graph, contents.signatures, names, flag)

  output_flag, input_flag = request.flags
  return Model(
    graph=graph,
    values=Values(
      contents.checkpoint,
      graph,
      _held(graph, request, contents),
      contents.saver,
      request.scope_map,
    ),
    inputs=tensors(contents.inputs, input_flag),
    outputs=tensors(contents.outputs, output_flag),
    origin=contents.origin,
    signatures=contents.signatures,
    request=request.without_objects(),
    input_keys=contents.input_keys,
    output_keys=contents.output_keys,
    has_training_graph=contents.has_training_graph,
    history=changes_by(request.kind, contents.changes),
    warnings=list(map(Doubt, contents.doubts)),
  )


def _held(graph, request, contents):
  """Values that no checkpoint holds, TensorProtos by variable."""
  if request.session is None:
    return contents.held
  found = session_values.read(graph, request.session)
  own = {name: tensor_attr(value).tensor for name, value in found.items()}
  return {**contents.held, **own}


def recognise(source, checkpoint=None) -> Request:
  """The Request of whatever a caller has, told by what it is.

  Args:
    source: a GraphDef's file, binary or text; a training graph, `.meta`; a
      checkpoint with its `.meta` beside it; a SavedModel's directory; a Keras
      file; a Hub module's directory; a GraphDef, a MetaGraphDef, a
      tf.compat.v1.Graph, a ConcreteFunction or a tf.function.
    checkpoint: prefix or directory of the checkpoint with the variables.

  Raises:
    SourceError: it is nothing of these, or there is no such checkpoint.
  """
  from bnexport.sources import function

  prefix = None if checkpoint is None else find_prefix(os.fspath(checkpoint))
  if isinstance(source, (str, os.PathLike)):
    return _recognise_path(os.fspath(source), prefix)
  for cls, kind in (
    (tf1.GraphDef, "graph_def"),
    (tf1.MetaGraphDef, "meta_graph"),
    (tf1.Graph, "tf_graph"),
  ):
    if isinstance(source, cls):
      return Request(kind, source, prefix)
  if function.is_function(source):
    return Request("function", source, prefix)
  raise SourceError(
    f"load a {type(source).__name__}",
    "it holds no graph",
    "give a path, a GraphDef, a MetaGraphDef, a tf.compat.v1.Graph or a "
    "ConcreteFunction",
  )


def _recognise_path(path, prefix):
  from bnexport.sources import hub_module

  if is_keras(path):
    return Request("keras", path)
  if tf1.gfile.Exists(os.path.join(path, hub_module.MODULE_DEF)):
    return Request("hub_module", path, prefix)
  if is_saved_model(path):
    return Request("saved_model", path, prefix)
  if not path.endswith(".meta") and is_checkpoint(path):
    found = find_prefix(path)
    return Request("meta_graph", found + ".meta", prefix or found)
  if not path.endswith(".meta"):
    return Request("graph_def", path, prefix)
  if prefix is None:
    with contextlib.suppress(SourceError):  # there is the graph alone
      prefix = find_prefix(path[: -len(".meta")])
  return Request("meta_graph", path, prefix)


def is_saved_model(path):
  """Whether a path is that of a SavedModel."""
  if not tf1.gfile.IsDirectory(path):
    return os.path.basename(path) in SAVED_MODELS
  # Of a directory that is neither, the SavedModel's error tells more.
  return not is_checkpoint(path) or any(
    tf1.gfile.Exists(os.path.join(path, name)) for name in SAVED_MODELS
  )


def is_checkpoint(path):
  """Whether a path names a checkpoint rather than a graph."""
  if tf1.gfile.IsDirectory(path):
    return tf1.gfile.Exists(os.path.join(path, "checkpoint")) or bool(
      prefixes_in(path)
    )
  return path.endswith(_PARTS_OF_A_CHECKPOINT) or any(
    tf1.gfile.Exists(path + suffix) for suffix in _PARTS_OF_A_CHECKPOINT
  )
