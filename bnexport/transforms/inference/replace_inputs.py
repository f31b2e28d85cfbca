# SPDX-License-Identifier: Apache-2.0
"""Inner tensors, such as what a queue delivers, become placeholders."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.analysis.flow import is_setting
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import static_shape
from bnexport.graph.placeholders import (
  cut_dtype,
  placeholder_attrs,
  placeholder_name,
)
from bnexport.graph.tensors import shape_proto
from bnexport.model import Model


@dataclasses.dataclass(frozen=True)
class ReplaceInputs:
  """Makes each input of the model a placeholder of its dtype and shape.

  The placeholder has the node's name where its first output is replaced, and
  `node_1` where its second is. The first dimension is left open: the batch
  of the training queue is not the user's.

  Before: q = FIFOQueueV2()   x = QueueDequeueV2(q)   y = Relu(x)
  After:  x = Placeholder()   y = Relu(x)
  """

  name: ClassVar[str] = "replace_inputs"

  def apply(self, model: Model) -> List[str]:
    told, replaced = [], {}
    inputs = model.inputs + _defaults_from_data(model)
    # The first output last: its placeholder takes the node's name.
    for ref in sorted(set(inputs), key=lambda ref: -ref.index):
      if model.graph.op(ref.node) not in ("Placeholder", "PlaceholderV2"):
        replaced[ref] = _replace(model, ref)
        told.append(
          f"cut at '{ref}': it is fed as placeholder '{replaced[ref].node}'"
        )
    model.inputs = tuple(replaced.get(ref, ref) for ref in inputs)
    return told


def _defaults_from_data(model):
  """Placeholders whose default is what the training input delivers."""
  graph = model.graph
  return (
    tuple(
      TensorRef(name)
      for name in model.needed()
      if graph.op(name) == "PlaceholderWithDefault"
      and TensorRef(name) not in model.inputs
      and any(
        ops.is_data_source(graph.op(n)) and not is_setting(graph, graph.node(n))
        for n in graph.ancestors([graph.inputs(name)[0].node], control=False)
      )
    )
    if not model.inputs
    else ()
  )


def _attrs(model, ref):
  """Attributes of the placeholder that a tensor becomes."""
  dtype = cut_dtype(model.graph, ref, model.signatures)
  shape = static_shape(model.graph, ref)
  if shape:
    shape = (None, *shape[1:])
  return placeholder_attrs(dtype, shape_proto(shape))


def _replace(model, ref):
  graph, attrs = model.graph, _attrs(model, ref)
  if ref.index:
    made = graph.add("Placeholder", placeholder_name(ref), (), attrs)
    new = TensorRef(made.name)
    graph.substitute({ref: new})
    return new
  # The name goes to the placeholder; what else the node gives keeps it alive.
  node = graph.node(ref.node)
  others = [other for other in graph.reads(node.name) if other != ref]
  if others:
    inputs = graph.inputs(node.name)
    rest = graph.add(node.op, node.name + "/uncut", inputs, node.attr)
    model.decisions.uncut[rest.name] = node.name
    graph.substitute(
      {other: other._replace(node=rest.name) for other in others}
    )
  graph.become(node.name, "Placeholder", (), attrs)
  return ref
