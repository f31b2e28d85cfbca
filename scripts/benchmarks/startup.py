# SPDX-License-Identifier: Apache-2.0
"""Whole processes that need no TensorFlow, against importing it."""

from __future__ import annotations

import glob
import os
import statistics
import tempfile

from benchmarks.results import Chart, Goal, Part, Table
from benchmarks.timing import interleave, ratio, run_python

_NOTHING = "python -c pass"
_TENSORFLOW = "python -c 'import tensorflow'"
_HELP = "--help"
_NO_PATH = "freeze, a wrong path"
_NO_NODE = "freeze, an unknown output"
_NO_FLAG = "freeze, a bad flag"
_INSPECT = "inspect"
_FREEZE = "freeze --validate=false"
_TRANSFORM = "transform 'strip_unused_nodes fold_batch_norms'"
# The most of the time of TensorFlow's import.
_REFUSALS = dict.fromkeys((_HELP, _NO_FLAG, _NO_PATH, _NO_NODE), 0.15)
_WORK = dict.fromkeys((_INSPECT, _FREEZE, _TRANSFORM), 0.4)
# The most of its memory, beyond the weights.
_MEMORY = 0.25
_NOTES = """
Whole processes, in turns; %d runs each. The model is %s, a training graph and
its checkpoint of %d MB; what `transform` is given is frozen from it.
"""
_SAVE = "from benchmarks import proving; proving.save_one(%r, %r)"


def measure(is_small):
  """Returns a Part."""
  rounds = 2 if is_small else 9
  network = "small" if is_small else "ResNet-50"
  with tempfile.TemporaryDirectory(prefix="bnexport_bench") as folder:
    prefix = os.path.join(folder, "model.ckpt")
    run_python("-c", _SAVE % (network, prefix))
    weights = sum(map(os.path.getsize, glob.glob(prefix + ".data-*")))
    runs = interleave(_contestants(prefix, folder), rounds)
  seconds = {name: [run.seconds for run in runs[name]] for name in runs}
  rows = [
    (
      "`%s`" % name,
      statistics.median(seconds[name]),
      min(seconds[name]),
      ratio(seconds[name], seconds[_TENSORFLOW]),
      max(run.peak for run in runs[name]) / 1e6,
    )
    for name in seconds
  ]
  columns = (
    *("process", "median, s", "least, s", "times TensorFlow's import"),
    "peak memory, MB",
  )
  chart = Chart(
    "Start-up", "s", list(seconds), {"median": [row[1] for row in rows]}
  )
  notes = _NOTES % (rounds, network, weights // 1_000_000)
  goals = list(_goals(runs, seconds, weights))
  return Part("Start-up", notes, Table(columns, rows), goals, chart)


def _contestants(prefix, folder):
  """Functions that each run a process once, and return a Run."""
  frozen = os.path.join(folder, "frozen.pb")
  given, out = "--checkpoint=" + prefix, "--output_graph=" + frozen

  def run(command, *arguments, statuses=(0,)):
    module = "bnexport." + command
    return lambda: run_python("-m", module, *arguments, statuses=statuses)

  run("freeze", given, "--output_node=y", out, "--validate=false")()
  again = "--overwrite"
  return {
    _NOTHING: lambda: run_python("-c", "pass"),
    _HELP: run("freeze", "--help"),
    # absl ends with status 1 where a flag is wrong.
    _NO_FLAG: run("freeze", "--no_such_flag=1", statuses=(1,)),
    _NO_PATH: run(
      "freeze", given + "x", "--output_node=y", again, statuses=(3,)
    ),
    _NO_NODE: run(
      "freeze", given, "--output_node=no_such", again, out, statuses=(3,)
    ),
    _INSPECT: run("inspect", given, "--output_node=y", statuses=(0, 2)),
    _TRANSFORM: run(
      "transform",
      "--in_graph=" + frozen,
      "--out_graph=" + frozen + ".pb",
      "--outputs=y",
      "--transforms=strip_unused_nodes fold_batch_norms",
      "--validate=false",
      again,
    ),
    _FREEZE: run(
      "freeze", given, "--output_node=y", out, "--validate=false", again
    ),
    _TENSORFLOW: lambda: run_python("-c", "import tensorflow"),
  }


def _goals(runs, seconds, weights):
  for name, limit in {**_REFUSALS, **_WORK}.items():
    yield Goal(
      "`%s` against TensorFlow's import" % name,
      ratio(seconds[name], seconds[_TENSORFLOW]),
      limit,
    )
  for name in _WORK:
    own = [max(run.peak - weights, 0) for run in runs[name]]
    yield Goal(
      "memory of `%s` beyond the weights against that import" % name,
      ratio(own, [float(run.peak) for run in runs[_TENSORFLOW]]),
      _MEMORY,
    )
