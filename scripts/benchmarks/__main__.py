# SPDX-License-Identifier: Apache-2.0
"""Measures bnexport side by side with what else does the same.

  scripts/bench                      all of it, some ten minutes
  scripts/bench --small              a look at whether it works
  scripts/bench --only=startup,growth
  scripts/bench --python=.venv37/bin/python --only=inference
  scripts/bench --out=bench.md --plot=bench.svg
  scripts/bench --before=../other/checkout    its commands against these, only

Writes a table for each part as Markdown, with goals and whether they hold.
The exit status does not depend on that: it is 0 where all runs end well.
"""

from __future__ import annotations

import argparse
import compileall
import datetime
import functools
import importlib
import importlib.util
import os
import platform
import re
import sys

from benchmarks.timing import ROOT, run_python

_VERSION = "import tensorflow; print(tensorflow.__version__)"
# Those that measure the memory of processes first: this process has to be
# small meanwhile, see timing.run_python.
_PARTS = (
  "startup",
  "freezing",
  "growth",
  "shapes",
  "transforming",
  "inference",
  "proving",
  "training",
  "spreading",
)


def _flags():
  description, _, rest = __doc__.partition("\n")
  parser = argparse.ArgumentParser(
    prog="scripts/bench",
    description=description,
    epilog=rest,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "--only",
    default=",".join(_PARTS),
    help="parts to run: " + ", ".join(_PARTS),
  )
  parser.add_argument(
    "--small", action="store_true", help="small models, few rounds"
  )
  parser.add_argument("--out", help="also write the tables to this file")
  parser.add_argument("--plot", help="also draw a plot, FILE.svg or FILE.png")
  parser.add_argument(
    "--before",
    metavar="CHECKOUT",
    help="measure nothing but whole commands of another checkout beside these",
  )
  flags = parser.parse_args()
  flags.only = flags.only.split(",")
  for name in flags.only:
    if name not in _PARTS:
      parser.error(
        "--only: there is no part '%s'; take %s" % (name, ", ".join(_PARTS))
      )
  if flags.before:
    flags.before = os.path.abspath(flags.before)
    if not os.path.isfile(os.path.join(flags.before, "bnexport", "freeze.py")):
      parser.error("--before: '%s' holds no bnexport" % flags.before)
  if flags.plot and importlib.util.find_spec("matplotlib") is None:
    parser.error("--plot: matplotlib is missing; pip install matplotlib")
  return flags


def _header(is_small):
  """The machine and versions that the figures depend on."""
  text = "# Benchmark\n\n%s, TensorFlow %s, Python %s, %s, %d CPUs.\n" % (
    datetime.date.today().isoformat(),
    run_python("-c", _VERSION).out.strip(),
    platform.python_version(),
    _processor(),
    os.cpu_count(),
  )
  if is_small:
    text += "\nA small run: the goals are for the sizes of a full one.\n"
  return text


def _processor():
  try:
    with open("/proc/cpuinfo") as f:
      found = re.search(r"^model name\s*: (.*)$", f.read(), re.M)
  except OSError:
    found = None
  return found.group(1) if found else platform.machine()


def _load():
  return "%.1f" % os.getloadavg()[0]


def _parts(flags):
  """Names of the parts that are asked for, and what measures each."""
  if flags.before:
    from benchmarks import before

    yield "before", functools.partial(before.measure, checkout=flags.before)
    return
  for name in _PARTS:
    if name in flags.only:
      yield name, importlib.import_module("benchmarks." + name).measure


def main():
  flags = _flags()
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  # As pip does with what it installs, TensorFlow as well.
  compileall.compile_dir(os.path.join(ROOT, "bnexport"), quiet=1)
  texts, parts = [_header(flags.small)], []
  print(texts[0], flush=True)
  for name, measure in _parts(flags):
    sys.stderr.write("bench: %s\n" % name)
    load = _load()
    part = measure(flags.small)
    parts.append(part)
    texts.append(
      "%s\nLoad of the machine: %s before, %s after.\n"
      % (part.markdown(), load, _load())
    )
    print(texts[-1], flush=True)
  if flags.out:
    with open(flags.out, "w") as f:
      f.write("\n".join(texts))
  if flags.plot:
    from benchmarks import plot

    plot.write(flags.plot, [part.chart for part in parts])


if __name__ == "__main__":
  main()
