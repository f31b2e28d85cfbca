# SPDX-License-Identifier: Apache-2.0
"""The loops of a proof as they are shown: after a while, with the time left."""

import importlib.util
import io

import pytest

from bnexport.exporting import progress
from bnexport.proof import stages


class Terminal(io.StringIO):
  """A stream that says it is one."""

  def isatty(self):
    return True


class Clock:
  """A clock that is set."""

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


@pytest.fixture
def clock():
  return Clock()


@pytest.fixture
def plain(monkeypatch):
  """Without tqdm."""
  known = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    "find_spec",
    lambda name: None if name == "tqdm" else known(name),
  )


def run(phases, clock, what, count, seconds):
  """Runs a loop whose items take so many seconds each."""
  with stages.told_to(phases.show):
    for _ in stages.each(what, range(count)):
      clock.now += seconds


def test_lines_say_the_time_left(clock, plain):
  stream = Terminal()
  run(progress.Phases(stream, clock), clock, "moving", 60, 1.5)
  assert stream.getvalue().splitlines() == [
    "bnexport: moving: 2 of 60, about 87 s left",
    "bnexport: moving: 22 of 60, about 57 s left",
    "bnexport: moving: 42 of 60, about 27 s left",
  ]


def test_what_is_quick_is_not_shown(clock, plain):
  stream = Terminal()
  phases = progress.Phases(stream, clock)
  for what in ("moving", "settling"):  # together they take longer
    run(phases, clock, what, 19, 0.1)
  assert stream.getvalue() == ""


def test_each_loop_is_by_itself(clock, plain):
  stream = Terminal()
  phases = progress.Phases(stream, clock)
  run(phases, clock, "moving", 4, 2)
  run(phases, clock, "settling", 4, 2)
  assert stream.getvalue().splitlines() == [
    "bnexport: moving: 1 of 4, about 6 s left",
    "bnexport: settling: 1 of 4, about 6 s left",
  ]


def test_a_bar(clock):
  pytest.importorskip("tqdm")
  stream = Terminal()
  run(progress.Phases(stream, clock), clock, "moving", 4, 3)
  drawn = stream.getvalue()
  assert "bnexport: moving" in drawn and "1/4" in drawn
  assert drawn.endswith("\r")  # it is taken away


def test_what_is_no_terminal_is_not_written_to():
  stream = io.StringIO()
  with progress.phases(stream):
    assert list(stages.each("moving", range(3))) == [0, 1, 2]
  assert stream.getvalue() == ""


def told(items, total=None, most=None):
  found = []
  with stages.told_to(lambda *said: found.append(said)):
    for i, _ in enumerate(stages.each("moving", items, total)):
      if i == most:
        break
  return [(done, count) for _, done, count in found]


def test_loops_tell_how_far_they_are():
  assert told("abc") == [(0, 3), (1, 3), (2, 3), (3, 3)]
  assert told(iter("abc"), 3) == [(0, 3), (1, 3), (2, 3), (3, 3)]
  assert told([]) == [(0, 0)]


def test_a_loop_that_is_left_is_done():
  assert told("abc", most=0)[-1] == (3, 3)


def test_nobody_is_told_after_the_block():
  found = []
  with stages.told_to(lambda *said: found.append(said)):
    pass
  list(stages.each("moving", "abc"))
  assert found == []


def test_a_proof_tells_of_its_loops(exports):
  """Those that take long where a network is large."""
  found = {}
  with stages.told_to(lambda what, done, total: found.setdefault(what, total)):
    assert exports("layers_fused_literal").prove().holds
  assert found["moving each stored statistic"] == 6
  assert "solving for the fixed point" in found
