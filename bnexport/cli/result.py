# SPDX-License-Identifier: Apache-2.0
"""The result of a command that wrote a graph: its report and its status."""

from __future__ import annotations

import sys

from bnexport import cli
from bnexport.cli.process import DONE, NOT_PROVEN, progress, warn

_MOST_WARNINGS = 8


def report(export, delivered, outcome=None):
  """Prints and writes the report of what was written; returns the status.

  Args:
    export: the Export.
    delivered: what became of it, a Delivered.
    outcome: of the findings about a graph that was repaired, or None.
  """
  from bnexport import report
  from bnexport.cli import printing

  path, proof = delivered.path, delivered.proof
  printing.show(
    lambda width: report.lines(export, proof, path, outcome, width),
    lambda: report.text(export, proof, path, outcome),
  )
  if cli.REPORT.value is not None:
    progress("looking tensor by tensor, for the report")
    report.write(cli.REPORT.value, export, proof, path, outcome)
  tell(export.model.warnings)
  tell(delivered.doubts)
  return DONE if delivered.holds else NOT_PROVEN


def tell(warnings):
  """Says warnings on stderr, those that are alike once.

  Who reads the report on a terminal has them there.
  """
  from bnexport.report import grouping

  if sys.stdout.isatty():
    return
  most = len(warnings) if cli.VERBOSE.value else _MOST_WARNINGS
  lines = grouping.lines(warnings, most)
  for line, _ in lines[:most]:
    warn(line)
  left = sum(count for _, count in lines[most:])
  if left:
    warn(f"and {left} more; --verbose shows all")
