# SPDX-License-Identifier: Apache-2.0
"""Evidence of a report beside the proof, from runs tensor by tensor."""

from __future__ import annotations

import dataclasses
from typing import Dict

import numpy as np

from bnexport.errors import ComparisonError
from bnexport.graph import ops
from bnexport.proof.divergence import Parting, part
from bnexport.proof.runs import ImportedGraph
from bnexport.proof.training_graph import TrainingGraph
from bnexport.report.norm_statistics import NormStatistics, collect, used_before


@dataclasses.dataclass
class Evidence:
  """Facts about norms and layers that take runs.

  Attributes:
    before: provenance of norms' statistics before the export, by name; see
      `norm_statistics.used_before`.
    statistics: NormStatistics by the norm's name.
    layers: the exported graph against its reference.
    training: the exported graph against the training graph as training runs
      it.
  """

  before: Dict[str, str]
  statistics: Dict[str, NormStatistics]
  layers: Parting
  training: Parting


def gather(export, proof):
  """Runs the graphs once more, tensor by tensor; returns Evidence.

  Args:
    export: an export.Export.
    proof: a comparison.Comparison, or None; its feeds are fed again.
  """
  export = export.before_folding()
  runner, why = _unfolded(export, proof)
  running, feeds = [], None
  layers, training = Parting(note=why), Parting(note=why)
  if runner is not None:
    feeds = proof.arrays
    layers = _against_reference(export, runner, feeds)
    trained, training = _against_training(export, runner, feeds)
    if not training.note:
      running.append(
        ("the batch's own, in the training graph", trained, trained.graph)
      )
    running.append(
      ("the batch's own, in the exported graph", runner, export.model.graph)
    )
  statistics = collect(export, running, feeds)
  for _, runner, _ in running:
    runner.close()
  return Evidence(
    used_before(export.original),
    {one.norm: one for one in statistics},
    layers,
    training,
  )


def _unfolded(export, proof):
  """Returns the graph with its norms, that runs, or None; and why not."""
  why, model = _why_not(export, proof), export.model
  if why:
    return None, why
  try:
    graph_def = export.to_graph_def()
    return ImportedGraph(graph_def, model.outputs, model.initializers), ""
  except ComparisonError as error:
    # Folding may have taken out a node that TensorFlow does not import.
    return None, f"not looked at: {error.fact}"


def _why_not(export, proof):
  """The reason that nothing can be run, or an empty text."""
  if proof is None:
    return "not looked at: --novalidate"
  if proof.arrays is None:
    return "not looked at: the graph could not be run; see the proof"
  random = [n.name for n in export.model.graph if ops.is_random(n.op)]
  if random:
    return (
      f"not looked at: the graph draws random numbers ('{random[0]}'), so "
      "two runs differ anyway"
    )
  return ""


def _against_reference(export, runner, feeds):
  reference = export.reference
  if reference is None:
    return Parting(note="not looked at: there is no reference to compare with")
  try:
    return part(runner, reference, feeds, export.norms)
  except ComparisonError as error:
    return Parting(note=f"not looked at: {error.fact}")


def _against_training(export, runner, feeds):
  """Returns the TrainingGraph, or None, and the Parting."""
  note = _no_training(export)
  if note:
    return None, Parting(note=note)
  trained = TrainingGraph(export.original, export.model, trains=True)
  try:
    if _other_layout(export.model.graph, trained.graph):
      raise ComparisonError(
        "follow the training graph",
        "the export lays its data out in another order",
        "export without --data_format",
      )
    trained.what = _training_text(export.model)
    return trained, part(runner, trained, feeds, export.norms)
  except ComparisonError as error:
    trained.close()
    return None, Parting(note=f"not looked at: {error.fact}")


def _no_training(export):
  """The reason that there is no training to follow, or an empty text."""
  model = export.model
  if export.original is None:
    return (
      "not looked at: the model was rebuilt for inference, so there is no "
      "training graph"
    )
  if _phases(model) or model.decisions.stored:
    return ""
  if model.decisions.values:
    name = next(iter(model.decisions.values))
    return f"not looked at: which value of '{name}' means training is not known"
  return (
    "nothing to look at: the graph has no phase and no batch statistic, so it "
    "answers in training as it does in inference"
  )


def _phases(model):
  return {
    name: not value
    for name, value in model.decisions.values.items()
    if np.asarray(value).dtype == bool
  }


def _training_text(model):
  phases = sorted(_phases(model).items())
  notes = [f"{name} = {value}" for name, value in phases] + ["dropout left out"]
  return f"the training graph as training runs it ({', '.join(notes)})"


def _other_layout(a, b):
  return any(
    node.name in b and _layout(node) != _layout(b.node(node.name)) for node in a
  )


def _layout(node):
  # Asking a proto for an attribute that it lacks would give it one.
  return node.attr["data_format"].s if "data_format" in node.attr else None
