# SPDX-License-Identifier: Apache-2.0
"""32-bit results that a graph cuts to eight bits twice."""

from __future__ import annotations

from typing import Optional

from bnexport.analysis.shapes import flag
from bnexport.graph import TensorRef
from bnexport.graph.nodes import constant_value
from bnexport.tf1 import tf1

_REQUANTIZE = "Requantize"
_OUTPUTS = 3


def is_eight_bit(node):
  """Whether a node gives the float form of what can be read as it is."""
  return (
    node.op == "Dequantize"
    and node.attr["T"].type == tf1.quint8.as_datatype_enum
    and "mode" in node.attr
    and node.attr["mode"].s == b"MIN_FIRST"
    and not flag(node, "narrow_range")
    and ("axis" not in node.attr or node.attr["axis"].i == -1)
  )


def merge(graph, uses):
  """Cuts 32 bits at once to the range that they are cut to in the end.

  Where a graph was quantized before, what a fake quantization was stands
  behind the range that was measured: all of it counts, and none of the eight
  bits are lost to it.

  Returns:
    What was done, a line each.
  """
  told = []
  for node in graph:
    first = _behind(graph, node) if node.op == _REQUANTIZE else None
    if first is None:
      continue
    old = [ref.node for ref in graph.data_inputs(node.name)[:1]]
    wide = graph.inputs(first)[:_OUTPUTS]
    graph.set_inputs(node.name, wide + graph.inputs(node.name)[_OUTPUTS:])
    uses.remove_unread(old)
    told.append(f"'{node.name}' cuts the 32 bits that '{first}' has cut before")
  return told


def _behind(graph, node) -> Optional[str]:
  """Name of the Requantize whose result a Requantize cuts again, or None."""
  again = _sole_source(graph, node.name, "QuantizeV2")
  if again is None or not _is_of(graph, again, "T", tf1.qint32):
    return None
  x, *between = graph.data_inputs(again)
  ends = graph.data_inputs(node.name)[_OUTPUTS:]
  is_same_range = all(_is_same(graph, *pair) for pair in zip(between, ends))
  if not is_same_range or not is_eight_bit(graph.node(x.node)):
    return None
  first = _sole_source(graph, x.node, _REQUANTIZE)
  if first is None or not _is_of(graph, first, "out_type", tf1.quint8):
    return None
  wide, measured = (
    graph.data_inputs(first)[:_OUTPUTS],
    graph.data_inputs(first)[_OUTPUTS:],
  )
  source = measured[0].node
  is_measured = (
    graph.op(source) == "RequantizationRange"
    and measured == [TensorRef(source), TensorRef(source, 1)]
    and graph.data_inputs(source) == wide
  )
  return first if is_measured else None


def _sole_source(graph, name, op) -> Optional[str]:
  """The node of an op whose three outputs a node reads first, or None."""
  refs = graph.data_inputs(name)[:_OUTPUTS]
  source = refs[0].node
  outputs = [TensorRef(source, index) for index in range(_OUTPUTS)]
  return source if graph.op(source) == op and refs == outputs else None


def _is_of(graph, name, key, dtype):
  attr = graph.node(name).attr
  return key in attr and attr[key].type == dtype.as_datatype_enum


def _is_same(graph, a, b):
  """Whether two single numbers are the same."""
  if a == b:
    return True
  first, second = (constant_value(graph, ref, largest=1) for ref in (a, b))
  if first is None or second is None:
    return False
  return bool(first == second)
