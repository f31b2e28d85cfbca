# SPDX-License-Identifier: Apache-2.0
"""The cost of a proof, beside the rest of an export."""

from __future__ import annotations

import os
import statistics
import tempfile
import time

from benchmarks import networks
from benchmarks.results import Chart, Goal, Part, Table
from benchmarks.timing import interleave, ratio
from bnexport.tf1 import session, tf1

_WAYS = ("none", "quick", "full")
_NOTES = """
Seconds of whole exports in one process, from the training graph and its
checkpoint to the file, by `--proof`; the median of %d rounds in turns. What is
fed is made up, 4 rows of %d x %d pixels for ResNet-50. The last columns are how
many times the export without a proof that is.
"""
# A proof runs the graph forwards some dozens of times, and an export never.
_LIMIT = 40.0


def measure(is_small):
  """Returns a Part."""
  tf1.disable_v2_behavior()
  rounds, image = (1, 32) if is_small else (3, 224)
  seconds = {}
  with tempfile.TemporaryDirectory(prefix="bnexport_bench") as folder:
    for name, build in _networks(is_small, image).items():
      prefix = _save(build, os.path.join(folder, name.replace(" ", "_")))
      runs = {way: _export(prefix, way) for way in _WAYS}
      seconds[name] = interleave(runs, rounds)
  ratios = {
    name: [ratio(runs[way], runs["none"]) for way in _WAYS[1:]]
    for name, runs in seconds.items()
  }
  rows = [
    (name, *(statistics.median(runs[way]) for way in _WAYS), *ratios[name])
    for name, runs in seconds.items()
  ]
  columns = ("network", *_WAYS, "quick / none", "full / none")
  worst = max(ratios, key=lambda name: ratios[name][-1])
  return Part(
    "Proving",
    _NOTES % (rounds, image, image),
    Table(columns, rows),
    [
      Goal(
        f"full over none, at worst: {worst}",
        ratios[worst][-1],
        _LIMIT,
      )
    ],
    Chart(
      "Proving",
      "times the export without a proof",
      list(seconds),
      {
        way: [ratios[name][i] for name in seconds]
        for i, way in enumerate(_WAYS[1:])
      },
    ),
  )


def _networks(is_small, image):
  """Functions that build a training graph, by name."""

  def small(layers):
    x = tf1.placeholder(tf1.float32, [None, 8, 8, 3], "x")
    x = tf1.nn.relu(layers.norm(layers.conv(x, 8, 3, 1, "conv"), "norm"))
    return layers.dense(tf1.reduce_mean(x, [1, 2]), 4, "dense")

  def resnet(layers):
    x = tf1.placeholder(tf1.float32, [None, image, image, 3], "x")
    return networks.resnet50(layers, x, 8 if is_small else 64, is_v2=False)

  return {"small": small, "ResNet-50": resnet}


def save_one(name, prefix):
  """Writes a training graph and its checkpoint.

  Args:
    name: a network of this part, or "Inception v3".
    prefix: of the checkpoint; the graph is beside it.
  """
  tf1.disable_v2_behavior()

  def inception(layers):
    x = tf1.placeholder(tf1.float32, [None, 299, 299, 3], "x")
    return networks.inception_v3(layers, x, 32)

  builders = _networks(is_small=False, image=224)
  _save({**builders, "Inception v3": inception}[name], prefix)


def _save(build, prefix):
  """Writes a training graph and its checkpoint; returns their prefix."""
  with tf1.Graph().as_default() as graph:
    tf1.set_random_seed(1)
    layers = networks.Layers(training=True)
    tf1.identity(build(layers), "y")
    tf1.group(*layers.updates, name="train_op")
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      return tf1.train.Saver().save(running, prefix)


def _export(prefix, proof):
  """A function that exports once, and returns the seconds that it took."""

  def go():
    from bnexport import sources
    from bnexport.exporting.export import export
    from bnexport.model.request import Request

    begin = time.perf_counter()
    made = export(
      sources.open(Request("meta_graph", prefix + ".meta", prefix, ("y",)))
    )
    done = made.write(prefix + ".pb", overwrite=True, proof=proof)
    seconds = time.perf_counter() - begin
    if not done.holds:
      raise SystemExit(f"bench: {prefix} is not proven: {done.proof}")
    return seconds

  return go
