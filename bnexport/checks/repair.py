# SPDX-License-Identifier: Apache-2.0
"""Check, apply, check: the findings about a graph that is repaired."""

from __future__ import annotations

import dataclasses
from typing import Iterable, List

from bnexport import checks, sources
from bnexport.checks.rule import Finding
from bnexport.checks.subject import Subject, subject_of
from bnexport.exporting.export import Export, Options
from bnexport.graph.nodes import in_scope
from bnexport.model.request import Request


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The findings about a graph, as its repair has left them.

  Attributes:
    cleared: those about the file as it was that are gone.
    left: those about the file that was written.
  """

  cleared: List[Finding]
  left: List[Finding]


def check(request: Request, options: Options) -> List[Finding]:
  """Findings about the file of a frozen graph, as it is.

  Args:
    request: the Request that it is to be repaired for.
    options: the export's Options.
  """
  request = dataclasses.replace(request, kind="graph_def")
  subject = Subject(sources.read(request), request, options.target_tf)
  return _told(checks.run(subject), options)


def applied(
  findings: Iterable[Finding], request: Request, options: Options
) -> Options:
  """Options of an export that clears findings, as far as it is free to.

  Most are cleared by any export. What only the user may choose stays as it
  was asked for; the finding is left then, and its fix says what to ask for.

  Args:
    findings: of `check`.
    request: the Request of the export.
    options: as they were asked for.
  """
  for finding in findings:
    if not finding.fix.is_choice(request.outputs):
      options = finding.fix.changed(options)
  return options


def choices(findings: Iterable[Finding], request: Request) -> List[str]:
  """Findings whose fix only the user may choose, a line each."""
  return [
    f"{finding.code} '{finding.node}' {finding.message}; "
    f"{finding.fix.command()}"
    for finding in findings
    if finding.fix.is_choice(request.outputs)
  ]


def outcome(
  findings: List[Finding], export: Export, options: Options, path: str
) -> Outcome:
  """Looks at what was written; returns the Outcome.

  Args:
    findings: of `check`.
    export: the Export.
    options: its Options.
    path: the file or directory that it was written to.
  """
  if export.is_unchanged:
    return Outcome([], findings)
  left = _left(export, options, path)
  still = {(finding.code, finding.node) for finding in left}
  cleared = [f for f in findings if (f.code, f.node) not in still]
  return Outcome(cleared, left)


def _left(export: Export, options: Options, path: str) -> List[Finding]:
  kind = "saved_model" if export.is_served else "graph_def"
  request = Request(kind, path)
  found = checks.run(subject_of(export.model, request, options.target_tf))
  if export.unfolded is not export.model.graph:
    # A kernel does not tell what the norm in it was scaled with.
    norms = {norm.name for norm in export.norms}
    whole = subject_of(export.before_folding().model, request)
    found += [f for f in checks.run(whole) if f.node in norms]
  return _told(found, options)


def _told(findings: Iterable[Finding], options: Options) -> List[Finding]:
  """Each finding once, and none of norms that a user keeps as they are."""
  kept = options.keep_batch_statistics
  told = {
    (finding.code, finding.node): finding
    for finding in findings
    if not any(in_scope(finding.node, scope) for scope in kept)
  }
  return list(told.values())
