# SPDX-License-Identifier: Apache-2.0
"""Gives the five commands files that are damaged or hostile.

  scripts/fuzz --seed=1 --count=200
  scripts/fuzz --seed=1 --only=17 --keep=seventeen
  scripts/fuzz --seed=1 --kills=200

Files of the tests' zoo are damaged, in their bytes and in what their graphs
say, one or two of them at once; each command runs in a fork of this process,
with limits on time and memory. An answer is a result, or one line and exit
status 3. Every fault is printed with the number that makes it again. With
--kills commands are killed instead, at random moments, and what they leave is
looked at. Exit status: 0 nothing was found, 2 something was.
"""

from __future__ import annotations

import argparse
import collections
import gc
import os
import random
import shutil
import signal
import sys
import tempfile
import time

from fuzzing import artefacts, kills, mutations, trial

# Inputs between lines of progress.
_TOLD_EVERY = 500


def main(arguments=None) -> int:
  """Runs the command line; returns the exit status."""
  parser = argparse.ArgumentParser(
    prog="scripts/fuzz",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--seed", type=int, default=1, help="chooses the damage")
  parser.add_argument("--count", type=int, default=100, help="of inputs")
  parser.add_argument("--start", type=int, default=0, help="the first number")
  parser.add_argument("--only", type=int, help="the one number to run")
  parser.add_argument("--keep", help="folder for the files of --only")
  parser.add_argument(
    "--seconds", type=float, default=float("inf"), help="to begin inputs in"
  )
  parser.add_argument("--kills", type=int, help="how many commands to kill")
  asked = parser.parse_args(arguments)
  numbers = range(asked.start, asked.start + asked.count)
  if asked.only is not None:
    numbers = [asked.only]
  _prepare()
  if asked.kills is not None:
    return _kill(asked.kills, asked.seed)
  found, statuses = collections.Counter(), collections.Counter()
  end = time.time() + asked.seconds
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    for number in numbers:
      if time.time() > end:
        break
      line, outcome = _try(asked.seed, number, asked.keep)
      statuses[outcome.status] += 1
      for fault in outcome.faults:
        found[fault] += 1
        print(f"--seed={asked.seed} --only={number} {line[0]}: {fault}")
      if asked.only is not None:
        print(" ".join(line) + "\n" + outcome.said)
      sys.stdout.flush()
      if sum(statuses.values()) % _TOLD_EVERY == 0:
        print(f"fuzz: {number} done", file=sys.stderr, flush=True)
  except KeyboardInterrupt:
    print("interrupted")
  told = ", ".join(f"{count} with {s}" for s, count in statuses.items())
  print(
    f"{sum(statuses.values())} inputs ({told}), {sum(found.values())} faults"
  )
  return 2 if found else 0


def _kill(count, seed):
  found = 0
  for line, faults in kills.run(count, seed):
    found += len(faults)
    for fault in faults:
      print(f"{line}: {fault}", flush=True)
  print(f"{count} kills, {found} faults")
  return 2 if found else 0


def _prepare():
  """Imports what forks would import each by itself."""
  import numpy.random  # noqa: F401
  from google.protobuf import descriptor_pb2  # noqa: F401
  from tensorflow.python.ops import script_ops

  from bnexport import (  # noqa: F401
    cli,
    freeze,
    inspect,
    repair,
    report,
    sources,
    transform,
    validate,
    validation,
  )
  from bnexport.checks import repair as repair_checks  # noqa: F401
  from bnexport.exporting import batch, delivery, export  # noqa: F401
  from bnexport.report import examination  # noqa: F401
  from bnexport.transforms import table  # noqa: F401
  from bnexport.validation import data_statistics, opening, questions  # noqa: F401

  def make_canary(*_):
    with open(mutations.CANARY, "w"):
      return b""

  token = script_ops._py_funcs.insert(make_canary)
  assert token == mutations.TOKEN
  # Forks copy no memory for what their collector would only look at.
  gc.collect()
  gc.freeze()


def _try(seed, number, keep):
  """Damages one artefact; returns a command line and its Outcome."""
  draw = random.Random(f"{seed}/{number}")
  folder = tempfile.mkdtemp(prefix="fuzz")
  try:
    artefact = artefacts.load(draw.choice(artefacts.names()), folder, draw)
    line = draw.choice(artefact.lines)
    for _ in range(draw.choice((1, 1, 2))):
      _damage(artefact, line, draw)
    for text, source in artefact.text.items():
      if any(text in argument for argument in line):
        path = os.path.join(artefact.folder, text)
        mutations.as_text(os.path.join(artefact.folder, source), path)
        if not draw.randrange(2):
          mutations.damage_bytes(path, draw)
    if keep:
      shutil.copytree(folder, keep)
    return line, trial.run(line, folder)
  finally:
    shutil.rmtree(folder)


def _damage(artefact, line, draw):
  paths = sorted(
    os.path.join(where, name)
    for where, _, names in os.walk(artefact.folder)
    for name in names
    if name not in ("case.json", "truth.npz")
  )
  # Most of what is damaged should be looked at.
  named = [
    path
    for path in paths
    if any(
      os.path.relpath(path, os.path.dirname(artefact.folder)).startswith(
        argument.rpartition("=")[2]
      )
      for argument in line
      if f"={artefacts.FOLDER}/" in argument
    )
  ]
  path = draw.choice(named or paths)
  structures = [p for p in named or paths if mutations.has_structure(p)]
  if structures and draw.randrange(3):
    mutations.damage_structure(draw.choice(structures), draw)
  else:
    mutations.damage_bytes(path, draw)
