# SPDX-License-Identifier: Apache-2.0
"""Bringing a stored average to the shape of the statistic it stands for."""

from __future__ import annotations

import numpy as np

from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape
from bnexport.graph.writes import part_shape


def shape_for(model, ref, value):
  """The shape to bring a stored value to; None where it fits as it is.

  Args:
    model: holds the graph, and the variable's shape where it has values.
    ref: the statistic.
    value: the Stored of it.

  Raises:
    TransformError: the one can't stand for the other.
  """
  variable = value.variable
  stored = _stored_shape(model, variable)
  stored = part_shape(model.graph, value.part, stored)
  shape = static_shape(model.graph, ref)
  if shape is None:
    shape = _reduced_shape(model.graph, ref, stored)
  if shape is None or shape == stored:
    return None
  if stored is None:
    return None if value.part is None or -1 in shape else shape
  count = int(np.prod(stored, dtype=np.int64))
  if shape.count(-1) == 1:
    rest = -int(np.prod(shape, dtype=np.int64))
    shape = tuple(count // max(rest, 1) if s == -1 else s for s in shape)
  if int(np.prod(shape, dtype=np.int64)) == count:
    return None if shape == stored else shape
  if len(shape) == len(stored) and all(
    a == b or a == 1 for a, b in zip(stored, shape)
  ):
    return None  # statistics of virtual batches: one average for all
  raise TransformError(
    f"use variable '{variable}' for the batch statistic '{ref}'",
    f"its shape is {list(stored)} and the statistic's {list(shape)}",
    f"pass --keep_batch_statistics={ref.node} to keep the batch statistic",
  )


def _stored_shape(model, variable):
  if model.values is not None:
    shape = model.values.shape(variable)
    if shape is not None:
      return shape
  return static_shape(model.graph, TensorRef(variable))


def _reduced_shape(graph, ref, stored):
  """Shape of a reduction that keeps its axes, where none is stated."""
  node = graph.node(ref.node)
  if node.op not in ops.REDUCTIONS or not node.attr["keep_dims"].b:
    return None
  axes = constant_value(graph, graph.inputs(ref.node)[1])
  if axes is None or stored is None or (axes < 0).any():
    return None
  rank = axes.size + len(stored)
  sizes = iter(stored)
  return tuple(1 if i in axes.reshape(-1) else next(sizes) for i in range(rank))
