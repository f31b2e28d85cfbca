# SPDX-License-Identifier: Apache-2.0
"""Freezing a large checkpoint: time and memory, against TensorFlow's way."""

from __future__ import annotations

import glob
import os
import statistics
import sys
import tempfile

from benchmarks.freezing_process import VARIABLES
from benchmarks.results import Chart, Goal, Part, Table
from benchmarks.timing import interleave, ratio, run_python

_SIZE, _SIZE_SMALL = 4096, 1024
_OURS = "bnexport.freeze --novalidate"
_THEIRS = "TensorFlow's freeze_graph"
_PROVEN = "bnexport.freeze, with the proof"
_IMPORT = "import tensorflow"
_INSIDE = "bnexport.freeze --novalidate, behind its imports"
_COPY = "shutil.copyfileobj of the checkpoint"
_COPYFILE = "shutil.copyfile of the checkpoint, by the kernel"
_NOTES = """
%d variables of %d MiB, whole processes in turns, %d rounds. The last three rows
are timed inside of their processes, behind the imports.
"""


def measure(is_small):
  """Returns a Part."""
  size = _SIZE_SMALL if is_small else _SIZE
  rounds = 2 if is_small else 5
  with tempfile.TemporaryDirectory(prefix="bnexport_bench") as folder:
    prefix = os.path.join(folder, "model.ckpt")
    _own_process("make", prefix, str(size))
    runs = interleave(_contestants(prefix, folder), rounds)
  rows = [
    (
      "`%s`" % name,
      statistics.median(run.seconds for run in runs[name]),
      min(run.seconds for run in runs[name]),
      max(run.peak for run in runs[name]) / 1e9,
    )
    for name in runs
  ]
  columns = ("process", "median, s", "least, s", "peak memory, GB")
  labels = [name for name in runs if name != _INSIDE]
  chart = Chart(
    "Freezing %d MiB" % (VARIABLES * size * size * 4 >> 20),
    "s, GB",
    labels,
    {
      "seconds": [row[1] for row in rows if row[0].strip("`") in labels],
      "peak memory, GB": [
        row[3] for row in rows if row[0].strip("`") in labels
      ],
    },
  )
  notes = _NOTES % (VARIABLES, size * size * 4 >> 20, rounds)
  table = Table(columns, rows)
  return Part("Freezing", notes, table, _goals(runs), chart)


def _contestants(prefix, folder):
  """Functions that each freeze or copy once, and return a Run."""
  target = os.path.join(folder, "out")
  (data,) = glob.glob(prefix + ".data-*")
  least = os.path.getsize(data)
  ours = [
    "--checkpoint=" + prefix,
    "--output_node=y",
    "--output_graph=" + target,
  ]
  theirs = [
    "--input_meta_graph=%s.meta" % prefix,
    "--input_checkpoint=" + prefix,
    "--input_binary=true",
    "--output_node_names=y",
    "--output_graph=" + target,
  ]
  freeze_graph = "tensorflow.python.tools.freeze_graph"

  def to_target(run, *arguments):
    def go():
      # What was written before is no longer to be written meanwhile.
      os.sync()
      done = run(*arguments)
      if os.path.getsize(target) < least:
        sys.exit("bench: %s wrote too little" % " ".join(arguments))
      os.remove(target)
      return done

    return go

  return {
    _THEIRS: to_target(run_python, "-m", freeze_graph, *theirs),
    _OURS: to_target(
      run_python, "-m", "bnexport.freeze", "--novalidate", *ours
    ),
    _PROVEN: to_target(run_python, "-m", "bnexport.freeze", *ours),
    _IMPORT: lambda: run_python("-c", "import tensorflow"),
    _INSIDE: to_target(_own_process, "freeze", "--novalidate", *ours),
    _COPY: to_target(_own_process, "copy", data, target),
    _COPYFILE: to_target(_own_process, "copyfile", data, target),
  }


def _own_process(*arguments):
  """A Run with the seconds that the process itself tells, if it does."""
  run = run_python("-m", "benchmarks.freezing_process", *arguments)
  *_, said = run.out.rpartition("seconds: ")
  return run._replace(seconds=float(said)) if said else run


def _goals(runs):
  seconds = {name: [run.seconds for run in runs[name]] for name in runs}
  peak = {name: [float(run.peak) for run in runs[name]] for name in runs}
  return [
    Goal(
      "time of freeze_graph over ours",
      ratio(seconds[_THEIRS], seconds[_OURS]),
      8.0,
      is_least=True,
    ),
    Goal(
      "our peak memory over freeze_graph's",
      ratio(peak[_OURS], peak[_THEIRS]),
      0.1,
    ),
    Goal(
      "our time behind the imports over a plain copy",
      ratio(seconds[_INSIDE], seconds[_COPY]),
      1.4,
    ),
  ]
