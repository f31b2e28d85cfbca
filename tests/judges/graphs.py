# SPDX-License-Identifier: Apache-2.0
"""Whether a Graph's index is what its nodes say."""

from bnexport.graph import TensorRef


def edges(graph):
  """Inputs by node, and readers as the inputs say they are."""
  inputs = {node.name: list(node.input) for node in graph}
  readers = {name: set() for name in inputs}
  for name, texts in inputs.items():
    for text in texts:
      readers[TensorRef.parse(text).node].add(name)
  return inputs, readers


def assert_sound(graph):
  """Asserts that the index is what the nodes say."""
  graph.lint()
  inputs, readers = edges(graph)
  assert set(inputs) == set(graph.names())
  for name in inputs:
    assert set(graph.readers(name)) == readers[name]
