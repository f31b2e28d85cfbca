# SPDX-License-Identifier: Apache-2.0
"""Constants that a user names as inputs, and what follows from them alone."""

from __future__ import annotations

import contextlib
from typing import Iterator

from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import static_shape, type_attr
from bnexport.model import Model
from bnexport.tf1 import tf1
from bnexport.transforms.uses import Uses

_FED = "PlaceholderWithDefault"


@contextlib.contextmanager
def as_inputs(model: Model) -> Iterator[None]:
  """Lets no transform count on the value of a constant that may be fed.

  In the block it is a placeholder with that value for its default. What is
  still one then, and no transform made a placeholder, is what it was again.
  """
  graph, before = model.graph, {}
  for place, ref in enumerate(model.inputs):
    if _is_constant(graph, ref):
      node = graph.node(ref.node)
      before[place] = dict(node.attr) if node.op == "Const" else None
      _feed(model, ref)
  yield
  for place, attrs in before.items():
    name = model.inputs[place].node
    if graph.op(name) == _FED:
      (default,) = graph.data_inputs(name)
      node = graph.node(default.node)
      if attrs is not None:
        waits = graph.control_inputs(default.node)
        graph.become(name, "Const", waits, attrs)
      else:
        inputs = graph.inputs(default.node)
        graph.become(name, node.op, inputs, dict(node.attr))
      Uses(model).remove_unread([default.node])


def _is_constant(graph, ref):
  """Whether a tensor follows from constants alone, unless it is fed."""
  return ref.index == 0 and not any(
    graph.op(name) in ops.VARIABLES or ops.is_data_source(graph.op(name))
    for name in graph.ancestors([ref.node], control=False)
  )


def _feed(model, ref):
  graph, node = model.graph, model.graph.node(ref.node)
  attrs = {"dtype": type_attr(model.dtype(ref).as_datatype_enum)}
  shape = static_shape(graph, ref)
  attrs["shape"] = tf1.AttrValue(shape=tf1.TensorShape(shape).as_proto())
  default = graph.add(
    node.op, f"{node.name}/default", graph.inputs(node.name), dict(node.attr)
  )
  graph.become(node.name, _FED, [TensorRef(default.name)], attrs)
