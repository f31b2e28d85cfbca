# SPDX-License-Identifier: Apache-2.0
"""The result of a command that wrote a graph: its report and its status."""

from __future__ import annotations

from bnexport import cli
from bnexport.cli.process import DONE, NOT_PROVEN, progress, warn


def report(export, delivered, outcome=None):
  """Prints and writes the report of what was written; returns the status.

  Args:
    export: the Export.
    delivered: what became of it, a Delivered.
    outcome: of the findings about a graph that was repaired, or None.
  """
  from bnexport import report

  path, proof = delivered.path, delivered.proof
  print(report.text(export, proof, path, outcome))
  if cli.REPORT.value is not None:
    progress("looking tensor by tensor, for the report")
    report.write(cli.REPORT.value, export, proof, path, outcome)
  for warning in export.model.warnings:
    warn(warning)
  for doubt in delivered.doubts:
    warn(doubt)
  return DONE if delivered.holds else NOT_PROVEN
