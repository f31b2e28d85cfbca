# SPDX-License-Identifier: Apache-2.0
"""What was found, as plain values and for a terminal."""

from __future__ import annotations

import dataclasses

from bnexport.batchnorm.norm import STORED
from bnexport.report.facts import difference_facts, proof_facts
from bnexport.report.text import proof_lines

# Norms that are listed; the furthest come first.
_MOST = 5


def facts(found):
  """A proof.Validation as one object of plain values."""
  return {
    "graph": found.path,
    "holds": found.holds,
    "not_imported": found.refused,
    "nodes": found.nodes,
    "outputs": found.outputs,
    "outputs_are_guessed": found.is_guessed,
    "batch_norms": [
      {"name": norm.name, "form": norm.form, "statistics": norm.statistics}
      for norm in found.norms
    ],
    "proof": None if found.refused else proof_facts(found.proof),
    "first_difference": _parting_facts(found.parting),
    "top_1": [dataclasses.asdict(one) for one in found.agreements],
    "statistics_of_data": None
    if found.distances is None
    else [
      dict(dataclasses.asdict(one), is_far=one.is_far)
      for one in found.distances
    ],
    "consumers": [_verdict_facts(one) for one in found.verdicts],
  }


def _verdict_facts(verdict):
  return {
    "name": verdict.name,
    "version": verdict.version,
    "holds": verdict.holds,
    "fault": verdict.fault,
    "outputs": [difference_facts(one) for one in verdict.differences],
  }


def _parting_facts(parting):
  if parting is None:
    return None
  return {
    "name": parting.first.output,
    "op": parting.op,
    "norm": parting.norm and parting.norm.name,
    "largest_difference": parting.first.largest,
    "limit": parting.first.limit,
    "values": parting.values,
    "reference_values": parting.reference_values,
  }


def text(found):
  """A proof.Validation for a terminal."""
  if found.refused is not None:
    return "\n".join(
      [
        found.path,
        "  DOES NOT HOLD",
        f"  TensorFlow does not import it: {found.refused}",
        "  python -m bnexport.inspect says what is wrong with it, python -m "
        "bnexport.repair mends it",
      ]
    )
  lines = [f"{found.path}: {found.nodes} nodes, imported again"]
  lines += [
    "  output  %s%s"
    % (
      name,
      " (the likely one; --output_node names others)"
      if found.is_guessed
      else "",
    )
    for name in found.outputs
  ]
  if found.norms:
    lines.append("  " + _norms_line(found.norms))
  said = proof_lines(proof_facts(found.proof))
  at = 2 + len(found.proof.differences)
  said[at:at] = _parting_lines(found.parting) + _agreement_lines(found)
  said += _statistics_lines(found.distances)
  for one in found.verdicts:
    said += _verdict_lines(one)
  return "\n".join(lines + [""] + ["  " + line for line in said])


def _norms_line(norms):
  others = [norm for norm in norms if norm.statistics != STORED]
  line = f"batch norms: {len(norms)}"
  if others:
    line += (
      f", of which {len(others)} use the batch's statistics, or choose: "
      f"'{others[0].name}'"
    )
  return line


def _parting_lines(parting):
  if parting is None:
    return []
  where = ""
  if parting.norm is not None:
    where = (
      f", norm '{parting.norm.name}' with {parting.norm.statistics} statistics"
    )
  return [
    f"the first tensor that differs is '{parting.first.output}' "
    f"({parting.op}{where}), by {parting.first.largest:.3g} where "
    f"{parting.first.limit:.2g} is rounding",
    f"  it has {parting.values}, and {parting.reference_values} in the "
    "reference",
  ]


def _agreement_lines(found):
  return [
    (
      f"top-1 of {one.output}: the same in {one.agree} of {one.rows} rows "
      f"({100.0 * one.agree / one.rows:.4g}%)"
    )
    for one in found.agreements
  ]


def _statistics_lines(distances):
  if not distances:
    return []
  far = [one for one in distances if one.is_far]
  if far:
    lines = [
      f"DOUBTFUL: stored statistics of {len(far)} of {len(distances)} norms "
      "are far from the data's; the data may be another's, or prepared in "
      "another way than in training"
    ]
  else:
    lines = [f"stored statistics of {len(distances)} norms are near the data's"]
  shown = (far or distances)[:_MOST]
  lines += [f"  {one}" for one in shown]
  if len(far) > len(shown):
    lines.append(f"  and {len(far) - len(shown)} more")
  return lines


def _verdict_lines(verdict):
  if verdict.fault is not None:
    return [f"{verdict.version}: FAILS: it {verdict.fault}"]
  answers = "answers as TensorFlow" if verdict.holds else "answers DIFFERENTLY"
  return [f"{verdict.version} loads it and {answers}"] + [
    "  %s%s" % (one, "" if one.holds else "  <- differs")
    for one in verdict.differences
  ]
