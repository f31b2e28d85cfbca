# SPDX-License-Identifier: Apache-2.0
"""Opening graphs to run them, and what they are held against."""

from __future__ import annotations

import dataclasses
from typing import Dict

import numpy as np

from bnexport.analysis import ends
from bnexport.analysis.flow import Flow, is_setting
from bnexport.analysis.phase import stated_value
from bnexport.errors import ComparisonError, Error, GraphError, SourceError
from bnexport.exporting import pipeline
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import Signatures
from bnexport.graph.variables import assignment
from bnexport.model import Model
from bnexport.model.checkpoint import find_prefix
from bnexport.model.model import find_tensors
from bnexport.model.tables import keep_initializers
from bnexport.proof.divergence import always_run
from bnexport.proof.runs import ImportedGraph
from bnexport.proof.trust import refuse_unsafe
from bnexport.sources import builder, keras_model, meta_graph, saved_model
from bnexport.sources.files import read_proto
from bnexport.sources.keras_file import is_keras
from bnexport.tf1 import tf1

_SUFFIXES = (".meta", ".index")


class NotImported(Error):
  """TensorFlow refuses the graph that is to be proven: that is a verdict."""


@dataclasses.dataclass
class Reference:
  """What a graph is held against.

  Attributes:
    running: a Run.
    decided: values it gives to placeholders and flags, by node name.
    keeps_batch: whether its norms use the batch on purpose.
  """

  running: object
  decided: Dict[str, object] = dataclasses.field(default_factory=dict)
  keeps_batch: bool = False


def imported(model, graph_def, settings):
  """An ImportedGraph with the model's variables restored and tables filled.

  Args:
    model: a Model of the graph.
    graph_def: the GraphDef to import.
    settings: what phases and rates are fed, by node name.

  Raises:
    ComparisonError: TensorFlow refuses it.
  """
  return ImportedGraph(
    graph_def,
    model.outputs,
    model.initializers,
    lambda session: _restore(session, model),
    model.origin,
    settings,
  )


def _restore(session, model):
  names = [n for n in model.needed(control=True) if _is_variable(model, n)]
  with session.graph.as_default():
    for name in names:
      assign, holder = assignment(session.graph, model.graph.node(name))
      session.run(assign, {holder: np.asarray(model.values[name])})


def _is_variable(model, name):
  return model.graph.op(name) in ops.VARIABLES


def open_graph(path, outputs=(), tags=(), signature=None, which="--graph"):
  """Reads a graph; nothing of it is imported or run.

  Args:
    path: a GraphDef, binary or text, or a SavedModel's directory.
    outputs: names of the tensors to look at; none for those of the signature,
      or else the likely one.
    tags: of the SavedModel's graph.
    signature: of the SavedModel.
    which: the flag that names it, for messages.

  Returns:
    A Model whose values are those of the SavedModel, or none; its GraphDef;
    and whether the output was guessed.

  Raises:
    SourceError: it can't be read, has variables and no values for them, or
      does not have an output.
    NotImported: its nodes do not make a graph.
  """
  saved = None
  if is_saved_model(path):
    saved = saved_model.read(path, tags, signature)
    graph_def = saved.graph_def
  else:
    _refuse_training_graph(path, which)
    graph_def = read_proto(path, tf1.GraphDef, "the graph")
  if not graph_def.node:
    raise SourceError(
      f"use {which}={path}",
      "it holds no graph",
      "give the file that TensorFlow wrote",
    )
  try:
    # The Graph is not edited, so what is imported is what is looked at.
    graph = Graph(graph_def, copy=False)
    is_guessed = not outputs and not (saved and saved.outputs)
    outputs = _likely_output(graph) if is_guessed else outputs
  except GraphError as error:
    raise NotImported(error.what, error.fact, error.step) from error
  if is_guessed and not outputs:
    raise SourceError(
      f"tell the output of {which}={path}",
      "nothing in it looks like one",
      "pass --output_node=NAME",
    )
  if saved is not None:
    model = _of_saved_model(saved, path, outputs)
    graph_def = model.graph.to_graph_def()
  else:
    model = Model(
      graph=graph,
      values=None,
      inputs=(),
      outputs=find_tensors(graph, Signatures(), outputs, "output of " + which),
      origin=path,
      signatures=Signatures(),
    )
    keep_initializers(model, ())
  _refuse_variables(model, which)
  return model, graph_def, is_guessed


def _of_saved_model(saved, path, outputs):
  """A Model of what a loader would run for the outputs."""
  model = saved_model.open_saved(saved, path, None, outputs)
  model.inputs = ()
  keep_initializers(model, ())
  roots = [ref.node for ref in model.outputs] + list(model.initializers)
  model.graph.keep(model.graph.ancestors(roots))
  return model


def _likely_output(graph):
  """Name of the output in a list; an empty one where nothing tells it."""
  found = ends.outputs(Flow(graph))[:1]
  if not found:
    # Without weights nothing is a layer's answer; a single end is one still.
    runs = always_run(graph)
    found = [n for n in graph.names() if n in runs and not graph.readers(n)]
  return found if len(found) == 1 else []


def refuse_reaching_out(model, is_allowed):
  """Raises ComparisonError where a run would reach out of the graph."""
  roots = [ref.node for ref in model.outputs] + list(model.initializers)
  refuse_unsafe(model.graph, model.graph.ancestors(roots), is_allowed)


def is_saved_model(path):
  """Whether a path is a SavedModel's directory."""
  return tf1.gfile.Exists(path + "/saved_model.pb") or (
    tf1.gfile.Exists(path + "/saved_model.pbtxt")
  )


