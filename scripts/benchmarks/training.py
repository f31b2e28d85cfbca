# SPDX-License-Identifier: Apache-2.0
"""Steps of training, with and without hooks that watch and export."""

from __future__ import annotations

import statistics
import tempfile
import time

import numpy as np

from benchmarks import networks
from benchmarks.results import Goal, Part, Table
from benchmarks.timing import interleave, ratio
from bnexport.tf1 import tf1

_NOTES = """
Steps of training a second in a MonitoredTrainingSession, plain and with a
NormHealthHook that looks every %d steps; the median of %d rounds of %d steps in
turns. The last column is what the hook costs of a step where it looks every
1000, as is its default.
The steps before are left out, in which TensorFlow sets up what is fetched and
the hook looks more often.
"""
_LIMIT = 0.02


def measure(is_small):
  """Returns a Part."""
  tf1.disable_v2_behavior()
  rounds, steps, every = (2, 40, 20) if is_small else (5, 200, 100)
  names = {"small": _small, "ResNet-50, width 8": _resnet}
  rows, costs = [], {}
  for name, build in names.items():
    runs = {
      way: _train(build, steps, every, is_watched=way == "watched")
      for way in ("plain", "watched")
    }
    seconds = interleave(runs, rounds)
    looks = ratio(seconds["watched"], seconds["plain"]) - 1
    costs[name] = looks * every / 1000
    rates = [steps / statistics.median(s) for s in seconds.values()]
    rows.append((name, *rates, costs[name]))
  worst = max(costs, key=lambda name: costs[name])
  return Part(
    "Watching",
    _NOTES % (every, rounds, steps),
    Table(("network", "plain", "watched", "cost"), rows),
    [Goal(f"cost of a step, at worst: {worst}", costs[worst], _LIMIT)],
  )


def _small(layers):
  x = tf1.placeholder(tf1.float32, [None, 16], "x")
  for i in range(3):
    x = layers.dense(x, 64, f"dense{i}")
    x = tf1.nn.relu(layers.norm(x[:, None, None], f"norm{i}")[:, 0, 0])
  return layers.dense(x, 4, "last")


def _resnet(layers):
  x = tf1.placeholder(tf1.float32, [None, 32, 32, 3], "x")
  return networks.resnet50(layers, x, 8, is_v2=False)


def _train(build, steps, every, is_watched):
  """A function that trains, and returns the seconds of the last steps."""

  def go():
    from bnexport.training import NormHealthHook

    with tf1.Graph().as_default() as graph, tempfile.TemporaryDirectory() as to:
      tf1.train.get_or_create_global_step()
      layers = networks.Layers(training=True)
      loss = tf1.reduce_mean(tf1.square(build(layers)))
      with tf1.control_dependencies(layers.updates):
        train_op = tf1.train.GradientDescentOptimizer(1e-3).minimize(
          loss, tf1.train.get_global_step()
        )
      x = graph.get_tensor_by_name("x:0")
      shape = [16, *x.shape.as_list()[1:]]
      feeds = {x: np.random.RandomState(1).normal(size=shape)}
      hooks = [NormHealthHook(every, to)] if is_watched else []
      with tf1.train.MonitoredTrainingSession(hooks=hooks) as running:
        for _ in range(every):
          running.run(train_op, feeds)
        begin = time.perf_counter()
        for _ in range(steps):
          running.run(train_op, feeds)
        return time.perf_counter() - begin

  return go
