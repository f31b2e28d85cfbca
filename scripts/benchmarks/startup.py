# SPDX-License-Identifier: Apache-2.0
"""Start-up time of a command that needs no TensorFlow."""

from __future__ import annotations

import statistics

from benchmarks.results import Chart, Goal, Part, Table
from benchmarks.timing import interleave, ratio, run_python

_NOTHING = "python -c pass"
_HELP = "python -m bnexport.freeze --help"
_WRONG = "python -m bnexport.freeze, no --output_node"
_TENSORFLOW = "python -c 'import tensorflow'"
_NOTES = "Whole processes, in turns; %d runs each."


def measure(is_small):
  """Returns a Part."""
  rounds = 2 if is_small else 9
  runs = interleave(
    {
      _NOTHING: lambda: run_python("-c", "pass"),
      # absl ends with status 1 behind --help.
      _HELP: lambda: run_python(
        "-m", "bnexport.freeze", "--help", statuses=(1,)
      ),
      _WRONG: lambda: run_python(
        "-m", "bnexport.freeze", "--checkpoint=none", statuses=(3,)
      ),
      _TENSORFLOW: lambda: run_python("-c", "import tensorflow"),
    },
    rounds,
  )
  seconds = {name: [run.seconds for run in runs[name]] for name in runs}
  rows = [
    (
      "`%s`" % name,
      statistics.median(seconds[name]),
      min(seconds[name]),
      ratio(seconds[name], seconds[_TENSORFLOW]),
    )
    for name in seconds
  ]
  columns = ("process", "median, s", "least, s", "times TensorFlow's import")
  goals = [
    Goal(
      "`%s` against TensorFlow's import" % name,
      ratio(seconds[name], seconds[_TENSORFLOW]),
      0.2,
    )
    for name in (_HELP, _WRONG)
  ]
  chart = Chart(
    "Start-up", "s", list(seconds), {"median": [row[1] for row in rows]}
  )
  notes = _NOTES % rounds
  return Part("Start-up", notes, Table(columns, rows), goals, chart)
