# SPDX-License-Identifier: Apache-2.0
"""Applying specs to graphs, and judging what is left, for several tests."""

from __future__ import annotations

import os

import numpy as np

from bnexport import text
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import Signatures
from bnexport.graph.variables import assignment
from bnexport.model import Model
from bnexport.model.checkpoint import Checkpoint, Values
from bnexport.tf1 import session, tf1
from bnexport.transforms import table

F = np.float32


def model_of(graph, outputs=("y",), inputs=(), saved=None):
  """A Model of a text or a GraphDef.

  Args:
    graph: the text, or the GraphDef.
    outputs: names of the outputs.
    inputs: names of the inputs.
    saved: the Checkpoint with the values of its variables, or None.
  """
  if isinstance(graph, str):
    graph = text.loads(graph)
  graph = Graph(graph)
  return Model(
    graph=graph,
    values=Values(saved, graph),
    inputs=tuple(map(TensorRef.parse, inputs)),
    outputs=tuple(map(TensorRef.parse, outputs)),
    origin="a test",
    signatures=Signatures(),
  )


def clone(model):
  """A Model with a graph of its own."""
  made = model.clone()
  made.history, made.warnings = [], []
  return made


def transformed(graph, specs, outputs=("y",), inputs=()):
  """Applies specs to a text or a GraphDef; returns the Model."""
  model = model_of(graph, outputs, inputs)
  table.apply_specs(model, specs)
  return model


def checkpoint(folder, values, name="model.ckpt"):
  """Writes a checkpoint of values by key; returns it opened.

  Bytes are a string, and all others float32.
  """
  prefix = os.path.join(str(folder), name)
  tensors = {
    key: value if isinstance(value, bytes) else np.float32(value)
    for key, value in values.items()
  }
  save_tensors(prefix, tensors)
  return Checkpoint(prefix)


def save_tensors(prefix, values):
  """Writes a checkpoint of values by key, of the dtypes that they have."""
  graph = tf1.Graph()
  with graph.as_default():
    save = tf1.raw_ops.SaveV2(
      prefix=prefix,
      tensor_names=list(values),
      shape_and_slices=[""] * len(values),
      tensors=[tf1.constant(value) for value in values.values()],
    )
  with session(graph) as running:
    running.run(save)


def answers(model, feeds=None):
  """What the outputs of a Model are; variables have the values it has."""
  graph = model.graph.to_tf_graph()
  with graph.as_default(), session(graph) as running:
    for name in model.needed(control=True):
      if model.graph.op(name) in ops.VARIABLES:
        assign, holder = assignment(graph, model.graph.node(name))
        running.run(assign, {holder: model.values[name]})
    running.run(list(model.initializers))
    return running.run(
      [_tensor(ref) for ref in model.outputs],
      {_tensor(TensorRef.parse(k)): v for k, v in (feeds or {}).items()},
    )


def _tensor(ref):
  return f"{ref.node}:{ref.index}"


def ends(model):
  """Name, dtype and shape of every output, as TensorFlow infers them."""
  graph = tf1.Graph()
  with graph.as_default():
    tf1.import_graph_def(model.graph.to_graph_def(), name="")
  tensors = [graph.get_tensor_by_name(_tensor(ref)) for ref in model.outputs]
  return [
    (t.name, t.dtype, None if t.shape.rank is None else t.shape.as_list())
    for t in tensors
  ]


def spelled(graph, name):
  """A node of a Graph as `Op(input, ...)`."""
  node = graph.node(name)
  return f"{node.op}({', '.join(node.input)})"


def nodes(model):
  """The NodeDefs of a Model, as text by name."""
  return {node.name: text.dumps(node) for node in model.graph}


def assert_same_answers(found, expected, tolerance=1e-5):
  """Asserts equality up to `tolerance` times the largest element, or 1."""
  assert len(found) == len(expected)
  for a, b in zip(found, expected):
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    if a.dtype.kind not in "fc":
      assert (a == b).all()
      continue
    limit = tolerance * max(1.0, float(np.max(np.abs(b), initial=0)))
    assert not a.size or float(np.max(np.abs(a - b))) <= limit
