# SPDX-License-Identifier: Apache-2.0
"""Runs cases of the zoo on versions of TensorFlow, from 1.15 to the newest.

  scripts/matrix                               the table of README
  scripts/matrix --on=2.0.4,2.21.0 --table=FILE
  scripts/matrix --only='keras_*,loop_*'       other cases; '*' is all of them
  scripts/matrix --cases=DIR                   all cases of a folder of yours

A case is a checkpoint as training left it, with the answers of the model that
was rebuilt with is_training=False; tests/zoo/__init__.py says what its folder
holds. In each version three routes export it: freeze; freeze as a stream and
without a proof, which needs no TensorFlow where that has its messages apart;
and repair, of what TensorFlow freezes. A case is right where the file imports,
runs with nothing fed but its input, gives those answers, and gives a row the
same answer in half of its batch; or where it is refused, if it is to be.

Environments are made where they are not there yet, with nothing but what
bnexport requires. A version that can't be installed is said and does not count.
Exit status: 0 where all cases are right, 2 where one is not, 3 where there was
nothing to run.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import zipfile

from benchmarks.results import Table
from benchmarks.timing import ROOT

VERSIONS = (
  "1.15.5",
  "2.0.4",
  "2.4.4",
  "2.8.4",
  "2.12.1",
  "2.16.2",
  "2.18.1",
  "2.21.0",
)
# One of each kind that versions of TensorFlow may treat in their own ways:
# variables, dtypes and layouts, conditionals, loops, functions, queues, noise,
# quantization, checkpoints of both formats, and what is refused.
CASES = (
  "contrib_nchw_phase",
  "ema_cond_pointnet",
  "flow_switch_case_v2",
  "function_while_in_while",
  "input_batch_queue",
  "keras_functional",
  "layers_float16_literal",
  "layers_partitioned_phase",
  "loop_rnn_cell_phase",
  "noise_depth_if",
  "phase_string_equal",
  "quant_mobile",
  "refuse_half_tracked",
  "refuse_recursion",
  "tpu_loop_recurrent",
  "weights_format_v1",
)
_ZOO = os.path.join(ROOT, "tests", "zoo", "data")
# Titles of the routes of compatibility.acceptance, which takes TensorFlow.
ROUTES = {
  "freeze": "`freeze`",
  "stream": "`freeze`, as a stream",
  "repair": "`repair`",
}


def main():
  flags = _flags()
  with tempfile.TemporaryDirectory(prefix="bnexport-matrix-") as folder:
    cases, names = _cases(flags, folder)
    if not names:
      sys.stderr.write("matrix: there are no such cases\n")
      return 3
    rows = [_run(version, cases, names) for version in flags.on]
  text = markdown(rows)
  print(text)
  if flags.table:
    with open(flags.table, "w") as f:
      f.write(text)
  return status_of(rows)


def status_of(rows):
  ran = [row for row in rows if row.is_installed]
  if not ran:
    return 3
  return 2 if any(row.faults for row in ran) else 0


def _flags():
  description, _, rest = __doc__.partition("\n")
  parser = argparse.ArgumentParser(
    prog="scripts/matrix",
    description=description,
    epilog=rest,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "--on",
    type=lambda text: text.split(","),
    default=VERSIONS,
    help="versions with commas between them: " + ", ".join(VERSIONS),
  )
  parser.add_argument("--cases", help="a folder of cases, not the tests' zoo")
  parser.add_argument(
    "--only",
    type=lambda text: text.split(","),
    help="names of cases, or patterns; of the zoo, one of each kind without it",
  )
  parser.add_argument("--table", help="also write the table to this file")
  return parser.parse_args()


def _cases(flags, folder):
  """A folder that holds cases, and the names of those to run."""
  if flags.cases:
    there = [
      name
      for name in sorted(os.listdir(flags.cases))
      if os.path.exists(os.path.join(flags.cases, name, "case.json"))
    ]
    return os.path.abspath(flags.cases), _chosen(there, flags.only or ["*"])
  there = sorted(name[: -len(".zip")] for name in os.listdir(_ZOO))
  names = _chosen(there, flags.only or CASES)
  for name in names:
    with zipfile.ZipFile(os.path.join(_ZOO, name + ".zip")) as archive:
      archive.extractall(os.path.join(folder, name))
  return folder, names


def _chosen(names, patterns):
  return [
    name
    for name in names
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
  ]


def _run(version, cases, names):
  """The Row of a version."""
  row = Row(version)
  python = _environment(row)
  if python is None:
    return row
  _progress(version)
  with tempfile.TemporaryFile(mode="w+") as err:
    process = subprocess.Popen(
      [python, "-m", "compatibility.acceptance", cases, *names],
      stdout=subprocess.PIPE,
      stderr=err,
      universal_newlines=True,
      env=_environ(),
    )
    for line in process.stdout:
      row.add(**json.loads(line))
    if process.wait():
      err.seek(0)
      row.fail("it ends with status %d" % process.returncode, err.read())
  return row


def _environment(row):
  """The Python that has a row's version, or None where it can't be had."""
  done = subprocess.run(
    [os.path.join(ROOT, "scripts", "legacy_venv"), row.version],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    universal_newlines=True,
  )
  if done.returncode:
    row.is_installed = False
    row.fail("it can't be installed", done.stderr)
    return None
  return done.stdout.strip()


def _environ():
  paths = [ROOT, os.path.join(ROOT, "scripts"), os.path.join(ROOT, "tests")]
  return dict(
    os.environ, PYTHONPATH=os.pathsep.join(paths), TF_CPP_MIN_LOG_LEVEL="3"
  )


def _progress(text):
  sys.stderr.write("matrix: %s\n" % text)
  sys.stderr.flush()


class Row:
  """The outcome of the cases in a version.

  Attributes:
    version: of TensorFlow.
    python: Python's version, where it got that far.
    is_installed: whether the version could be installed.
    right, of: numbers of cases by route.
    faults: lines.
  """

  def __init__(self, version):
    self.version, self.python, self.is_installed = version, "", True
    self.right, self.of = collections.Counter(), collections.Counter()
    self.faults = []

  def add(self, python=None, case=None, route=None, fault=None):
    """Takes a line of compatibility.acceptance."""
    if python is not None:
      self.python = python
      return
    self.of[route] += 1
    self.right[route] += fault is None
    if fault is not None:
      self.fail("%s %s" % (route, case), fault)

  def fail(self, what, text):
    """Takes a fault; of a text of several lines, the last one."""
    last = (text.strip().splitlines() or ["it says nothing"])[-1]
    self.faults.append("%s: %s" % (what, last))
    _progress("%s: %s" % (self.version, self.faults[-1]))

  def cells(self):
    counts = [
      "%d of %d" % (self.right[route], self.of[route]) if self.of[route] else ""
      for route in ROUTES
    ]
    return ("TF " + self.version, self.python, *counts)


def markdown(rows):
  """Rows as a table, with a line on each fault."""
  columns = ("version", "Python", *ROUTES.values())
  text = Table(columns, [row.cells() for row in rows]).markdown()
  faults = [(row.version, fault) for row in rows for fault in row.faults]
  if faults:
    text += "\n" + "".join("- TF %s: %s\n" % one for one in faults)
  return text


if __name__ == "__main__":
  sys.exit(main())
