# SPDX-License-Identifier: Apache-2.0
"""Facts of a report in words, for terminals and files alike."""

from __future__ import annotations

import collections

# By the statistics that a norm used before and those that it uses now.
_WHY = {
  ("batch", "stored"): (
    "used the statistics of whatever batch was fed; now the stored averages"
  ),
  ("switched", "stored"): (
    "chose by the phase between the batch's statistics and the stored "
    "averages; now always the stored averages"
  ),
  ("unknown", "stored"): (
    "computed its statistics from the batch's and the stored ones; now the "
    "stored averages"
  ),
  ("batch", "batch"): "the batch's statistics, as before",
  ("switched", "batch"): (
    "chose its statistics by the phase; now always those of the batch"
  ),
  ("stored", "stored"): "stored statistics, as before",
}


# Longer lists are cut.
_MOST_BLIND = 8


def why(norm):
  """The change to one norm of the facts, and its reason."""
  if norm["recalibrated"]:
    return "got new statistics from the calibration data"
  if norm["changed"] and norm["before"] == "stored":
    return "had other stored statistics, which were replaced"
  found = _WHY.get((norm["before"], norm["statistics"]))
  return found or f"{norm['statistics']} statistics, as built"


def changes(said):
  """Changes and their reasons, some lines: norms alike are counted."""
  lines = []
  counted = collections.Counter(why(norm) for norm in said["batch_norms"])
  for text, count in counted.most_common():
    lines.append(f"{count} norm{'s' * (count > 1)}: {text}")
  # Changes of single norms are counted above.
  return lines + said["changes_beside_norms"]


def outcome(said):
  """The findings that a repair cleared and left: a title, and lines."""
  cleared, left = said["cleared"], said["left"]
  lines = [f"cleared {one['code']} '{one['node']}'" for one in cleared]
  lines += [
    f"left {one['code']} {one['severity']} '{one['node']}' {one['message']}; "
    f"{one['fix']}"
    for one in left
  ]
  return f"findings: {len(cleared)} cleared, {len(left)} left", lines


def health(said):
  """Counts of norms by the state of their stored statistics."""
  counted = collections.Counter(
    norm["health"] for norm in said["batch_norms"] if norm["health"]
  )
  if not counted:
    return ""
  states = [f"{count} {state}" for state, count in counted.most_common()]
  return f"Health of the stored statistics: {', '.join(states)}"


def agreement(walk):
  """The result of the walk against the reference."""
  if walk["note"]:
    return walk["note"]
  result = "none differs by more than rounding"
  if walk["first_real_difference"] is not None:
    result = _first(walk)
  return (
    f"{len(walk['tensors'])} tensors were compared in order of execution with "
    f"{walk['compared_with']}: {result}"
  )


def parting(walk, outputs):
  """The tensor at which training and inference part, and how far."""
  if walk["note"]:
    return walk["note"]
  run = f"On the same input, {walk['compared_with']}"
  if walk["first_real_difference"] is None:
    return run + " answers as the exported graph does"
  apart = max(
    (t["largest_difference"] for t in walk["tensors"] if t["name"] in outputs),
    default=None,
  )
  end = "" if apart is None else f"; outputs end up {apart:.3g} apart"
  return f"{run} gives other values: {_first(walk)}{end}"


def _first(walk):
  name = walk["first_real_difference"]
  first = next(t for t in walk["tensors"] if t["name"] == name)
  behind = ""
  if walk["norm"] is not None:
    behind = f" (norm '{walk['norm']}')"
  return (
    f"the first that differs is '{name}'{behind}, by "
    f"{first['largest_difference']:.3g} where {first['limit']:.2g} is rounding"
  )


def summary(values):
  """Median and range of the facts of one statistic."""
  if values is None:
    return ""
  return (
    f"{values['median']:.3g} ({values['smallest']:.3g} to "
    f"{values['largest']:.3g})"
  )


