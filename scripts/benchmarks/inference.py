# SPDX-License-Identifier: Apache-2.0
"""Inference time of exported graphs, against the other ways to get one."""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
import time
from typing import Dict, List, NamedTuple, Set

import numpy as np

from benchmarks import networks
from benchmarks.results import Chart, Goal, Part, Table
from benchmarks.timing import interleave, ratio
from bnexport.tf1 import tf1

_OURS = "bnexport"
_NAIVE = "training graph"
_FROZEN = "rebuilt, frozen"
_OPTIMIZED = "optimize_for_inference"
_TRANSFORMED = "TransformGraph"
_WITHOUT = "no norms"
_AGAIN = "no norms, again"
_NOTES = """
Milliseconds of CPU a batch, medians of %d rounds in turns, in one process, one
thread, TensorFlow's Grappler as it is by default; images of %dx%d.

- **%s**: `export.export`, with the default options.
- **%s**: the training graph after `convert_variables_to_constants`; it
  normalises with the statistics of the batch.
- **%s**: the same of the graph built with `is_training=False`.
- **%s**, **%s** (TF 1.15): that graph, handed on to these.
- **%s**: the network built without batch norm, with biases where norms are
  behind convolutions.

A `*` is at graphs that answer otherwise than the one that was rebuilt. Ratios
are medians of those within a round: ours over the best other graph of the same
training, ours over no norms, and no norms over the same graph in a second
session, which tells how much of a difference means something.
"""
# What to ask of the Graph Transform Tool, after its own documentation.
_TRANSFORMS = (
  "strip_unused_nodes",
  "remove_nodes(op=Identity, op=CheckNumerics)",
  "fold_constants(ignore_errors=true)",
  "fold_batch_norms",
  "fold_old_batch_norms",
)
# Relative to the largest answer, in float32.
_TOLERANCE = 1e-3
# Shorter runs are timed several at once.
_SECONDS = 0.02
# Less is no difference: two sessions with the same graph differ so, too.
_LIMIT = 1.03


def measure(is_small):
  """Returns a Part."""
  tf1.disable_v2_behavior()
  rounds, image = (3, 16) if is_small else (25, 64)
  results = {}
  for name, build in _networks(is_small).items():
    graphs = _graphs(build, image)
    for batch in (1, 8):
      runs, wrong = _open(graphs, image, batch)
      label = "%s, batch %d" % (name, batch)
      results[label] = _Result(interleave(runs, rounds), wrong)
  ways = [way for way in graphs if way != _AGAIN]
  names = (_OURS, _NAIVE, _FROZEN, _OPTIMIZED, _TRANSFORMED, _WITHOUT)
  return Part(
    "Inference",
    _NOTES % (rounds, image, image, *names),
    Table(
      ("network", *ways, "of the best", "of no norms", "of the same"),
      [(label, *result.row(ways)) for label, result in results.items()],
    ),
    [
      _worst(results, "ours over the best other", _Result.of_best),
      _worst(results, "ours over no norms", _Result.of_none),
    ],
    Chart(
      "Inference",
      "times no norms",
      list(results),
      {
        way: [r.ratio(way, _WITHOUT) for r in results.values()]
        for way in ways
        if way not in (_WITHOUT, _NAIVE)
      },
    ),
  )


def _worst(results, text, measure_of):
  """The goal for the network that is farthest from it."""
  label = max(results, key=lambda name: measure_of(results[name]))
  return Goal(
    "%s, at worst: %s" % (text, label), measure_of(results[label]), _LIMIT
  )


class _Result(NamedTuple):
  """Seconds of each round by graph, and the graphs that answer otherwise."""

  seconds: Dict[str, List[float]]
  wrong: Set[str]

  def ratio(self, way, other):
    return ratio(self.seconds[way], self.seconds[other])

  def of_best(self):
    others = set(self.seconds) - {_OURS, _WITHOUT, _AGAIN}
    return max(self.ratio(_OURS, way) for way in others)

  def of_none(self):
    return self.ratio(_OURS, _WITHOUT)

  def row(self, ways):
    """Cells of the table."""
    for way in ways:
      value = "%.3g" % (1000 * statistics.median(self.seconds[way]))
      yield value + ("*" if way in self.wrong else "")
    yield from (self.of_best(), self.of_none(), self.ratio(_AGAIN, _WITHOUT))


