# SPDX-License-Identifier: Apache-2.0
"""Training graphs of any size.

TensorFlow builds one block, and its nodes are copied: building 100,000 nodes
in TensorFlow takes minutes.
"""

from __future__ import annotations

import numpy as np

from benchmarks import networks
from bnexport.tf1 import session, tf1

# What blocks read of the rest of the graph.
_X, _PHASE = "x", "is_training"


def save(prefix, size):
  """Writes a training graph and a checkpoint; returns how many nodes it has.

  A chain of blocks `y = Relu(norm(Conv2D(x)))` with initializers, updates and
  the op that saves the variables; input `x`, output `y`. Every other norm is
  in training mode by itself; the others are switched by a placeholder.

  Args:
    prefix: of the checkpoint; the graph is beside it.
    size: the least number of nodes.
  """
  meta, variables = _build(size)
  with open(prefix + ".meta", "wb") as f:
    f.write(meta.SerializeToString())
  _save_values(prefix, variables)
  return len(meta.graph_def.node)


def _build(size):
  """A MetaGraphDef, and shapes of its variables by name."""
  blocks = [_Block(is_switched) for is_switched in (False, True)]
  meta = tf1.MetaGraphDef()
  graph_def, variables, updates = meta.graph_def, {}, []
  graph_def.versions.CopyFrom(blocks[0].versions)
  graph_def.node.extend(blocks[0].around)
  x = _X
  while len(graph_def.node) < size:
    name = "block%d" % len(updates)
    block = blocks[len(updates) % 2]
    graph_def.node.extend(block.copies(name, x))
    variables.update((name + k, shape) for k, shape in block.variables.items())
    updates.append(["^" + name + update for update in block.updates])
    x = name + block.output
  y = graph_def.node.add(name="y", op="Identity", input=[x])
  y.attr["T"].type = tf1.float32.as_datatype_enum
  graph_def.node.add(name="train_op", op="NoOp", input=sum(updates, []))
  _add_saver(graph_def, list(variables))
  return meta, variables


class _Block:
  """A block's nodes, below the scope `block`; names here are without it.

  Attributes:
    around: the other nodes, which all blocks share.
    variables: shapes by name.
    updates, output: names.
  """

  def __init__(self, is_switched):
    graph = tf1.Graph()
    with graph.as_default():
      # One channel: what grows is the graph, not its weights.
      x = tf1.placeholder(tf1.float32, [None, 4, 4, 1], _X)
      phase = tf1.placeholder(tf1.bool, [], _PHASE)
      with tf1.variable_scope("block"):
        layers = networks.Layers(phase if is_switched else True)
        y = layers.norm(layers.conv(x, 1, 3, 1, "conv"), "norm")
        y = tf1.nn.relu(y)
      variables = tf1.global_variables()
    nodes = graph.as_graph_def().node
    self.versions = graph.as_graph_def().versions
    self.around = [node for node in nodes if _own(node.name) is None]
    self._nodes = [node for node in nodes if _own(node.name) is not None]
    self.variables = {_own(v.op.name): v.shape.as_list() for v in variables}
    self.updates = [_own(update.op.name) for update in layers.updates]
    self.output = _own(y.op.name)

  def copies(self, scope, x):
    """Yields the block's nodes below another scope, reading `x`."""
    for node in self._nodes:
      copy = type(node)()
      copy.CopyFrom(node)
      copy.name = scope + _own(node.name)
      copy.attr.pop("_class", None)
      for i, name in enumerate(node.input):
        control = "^" if name.startswith("^") else ""
        own = _own(name[len(control) :])
        if name == _X:
          copy.input[i] = x
        elif own is not None:
          copy.input[i] = control + scope + own
      yield copy


def _own(name):
  """A name without the scope `block`; None where it is not in it."""
  return name[len("block") :] if name.startswith("block/") else None


def _add_saver(graph_def, names):
  """Adds what saves all variables."""
  graph = tf1.Graph()
  with graph.as_default():
    for key, value in (
      ("save/Const", "model"),
      ("save/names", names),
      ("save/slices", [""] * len(names)),
    ):
      tf1.constant(value, name=key)
  inputs = [node.name for node in graph.as_graph_def().node]
  graph_def.node.extend(graph.as_graph_def().node)
  node = graph_def.node.add(name="save/SaveV2", op="SaveV2")
  node.input.extend(inputs + names)
  node.attr["dtypes"].list.type.extend(
    [tf1.float32.as_datatype_enum] * len(names)
  )


def _save_values(prefix, variables):
  """Writes a checkpoint of random values."""
  names, values = [], []
  random = np.random.RandomState(1)
  graph = tf1.Graph()
  with graph.as_default():
    for shape in sorted(set(map(tuple, variables.values()))):
      alike = [k for k, of in variables.items() if tuple(of) == shape]
      array = random.uniform(0.5, 1.5, (len(alike),) + shape)
      # Unstacked, because a node for each value would take minutes.
      values += tf1.unstack(array.astype(np.float32), len(alike))
      names += alike
    save_all = tf1.raw_ops.SaveV2(
      prefix=prefix,
      tensor_names=names,
      shape_and_slices=[""] * len(names),
      tensors=values,
    )
  with session(graph) as running:
    running.run(save_all)
