# SPDX-License-Identifier: Apache-2.0
"""The Graph Transform Tool's usual recipe: against the tool, and its growth."""

from __future__ import annotations

import functools
import gc
import statistics
import time

from benchmarks import networks
from benchmarks.results import Goal, Part, Table
from benchmarks.timing import interleave, ratio

_RECIPE = (
  "strip_unused_nodes fold_constants fold_batch_norms fold_old_batch_norms "
  "sort_by_execution_order"
)
_OURS, _THEIRS = "bnexport.apply", "TransformGraph of TF 1.15"
_SIZES, _SIZES_SMALL = (10000, 100000), (500, 5000)
_MOST_GROWTH = 12
_NOTES = """
`%s` on ResNet-50 with its weights in it, GraphDef to GraphDef, in one process
in turns, %d rounds. Its norms are `FusedBatchNorm` of the first version: newer
ones the old tool leaves as they are, and folds these by `fold_old_batch_norms`.
%s
The growth of each transform is that of its CPU time, the least of %d runs, for
a chain of convolution, norm and ReLU with constants.
"""
_MISSING = """
This TensorFlow has no `tensorflow.tools.graph_transforms`: nothing is compared.
TF 1.15 has it: `--python=.venv37/bin/python`.
"""


def measure(is_small):
  """Returns a Part."""
  from bnexport.tf1 import tf1

  tf1.disable_v2_behavior()
  rounds, repeats = (2, 1) if is_small else (7, 2)
  graph_def = _resnet50(8 if is_small else 64)
  runs = _contestants(graph_def)
  interleave(runs, 1)  # what is loaded and made once is neither's
  seconds = interleave(runs, rounds)
  rows = [
    (name, len(graph_def.node), statistics.median(times), min(times))
    for name, times in seconds.items()
  ]
  goals = []
  if _THEIRS in runs:
    over = ratio(seconds[_OURS], seconds[_THEIRS])
    goals.append(Goal("our time over the old tool's", over, 1))
  graphs = [_chain(size) for size in (_SIZES_SMALL if is_small else _SIZES)]
  for name in _RECIPE.split():
    least = []
    for graph in graphs:
      times = [_cpu_seconds(graph, name) for _ in range(repeats)]
      least.append(min(times))
      rows.append(
        ("`%s`" % name, len(graph.node), statistics.median(times), least[-1])
      )
    growth = least[-1] / least[0]
    goals.append(Goal("growth of `%s`" % name, growth, _MOST_GROWTH))
  missing = "" if _THEIRS in runs else _MISSING
  notes = _NOTES % (_RECIPE, rounds, missing, repeats)
  columns = ("run", "nodes", "median, s", "least, s")
  return Part("Transforming", notes, Table(columns, rows), goals)


def _contestants(graph_def):
  """Functions that transform once and return the seconds it took."""

  def timed(run):
    gc.collect()
    begin = time.perf_counter()
    made = run()
    seconds = time.perf_counter() - begin
    if any(node.op.startswith("FusedBatchNorm") for node in made.node):
      raise AssertionError("a norm was not folded")
    return seconds

  def ours():
    return _apply(graph_def, _RECIPE).graph.to_graph_def()

  runs = {_OURS: functools.partial(timed, ours)}
  try:
    from tensorflow.tools import graph_transforms
  except ImportError:
    return runs

  def theirs():
    return graph_transforms.TransformGraph(graph_def, ["x"], ["y"], [_RECIPE])

  runs[_THEIRS] = functools.partial(timed, theirs)
  return runs


def _apply(graph_def, specs):
  import bnexport

  model = bnexport.load(graph_def, outputs=["y"], inputs=["x"])
  return bnexport.apply(model, specs)


def _cpu_seconds(graph_def, name):
  import bnexport

  model = bnexport.load(graph_def, outputs=["y"], inputs=["x"])
  gc.collect()
  begin = time.process_time()
  bnexport.apply(model, name)
  return time.process_time() - begin


def _resnet50(width):
  def build(x):
    return networks.resnet50(networks.Layers(False), x, width, is_v2=False)

  return _frozen(build, 224, 3)


def _frozen(build, size, depth):
  """A GraphDef with weights in it, from `x` to `y`."""
  from bnexport.tf1 import session, tf1

  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, size, size, depth], "x")
    tf1.identity(build(x), "y")
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      graph_def = tf1.graph_util.convert_variables_to_constants(
        running, graph.as_graph_def(), ["y"]
      )
  for node in graph_def.node:
    if node.op == "FusedBatchNormV3":
      node.op = "FusedBatchNorm"
      del node.attr["U"]
  return graph_def


def _chain(size):
  """A GraphDef of at least so many nodes; its nodes are copies of one layer."""

  def build(x):
    layers = networks.Layers(False)
    with networks.tf1.variable_scope("layer"):
      return networks.tf1.nn.relu(
        layers.norm(layers.conv(x, 1, 3, 1, "conv"), "norm")
      )

  layer = _frozen(build, 4, 1)
  (y,) = [node for node in layer.node if node.name == "y"]
  made = type(layer)(versions=layer.versions)
  made.node.extend(node for node in layer.node if node.name == "x")
  last = "x"
  while len(made.node) < size:
    scope = "layer%d" % len(made.node)
    for node in layer.node:
      if node.name in ("x", "y"):
        continue
      copy = made.node.add()
      copy.CopyFrom(node)
      copy.name = node.name.replace("layer", scope, 1)
      copy.input[:] = [
        last if name == "x" else name.replace("layer", scope, 1)
        for name in node.input
      ]
      copy.attr.pop("_class", None)
    last = y.input[0].replace("layer", scope, 1)
  made.node.add().CopyFrom(y)
  made.node[-1].input[:] = [last]
  return made
