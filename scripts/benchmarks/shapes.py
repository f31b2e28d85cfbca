# SPDX-License-Identifier: Apache-2.0
"""What each command costs on graphs of awkward shapes, small and large."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time

from benchmarks.results import Part, Table

_SIZES = (10000, 100000)
_SIZES_SMALL = (50, 100)
# Names have this many times as many characters as other shapes have nodes.
_CHARACTERS = 10
# Processor time of one command.
_MOST_SECONDS = 600
# Of address space: a machine is not to be filled.
_MOST_BYTES = 8 << 30
_NOTES = """
Milliseconds of CPU for every 1,000 nodes, and megabytes of memory that it takes
more than before, of a command that runs nothing (`--novalidate`); `names` has
%d times as many characters. What takes longer than %d s is ended; what is
refused in one line has the time of that.
"""


def measure(is_small):
  """Returns a Part."""
  from judges import shapes

  sizes = _SIZES_SMALL if is_small else _SIZES
  _prepare()
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    for shape in shapes.SHAPES:
      for size in sizes:
        count = size * (_CHARACTERS if shape == "names" else 1)
        path = os.path.join(folder, "graph.pb")
        _in_fork(_write, shape, count, path)
        cells = [
          _in_fork(_cost, command, path, size) for command in shapes.COMMANDS
        ]
        rows.append((shape, size, *cells))
        print(" ".join(map(str, rows[-1])), file=sys.stderr, flush=True)
  columns = ("shape", "nodes", *shapes.COMMANDS)
  return Part(
    "Shapes", _NOTES % (_CHARACTERS, _MOST_SECONDS), Table(columns, rows), []
  )


def _prepare():
  """Imports what forks would import each by itself."""
  import tensorflow  # noqa: F401

  from bnexport import freeze, inspect, repair, transform  # noqa: F401
  from bnexport.checks import repair as repair_checks  # noqa: F401
  from bnexport.exporting import batch, delivery, export  # noqa: F401
  from bnexport.report import examination  # noqa: F401
  from bnexport.tf1 import session  # noqa: F401
  from bnexport.transforms import table  # noqa: F401


def _in_fork(work, *arguments):
  """The text that a function returns, called in a process of its own."""
  reader, writer = os.pipe()
  child = os.fork()
  if not child:
    for kind, most in (
      (resource.RLIMIT_CPU, _MOST_SECONDS),
      (resource.RLIMIT_AS, _MOST_BYTES),
    ):
      resource.setrlimit(kind, (most, most))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.write(writer, work(*arguments).encode())
    os._exit(0)
  os.close(writer)
  with open(reader, "rb") as f:
    said = f.read().decode()
  os.waitpid(child, 0)
  return said or "none"


def _write(shape, count, path):
  from judges import shapes

  with open(path, "wb") as f:
    f.write(shapes.make(shape, count).SerializeToString())
  shapes.save(path + ".ckpt")
  return "written"


def _cost(command, path, size):
  from absl import flags
  from judges import commands, shapes

  from bnexport.cli import process

  before, begin = _peak(), time.process_time()
  argv = flags.FLAGS(shapes.arguments(command, path))
  status = process.status_of(commands.COMMANDS[command].main, argv)
  seconds = time.process_time() - begin
  refused = " refused" if status == 3 else ""
  return f"{1e6 * seconds / size:.0f} ms {_peak() - before} MB{refused}"


def _peak():
  """Megabytes that this process has had at most."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
