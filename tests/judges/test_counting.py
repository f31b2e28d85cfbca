# SPDX-License-Identifier: Apache-2.0
"""The count of lines sees what it has to."""

import pytest
from judges.counting import assert_linear, lines


def once(size):
  return lambda: [i for i in range(size) if str(i)] and _loop(size)


def pairs(size):
  def work():
    for _ in range(size):
      _loop(size)

  return work


def _loop(size):
  for _ in range(size):
    size + 1


def test_counts_lines_of_what_is_called():
  assert lines(pairs(10)) > 10 * lines(lambda: None)
  assert lines(pairs(10)) == lines(pairs(10))


def test_linear_and_quadratic():
  assert_linear(once, 20, 200)
  with pytest.raises(AssertionError):
    assert_linear(pairs, 20, 40)
