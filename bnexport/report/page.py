# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

import os

import jinja2

from bnexport.batchnorm.forms import find
from bnexport.report import plots, sentences
from bnexport.report.escaping import escaped
from bnexport.report.neighbourhood import Neighbourhoods

# Norms that are shown unfolded.
_OPEN = 2


def page(export, said, evidence):
  """HTML of a report.

  Args:
    export: an export.Export.
    said: its facts.export_facts.
    evidence: an evidence.Evidence.
  """
  said = escaped(said)
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(os.path.dirname(__file__)),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters["summary"] = sentences.summary
  environment.filters["why"] = sentences.why
  return environment.get_template("page.html.j2").render(
    said=said,
    title=os.path.basename(said["file"]),
    proof=sentences.proof(said["proof"]),
    changes=sentences.changes(said),
    health=sentences.health(said),
    outcome=said["findings"] and sentences.outcome(said["findings"]),
    agreement=sentences.agreement(said["layers"]),
    parting=sentences.parting(said["training_and_inference"], said["outputs"]),
    walks_plot=_walks_plot(said),
    plots={
      name: plots.statistics_plot(one)
      for name, one in evidence.statistics.items()
    },
    drawings=_drawings(export, said),
    open=_OPEN,
  )


def _walks_plot(said):
  layers, training = said["layers"], said["training_and_inference"]
  if not layers["tensors"] and not training["tensors"]:
    return ""
  return plots.walks_plot(layers, training)


def _drawings(export, said):
  """Drawings before and after by the name of each changed norm."""
  changed = [n["name"] for n in said["batch_norms"] if n["changed"]]
  if export.original is None or not changed:
    return {}
  before = find(export.original.graph, export.original.outputs)
  around = Neighbourhoods(export.original, export.model, export.norms, before)
  return {name: around.of(name) for name in changed}
