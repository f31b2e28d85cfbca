# SPDX-License-Identifier: Apache-2.0
"""Graphs that run as they are, and what they are held against."""

from __future__ import annotations

import dataclasses
import functools
from typing import Dict

import numpy as np

from bnexport import sources
from bnexport.analysis import ends
from bnexport.analysis.flow import Flow, is_setting
from bnexport.analysis.phase import stated_value
from bnexport.errors import ComparisonError, Error, GraphError, SourceError
from bnexport.exporting.export import drop_placement, export
from bnexport.graph import Graph, TensorRef, ops
from bnexport.mending.faults import unusable
from bnexport.model.model import find_tensors
from bnexport.model.tables import keep_initializers
from bnexport.proof.divergence import always_run
from bnexport.proof.runs import ImportedGraph, restore_variables
from bnexport.proof.trust import refuse_unsafe
from bnexport.tf1 import tf1


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
    functools.partial(restore_variables, model),
    model.origin,
    settings,
  )


def _is_variable(model, name):
  return model.graph.op(name) in ops.VARIABLES


def open_graph(request, which="--graph"):
  """Opens a graph that runs as it is; nothing of it is imported or run.

  Args:
    request: a Request of a GraphDef or a SavedModel. Where it names no outputs,
      those of the signature are looked at, or else the likely one.
    which: the flag that names it, for messages.

  Returns:
    A Model, the GraphDef to import, and whether the output was guessed.

  Raises:
    SourceError: it can't be read, has variables and no values for them, or
      does not have an output.
    NotImported: its nodes do not make a graph.
  """
  _refuse_training_graph(request, which)
  request = dataclasses.replace(
    request, flags=("output of " + which, "--input_node")
  )
  try:
    contents = sources.read(request)
    is_guessed = not contents.outputs
    if is_guessed:
      contents.outputs = _guessed(contents, request, which)
    model = sources.open(request, contents)
  except GraphError as error:
    raise NotImported(error.what, error.fact, error.step) from error
  for fault in unusable(model.graph, model.signatures).values():
    fact = f"node '{fault.node}' {fault.fact}"
    raise NotImported(f"use {which}={request.source}", fact)
  model.inputs = ()
  keep_initializers(model, ())
  graph_def = contents.graph_def
  if request.kind == "saved_model":
    graph_def = _served(model)
  _refuse_variables(model, which)
  return model, graph_def, is_guessed


def _guessed(contents, request, which):
  """The likely output.

  Raises:
    SourceError: nothing tells it.
  """
  found = _likely_output(Graph(contents.graph_def, copy=False))
  if not found:
    raise SourceError(
      f"tell the output of {which}={request.source}",
      "nothing in it looks like one",
      "pass --output_node=NAME",
    )
  return tuple(found)


def _served(model):
  """The GraphDef of what a loader would run for the outputs."""
  roots = [ref.node for ref in model.outputs] + list(model.initializers)
  model.graph.keep(model.graph.ancestors(roots))
  drop_placement(model.graph)
  return model.graph.to_graph_def()


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


def _refuse_training_graph(request, which):
  if request.kind in ("keras", "meta_graph"):
    what = "a Keras file" if request.kind == "keras" else "a training graph"
    flag = f" --keras={request.source}" if request.kind == "keras" else ""
    raise SourceError(
      f"use {which}={request.source}",
      f"it is {what}",
      f"freeze it first with python -m bnexport.freeze{flag}, and pass it as "
      "--reference",
    )


def _refuse_variables(model, which):
  for name in model.needed(control=True):
    if _is_variable(model, name) and name not in model.values:
      raise SourceError(
        f"use {which}={model.origin}",
        f"it has variables, like '{name}', and no values for them",
        "freeze it first with python -m bnexport.freeze",
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


def reference_of(request, options, stated, inputs, is_allowed, progress):
  """The Reference that a user names.

  A checkpoint or a Keras file is exported anew, and the graph as it was is run
  beside; model code is rebuilt; anything else runs as it is.

  Args:
    request: a Request, with the outputs to compare.
    options: export.Options: the phase, and what else is not as usual.
    stated: texts by name, as the user wrote them.
    inputs: names of the inputs of the graph that is to be proven.
    is_allowed: whether ops that reach out of the graph may run.
    progress: called with what is being done.

  Raises:
    SourceError: it can't be read, or lacks an output.
    TransformError: the training graph does not tell what inference is.
    ComparisonError: TensorFlow refuses it, or it holds ops that are not to be
      run.
  """
  if request.kind == "model":
    model = sources.open(request)
    refuse_unsafe(model.graph, model.needed(control=True), is_allowed)
    return Reference(model.own_run)
  if request.kind in ("keras", "meta_graph"):
    return _exported_anew(request, options, inputs, is_allowed, progress)
  try:
    model, graph_def, _ = open_graph(request, "--reference")
  except NotImported as error:
    raise _unusable(request.source, error) from error
  settings, _ = settings_of(model, stated, {})
  refuse_reaching_out(model, is_allowed)
  try:
    return Reference(imported(model, graph_def, settings))
  except ComparisonError as error:
    raise _unusable(request.source, error) from error


def _unusable(path, error):
  return ComparisonError(
    f"use reference '{path}'", error.fact, "give one that TensorFlow imports"
  )


def _exported_anew(request, options, inputs, is_allowed, progress):
  """A Reference of a model that is rewritten for inference."""
  model = sources.open(request)
  graph = model.graph
  cut = [
    n for n in inputs if n in graph and graph.op(n) not in ops.PLACEHOLDERS
  ]
  if cut:
    names = [
      n for n in inputs if n in graph and not is_setting(graph, graph.node(n))
    ]
    model.inputs = find_tensors(graph, model.signatures, names, "input")
    model.own_run = None
  made = export(model, options, progress)
  reference = made.reference
  if reference is None:  # no other way is left to make an inference graph
    refuse_reaching_out(made.model, is_allowed)
    reference = imported(made.model, made.to_graph_def(), {})
    reference.what = f"the graph exported anew from '{request.source}'"
  else:
    original = made.original
    refuse_unsafe(original.graph, original.needed(control=True), is_allowed)
  return Reference(reference, made.model.decisions.values, made.keeps_batch)
