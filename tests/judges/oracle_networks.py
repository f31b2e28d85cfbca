# SPDX-License-Identifier: Apache-2.0
"""What the Graph Transform Tool makes of real networks, recorded.

  PYTHONPATH=.:scripts:tests .venv37/bin/python tests/judges/oracle_networks.py

writes oracle_networks.json; only TF 1.15 has the tool. For each network and
spec: how many nodes of each op the tool left, and how far its answers are from
the network's, relative to the largest; or what it said instead.
"""

from __future__ import annotations

import collections
import json
import os

import numpy as np
from benchmarks import networks

from bnexport.tf1 import session, tf1

PATH = os.path.splitext(os.path.abspath(__file__))[0] + ".json"
FOLD = "fold_constants fold_batch_norms fold_old_batch_norms"
SPECS = (
  "add_default_attributes",
  "backport_concatv2",
  "backport_tensor_array_v3",
  "flatten_atrous_conv",
  "fold_batch_norms",
  "fold_constants",
  "fold_old_batch_norms",
  "fuse_pad_and_conv",
  "fuse_resize_and_conv",
  "fuse_resize_pad_and_conv",
  "insert_logging(op=Mean, first_n=1, summarize=1, message=m)",
  "merge_duplicate_nodes",
  "obfuscate_names",
  "quantize_nodes",
  "quantize_nodes(ignore_op=AddV2, ignore_op=ConcatV2)",
  "quantize_weights(minimum_size=64)",
  "remove_attribute(attribute_name=_output_shapes)",
  "remove_control_dependencies",
  "remove_device",
  "remove_nodes(op=Identity)",
  "rename_attribute(old_attribute_name=_a, new_attribute_name=_b)",
  "rename_op(old_op_name=AddV2, new_op_name=Add)",
  "round_weights(num_steps=256)",
  'set_device(device="/device:CPU:0")',
  "sort_by_execution_order",
  "sparsify_gather",
  'strip_unused_nodes(type=float, shape="2,75,75,3")',
  "strip_unused_nodes %s sort_by_execution_order" % FOLD,
  "%s quantize_weights(minimum_size=64)" % FOLD,
)
NETWORKS = {
  "resnet50": lambda x: networks.resnet50(
    networks.Layers(False), x, 4, is_v2=False
  ),
  "inception_v3": lambda x: networks.inception_v3(networks.Layers(False), x, 4),
}


def build(name):
  """A network from `x` to `y`, with weights that are the same everywhere."""
  random = np.random.RandomState(7)

  def weights(getter, name, shape, **_):
    value = random.uniform(0.8, 1.2, shape)
    if len(shape) > 1:
      value = random.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape)
    elif "beta" in name or "mean" in name:
      value = random.normal(0, 0.1, shape)
    value = tf1.constant(value.astype(np.float32), name=name)
    with tf1.colocate_with(value):
      return tf1.identity(value, name + "/read")

  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 75, 75, 3], "x")
    with tf1.variable_scope("net", custom_getter=weights):
      y = NETWORKS[name](x)
    tf1.identity(y, "y")
  graph_def = tf1.graph_util.extract_sub_graph(graph.as_graph_def(), ["y"])
  for node in graph_def.node:
    if node.op == "FusedBatchNormV3":
      node.op = "FusedBatchNorm"  # the newest that the tool folds
      del node.attr["U"]
  return graph_def


def histogram(graph_def):
  """How many nodes of each op there are."""
  return dict(collections.Counter(node.op for node in graph_def.node))


def answer(graph_def):
  with tf1.Graph().as_default() as graph:
    tf1.import_graph_def(graph_def, name="")
  x = np.random.RandomState(8).rand(2, 75, 75, 3).astype(np.float32)
  with session(graph) as running:
    return running.run("y:0", {"x:0": x})


def apart(found, expected):
  """The largest difference, relative to the largest element or 1."""
  scale = max(1.0, float(np.max(np.abs(expected))))
  return float(np.max(np.abs(found - expected))) / scale


def record(graph_def, spec, expected):
  """What the old tool does with a network."""
  from tensorflow.tools import graph_transforms

  try:
    made = graph_transforms.TransformGraph(graph_def, ["x"], ["y"], [spec])
    difference = apart(answer(made), expected)
  except (tf1.errors.OpError, ValueError) as error:
    return {"error": str(error).splitlines()[0][:100]}
  return {"histogram": histogram(made), "apart": float("%.2g" % difference)}


def main():
  recorded = {}
  for name in NETWORKS:
    graph_def = build(name)
    expected = answer(graph_def)
    recorded[name] = {spec: record(graph_def, spec, expected) for spec in SPECS}
  with open(PATH, "w") as f:
    json.dump(recorded, f, indent=1, sort_keys=True)
    f.write("\n")


if __name__ == "__main__":
  main()
