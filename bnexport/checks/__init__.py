# SPDX-License-Identifier: Apache-2.0
"""The catalogue of what can be wrong with a graph, and looking for it."""

from __future__ import annotations

from typing import List

from bnexport.checks import averages, form, phase, portability
from bnexport.checks.rule import Finding
from bnexport.checks.subject import Subject
from bnexport.errors import SourceError, nearest

RULES = phase.RULES + averages.RULES + form.RULES + portability.RULES
BY_CODE = {rule.code: rule for rule in RULES}


def run(subject: Subject) -> List[Finding]:
  """All findings about a Subject, in the order of the catalogue."""
  found = []
  for rule in RULES:
    for node, message, fix in rule.look(subject):
      found.append(Finding(rule.code, rule.severity, node, message, fix))
  return found


def explain(code: str) -> str:
  """The page of a finding's code, as text.

  Raises:
    SourceError: there is no such code.
  """
  rule = BY_CODE.get(code.strip().upper())
  if rule is None:
    raise SourceError(
      f"explain '{code}'",
      "there is no such code",
      nearest(code.upper(), BY_CODE, "they are " + ", ".join(BY_CODE)),
    )
  return rule.page()
