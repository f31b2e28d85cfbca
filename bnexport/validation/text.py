"""What was found, as plain values and for a terminal."""

from __future__ import annotations

import dataclasses

from bnexport.batchnorm import STORED
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
    "name": parting.difference.output,
    "op": parting.op,
    "norm": parting.norm and parting.norm.name,
    "largest_difference": parting.difference.largest,
    "limit": parting.difference.limit,
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
        "  TensorFlow does not import it: %s" % found.refused,
        "  python -m bnexport.inspect says what is wrong with it, python -m "
        "bnexport.repair mends it",
      ]
    )
  lines = ["%s: %d nodes, imported again" % (found.path, found.nodes)]
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
  line = "batch norms: %d" % len(norms)
  if others:
    line += ", of which %d use the batch's statistics, or choose: '%s'" % (
      len(others),
      others[0].name,
    )
  return line


def _parting_lines(parting):
  if parting is None:
    return []
  where = ""
  if parting.norm is not None:
    where = ", norm '%s' with %s statistics" % (
      parting.norm.name,
      parting.norm.statistics,
    )
  return [
    "the first tensor that differs is '%s' (%s%s), by %.3g where %.2g is "
    "rounding"
    % (
      parting.difference.output,
      parting.op,
      where,
      parting.difference.largest,
      parting.difference.limit,
    ),
    "  it has %s, and %s in the reference"
    % (parting.values, parting.reference_values),
  ]


def _agreement_lines(found):
  return [
    "top-1 of %s: the same in %d of %d rows (%.4g%%)"
    % (one.output, one.agree, one.rows, 100.0 * one.agree / one.rows)
    for one in found.agreements
  ]


def _statistics_lines(distances):
  if not distances:
    return []
  far = [one for one in distances if one.is_far]
  if far:
    lines = [
      "DOUBTFUL: stored statistics of %d of %d norms are far from the data's; "
      "the data may be another's, or prepared in another way than in training"
      % (len(far), len(distances))
    ]
  else:
    lines = [
      "stored statistics of %d norms are near the data's" % len(distances)
    ]
  shown = (far or distances)[:_MOST]
  lines += ["  %s" % one for one in shown]
  if len(far) > len(shown):
    lines.append("  and %d more" % (len(far) - len(shown)))
  return lines


def _verdict_lines(verdict):
  if verdict.fault is not None:
    return ["%s: FAILS: it %s" % (verdict.version, verdict.fault)]
  answers = "answers as TensorFlow" if verdict.holds else "answers DIFFERENTLY"
  return ["%s loads it and %s" % (verdict.version, answers)] + [
    "  %s%s" % (one, "" if one.holds else "  <- differs")
    for one in verdict.differences
  ]
