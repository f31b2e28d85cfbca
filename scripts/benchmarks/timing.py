# SPDX-License-Identifier: Apache-2.0
"""Runs in turns, and processes with their time and peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = os.path.dirname(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)


def interleave(runs, rounds):
  """Calls each of some functions in turns.

  Load that comes and goes then falls on all of them. Each round begins with
  another one, so that none always runs behind the same other.

  Args:
    runs: functions by name.
    rounds: how often to call each.

  Returns:
    By name, what the function returned in each round.
  """
  names = list(runs)
  results = {name: [] for name in names}
  for i in range(rounds):
    first = i % len(names)
    for name in names[first:] + names[:first]:
      results[name].append(runs[name]())
  return results


def ratio(values, others):
  """Median of the ratios of what ran in the same round."""
  return statistics.median(a / b for a, b in zip(values, others))


class Run(NamedTuple):
  """A process that has ended: seconds, peak memory in bytes, its stdout."""

  seconds: float
  peak: int
  out: str


def run_python(*arguments, statuses=(0,), checkout=ROOT):
  """Runs this Python with arguments and a checkout's modules; returns a Run.

  The process that calls this has to be small: on Linux, the peak memory of a
  process counts what it was before it became another program.

  Raises:
    SystemExit: it ends with none of `statuses`.
  """
  path = os.pathsep.join([checkout, os.path.join(ROOT, "scripts")])
  environment = dict(os.environ, PYTHONPATH=path)
  with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
    begin = time.perf_counter()
    process = subprocess.Popen(
      [sys.executable] + list(arguments),
      stdout=out,
      stderr=err,
      env=environment,
      # The folder it runs in goes before PYTHONPATH.
      cwd=tempfile.gettempdir(),
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.WEXITSTATUS(status) or -os.WTERMSIG(status)
    out.seek(0)
    err.seek(0)
    if process.returncode not in statuses:
      sys.exit(
        "bench: 'python %s' ended with status %d:\n%s"
        % (
          " ".join(arguments),
          process.returncode,
          err.read().decode(errors="replace")[-2000:],
        )
      )
    # In kilobytes, on macOS in bytes.
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Run(seconds, peak, out.read().decode())
