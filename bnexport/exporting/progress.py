# SPDX-License-Identifier: Apache-2.0
"""Progress on stderr, as a bar or as lines: of many checkpoints, of a proof."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from typing import Any, Callable, Iterator, Optional, TextIO

from bnexport.proof import stages

# Between the lines of a log.
_SECONDS = 30
# What takes less is not shown.
_PATIENCE = 2.0


def start(total, skipped, stream=None):
  """Returns a Bar where the stream is a terminal and tqdm installed, or Lines.

  Args:
    total: how many checkpoints there are.
    skipped: how many of them were done before the run.
    stream: where it is shown; None for stderr.
  """
  stream = stream or sys.stderr
  if stream.isatty() and importlib.util.find_spec("tqdm") is not None:
    return Bar(total, skipped, stream)
  return Lines(total, skipped, stream)


class Bar:
  """A bar of tqdm's, with its estimate of the time left."""

  def __init__(self, total, skipped, stream):
    import tqdm

    self._bar = tqdm.tqdm(
      desc="bnexport",
      total=total,
      initial=skipped,
      unit="checkpoint",
      file=stream,
      leave=False,
      dynamic_ncols=True,
    )

  def show(self, finished, *troubles):
    """Draws the bar.

    Args:
      finished: how many checkpoints are done, the skipped ones included.
      *troubles: counts to add, such as "2 refused".
    """
    self._bar.set_postfix_str(", ".join(troubles), refresh=False)
    # An update of nothing would be the start of the next one's duration.
    if finished > self._bar.n:
      self._bar.update(finished - self._bar.n)
    self._bar.refresh()

  def clear(self):
    """Makes room for other lines."""
    self._bar.clear()

  def close(self):
    self._bar.close()


class Lines:
  """A line every half minute, so that a log shows that the run goes on."""

  def __init__(self, total, skipped, stream, clock=time.time):
    self._total, self._skipped = total, skipped
    self._stream, self._clock = stream, clock
    self._shown = clock()
    self._first = None

  def show(self, finished, *troubles):
    """Writes a line if it is time for one; see Bar."""
    now = self._clock()
    if self._first is None and finished > self._skipped:
      self._first = now, finished
    if now - self._shown >= _SECONDS and finished < self._total:
      self._shown = now
      self._stream.write(f"bnexport: {self.text(now, finished, *troubles)}\n")
      self._stream.flush()

  def text(self, now, finished, *troubles):
    """The line: counts, troubles and the time left.

    The rate is that after the first one finished: processes start slowly.
    """
    parts = [f"{finished} of {self._total} done", *troubles]
    start, first = self._first or (now, finished)
    if finished > first:
      left = (now - start) / (finished - first) * (self._total - finished)
      parts.append(f"about {_duration(left)} left")
    return ", ".join(parts)

  def clear(self):
    """Does nothing: lines stay."""

  close = clear


@contextlib.contextmanager
def phases(stream: Optional[TextIO] = None) -> Iterator[None]:
  """Shows the loops of proofs that run in the block, if they take long.

  Args:
    stream: where they are shown; None for stderr. What is no terminal is not
      written to.
  """
  stream = stream or sys.stderr
  if not stream.isatty():
    yield
    return
  shown = Phases(stream)
  with stages.told_to(shown.show):
    try:
      yield
    finally:
      shown.close()


class Phases:
  """One loop after another, each with its estimate of the time left."""

  def __init__(
    self, stream: TextIO, clock: Callable[[], float] = time.monotonic
  ):
    self._stream, self._clock = stream, clock
    self._has_bars = importlib.util.find_spec("tqdm") is not None
    self._what = ""
    self._begun = self._shown = 0.0
    self._bar: Any = None

  def show(self, what: str, done: int, total: int) -> None:
    """Shows how far a loop is, once it has taken a while.

    Args:
      what: what is done to each item.
      done: how many items are done.
      total: how many there are.
    """
    now = self._clock()
    if what != self._what:
      self.close()
      self._what, self._begun, self._shown = what, now, now - _SECONDS
    if done == total:
      self.close()
    elif now - self._begun >= _PATIENCE:
      self._draw(now, done, total)

  def _draw(self, now: float, done: int, total: int) -> None:
    if self._has_bars:
      if self._bar is None:
        self._bar = self._new_bar(done, total)
      self._bar.update(done - self._bar.n)
    elif now - self._shown >= _SECONDS:
      self._shown = now
      left = ""
      if done:
        seconds = (now - self._begun) / done * (total - done)
        left = f", about {_duration(seconds)} left"
      self._stream.write(f"bnexport: {self._what}: {done} of {total}{left}\n")
      self._stream.flush()

  def _new_bar(self, done: int, total: int) -> Any:
    import tqdm

    return tqdm.tqdm(
      desc=f"bnexport: {self._what}",
      total=total,
      initial=done,
      file=self._stream,
      leave=False,
      dynamic_ncols=True,
    )

  def close(self) -> None:
    """Ends the loop that is shown."""
    if self._bar is not None:
      self._bar.close()
    self._what, self._bar = "", None


def _duration(seconds):
  if seconds < 100:
    return f"{int(seconds)} s"
  if seconds < 100 * 60:
    return f"{round(seconds / 60)} min"
  return f"{round(seconds / 3600)} h"
