# SPDX-License-Identifier: Apache-2.0
"""Whether a Graph's index is what its nodes say."""

from bnexport.graph import TensorRef


def edges(graph):
  """Inputs by node, and readers by what the inputs say they read."""
  inputs = {node.name: list(node.input) for node in graph}
  readers = {name: {} for name in inputs}
  for name, texts in inputs.items():
    for ref in map(TensorRef.parse, texts):
      readers[ref.node].setdefault(ref, set()).add(name)
  return inputs, readers


def assert_sound(graph):
  """Asserts that the index is what the nodes say."""
  graph.lint()
  inputs, readers = edges(graph)
  assert set(inputs) == set(graph.names())
  for name in inputs:
    assert set(graph.readers(name)) == set().union(*readers[name].values())
    assert set(graph.reads(name)) == set(readers[name])
    for ref, names in readers[name].items():
      assert set(graph.readers_of(ref)) == names
