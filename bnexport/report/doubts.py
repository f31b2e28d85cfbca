# SPDX-License-Identifier: Apache-2.0
"""Norms that deserve a look, from the facts of an export, the worst first."""

from __future__ import annotations

from bnexport.batchnorm.health import OK
from bnexport.batchnorm.norm import STORED
from bnexport.validation.data_statistics import FEWEST_ROWS


def doubt(norm, is_made_up=False):
  """The reason to look at a norm, in words, or an empty text.

  Args:
    norm: its facts.
    is_made_up: whether the batch that was fed is made up, so that its
      statistics say nothing.
  """
  if norm["statistics"] != STORED:
    return f"uses {norm['statistics']} statistics"
  if norm["health"] not in (None, OK):
    return norm["health"]
  far = norm.get("distance")
  if is_made_up or far is None or far["samples"] < FEWEST_ROWS:
    return ""
  if not far["is_far"]:
    return ""
  return (
    f"the batch's means are {far['shift']:.2g} standard deviations off (at "
    f"most {far['largest_shift']:.2g}), its variances {far['ratio']:.2g} times "
    f"the stored (at most {far['extreme_ratio']:.2g})"
  )


def _distance(norm):
  """A number that grows with how far a batch is from what is stored."""
  far = norm.get("distance")
  if far is None:
    return 0.0
  ratio = far["ratio"]
  factor = max(ratio, 1 / ratio) if ratio > 0 else float("inf")
  worst = max(far["shift"], factor)
  return worst if worst == worst else float("inf")


def ranked(norms, is_made_up=False):
  """The facts of norms with their doubts, the worst first.

  Those with doubtful values come first, then those that use other statistics,
  then those far from the batch that was fed, then all others.

  Returns:
    Pairs of a norm's facts and `doubt` of it.
  """

  def how_bad(pair):
    norm, words = pair
    is_sick = norm["health"] not in (None, OK)
    return (
      not is_sick,
      norm["statistics"] == STORED,
      not words,
      -_distance(norm),
    )

  pairs = [(norm, doubt(norm, is_made_up)) for norm in norms]
  return sorted(pairs, key=how_bad)
