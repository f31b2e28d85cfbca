# SPDX-License-Identifier: Apache-2.0
"""The page's first answer: whether an export can be shipped, and why."""

from __future__ import annotations

import dataclasses
from typing import List, Tuple

from bnexport.report import sentences

_SHORT = {
  "proven": "Yes: it is proven",
  "doubtful": "It is proven, and has doubtful norms",
  "unproven": "Not yet: it is not proven",
  "differs": "No: it differs",
}
HOLDS, AGAINST, OPEN = "holds", "against", "open"


@dataclasses.dataclass
class Answer:
  """The answer, its grounds, and what is left to know.

  Attributes:
    tone: the state of the verdict, or "doubtful" where it is proven and a norm
      is doubtful.
    short: the verdict in a few words.
    says: the verdict as a sentence.
    far: how far the outputs are off, in words; "" where that is not known.
    grounds: pairs of "holds" or "against" and a sentence.
    left: what could not be compared, a sentence each.
    notes: what else to know, a sentence each.
  """

  tone: str
  short: str
  says: str
  far: str
  grounds: List[Tuple[str, str]] = dataclasses.field(default_factory=list)
  left: List[str] = dataclasses.field(default_factory=list)
  notes: List[str] = dataclasses.field(default_factory=list)


def answer(said, is_doubtful=False) -> Answer:
  """The Answer of an export's facts.

  Args:
    said: see `facts.export_facts`.
    is_doubtful: whether a norm deserves a look.
  """
  verdict, proof = said["verdict"], said["proof"]
  tone = verdict["state"]
  if tone == "proven" and is_doubtful:
    tone = "doubtful"
  found = Answer(tone, _SHORT[tone], verdict["says"], "")
  if proof is None:
    found.left.append("nothing was compared: --novalidate")
    return found
  found.far = _far(proof["outputs"])
  if proof["compared_with"]:
    _note(found, _all_hold(proof), f"compared with {proof['compared_with']}")
  if proof["compared_with_as_well"]:
    _note(
      found, True, f"compared with {proof['compared_with_as_well']} as well"
    )
  if proof["not_proven_because"]:
    found.left.append(proof["not_proven_because"])
  for line in sentences.first_difference(proof["first_difference"]):
    _note(found, False, line.strip())
  _settling(found, proof)
  for holds, line in sentences.reruns(proof):
    _note(found, holds, line)
  for line in sentences.blindness(proof):
    if proof["blind_to"]:
      found.left.append(line)
    else:
      _note(found, True, line)
  for one in proof["decisions"]:
    line = sentences.decision(one)
    if one["apart"] is None:
      found.left.append(line)
    else:
      _note(found, True, line)
  found.notes += proof["notes"]
  return found


def _note(found, holds, sentence):
  found.grounds.append((HOLDS if holds else AGAINST, sentence))


def _all_hold(proof):
  return all(one["holds"] for one in proof["outputs"])


def _far(outputs):
  """How far the furthest output is off, and what rounding allows."""
  if not outputs:
    return ""
  numbers = [one for one in outputs if not isinstance(one["limit"], str)]
  worst = max(numbers or outputs, key=sentences.share)
  if not any(one["largest_difference"] for one in outputs):
    return "The answers are equal to the last bit."
  share = sentences.share(worst)
  allowed = f"{share:.2g} times" if share >= 1 else f"{share:.2%} of"
  return (
    f"The answers are at most {worst['largest_difference']:.2g} apart, "
    f"{allowed} what rounding explains ({worst['limit']:.2g})."
  )


def _settling(found, proof):
  point = proof["fixed_point"]
  if point is None:
    return
  for line in sentences.fixed_point(point):
    if point["why_not"]:
      found.left.append(line)
    else:
      _note(found, point["holds"], line)