def proof(said, after_outputs=(), most_blind=_MOST_BLIND):
  """The proof of the facts as lines.

  Args:
    said: the proof's facts, or None.
    after_outputs: lines to put behind those on the outputs.
    most_blind: how many statistics are listed that no answer depends on; None
      for all.
  """
  if said is None:
    return ["not looked for: --novalidate"]
  why, what = said["not_proven_because"], said["compared_with"]
  lines = [said["verdict"], f"compared with {what or f'nothing: {why}'}"]
  if said["compared_with_as_well"]:
    lines.append(f"compared with {said['compared_with_as_well']} as well")
  if what and why:
    lines.append(why)
  lines += map(difference, said["outputs"])
  if said["first_difference"] is not None and not after_outputs:
    lines += first_difference(said["first_difference"])
  lines += after_outputs
  if said["fixed_point"] is not None:
    lines += fixed_point(said["fixed_point"])
  lines += [line for _, line in reruns(said)]
  lines += blindness(said, most_blind)
  lines += map(decision, said["decisions"])
  if said["fed"]:
    fed = [f"{name} {shape}" for name, shape in said["fed"].items()]
    lines.append(f"fed: {', '.join(fed)}")
  return lines + said["notes"]


def reruns(said):
  """What a row alone and a second run answer: whether it is right, a line."""
  alone = said["one_row_answers_alone"]
  if alone is not None:
    way = "as" if alone else "DIFFERENTLY than"
    yield alone, f"one row alone answers {way} within its batch"
  same = said["second_run_answers_the_same"]
  if same is not None:
    way = "the same" if same else "DIFFERENTLY"
    yield same, f"a second run answers {way}"


def decision(one):
  """One decision, and what another one would have led to."""
  if one["apart"] is None:
    return (
      f"decided: {one['decided']}; with {one['other']}: not known, "
      f"{one['not_tried_because']}"
    )
  answers = "the same answers"
  if one["matters"]:
    answers = f"answers {one['apart']:.2g} apart"
  return f"decided: {one['decided']}; with {one['other']}: {answers}"


def blindness(said, most=_MOST_BLIND):
  """The stored statistics that no answer depends on, as lines."""
  if not said["statistics_moved"]:
    return []
  blind, more = said["blind_to"], ""
  if said["further_feeds"]:
    more = f", {said['further_feeds']} feeds more were compared for that"
  if not blind:
    return [
      f"an answer changes with each of {said['statistics_moved']} stored "
      f"statistics{more}"
    ]
  lines = [f"no answer changes with the {one}" for one in blind[:most]]
  if len(lines) < len(blind):
    lines.append(f"and {len(blind) - len(lines)} statistics more")
  return lines


def first_difference(one, norms=()):
  """The facts of a Parting, as lines; none for None."""
  if one is None:
    return []
  place = one["op"]
  if one["norm"] is not None:
    statistics = {n["name"]: n["statistics"] for n in norms}
    place += f", norm '{one['norm']}' with {statistics[one['norm']]} statistics"
  return [
    f"the first tensor that differs is '{one['name']}' ({place}), by "
    f"{one['largest_difference']:.3g} where {one['limit']:.2g} is rounding",
    f"  it has {one['values']}, and {one['reference_values']} in the reference",
  ]


def fixed_point(said):
  """The verdict of the updates' fixed point, as lines."""
  if said["why_not"]:
    return [f"fixed point of the updates: none, {said['why_not']}"]
  apart = max(one["largest_difference"] for one in said["outputs"])
  return [
    f"fixed point of the updates, {said['averages']} averages settled in "
    f"{said['runs']} runs: training mode and export are {apart:.2g} apart"
    f"{'' if said['holds'] else '  <- differs'}"
  ]


def share(one):
  """The facts of a Difference: its part of the limit; NaN is infinitely far."""
  apart, limit = one["largest_difference"], one["limit"]
  if apart == 0:
    return 0.0
  part = apart / limit if limit else float("inf")
  return part if part == part else float("inf")


def difference(one):
  """The facts of one Difference, as a line below another."""
  mark = "" if one["holds"] else "  <- differs"
  return (
    f"  {one['name']}: largest difference {one['largest_difference']:.2g}, "
    f"limit {one['limit']:.2g}{mark}"
  )
