# SPDX-License-Identifier: Apache-2.0
"""Parts of sweeps that need not go over everything.

A sweep's test has one of the marks that `conftest.py` knows; `--whole` runs all
of it.
"""

from __future__ import annotations

import itertools


def stride(total, count, which):
  """Places of `total` cases that are `count` apart, the `which`-th first.

  Names of the zoo are sorted by kind, so each kind gives as much as it has.
  What one sweep leaves out another takes, by another `which`.
  """
  return range(which % count, total, count)


def pairs(rows, which=0):
  """Places of the rows in which every pair of values meets that meets in all.

  Args:
    rows: tuples of as many hashable values each.
    which: where the search begins; others find other rows.

  Returns:
    Places in the order of `rows`, few of them.
  """
  met = [_pairs(row) for row in rows]
  left, taken = set().union(*met), []
  turned = [(place + which) % len(rows) for place in range(len(rows))]
  # Most first; the bound sinks as there are fewer that are new.
  for least in range(max(map(len, met), default=0), 0, -1):
    for place in turned:
      if len(met[place] & left) >= least:
        left -= met[place]
        taken.append(place)
  return sorted(taken)


def _pairs(row):
  return set(itertools.combinations(enumerate(row), 2))
