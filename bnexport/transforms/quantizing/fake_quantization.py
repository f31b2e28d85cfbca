# SPDX-License-Identifier: Apache-2.0
"""FakeQuantWithMinMaxVars: the ranges that training found for activations."""

from __future__ import annotations

from bnexport.graph import TensorRef
from bnexport.graph.nodes import constant_value
from bnexport.transforms.quantizing.quantized_ops import WIDE

OP = "FakeQuantWithMinMaxVars"
# To cut off at a range and to apply these is the same in either order.
_MONOTONE = frozenset(("Identity", "MaxPool", "Relu", "Relu6", "Squeeze"))


def obstacle(graph, node):
  """The difference of a fake quantization from eight bits, or None."""
  bits = node.attr["num_bits"].i if "num_bits" in node.attr else 8
  if bits != 8:
    return f"it is for {bits} bits"
  if "narrow_range" in node.attr and node.attr["narrow_range"].b:
    return "it has narrow_range"
  low, high = (
    constant_value(graph, ref, largest=1)
    for ref in graph.data_inputs(node.name)[1:]
  )
  if low is None or high is None:
    return "its range is not constant"
  if not low <= 0 <= high or low == high:
    return "its range does not hold 0"
  return None


def hoist(graph, uses):
  """Moves fake quantizations up to the op whose 32 bits they could cut.

  Between the two stand only ops that are read by nobody else and commute with
  cutting off. The last of them takes the name of the fake quantization.

  Returns:
    What was done, a line each.
  """
  told = []
  for node in graph:
    if node.op != OP or obstacle(graph, node):
      continue
    chain = _chain(graph, uses, node.name)
    if chain:
      _move(graph, node.name, chain)
      told.append(
        f"moved fake quantization '{node.name}' up before '{chain[-1]}'"
      )
  return told


def _chain(graph, uses, name):
  """Nodes to move over, the nearest first; empty where it is of no use.

  Each may be read by the next one alone, which an `origin_of` does not ask.
  """
  chain, reader = [], name
  while True:
    above = graph.data_inputs(reader)[0].node
    if graph.op(above) in WIDE:
      return chain
    if graph.op(above) not in _MONOTONE or not uses.is_inner(above, reader):
      return []
    chain.append(above)
    reader = above


def _move(graph, name, chain):
  node, last, first = graph.node(name), chain[0], chain[-1]
  _, low, high = graph.data_inputs(name)
  hoisted = graph.add(
    OP,
    name + "_hoisted",
    [graph.data_inputs(first)[0], low, high],
    {key: value for key, value in node.attr.items() if key[0] != "_"},
  )
  graph.set_input(first, 0, TensorRef(hoisted.name))
  moved = graph.node(last)
  attrs = {k: v for k, v in moved.attr.items() if k != "_output_shapes"}
  waits = graph.control_inputs(name)
  graph.become(name, moved.op, graph.inputs(last) + waits, attrs)
  graph.remove([last])
