# SPDX-License-Identifier: Apache-2.0
"""Exports networks and runs them where people deploy them.

  scripts/compat                         the table of README, some 15 minutes
  scripts/compat --only=dense --on=1.4.1,tflite
  scripts/compat --table=FILE
  scripts/compat --checkpoint=run/model.ckpt --output_node=logits

Each network is trained for some steps and saved, and python -m bnexport.freeze
exports it: for each older TensorFlow with --target_tf, as a SavedModel for the
loaders, and once as it is for the newest TensorFlow, for the consumers of
validate and for what needs an environment of its own, TensorFlow.js under Node
and Core ML, which is only converted to. Arguments that are none of these are
freeze's, for a graph of yours instead of the networks.

Each place runs the graph in a process of its own on the same made-up input.
Environments are made where they are not there yet. Exit status: 2 where a graph
does not load somewhere, or answers differently.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

from compatibility import places, training
from compatibility.table import markdown


def main():
  flags, of_freeze = _flags()
  rows = {}
  with tempfile.TemporaryDirectory(prefix="bnexport_compat") as folder:
    for title, named in _sources(flags.only, of_freeze, folder):
      _progress(title)
      rows[title] = _row(named, flags.on, folder)
  text = markdown(rows)
  print(text)
  if flags.table:
    with open(flags.table, "w") as f:
      f.write(text)
  held = all(one.holds for row in rows.values() for one in row.values())
  return 0 if held else 2


def _flags():
  description, _, rest = __doc__.partition("\n")
  parser = argparse.ArgumentParser(
    prog="scripts/compat",
    description=description,
    epilog=rest,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  _add_list(parser, "--only", "networks", list(training.NETWORKS))
  _add_list(parser, "--on", "places", list(places.PLACES))
  parser.add_argument("--table", help="also write the table to this file")
  return parser.parse_known_args()


def _add_list(parser, flag, what, items):
  def read(text):
    chosen = text.split(",")
    for item in chosen:
      if item not in items:
        raise argparse.ArgumentTypeError(
          "there is no '%s'; take some of %s" % (item, ", ".join(items))
        )
    return [item for item in items if item in chosen]

  parser.add_argument(
    flag,
    type=read,
    default=items,
    help="%s, with commas between them: %s" % (what, ", ".join(items)),
  )


def _progress(text):
  sys.stderr.write("compat: %s\n" % text)
  sys.stderr.flush()


def _sources(networks, of_freeze, folder):
  """Yields titles, and the flags that tell freeze what to export."""
  if of_freeze:
    yield "graph", of_freeze
    return
  for i, name in enumerate(networks):
    prefix = os.path.join(folder, str(i), "model.ckpt")
    os.makedirs(os.path.dirname(prefix))
    done = _python("-m", "compatibility.training", name, prefix)
    if done.returncode:
      sys.exit(done.stderr)
    yield (
      name,
      ["--checkpoint=" + prefix, "--output_node=" + training.OUTPUT],
    )


def _python(*arguments):
  return subprocess.run(
    [sys.executable, *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    universal_newlines=True,
  )


def _row(named, chosen, folder):
  """Findings by place, for the source that flags of freeze name."""
  path = os.path.join(folder, "newest.pb")
  report = os.path.join(folder, "newest.json")
  fault = _freeze(named, "--output_graph=" + path, "--report=" + report)
  if fault is not None:
    sys.exit("compat: cannot export: " + fault)
  with open(report) as f:
    exported = places.Exported(path, json.load(f))
  found = {}
  for place in chosen:
    found[place] = _finding(place, exported, named, folder)
    _progress("  %s: %s" % (place, found[place]))
  return found


def _finding(place, exported, named, folder):
  if place == places.NEWEST:
    return exported.in_newest()
  if place in places.CONSUMERS:
    return exported.in_consumer(place)
  if place in places.CONVERTERS:
    return exported.in_converter(place)
  if place == places.SAVED_MODEL:
    written = os.path.join(folder, place)
    fault = _freeze(named, "--saved_model_out=" + written)
  else:
    written = os.path.join(folder, place + ".pb")
    fault = _freeze(named, "--output_graph=" + written, "--target_tf=" + place)
  if fault is not None:
    return places.Finding(None, False, fault)
  if place == places.SAVED_MODEL:
    return exported.in_loaders(written)
  return exported.in_version(place, written)


def _freeze(named, *flags):
  """Exports with some flags; returns why that is refused, or None."""
  done = _python("-m", "bnexport.freeze", *named, *flags, "--overwrite")
  # An answer that differs from the reference shows in what the places say.
  if done.returncode in (0, 2):
    return None
  return done.stderr.strip().splitlines()[-1]