def _refuse_training_graph(path, which):
  if path.endswith(".meta") or is_checkpoint(path):
    raise SourceError(
      f"use {which}={path}",
      "it is a training graph",
      "freeze it first with python -m bnexport.freeze, and pass it as "
      "--reference",
    )
  if is_keras(path):
    raise SourceError(
      f"use {which}={path}",
      "it is a Keras file",
      f"freeze it first with python -m bnexport.freeze --keras={path}, and "
      "pass it as --reference",
    )


def _refuse_variables(model, which):
  if model.values is None:
    for name in model.needed(control=True):
      if _is_variable(model, name):
        raise SourceError(
          f"use {which}={model.origin}",
          f"it has variables, like '{name}', and no values for them",
          "freeze it first with python -m bnexport.freeze",
        )


def is_checkpoint(path):
  """Whether a path names a checkpoint rather than a graph."""
  if tf1.gfile.IsDirectory(path):
    return tf1.gfile.Exists(path + "/checkpoint")
  return path.endswith(_SUFFIXES) or any(
    tf1.gfile.Exists(path + suffix) for suffix in _SUFFIXES
  )


def settings_of(model, stated, decided):
  """What phases and rates are fed, and a note on each that nobody stated.

  Args:
    model: the Model of the graph.
    stated: texts by name, as the user wrote them.
    decided: values by name, as the reference has them.

  Raises:
    GraphError: the graph has no node of a stated name.
    TransformError: a text does not fit the dtype.
  """
  found, notes = {}, []
  for name in model.placeholders():
    node = model.graph.node(name)
    if name in stated:
      found[name] = stated_value(model, name, stated[name])
    elif node.op != "PlaceholderWithDefault" and is_setting(model.graph, node):
      value = decided.get(name)
      if value is None and model.dtype(TensorRef(name)) == tf1.bool:
        value = np.bool_(False)
      if value is not None:
        found[name] = value
        notes.append(
          f"'{name}' was fed {value}; --set={name}=VALUE feeds another"
        )
  return found, notes


def against_graph(path, outputs, stated, tags, signature, is_allowed):
  """A Reference of a GraphDef's file or a SavedModel.

  Raises:
    SourceError: it can't be read, or lacks an output.
    ComparisonError: TensorFlow refuses it.
  """
  try:
    model, graph_def, _ = open_graph(
      path, outputs, tags, signature, "--reference"
    )
  except NotImported as error:
    raise _unusable(path, error) from error
  settings, _ = settings_of(model, stated, {})
  refuse_reaching_out(model, is_allowed)
  try:
    return Reference(imported(model, graph_def, settings))
  except ComparisonError as error:
    raise _unusable(path, error) from error


def _unusable(path, error):
  return ComparisonError(
    f"use reference '{path}'", error.fact, "give one that TensorFlow imports"
  )


def against_checkpoint(
  path, training, outputs, inputs, options, is_allowed, progress
):
  """A Reference of a checkpoint: its training graph, for inference.

  Args:
    path: prefix, file or directory of the checkpoint.
    training: the training graph's file, or None for the one beside it.
    outputs: names of the outputs.
    inputs: names of the inputs of the graph that is to be proven.
    options: pipeline.Options: the phase, and what else is not as usual.
    is_allowed: whether ops that reach out of the graph may run.
    progress: called with what is being done.

  Raises:
    SourceError: a file can't be read, or an output is not in the graph.
    TransformError: the training graph does not tell what inference is.
    ComparisonError: it holds ops that are not to be run.
  """
  prefix = find_prefix(path)
  model = meta_graph.load(training or prefix + ".meta", prefix, outputs)
  return _exported_anew(model, path, inputs, options, is_allowed, progress)


def against_keras(path, outputs, inputs, options, is_allowed, progress):
  """A Reference of a Keras file; see `against_checkpoint`."""
  model, own = keras_model.load(path, outputs)
  return _exported_anew(model, path, inputs, options, is_allowed, progress, own)


def _exported_anew(
  model, path, inputs, options, is_allowed, progress, own=None
):
  """A Reference of a model that is rewritten for inference."""
  graph = model.graph
  cut = [
    n for n in inputs if n in graph and graph.op(n) not in ops.PLACEHOLDERS
  ]
  if cut:
    names = [n for n in inputs if n in graph and not _is_setting(graph, n)]
    model.inputs = find_tensors(graph, model.signatures, names, "input")
    own = None
  export = pipeline.export_training_graph(model, options, progress, own)
  reference = export.reference
  if reference is None:  # no other way is left to make an inference graph
    refuse_reaching_out(export.model, is_allowed)
    reference = imported(export.model, export.to_graph_def(), {})
    reference.what = f"the graph exported anew from '{path}'"
  else:
    original = export.original
    refuse_unsafe(original.graph, original.needed(control=True), is_allowed)
  return Reference(reference, export.model.decided, export.keeps_batch)


def _is_setting(graph, name):
  return is_setting(graph, graph.node(name))


def against_code(
  spec, prefix, outputs, placeholders, kwargs, averages, is_allowed
):
  """A Reference of model code, rebuilt and restored; see builder.load.

  Raises:
    SourceError: see builder.load.
    ComparisonError: it holds ops that are not to be run.
  """
  model, running = builder.load(
    spec, find_prefix(prefix), outputs, (), placeholders, kwargs, averages
  )
  refuse_unsafe(model.graph, model.needed(control=True), is_allowed)
  return Reference(running)
