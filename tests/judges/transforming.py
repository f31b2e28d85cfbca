# SPDX-License-Identifier: Apache-2.0
"""Applying specs to graphs, and judging what is left, for several tests."""

from __future__ import annotations

import dataclasses

import numpy as np

from bnexport import text
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.model import Model
from bnexport.model.checkpoint import Values
from bnexport.proof.runs import ImportedGraph
from bnexport.tf1 import tf1
from bnexport.transforms import table

F = np.float32


def model_of(graph, outputs=("y",), inputs=()):
  """A Model of a text or a GraphDef; outputs and inputs are named."""
  if isinstance(graph, str):
    graph = text.loads(graph)
  graph = Graph(graph)
  return Model(
    graph=graph,
    values=Values(None, graph),
    inputs=tuple(map(TensorRef.parse, inputs)),
    outputs=tuple(map(TensorRef.parse, outputs)),
    origin="a test",
    signatures=Signatures(),
  )


def clone(model):
  """A Model with a graph of its own."""
  return dataclasses.replace(
    model, graph=model.graph.clone(), history=[], warnings=[]
  )


def transformed(graph, specs, outputs=("y",), inputs=()):
  """Applies specs to a text or a GraphDef; returns the Model."""
  model = model_of(graph, outputs, inputs)
  table.apply_specs(model, specs)
  return model


def answers(model, feeds=None):
  """What the outputs of a Model are."""
  runner = ImportedGraph(
    model.graph.to_graph_def(), model.outputs, model.initializers
  )
  found = runner.run(feeds or {})
  runner.close()
  return found


def ends(model):
  """Name, dtype and shape of every output, as TensorFlow infers them."""
  graph = tf1.Graph()
  with graph.as_default():
    tf1.import_graph_def(model.graph.to_graph_def(), name="")
  tensors = [
    graph.get_tensor_by_name("%s:%d" % (ref.node, ref.index))
    for ref in model.outputs
  ]
  return [
    (t.name, t.dtype, None if t.shape.rank is None else t.shape.as_list())
    for t in tensors
  ]


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
