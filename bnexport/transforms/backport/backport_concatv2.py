# SPDX-License-Identifier: Apache-2.0
"""Concat as the first TensorFlow had it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.errors import TransformError
from bnexport.graph import TensorRef
from bnexport.graph.nodes import constant, constant_value
from bnexport.model import Model
from bnexport.text import Emitter
from bnexport.tf1 import tf1

_INT64 = tf1.int64.as_datatype_enum


@dataclasses.dataclass(frozen=True)
class BackportConcatV2:
  """Turns ConcatV2 into Concat, whose axis is its first input.

  Concat takes an axis of int32 only; one of int64 is turned. Functions' nodes
  follow.

  Before: y = ConcatV2(a, b, axis)
  After:  y = Concat(axis, a, b)

  Refuses an axis of int64 in a function.
  """

  name: ClassVar[str] = "backport_concatv2"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    _refuse_long_axis(graph)
    found = [node for node in graph if node.op == "ConcatV2"]
    for node in found:
      *parts, axis = graph.data_inputs(node.name)
      if _is_long(node):
        axis = _short(graph, node.name, axis)
      node.attr.pop("Tidx", None)
      inputs = [axis] + parts + graph.control_inputs(node.name)
      graph.become(node.name, "Concat", inputs, dict(node.attr.items()))
    count = len(found) + sum(
      _turn_body(f.node_def) for f in graph.library.values()
    )
    return [f"turned {count} ConcatV2 into Concat"] if count else []


def _is_long(node):
  return "Tidx" in node.attr and node.attr["Tidx"].type == _INT64


def _short(graph, name, axis):
  """The axis as int32."""
  value = constant_value(graph, axis, largest=1)
  if value is not None:
    # It has to be in the branch, or the loop, of the axis.
    waits = [TensorRef(axis.node, 0, True)]
    if graph.op(axis.node) == "Const":
      waits = graph.control_inputs(axis.node)
    return constant(graph, name + "/axis", value, tf1.int32, waits)
  text = "axis = Cast(axis) {SrcT=int64, DstT=int32}"
  return Emitter(graph).emit(name, text, axis=axis)["axis"]


def _refuse_long_axis(graph):
  for function in graph.library.values():
    for node in function.node_def:
      if node.op == "ConcatV2" and _is_long(node):
        raise TransformError(
          f"turn node '{node.name}' of function '{function.signature.name}' "
          "into Concat",
          "its axis is int64",
          "run inline_functions first",
        )


def _turn_body(nodes):
  """Turns the nodes of a function; returns how many."""
  found = [node for node in nodes if node.op == "ConcatV2"]
  for node in found:
    data = [text for text in node.input if not text.startswith("^")]
    waits = [text for text in node.input if text.startswith("^")]
    node.input[:] = data[-1:] + data[:-1] + waits
    node.attr.pop("Tidx", None)
    node.op = "Concat"
  return len(found)
