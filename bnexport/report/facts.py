# SPDX-License-Identifier: Apache-2.0
"""Reports as plain values: of an export, and of a validation."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from bnexport.graph.nodes import element_count, static_shape
from bnexport.proof.verdict import DIFFERS, PROVEN
from bnexport.report.layout import shape_of
from bnexport.report.norm_statistics import CONSTANTS
from bnexport.report.overview import dtype_of, shape_facts
from bnexport.tf1 import tf1
from bnexport.validation.data_statistics import distance

# Steps that change single norms, which reports count instead.
_OF_SINGLE_NORMS = ("use_stored_statistics", "recalibrate")


def finite(value):
  """Plain values with what is not finite as text: JSON has no number for it."""
  if isinstance(value, dict):
    return {key: finite(item) for key, item in value.items()}
  if isinstance(value, list):
    return [finite(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value


def finding(found):
  """A Finding; its fix as the command that it is."""
  return {
    "code": found.code,
    "severity": found.severity,
    "node": found.node,
    "message": found.message,
    "fix": found.fix.command(),
  }


# An export.


def export_facts(export, proof, path, evidence=None, outcome=None):
  """Everything a report says of an export, as one object of plain values.

  Args:
    export: an export.Export.
    proof: a comparison.Comparison, or None.
    path: the file that was written.
    evidence: an evidence.Evidence. Without it, what takes runs is left out:
      `layers`, `training_and_inference`, and norms' `before` and `values`.
    outcome: of the findings about a graph that was repaired, or None.
  """
  graph = export.model.graph
  said = {
    "file": path,
    "size": _size(path),
    "verdict": _verdict(proof),
    "nodes": len(graph),
    "parameters": sum(
      element_count(node.attr["value"].tensor)
      for node in graph
      if node.op == "Const"
    ),
    "source": export.model.origin,
    "inputs": [_end(graph.node(name)) for name in export.model.placeholders()],
    "outputs": [str(ref) for ref in export.model.outputs],
    "output_ends": [
      _output(export.model, ref, export.original)
      for ref in export.model.outputs
    ],
    "batch_norms": [_norm(export, norm) for norm in _in_order(export)],
    "changes": list(export.model.history),
    "steps": _steps(export.model),
    "changes_beside_norms": [
      change
      for change in export.model.history
      if getattr(change, "transform", "") not in _OF_SINGLE_NORMS
    ],
    "warnings": list(export.model.warnings),
    "findings": outcome and _outcome(outcome),
    "proof": proof_facts(proof),
  }
  if evidence is not None:
    _add_evidence(said, export, evidence)
  return said


def _steps(model):
  """What was done, and by which transform."""
  return [
    {"transform": getattr(change, "transform", ""), "text": str(change)}
    for change in model.history
  ]


def _add_evidence(said, export, evidence):
  recalibrated = {one.name: str(one) for one in export.recalibrated}
  norms = {norm.name: norm for norm in export.norms}
  for norm in said["batch_norms"]:
    norm.update(_before(norm, evidence))
    one = evidence.statistics.get(norm["name"])
    norm["distance"] = _distance(norms[norm["name"]], one)
    norm["recalibrated"] = recalibrated.get(norm["name"])
    norm["changed"] = norm["changed"] or norm["recalibrated"] is not None
  said["layers"] = _walk(evidence.layers)
  said["training_and_inference"] = _walk(evidence.training)


def _outcome(outcome):
  return {
    "cleared": list(map(finding, outcome.cleared)),
    "left": list(map(finding, outcome.left)),
  }


def _in_order(export):
  """The norms in the order of data flow."""
  graph = export.unfolded
  place = {name: i for i, name in enumerate(graph.topological())}
  return sorted(
    export.norms, key=lambda n: place[n.name if n.x is None else n.x.node]
  )


_SAYS = {
  PROVEN: ("proven", "The exported graph answers as its reference"),
  DIFFERS: ("differs", "The exported graph does not answer as its reference"),
}


def _verdict(proof):
  """State ("proven", "unproven" or "differs") and a sentence for it."""
  if proof is not None and proof.verdict in _SAYS:
    state, says = _SAYS[proof.verdict]
    return {"state": state, "says": says}
  why = "--novalidate" if proof is None else proof.missing
  return {"state": "unproven", "says": f"Written, and not proven: {why}"}


def _before(norm, evidence):
  """The statistics that a norm used before, with values of both."""
  before = evidence.before.get(norm["name"])
  one = evidence.statistics.get(norm["name"])
  other_values = one is not None and one.before_is == CONSTANTS
  return {
    "before": before,
    "changed": other_values or before not in (None, norm["statistics"]),
    "values": None if one is None else _values(one),
  }


def _distance(norm, one):
  """How far the statistics of the batch that was fed are from the stored."""
  if one is None or one.samples < 2:
    return None
  before = (one.mean_before, one.variance_before)
  found = distance(norm, one.samples, before, (one.mean, one.variance))
  return dict(dataclasses.asdict(found), is_far=found.is_far)


def _values(one):
  return {
    "channels": int(one.mean.size),
    "before_is": one.before_is,
    "mean": _summary(one.mean),
    "variance": _summary(one.variance),
    "mean_before": _summary(one.mean_before),
    "variance_before": _summary(one.variance_before),
  }


def _summary(array):
  if array is None or not array.size:
    return None
  return {
    "smallest": float(np.min(array)),
    "median": float(np.median(array)),
    "largest": float(np.max(array)),
  }


def _walk(walk):
  first = walk.first
  return {
    "compared_with": walk.what,
    "note": walk.note,
    "first_real_difference": None if first is None else first.output,
    "norm": walk.norm and walk.norm.name,
    "tensors": [_difference(d) for d in walk.differences],
  }


def _end(node):
  shape = "unknown shape"
  if "shape" in node.attr and not node.attr["shape"].shape.unknown_rank:
    dims = node.attr["shape"].shape.dim
    sizes = ["?" if dim.size < 0 else str(dim.size) for dim in dims]
    shape = f"[{', '.join(sizes)}]"
  return {
    "name": node.name,
    "shape": shape,
    "dtype": tf1.as_dtype(node.attr["dtype"].type).name,
  }


def _output(model, ref, original=None):
  """An output; its shape as the graph states it that it was made of."""
  stated = (original or model).graph
  shape = static_shape(stated, ref) if ref.node in stated else None
  return {
    "name": str(ref),
    "dtype": dtype_of(model.graph, model.signatures, ref),
    "shape": shape_of(shape_facts(shape)),
  }


def _size(path):
  """Bytes of a file; None where it is a directory, or not there."""
  try:
    return None if tf1.gfile.IsDirectory(path) else tf1.gfile.Stat(path).length
  except OSError:
    return None


def _norm(export, norm):
  return {
    "name": norm.name,
    "form": norm.form.name,
    "statistics": norm.statistics,
    "epsilon": norm.epsilon,
    "moving_mean": norm.moving_mean,
    "moving_variance": norm.moving_variance,
    "health": export.health.get(norm.name),
  }


# A transformation.


def transformation_facts(model, path, before):
  """What became of a graph under transforms, as one object of plain values.

  Args:
    model: the Model.
    path: the file or directory that was written.
    before: how many nodes the graph had.
  """
  return {
    "file": path,
    "size": _size(path),
    "nodes": len(model.graph),
    "nodes_before": before,
    "inputs": [_end(model.graph.node(name)) for name in model.placeholders()],
    "output_ends": [_output(model, ref) for ref in model.outputs],
    "steps": _steps(model),
  }


# A validation.


def validation_facts(found):
  """Everything validate says of a graph, as one object of plain values.

  Args:
    found: a questions.Validation.
  """
  return {
    "graph": found.path,
    "holds": found.holds,
    "not_imported": found.refused,
    "nodes": found.nodes,
    "outputs": found.outputs,
    "outputs_are_guessed": found.is_guessed,
    "batch_norms": [
      {"name": norm.name, "form": norm.form.name, "statistics": norm.statistics}
      for norm in found.norms
    ],
    "proof": None if found.refused else proof_facts(found.proof),
    "first_difference": found.parting and _parting(found.parting),
    "top_1": [dataclasses.asdict(one) for one in found.agreements],
    "statistics_of_data": None
    if found.distances is None
    else [
      dict(dataclasses.asdict(one), is_far=one.is_far)
      for one in found.distances
    ],
    "consumers": [_consumer(one) for one in found.verdicts],
  }


def _parting(parting):
  return {
    "name": parting.first.output,
    "op": parting.op,
    "norm": parting.norm and parting.norm.name,
    "largest_difference": parting.first.largest,
    "limit": parting.first.limit,
    "values": parting.values,
    "reference_values": parting.reference_values,
  }


def _consumer(verdict):
  return {
    "name": verdict.name,
    "version": verdict.version,
    "holds": verdict.holds,
    "fault": verdict.fault,
    "outputs": [_difference(one) for one in verdict.differences],
  }


# Comparisons.


def _difference(d):
  return {
    "name": d.output,
    "largest_difference": d.largest,
    "limit": d.limit,
    "holds": d.holds,
  }


def _decision(one):
  """An Alternative as plain values."""
  return {
    "decided": one.decided,
    "other": one.other,
    "apart": one.apart,
    "matters": one.matters,
    "not_tried_because": one.why_not,
  }


def _fixed_point(found):
  """A FixedPoint as plain values."""
  return {
    "holds": found.holds,
    "why_not": found.why_not,
    "averages": len(found.averages),
    "runs": found.runs,
    "outputs": [_difference(d) for d in found.differences],
  }


def proof_facts(proof):
  """A Comparison as plain values; None where there is none."""
  if proof is None:
    return None
  return {
    "verdict": proof.verdict,
    "holds": proof.holds,
    "run": proof.is_run,
    "compared_with": proof.reference,
    "compared_with_as_well": proof.second,
    "not_proven_because": proof.missing,
    "first_difference": proof.parting and _parting(proof.parting),
    "fixed_point": proof.fixed_point and _fixed_point(proof.fixed_point),
    "fed": {name: list(shape) for name, shape in proof.feeds.items()},
    "fed_is_made_up": proof.is_made_up,
    "outputs": [_difference(d) for d in proof.differences],
    "one_row_answers_alone": proof.batch,
    "second_run_answers_the_same": proof.repeats,
    "statistics_moved": proof.statistics,
    "blind_to": list(proof.blind),
    "further_feeds": proof.further,
    "decisions": [_decision(one) for one in proof.alternatives],
    "notes": list(proof.notes),
  }
