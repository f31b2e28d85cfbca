# SPDX-License-Identifier: Apache-2.0
"""The catalogue of rules, and the search for their findings."""

from __future__ import annotations

from bnexport.checks.averages import (
  exploded_variance,
  misfitting_averages,
  missing_averages,
  never_updated_averages,
  nonfinite_averages,
  nonpositive_variance,
  unsaved_averages,
)
from bnexport.checks.form import (
  constant_for_variable,
  duplicate_names,
  malformed_inputs,
  missing_function,
  missing_input,
  output_in_conditional,
  shared_frame,
  update_in_forward_pass,
)
from bnexport.checks.portability import (
  devices,
  file_size,
  newer_attributes,
  newer_ops,
  outside_the_graph,
  unregistered_ops,
)
from bnexport.checks.rule import Finding, Findings
from bnexport.checks.subject import Subject
from bnexport.checks.training import (
  constant_phase,
  default_phase,
  open_phase,
  random_numbers,
  training_mode,
)
from bnexport.errors import SourceError, nearest

RULES = (
  training_mode.RULE,
  open_phase.RULE,
  random_numbers.RULE,
  default_phase.RULE,
  constant_phase.RULE,
  missing_averages.RULE,
  never_updated_averages.RULE,
  nonpositive_variance.RULE,
  nonfinite_averages.RULE,
  unsaved_averages.RULE,
  misfitting_averages.RULE,
  exploded_variance.RULE,
  update_in_forward_pass.RULE,
  constant_for_variable.RULE,
  missing_input.RULE,
  duplicate_names.RULE,
  missing_function.RULE,
  output_in_conditional.RULE,
  malformed_inputs.RULE,
  shared_frame.RULE,
  newer_ops.RULE,
  newer_attributes.RULE,
  file_size.RULE,
  devices.RULE,
  unregistered_ops.RULE,
  outside_the_graph.RULE,
)
BY_CODE = {rule.code: rule for rule in RULES}


def run(subject: Subject) -> Findings:
  """All findings about a Subject, in the order of the catalogue."""
  found = Findings()
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
