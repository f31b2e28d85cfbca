# SPDX-License-Identifier: Apache-2.0
"""TensorArrays as TensorFlow 0.12 had them."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant, type_attr
from bnexport.model import Model
from bnexport.tf1 import tf1

_KINDS = (
  "",
  "Grad",
  "Write",
  "Read",
  "Gather",
  "Scatter",
  "Concat",
  "Split",
  "Size",
  "Close",
)
_OLDER = {f"TensorArray{k}V3": f"TensorArray{k}V2" for k in _KINDS}
_MADE = ("TensorArrayV3", "TensorArrayGradV3")
_CARRIERS = ops.CARRIERS | ops.SWITCHES | ops.MERGES
# V2 has no output for the flow; any number will do for the first link.
_FLOW = 1.0
# From the next version of graphs on, the older ops are refused.
_PRODUCER = 25


@dataclasses.dataclass(frozen=True)
class BackportTensorArrayV3:
  """Turns ops of TensorArrays into those of version 2.

  A handle is a string then, which whoever carries it into a branch or a loop
  follows. The flow of a new array is a constant. TensorFlow takes the older
  ops in graphs of version 25 and before, so that the graph's is lowered.

  Before: t = TensorArrayV3(n)
          w = TensorArrayWriteV3(t, i, v, t:1)   y = TensorArraySizeV3(t, w)
  After:  t = TensorArrayV2(n)   t/flow = Const(^t)
          w = TensorArrayWriteV2(t, i, v, t/flow)   y = TensorArraySizeV2(t, w)

  Refuses TensorArrays in functions, and gradients that change their shape.
  """

  name: ClassVar[str] = "backport_tensor_array_v3"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    _refuse(graph)
    found = [node for node in graph if node.op in _OLDER]
    if not found:
      return []
    for node in found:
      if node.op in _MADE:
        _replace_flow(graph, node.name)
      # Version 2 does not have this hint.
      node.attr.pop("identical_element_shapes", None)
      node.op = _OLDER[node.op]
    _follow_handles(graph)
    told = [f"turned {len(found)} ops of TensorArrays into version 2"]
    versions = graph.versions
    if versions.producer > _PRODUCER:
      versions.producer = _PRODUCER
      versions.min_consumer = min(versions.min_consumer, _PRODUCER)
      told.append(f"lowered the graph's version to {_PRODUCER}")
    return told


def _refuse(graph):
  if any(node.op == "TensorArrayGradWithShape" for node in graph):
    raise TransformError(
      "turn TensorArrays into version 2",
      "it has no TensorArrayGradWithShape",
      "strip the gradients first, with strip_unused_nodes",
    )
  for function in graph.library.values():
    for node in function.node_def:
      if node.op in _OLDER:
        raise TransformError(
          f"turn node '{node.name}' of function '{function.signature.name}' "
          "into version 2",
          "a handle may be an argument",
          "run inline_functions first",
        )


def _replace_flow(graph, name):
  """Lets the readers of an array's flow read a constant."""
  flow = TensorRef(name, 1)
  readers = graph.readers_of(flow)
  if not readers:
    return
  # It waits for the array, to be in its branch and its loop.
  waits = [TensorRef(name, 0, True)]
  made = constant(graph, name + "/flow", _FLOW, tf1.float32, waits)
  graph.substitute({flow: made}, readers)


def _follow_handles(graph):
  """Makes whoever carries a handle carry a string."""
  resource = tf1.resource.as_datatype_enum
  older = ("TensorArrayV2", "TensorArrayGradV2")
  stack = [node.name for node in graph if node.op in older]
  seen = set(stack)
  while stack:
    for reader in graph.readers(stack.pop()):
      node = graph.node(reader)
      if (
        reader not in seen
        and node.op in _CARRIERS
        and node.attr["T"].type == resource
      ):
        node.attr["T"].CopyFrom(type_attr(tf1.string))
        seen.add(reader)
        stack.append(reader)
