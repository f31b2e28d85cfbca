# SPDX-License-Identifier: Apache-2.0
"""Norms in the project's notation, and the same by hand."""

import numpy as np

from bnexport import text
from bnexport.batchnorm.forms import find
from bnexport.graph import Graph, TensorRef
from bnexport.proof.runs import ImportedGraph

# Two channels; no number stands twice.
GAMMA, BETA = np.array([2.0, -0.5]), np.array([0.25, -1.0])
MEAN, VARIANCE = np.array([1.5, -3.0]), np.array([4.0, 0.7])
EPSILON = 0.01
CONSTANTS = """
gamma = Const() {value=<float [2] 2 -0.5>}
beta = Const() {value=<float [2] 0.25 -1>}
mean = Const() {value=<float [2] 1.5 -3>}
variance = Const() {value=<float [2] 4 0.7>}
epsilon = Const() {value=<float 0.01>}
"""
X = np.random.RandomState(8).normal(3.0, 2.0, (6, 3, 2, 2)).astype(np.float32)


def graph_of(statements):
  return Graph(text.loads(statements))


def norms_of(graph, output="y"):
  return find(graph, [TensorRef.parse(output)])


def only(norms):
  (norm,) = norms
  return norm


def run(graph, feeds, ref="y"):
  """The value of a tensor, by TensorFlow."""
  runner = ImportedGraph(graph.to_graph_def(), [ref])
  try:
    return runner.run(feeds)[0]
  finally:
    runner.close()


def normalised(x, mean, variance, gamma=GAMMA, beta=BETA, epsilon=EPSILON):
  """A batch norm by its formula; channels are last."""
  return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def of_batch(x, ddof=0):
  """Mean and variance of a batch for each channel; channels are last."""
  axes = tuple(range(x.ndim - 1))
  x = x.astype(np.float64)
  return x.mean(axes), x.var(axes, ddof=ddof)


def with_other_statistics(graph, norm, mean, variance):
  """Makes a norm use other statistics, as any caller of its form would."""
  place = norm.form.place(graph, norm)
  for which, value in (("mean", mean), ("variance", variance)):
    listed = " ".join(map(str, value))
    made = text.loads(f"c = Const() {{value=<float [{len(value)}] {listed}>}}")
    name = graph.add("Const", f"other/{which}", (), made.node[0].attr).name
    for slot in getattr(place, which):
      graph.set_input(slot.node, slot.index, TensorRef(name))
  norm.form.to_inference(graph.node(norm.name))
