# SPDX-License-Identifier: Apache-2.0
"""Many checkpoints on Apache Beam, beside worker processes."""

from __future__ import annotations

import importlib.util
import os
import tempfile

from benchmarks.results import Goal, Part, Table
from benchmarks.timing import run_python

_NOTES = """
Seconds of whole commands over so many checkpoints of a small network, without a
proof, in two processes: `--jobs=2`, and `--runner=DirectRunner` with two
workers. The last column is what Beam costs of each checkpoint, its start left
out: the growth of its seconds over those of the jobs, from the row above.
"""
# Seconds a checkpoint.
_LIMIT = 0.05
_BEAM = (
  "--runner=DirectRunner",
  "--beam_options=--direct_num_workers=2 "
  "--direct_running_mode=multi_processing",
)


def measure(is_small):
  """Returns a Part.

  Raises:
    SystemExit: Apache Beam is not installed.
  """
  if importlib.util.find_spec("apache_beam") is None:
    raise SystemExit("bench: spreading needs Beam; pip install '.[beam]'")
  counts = (4, 8) if is_small else (10, 100, 500, 2000)
  rows, before = [], None
  with tempfile.TemporaryDirectory(prefix="bnexport_bench") as folder:
    prefix = os.path.join(folder, "model.ckpt")
    run_python("-c", _SAVE, prefix)
    for count in counts:
      runs = _copies(prefix, os.path.join(folder, str(count)), count)
      jobs = _freeze(runs, "jobs", "--jobs=2")
      beam = _freeze(runs, "beam", *_BEAM)
      apart = beam - jobs
      each = None
      if before is not None:
        each = (apart - before[1]) / (count - before[0])
      rows.append((count, jobs, beam, "" if each is None else each))
      before = count, apart
  return Part(
    "Spreading",
    _NOTES,
    Table(("checkpoints", "jobs", "Beam", "Beam's, each"), rows),
    [Goal("seconds of Beam for a checkpoint", rows[-1][-1], _LIMIT)],
  )


_SAVE = """
import sys
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
x = tf.placeholder(tf.float32, [None, 8], "x")
w = tf.get_variable("w", [8, 4])
tf.matmul(x, w, name="y")
with tf.Session() as session:
  session.run(tf.global_variables_initializer())
  tf.train.Saver().save(session, sys.argv[1])
"""


def _copies(prefix, folder, count):
  """The pattern of so many checkpoints, links to one."""
  for i in range(count):
    run = os.path.join(folder, str(i))
    os.makedirs(run)
    for end in (".index", ".meta", ".data-00000-of-00001"):
      os.link(prefix + end, os.path.join(run, "model.ckpt" + end))
  return os.path.join(folder, "*", "model.ckpt*")


def _freeze(runs, name, *flags):
  """Seconds of a command over all checkpoints."""
  done = run_python(
    "-m",
    "bnexport.freeze",
    "--checkpoint=" + runs,
    "--output_node=y",
    "--output_graph={dir}/%s.pb" % name,
    "--proof=none",
    *flags,
  )
  return done.seconds
