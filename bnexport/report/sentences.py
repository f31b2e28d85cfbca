# SPDX-License-Identifier: Apache-2.0
"""What the facts of a report come to, in words."""

from __future__ import annotations

import collections

# By what a norm used before; the second is what it uses now.
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


def why(norm):
  """What happened to one norm of the facts."""
  if norm["recalibrated"]:
    return "got new statistics from the calibration data"
  if norm["changed"] and norm["before"] == "stored":
    return "had other stored statistics, which were replaced"
  found = _WHY.get((norm["before"], norm["statistics"]))
  return found or f"{norm['statistics']} statistics, as built"


def changes(said):
  """What was changed and why, some lines: norms alike are counted."""
  lines = []
  counted = collections.Counter(why(norm) for norm in said["batch_norms"])
  for text, count in counted.most_common():
    lines.append(f"{count} norm{'s' * (count > 1)}: {text}")
  # What was done to single norms is counted above.
  told = [
    line
    for line in said["changes"]
    if not line.startswith(("norm '", "stored '", "recalibrated norm '"))
  ]
  return lines + told


def health(said):
  """How many norms have stored statistics in which state."""
  counted = collections.Counter(
    norm["health"] for norm in said["batch_norms"] if norm["health"]
  )
  if not counted:
    return ""
  return "Health of the stored statistics: %s" % ", ".join(
    f"{count} {state}" for state, count in counted.most_common()
  )


def agreement(walk):
  """What the walk against the reference says."""
  tensors = walk["tensors"]
  if walk["note"]:
    return walk["note"]
  if walk["first_real_difference"] is None:
    return (
      f"{len(tensors)} tensors were compared in order of execution with "
      f"{walk['compared_with']}: none differs by more than rounding"
    )
  return (
    f"{len(tensors)} tensors were compared in order of execution with "
    f"{walk['compared_with']}: {_first(walk)}"
  )


def parting(walk, outputs):
  """Where training and inference answer part."""
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
