# SPDX-License-Identifier: Apache-2.0
"""Progress of a run over many checkpoints, on stderr: a bar, or lines."""

from __future__ import annotations

import importlib.util
import sys
import time

# Between the lines of a log.
_SECONDS = 30


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


def _duration(seconds):
  if seconds < 100:
    return f"{int(seconds)} s"
  if seconds < 100 * 60:
    return f"{round(seconds / 60)} min"
  return f"{round(seconds / 3600)} h"
