# SPDX-License-Identifier: Apache-2.0
"""Processes that the benchmark of freezing starts, each for one thing.

  python -m benchmarks.freezing_process make PREFIX SIZE
  python -m benchmarks.freezing_process freeze --FLAG...
  python -m benchmarks.freezing_process copy FROM TO
  python -m benchmarks.freezing_process copyfile FROM TO

Those that are timed write how long the work took, without imports.
"""

from __future__ import annotations

import shutil
import sys
import time

VARIABLES = 18


def make(prefix, size):
  """Saves a chain of matrix products, each with a variable [size, size]."""
  import tensorflow.compat.v1 as tf1

  tf1.disable_v2_behavior()
  y = tf1.placeholder(tf1.float32, [None, size], "x")
  for i in range(VARIABLES):
    w = tf1.get_variable(
      "layer%d/weights" % i,
      [size, size],
      initializer=tf1.random_uniform_initializer(-0.01, 0.01),
    )
    y = tf1.matmul(y, w)
  tf1.identity(y, "y")
  with tf1.Session() as session:
    session.run(tf1.global_variables_initializer())
    tf1.train.Saver().save(session, prefix)


def freeze(*arguments):
  """Freezes as the command does, once all that it takes is imported."""
  import bnexport.exporting.delivery
  import bnexport.exporting.export
  import bnexport.report  # noqa: F401

  begin = time.perf_counter()
  from absl import flags

  from bnexport import freeze as command
  from bnexport.cli import process

  argv = flags.FLAGS(["freeze"] + list(arguments))
  status = process.status_of(command.main, argv)
  _tell(begin)
  sys.exit(status)


def copy(source, target):
  """Reads and writes, as whatever changes a file on its way has to."""
  begin = time.perf_counter()
  with open(source, "rb") as f, open(target, "wb") as g:
    shutil.copyfileobj(f, g)
  _tell(begin)


def copyfile(source, target):
  """Has the kernel copy, where it can."""
  begin = time.perf_counter()
  shutil.copyfile(source, target)
  _tell(begin)


def _tell(begin):
  print("\nseconds: %r" % (time.perf_counter() - begin))


def main(verb, *arguments):
  if verb == "make":
    make(arguments[0], int(arguments[1]))
  elif verb == "freeze":
    freeze(*arguments)
  else:
    {"copy": copy, "copyfile": copyfile}[verb](*arguments)


if __name__ == "__main__":
  main(*sys.argv[1:])
