# SPDX-License-Identifier: Apache-2.0
"""Inner tensors, such as what a queue delivers, become placeholders."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import static_shape, type_attr
from bnexport.tf1 import tf1


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

  def apply(self, model):
    told = []
    inputs = []
    for ref in model.inputs + _defaults_from_data(model):
      if model.graph.op(ref.node) not in ("Placeholder", "PlaceholderV2"):
        new = _replace(model, ref)
        told.append(f"cut at '{ref}': it is fed as placeholder '{new.node}'")
        ref = new
      inputs.append(ref)
    model.inputs = tuple(inputs)
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
        ops.is_data_source(graph.op(n))
        for n in graph.ancestors([graph.inputs(name)[0].node], control=False)
      )
    )
    if not model.inputs
    else ()
  )


def _dtype(model, ref):
  """DataType enum of a tensor.

  Raises:
    TransformError: nobody knows it.
  """
  dtype = model.signatures.dtype_of(model.graph, ref)
  if dtype is None:
    raise TransformError(
      f"cut at '{ref}'",
      f"TensorFlow knows neither its op '{model.graph.op(ref.node)}' nor one "
      "that reads it, so nothing tells its dtype",
      "cut behind it",
    )
  return dtype


def _replace(model, ref):
  graph = model.graph
  node = graph.node(ref.node)
  dtype = _dtype(model, ref)
  shape = static_shape(graph, ref)
  if shape:
    shape = (None,) + tuple(None if s < 0 else s for s in shape[1:])
  attrs = {
    "dtype": type_attr(dtype),
    "shape": tf1.AttrValue(shape=tf1.TensorShape(shape).as_proto()),
  }
  if ref.index:
    name = f"{ref.node}_{ref.index}"
    new = TensorRef(graph.add("Placeholder", name, (), attrs).name)
    graph.redirect(ref, new)
    return new
  # The name goes to the placeholder; what else the node gives keeps it alive.
  old = node.name
  readers = graph.readers_of(ref)
  others = [
    r
    for r in graph.readers(old)
    if r not in readers
    or any(other.node == old and other != ref for other in graph.inputs(r))
  ]
  if others:
    rest = graph.add(node.op, old + "/uncut", graph.inputs(old), node.attr)
    for reader in others:
      graph.set_inputs(
        reader,
        [
          TensorRef(rest.name, other.index, other.control)
          if other.node == old and other != ref
          else other
          for other in graph.inputs(reader)
        ],
      )
  graph.become(old, "Placeholder", (), attrs)
  return ref