def _networks(is_small):
  """Functions that take layers and images, by name."""
  width = 8 if is_small else 64
  counts = (1, 10) if is_small else (1, 10, 50, 200)
  found = {
    "ResNet-50 v1": functools.partial(
      networks.resnet50, width=width, is_v2=False
    ),
    "ResNet-50 v2": functools.partial(
      networks.resnet50, width=width, is_v2=True
    ),
    "depthwise stack": functools.partial(networks.mobilenet, width=width // 2),
  }
  if is_small:
    del found["ResNet-50 v1"]
  for count in counts:
    name = "%d norm%s" % (count, "s" if count > 1 else "")
    found[name] = functools.partial(networks.chain, count=count, width=16)
  return found


# Graphs.


def _graphs(build, image):
  """GraphDefs of one network, by the way they were made."""
  with tempfile.TemporaryDirectory(prefix="bnexport_bench") as folder:
    prefix = os.path.join(folder, "model.ckpt")
    naive = _freeze(build, image, True, save=prefix)
    ours = _export(prefix)
    frozen = _freeze(build, image, False, restore=prefix)
  graphs = {_OURS: ours, _NAIVE: naive, _FROZEN: frozen}
  graphs[_OPTIMIZED] = _optimize(frozen)
  transformed = _transform(frozen)
  if transformed is not None:
    graphs[_TRANSFORMED] = transformed
  without = _freeze(build, image, None)
  graphs.update({_WITHOUT: without, _AGAIN: without})
  return graphs


def _freeze(build, image, training, save=None, restore=None):
  """Builds a network and makes its variables constants."""
  with tf1.Graph().as_default() as graph, tf1.Session() as session:
    tf1.set_random_seed(1)
    x = tf1.placeholder(tf1.float32, [None, image, image, 3], "x")
    tf1.identity(build(networks.Layers(training), x), "y")
    if restore is None:
      session.run(tf1.global_variables_initializer())
    else:
      tf1.train.Saver().restore(session, restore)
    if save is not None:
      tf1.train.Saver().save(session, save)
    return tf1.graph_util.convert_variables_to_constants(
      session, graph.as_graph_def(), ["y"]
    )


def _export(prefix):
  from bnexport import sources
  from bnexport.exporting.export import Options
  from bnexport.exporting.export import export as export_model
  from bnexport.model.request import Request

  model = sources.open(Request("meta_graph", prefix + ".meta", prefix, ("y",)))
  options = Options()
  return export_model(model, options).to_graph_def()


def _optimize(frozen):
  from tensorflow.python.tools import optimize_for_inference_lib

  return optimize_for_inference_lib.optimize_for_inference(
    _copy(frozen), ["x"], ["y"], tf1.float32.as_datatype_enum
  )


def _transform(frozen):
  """The graph that the Graph Transform Tool makes, or None without the tool."""
  try:
    from tensorflow.tools.graph_transforms import TransformGraph
  except ImportError:  # TF 2
    return None
  return TransformGraph(_copy(frozen), ["x"], ["y"], list(_TRANSFORMS))


def _copy(graph_def):
  """A copy of a GraphDef, for functions that edit their argument."""
  copy = type(graph_def)()
  copy.CopyFrom(graph_def)
  return copy


# Sessions.


def _open(graphs, image, batch):
  """Opens a session for each graph.

  Returns:
    Functions that return the seconds of a batch, by the graph's name, and the
    names of the graphs that answer otherwise than the rebuilt one.
  """
  images = np.random.RandomState(1).uniform(-1.0, 1.0, (batch, image, image, 3))
  calls = {
    name: functools.partial(_callable(graph_def), images.astype(np.float32))
    for name, graph_def in graphs.items()
  }
  expected = calls[_FROZEN]()
  least = _TOLERANCE * np.abs(expected).max()
  wrong = {
    name
    for name, call in calls.items()
    if name not in (_WITHOUT, _AGAIN)
    and not np.abs(call() - expected).max() <= least
  }
  if _OURS in wrong:
    raise SystemExit("bench: the exported graph answers otherwise")
  count = 1 + int(_SECONDS / _seconds(calls[_FROZEN], 1))
  return {
    name: functools.partial(_seconds, call, count)
    for name, call in calls.items()
  }, wrong


def _callable(graph_def):
  config = tf1.ConfigProto(
    intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
  )
  with tf1.Graph().as_default() as graph:
    tf1.import_graph_def(graph_def, name="")
  session = tf1.Session(graph=graph, config=config)
  return session.make_callable("y:0", feed_list=["x:0"])


def _seconds(call, count):
  """Seconds that the CPU is busy with a call: others want it, too."""
  call()  # What ran before it has filled the caches.
  begin = time.process_time()
  for _ in range(count):
    call()
  return (time.process_time() - begin) / count
