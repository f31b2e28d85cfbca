# SPDX-License-Identifier: Apache-2.0
"""Graphs that run as they are, and what they are held against."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Dict, List

import numpy as np

from bnexport import sources
from bnexport.analysis import ends
from bnexport.analysis.flow import Flow, is_setting
from bnexport.analysis.phase import stated_value
from bnexport.batchnorm.forms import NORM_OPS
from bnexport.errors import ComparisonError, Error, GraphError, SourceError
from bnexport.exporting.export import export
from bnexport.exporting.steps import drop_placement
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import Signatures
from bnexport.mending.faults import unusable
from bnexport.model.model import find_tensors
from bnexport.model.tables import keep_initializers
from bnexport.proof.divergence import always_run, depend_on
from bnexport.proof.runs import ImportedGraph, restore_variables
from bnexport.proof.trust import refuse_unsafe
from bnexport.tf1 import tf1


class NotImported(Error):
  """TensorFlow refuses the graph that is to be proven: that is a verdict."""


@dataclasses.dataclass
class Reference:
  """The graph or model that a graph is held against.

  Attributes:
    running: a Run.
    decided: values it gives to placeholders and flags, by node name.
    keeps_batch: whether its norms use the batch on purpose.
    lost: names of guessed outputs that it does not have.
  """

  running: object
  decided: Dict[str, object] = dataclasses.field(default_factory=dict)
  keeps_batch: bool = False
  lost: List[str] = dataclasses.field(default_factory=list)


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


def open_graph(request, which="--graph", contents=None):
  """Opens a graph that runs as it is; nothing of it is imported or run.

  Args:
    request: a Request of a GraphDef or a SavedModel. Where it names no outputs,
      those of the signature are looked at, or else all ends.
    which: the flag that names it, for messages.
    contents: what `sources.read` gave for it, where the caller has it.

  Returns:
    A Model, the GraphDef to import, and whether the outputs were guessed.

  Raises:
    SourceError: it can't be read, has variables and no values for them, or
      does not have an output.
    NotImported: its nodes do not make a graph.
  """
  _refuse_training_graph(request, which)
  flags = ("output of " + which, "--input_node")
  request = dataclasses.replace(request, flags=flags)
  try:
    contents = contents or sources.read(request)
    graph = Graph(contents.graph_def, copy=False)
    for fault in unusable(graph, contents.signatures).values():
      raise NotImported(
        f"use {which}={request.source}", f"node '{fault.node}' {fault.fact}"
      )
    is_guessed = not contents.outputs
    if is_guessed:
      contents.outputs = _ends(contents, request, which)
    model = sources.open(request, contents)
  except GraphError as error:
    raise NotImported(error.what, error.fact, error.step) from error
  model.inputs = ()
  keep_initializers(model, ())
  graph_def = contents.graph_def
  if request.kind == "saved_model":
    graph_def = _served(model)
  _refuse_variables(model, which)
  return model, graph_def, is_guessed


def _ends(contents, request, which):
  """Names of the likely output and of all other ends, the likely one first.

  Raises:
    SourceError: there is none.
  """
  graph = Graph(contents.graph_def, copy=False)
  found = ends.outputs(Flow(graph))[:1]
  found += [name for name in _unread(graph) if name not in found]
  if not found:
    raise SourceError(
      f"tell the output of {which}={request.source}",
      "nothing in it looks like one",
      "pass --output_node=NAME",
    )
  return tuple(found)


def _unread(graph):
  """Names of the tensors of nodes that nothing reads, where they are answers.

  What depends on no input is none, unless nothing does. What norms hand out
  beside their result are statistics.
  """
  runs, signatures = always_run(graph), Signatures()
  nodes = [
    node
    for node in graph
    if node.name in runs
    and node.op not in ops.PLACEHOLDERS
    and not node.op.endswith("Summary")
    and not _is_read(graph, node.name)
  ]
  fed = depend_on(graph, [n.name for n in graph if n.op in ops.PLACEHOLDERS])
  nodes = [node for node in nodes if node.name in fed] or nodes
  found = []
  for node in nodes:
    count = len(signatures.output_dtypes(node))
    count = 1 if node.op in NORM_OPS else count
    found += [str(TensorRef(node.name, index)) for index in range(count)]
  return found


def _is_read(graph, name):
  return any(
    ref.node == name
    for reader in graph.readers(name)
    for ref in graph.data_inputs(reader)
  )


def _served(model):
  """The GraphDef of what a loader would run for the outputs."""
  roots = [ref.node for ref in model.outputs] + list(model.initializers)
  model.graph.keep(model.graph.ancestors(roots))
  drop_placement(model.graph)
  return model.graph.to_graph_def()


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
  """Feeds of phases and rates, and a note on each that nobody stated.

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


def reference_of(
  request, options, stated, inputs, is_allowed, progress, is_guessed=False
):
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
    is_guessed: whether nobody named the outputs, so that it may lack some.

  Raises:
    SourceError: it can't be read, or lacks an output.
    TransformError: the training graph does not tell what inference is.
    ComparisonError: TensorFlow refuses it, or it holds ops that are not to be
      run.
  """
  contents, lost = None, []
  if is_guessed:
    contents = sources.read(request)
    lost = _leave_out(contents, request.outputs)
  if request.kind == "model":
    model = sources.open(request, contents)
    refuse_unsafe(model.graph, model.needed(control=True), is_allowed)
    return Reference(model.own_run, lost=lost)
  if request.kind in ("keras", "meta_graph"):
    model = sources.open(request, contents)
    reference = _exported_anew(model, options, inputs, is_allowed, progress)
    return dataclasses.replace(reference, lost=lost)
  return Reference(_as_it_is(request, contents, stated, is_allowed), lost=lost)


def _as_it_is(request, contents, stated, is_allowed):
  """The Run of a graph that nothing is done to."""
  try:
    model, graph_def, _ = open_graph(request, "--reference", contents)
  except NotImported as error:
    raise _unusable(request.source, error) from error
  settings, _ = settings_of(model, stated, {})
  refuse_reaching_out(model, is_allowed)
  try:
    return imported(model, graph_def, settings)
  except ComparisonError as error:
    raise _unusable(request.source, error) from error


def _leave_out(contents, names):
  """Takes outputs that are not there out of contents; returns their names.

  Where none is there they all stay, to be refused.
  """
  there = {node.name for node in contents.graph_def.node}
  is_there = [TensorRef.parse(name).node in there for name in contents.outputs]
  if not any(is_there):
    return []
  keys = contents.output_keys
  if len(keys) == len(is_there):
    contents.output_keys = tuple(itertools.compress(keys, is_there))
  contents.outputs = tuple(itertools.compress(contents.outputs, is_there))
  return [name for name, found in zip(names, is_there) if not found]


def _unusable(path, error):
  return ComparisonError(
    f"use reference '{path}'", error.fact, "give one that TensorFlow imports"
  )


def _exported_anew(model, options, inputs, is_allowed, progress):
  """A Reference of a Model that is rewritten for inference."""
  source = model.request.source
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
    reference.what = f"the graph exported anew from '{source}'"
  else:
    original = made.original
    refuse_unsafe(original.graph, original.needed(control=True), is_allowed)
  return Reference(reference, made.model.decisions.values, made.keeps_batch)
