# SPDX-License-Identifier: Apache-2.0
"""What each command costs on graphs of awkward shapes, small and large."""

from __future__ import annotations

import math
import os
import resource
import sys
import tempfile
import time

from benchmarks.results import Goal, Part, Table

# Lines of Python are counted on two sizes, and time is taken on the largest:
# counting takes many times as long as what is counted.
_COUNTED, _TIMED = (1000, 10000), 100000
_COUNTED_SMALL, _TIMED_SMALL = (50, 100), 200
# Of a graph that is run before, for what is imported and made once.
_FIRST = 20
# Names have this many times as many characters as other shapes have nodes.
_CHARACTERS = 10
# Processor time of one command.
_MOST_SECONDS = 600
# Of address space: a machine is not to be filled.
_MOST_BYTES = 8 << 30
# Of lines per node: a little for hashing.
_LIMIT = 1.3
_NOTES = """
Lines of Python that a command runs for every node on the smaller graphs, and on
the largest milliseconds of CPU for every 1,000 nodes, and megabytes of memory
that it takes more than before. The commands run nothing (`--novalidate`);
`names` has %d times as many characters. What takes longer than %d s is ended;
what is refused in one line has the cost of that. Growth is of lines per node
from the smaller to the larger graph: 1 is linear, and %d would be quadratic.
"""


def measure(is_small):
  """Returns a Part."""
  from judges import shapes

  counted = _COUNTED_SMALL if is_small else _COUNTED
  timed = _TIMED_SMALL if is_small else _TIMED
  _prepare()
  rows, goals = [], []
  with tempfile.TemporaryDirectory() as folder:
    for shape in shapes.SHAPES:
      first = _written(folder, shape, _FIRST)
      lines = []
      for size in counted:
        path = _written(folder, shape, size)
        lines.append(_cells(_lines, first, path, size))
        rows.append((shape, size, *(f"{cell} lines" for cell in lines[-1])))
      path = _written(folder, shape, timed)
      rows.append((shape, timed, *_cells(_cost, path, timed)))
      for row in rows[-3:]:
        print(" ".join(map(str, row)), file=sys.stderr, flush=True)
      growth = max(map(_growth, *lines))
      goals.append(Goal(f"growth on {shape}", growth, _LIMIT))
  columns = ("shape", "nodes", *shapes.COMMANDS)
  notes = _NOTES % (_CHARACTERS, _MOST_SECONDS, counted[1] // counted[0])
  return Part("Shapes", notes, Table(columns, rows), goals)


def _growth(small, large):
  """Of lines per node; endless where a command was ended."""
  return float(large) / float(small) if large.isdigit() else math.inf


def _written(folder, shape, size):
  """The path of a graph of a shape and its checkpoint."""
  path = os.path.join(folder, f"{size}.pb")
  count = size * (_CHARACTERS if shape == "names" else 1)
  _in_fork(_write, shape, count, path)
  return path


def _cells(work, *arguments):
  """What a function finds out about each command, in a process of its own."""
  from judges import shapes

  return [_in_fork(work, command, *arguments) for command in shapes.COMMANDS]


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


def _lines(command, first, path, size):
  from judges import counting

  _run(command, first)
  return f"{counting.lines(lambda: _run(command, path)) / size:.0f}"


def _cost(command, path, size):
  before, begin = _peak(), time.process_time()
  status = _run(command, path)
  seconds = time.process_time() - begin
  refused = " refused" if status == 3 else ""
  return f"{1e6 * seconds / size:.0f} ms {_peak() - before} MB{refused}"


def _run(command, path):
  from absl import flags
  from absl.testing import flagsaver
  from judges import commands, shapes

  from bnexport.cli import process

  with flagsaver.flagsaver():
    argv = flags.FLAGS(shapes.arguments(command, path))
    return process.status_of(commands.COMMANDS[command].main, argv)


def _peak():
  """Megabytes that this process has had at most."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
