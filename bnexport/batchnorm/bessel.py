# SPDX-License-Identifier: Apache-2.0
"""Bessel's correction taken back: the variance that training normalises with.

A fused norm hands out the variance with n - 1 in the denominator. What folds
the norm into a convolution, as tf.contrib.quantize does, multiplies it by
(n - 1) / n to get the one that the norm itself divides by. At inference both
are the stored variance: a norm does not correct what it reads.
"""

from __future__ import annotations

from typing import Collection, Dict, List, Optional

import numpy as np

from bnexport.analysis import arithmetic
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import constant_value, static_shape, uniform_value
from bnexport.graph.origins import VIEWS

# Numbers of rows that a factor is computed for.
_TRIALS = (2.0, 5.0)
_FACTORS = arithmetic.select("Div DivNoNan Mul RealDiv")
_COUNTS = arithmetic.select(
  "Add AddV2 Div DivNoNan FloorDiv Maximum Mul RealDiv Reciprocal Sub"
)
_NEAR = 1e-5
# So many tensors are looked at.
_MOST = 64


def taken_back(
  graph: Graph,
  statistic: TensorRef,
  x: TensorRef,
  channels: int,
  needed: Collection[str],
) -> List[TensorRef]:
  """Tensors that are a variance handed out, times (n - 1) / n.

  Args:
    graph: stays as it is.
    statistic: the variance that a norm hands out.
    x: what it is the variance of.
    channels: how many of them x has.
    needed: names of the nodes to look at.
  """
  shape = static_shape(graph, x)
  size = int(np.prod(shape)) if shape and min(shape) > 0 else 0
  found = []
  stack = [(statistic, (1.0,) * len(_TRIALS))]
  for ref, factors in stack:
    if ref != statistic and _is_bessels(factors, size // channels):
      found.append(ref)
      continue
    for name in graph.readers_of(ref) if len(stack) < _MOST else ():
      if name in needed and graph.op(name) in VIEWS | _FACTORS:
        computed = [
          _computed(graph, TensorRef(name), {ref: factor}, rows * channels)
          for factor, rows in zip(factors, _TRIALS)
        ]
        values = tuple(value for value in computed if value is not None)
        if len(values) == len(factors):
          stack.append((TensorRef(name), values))
  return found


def _is_bessels(factors, count):
  """Whether factors are (n - 1) / n for the number of rows they are of."""
  if abs(factors[0] - factors[1]) > _NEAR:
    return all(abs(f - (n - 1) / n) < _NEAR for f, n in zip(factors, _TRIALS))
  return count > 1 and abs(factors[0] - (count - 1) / count) < _NEAR / count


def _computed(
  graph: Graph,
  ref: TensorRef,
  known: Dict[TensorRef, float],
  size: float,
  depth: int = 10,
) -> Optional[float]:
  """The number that a tensor is in all its elements, or None.

  Args:
    graph: stays as it is.
    ref: the tensor.
    known: numbers that tensors are.
    size: how many elements a tensor has whose shape is open.
    depth: how many nodes to look behind.
  """
  if ref in known:
    return known[ref]
  node = graph.node(ref.node)
  inputs = graph.data_inputs(ref.node)
  if node.op == "Const":
    value = constant_value(graph, ref)
    uniform = None if value is None else uniform_value(value)
    return None if uniform is None else float(uniform)
  if node.op == "Size":
    shape = static_shape(graph, inputs[0])
    if shape is None or min(shape, default=0) < 0:
      return size
    return float(np.prod(shape))
  if not depth or node.op not in VIEWS | _COUNTS:
    return None
  if node.op in VIEWS:
    inputs = inputs[:1]
  values = [_computed(graph, r, known, size, depth - 1) for r in inputs]
  if None in values:
    return None
  return values[0] if node.op in VIEWS else arithmetic.compute(node, values)
