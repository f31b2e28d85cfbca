# SPDX-License-Identifier: Apache-2.0
"""Constants that are read in another shape are written in it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

import numpy as np

from bnexport.graph import TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.graph.nodes import static_shape, tensor_attr, type_attr
from bnexport.model import Model
from bnexport.transforms.folding.values import Constants
from bnexport.transforms.tidying.names import protected
from bnexport.transforms.uses import Uses

_VIEWS = ops.IDENTITIES | ops.RESHAPES
# Of more elements are weights, which are written as they are read.
_LARGEST = 1 << 14


@dataclasses.dataclass(frozen=True)
class FoldViews:
  """Replaces reshaped constants by constants of that shape.

  Where a constant is back in its own shape in the end, it is read itself.
  Stored averages take the place of batch statistics so, which some consumers
  of frozen graphs do not read through a Reshape or a Squeeze.

  Before: x = Placeholder() {shape=[?,2]}   a = Const() {value=<float [2] 4 9>}
          s = Const() {value=<int32 [2] 1 2>}
          r = Reshape(a, s)   m = Mul(x, r)   q = Squeeze(r)   y = Add(m, q)
  After:  a = Const() {value=<float [2] 4 9>}
          r = Const() {value=<float [1,2] 4 9>}
          m = Mul(x, r)   y = Add(m, a)

  Leaves alone inputs, outputs, what is in a loop or branch, and weights of
  more than 16,384 elements.
  """

  name: ClassVar[str] = "fold_views"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    order = graph.topological(model.needed())
    constants, contexts = Constants(model, order), Contexts(graph, order)
    kept = protected(model)
    # What a view is of is told before any of them is a constant.
    origins = _origins(graph, order)
    views = {
      name: _constant(graph, name, origins[name], constants)
      for name in order
      if graph.op(name) in ops.RESHAPES
      and name not in kept
      and not graph.control_inputs(name)
      and not contexts.is_inside(TensorRef(name))
    }
    views = {name: found for name, found in views.items() if found is not None}
    old = list(views)
    for name, (source, value) in views.items():
      old += [ref.node for ref in graph.data_inputs(name)]
      if static_shape(graph, source) == value.shape:
        graph.substitute({TensorRef(name): source})
      else:
        dtype = graph.node(source.node).attr["dtype"].type
        attrs = {"dtype": type_attr(dtype), "value": tensor_attr(value, dtype)}
        graph.become(name, "Const", (), attrs)
    Uses(model).remove_unread(old)
    return [f"folded {len(views)} reshaped constants"] if views else []


def _origins(graph, order):
  """The tensor that each view is one of in the end, by the view's name."""
  found = {}
  for name in order:
    if graph.op(name) in _VIEWS:
      ref = graph.data_inputs(name)[0]
      found[name] = ref if ref.index else found.get(ref.node, ref)
  return found


def _constant(graph, name, source, constants):
  """The Const that a node is a view of, and the view's array; or None."""
  ref = TensorRef(name)
  if ref not in constants or graph.op(source.node) != "Const":
    return None
  if np.prod(static_shape(graph, source)) > _LARGEST:
    return None
  value = constants.value(ref)
  return None if value is None else (source, value)
