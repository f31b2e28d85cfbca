# SPDX-License-Identifier: Apache-2.0
"""What work costs, in lines of Python run: the same on every machine."""

from __future__ import annotations

import sys

# A little for what does not depend on the size, and for hashing.
_SLACK = 1.3


def lines(work):
  """How many lines of Python a function runs, with all that it calls."""
  count = 0

  def trace(frame, event, arg):
    nonlocal count
    count += event == "line"
    return trace

  before = sys.gettrace()
  sys.settrace(trace)
  try:
    work()
  finally:
    sys.settrace(before)
  return count


def assert_linear(prepare, small, large):
  """Asserts that work grows with its size and not faster.

  Args:
    prepare: takes a size and returns the function that does the work.
    small: a size.
    large: a larger one.
  """
  of_small, of_large = lines(prepare(small)), lines(prepare(large))
  assert of_large * small <= _SLACK * of_small * large, (of_small, of_large)
