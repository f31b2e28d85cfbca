# SPDX-License-Identifier: Apache-2.0
"""Whole commands of this checkout against those of another one."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile

from benchmarks.results import Goal, Part, Table
from benchmarks.timing import ROOT, interleave, ratio, run_python

_NOTES = """
Seconds of whole commands, the median of %d rounds in turns: those of the
checkout that `--before` names, and those of this one. Where there is a proof,
it is the default of each, and this checkout's `--proof=quick`, which is the one
that a checkout without that flag has.
"""
# The most of the time before; processes of a second differ by a tenth.
_LIMIT = 1.1
_CHAIN = "a chain of blocks"
_NETWORKS = ("small", "ResNet-50", "Inception v3", _CHAIN)
_NODES, _NODES_SMALL = 100_000, 1_000
_SAVE = "from benchmarks import before; before.save(%r, %r, %d)"


def measure(is_small, checkout):
  """Returns a Part.

  Args:
    is_small: take the least network alone.
    checkout: the folder of another bnexport.
  """
  rounds, nodes = (1, _NODES_SMALL) if is_small else (3, _NODES)
  rows, goals = [], []
  for network in _NETWORKS[:1] if is_small else _NETWORKS:
    with tempfile.TemporaryDirectory(prefix="bnexport_bench") as folder:
      run_python("-c", _SAVE % (network, folder, nodes))
      for name, before, after in _commands(folder, network):
        runs = interleave(
          {
            "before": _run(checkout, before),
            "after": _run(ROOT, after),
          },
          rounds,
        )
        seconds = [[run.seconds for run in made] for made in runs.values()]
        times = ratio(*reversed(seconds))
        rows.append((network, name, *map(statistics.median, seconds), times))
        print(*rows[-1], file=sys.stderr, flush=True)
        if "proven" not in name:
          goals.append(Goal(f"{name}, {network}", times, _LIMIT))
  columns = ("network", "command", "before", "after", "after / before")
  return Part("Before", _NOTES % rounds, Table(columns, rows), goals)


def _commands(folder, network):
  """Yields a name, and the arguments of the other checkout and of this one."""
  checkpoint = f"--checkpoint={folder}/model.ckpt"
  written = [f"--output_graph={folder}/out.pb", "--overwrite"]
  freeze = ["freeze", checkpoint, "--output_node=y", *written]
  unproven = "--validate=false"
  plain = {
    "inspect": ["inspect", checkpoint, "--output_node=y"],
    "freeze": [*freeze, unproven],
    "repair": [
      "repair",
      f"--graph_def={folder}/naive.pb",
      checkpoint,
      "--output_node=y",
      *written,
      unproven,
    ],
    "transform": [
      "transform",
      f"--in_graph={folder}/naive.pb",
      f"--out_graph={folder}/out.pb",
      "--outputs=y",
      "--transforms=strip_unused_nodes fold_constants fold_batch_norms",
      "--overwrite",
      unproven,
    ],
  }
  for name, arguments in plain.items():
    yield name, arguments, arguments
  if network != _CHAIN:
    yield "freeze, proven", freeze, freeze
    yield "freeze, proven quickly", freeze, [*freeze, "--proof=quick"]


def _run(checkout, arguments):
  """A function that runs a command once, and returns a Run."""
  command, *flags = arguments

  def go():
    module = "bnexport." + command
    # A finding, or what is not proven, is status 2.
    return run_python("-m", module, *flags, statuses=(0, 2), checkout=checkout)

  return go


def save(network, folder, nodes):
  """Writes a training graph, its checkpoint, and the graph frozen naively.

  Args:
    network: one of `_NETWORKS`.
    folder: where `model.ckpt` and `naive.pb` are written.
    nodes: the least number of them in the chain.
  """
  from benchmarks import proving, training_graphs
  from bnexport.tf1 import tf1

  tf1.disable_v2_behavior()
  prefix = os.path.join(folder, "model.ckpt")
  if network == _CHAIN:
    training_graphs.save(prefix, nodes)
  else:
    proving.save_one(network, prefix)
  meta = tf1.MetaGraphDef()
  with open(prefix + ".meta", "rb") as f:
    meta.ParseFromString(f.read())
  naive = tf1.graph_util.extract_sub_graph(meta.graph_def, ["y"])
  stored = tf1.train.load_checkpoint(prefix)
  for node in naive.node:
    if node.op == "ReadVariableOp":
      _freeze(node, stored.get_tensor(node.input[0]))
    elif node.op == "VariableV2":
      _freeze(node, stored.get_tensor(node.name))
  naive = tf1.graph_util.extract_sub_graph(naive, ["y"])
  with open(os.path.join(folder, "naive.pb"), "wb") as f:
    f.write(naive.SerializeToString())


def _freeze(node, value):
  """Makes a NodeDef the Const of an array."""
  from bnexport.tf1 import tf1

  name = node.name
  node.Clear()
  node.name, node.op = name, "Const"
  node.attr["dtype"].type = tf1.as_dtype(value.dtype).as_datatype_enum
  node.attr["value"].tensor.CopyFrom(tf1.make_tensor_proto(value))
