# SPDX-License-Identifier: Apache-2.0
"""Reports on exports: for a terminal, as files, as a page."""

from __future__ import annotations

import importlib.util
import json
import os

from bnexport.errors import SourceError
from bnexport.report import screen, terminal
from bnexport.report.facts import export_facts, finite
from bnexport.report.layout import WIDTH

_NEEDED_BY_HTML = ("jinja2", "grandalf")


def _json(export, said, evidence):
  return json.dumps(finite(said), indent=2, allow_nan=False) + "\n"


def _markdown(export, said, evidence):
  from bnexport.report.markdown import markdown

  return markdown(said)


def _html(export, said, evidence):
  # Only now: it takes what the extra brings.
  from bnexport.report.page import page

  return page(export, said, evidence)


_WRITERS = {".html": _html, ".json": _json, ".md": _markdown}


def writer(path):
  """The function that makes a report of the file's kind.

  Raises:
    SourceError: the extension is none of those known, or a library that a page
      takes is not installed.
  """
  extension = os.path.splitext(path)[1]
  if extension not in _WRITERS:
    raise SourceError(
      f"write report '{path}'",
      "its kind is told by its extension",
      "give FILE.html, FILE.json or FILE.md",
    )
  for module in _NEEDED_BY_HTML if extension == ".html" else ():
    if importlib.util.find_spec(module) is None:
      raise SourceError(
        f"write report '{path}'",
        f"{module} is not installed",
        "pip install 'bnexport[report]', or give FILE.json or FILE.md",
      )
  return _WRITERS[extension]


def text(export, proof, path, outcome=None):
  """The report in full, but for what takes runs; see `write`."""
  return terminal.export(export_facts(export, proof, path, outcome=outcome))


def lines(export, proof, path, outcome=None, width=WIDTH):
  """The same in short, as layout.Lines of some width."""
  said = export_facts(export, proof, path, outcome=outcome)
  return screen.export(said, width)


def write(path, export, proof, graph_path, outcome=None):
  """Runs the graphs tensor by tensor and writes the report to a file.

  Args:
    path: FILE.html, FILE.json or FILE.md.
    export: an export.Export.
    proof: a comparison.Comparison, or None.
    graph_path: the file that the exported graph was written to.
    outcome: of the findings about a graph that was repaired, or None.

  Raises:
    SourceError: see `writer`; or the file can't be written.
  """
  from bnexport.exporting.writing import whole_file
  from bnexport.report.evidence import gather

  make = writer(path)
  evidence = gather(export, proof)
  said = export_facts(export, proof, graph_path, evidence, outcome)
  with whole_file(path, [make(export, said, evidence).encode("utf-8")]):
    pass
