# SPDX-License-Identifier: Apache-2.0
"""Parts of sweeps that need not go over everything.

A sweep's test has one of the marks that `conftest.py` knows; `--whole` runs all
of it.
"""

from __future__ import annotations


def stride(total, count, which):
  """Places of `total` cases that are `count` apart, the `which`-th first.

  Names of the zoo are sorted by kind, so each kind gives as much as it has.
  What one sweep leaves out another takes, by another `which`.
  """
  return range(which % count, total, count)
