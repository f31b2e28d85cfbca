# SPDX-License-Identifier: Apache-2.0
"""Dropout is no part of inference."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

import numpy as np

from bnexport.analysis import arithmetic
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value, uniform_value
from bnexport.graph.origins import STORED_VIEWS, origin_of
from bnexport.model import Model
from bnexport.tf1 import tf1

# A keep probability is told from any other scalar by trying two values.
_TRIALS = (0.25, 0.5)
_SCALAR = arithmetic.select(
  "Add AddV2 Div Inv Maximum Minimum Mul Neg RealDiv Reciprocal Sub"
)


@dataclasses.dataclass(frozen=True)
class RemoveDropout:
  """Replaces a dropped-out tensor by the tensor itself.

  Dropout is a product of a tensor, a random mask that is 1 with the
  probability `keep_prob`, and 1 / keep_prob: its expectation is the tensor.
  A mask without that factor is left alone.

  Before: u = RandomUniform(n)   a = Add(u, keep)   m = Floor(a)
          d = RealDiv(x, keep)   e = Mul(d, m)   y = Relu(e)
  After:  y = Relu(x)
  """

  name: ClassVar[str] = "remove_dropout"

  def apply(self, model: Model) -> List[str]:
    graph, told = model.graph, []
    order = graph.topological(model.needed())
    needed = set(order)
    outputs = {ref.node for ref in model.outputs}
    for name in order:
      found = _dropout(graph, name, needed)
      if found is None:
        continue
      x, dropped = found
      graph.substitute({TensorRef(dropped): x})
      if dropped in outputs:
        attrs = {"T": graph.node(dropped).attr["T"]}
        graph.become(dropped, "Identity", [x], attrs)
      told.append(f"removed dropout '{dropped}'")
    return told


def _dropout(graph, name, needed):
  """Returns x and the node that is dropout(x), if `name` applies a mask."""
  node = graph.node(name)
  if node.op in ("Select", "SelectV2"):
    mask, kept, other = graph.data_inputs(name)
    zero = constant_value(graph, other)
    if graph.op(other.node) in ("ZerosLike", "Fill"):
      zero = np.zeros(1)
    if zero is None or np.any(zero):
      return None
    return _unscaled(graph, name, kept, mask, needed)
  if node.op != "Mul":
    return None
  a, b = graph.data_inputs(name)
  return _unscaled(graph, name, a, b, needed) or _unscaled(
    graph, name, b, a, needed
  )


def _unscaled(graph, name, kept, mask, needed):
  probability = _Mask.of(graph, mask)
  if probability is None:
    return None
  factor = _factor(graph, kept)
  if factor is not None and _cancels(graph, probability, factor[1:]):
    return factor[0], name
  readers = [r for r in graph.readers(name) if r in needed]
  if len(readers) == 1:
    factor = _factor(graph, TensorRef(readers[0]))
    if (
      factor is not None
      and factor[0] == TensorRef(name)
      and _cancels(graph, probability, factor[1:])
    ):
      return kept, readers[0]
  return None


def _factor(graph, ref):
  """Splits x * s or x / s into x, s and the op; None where it is neither."""
  node = graph.node(ref.node)
  if node.op not in ("Mul", "RealDiv", "Div"):
    return None
  x, scale = graph.data_inputs(ref.node)
  if node.op == "Mul" and not _is_scalar(graph, scale):
    x, scale = scale, x
  return (x, scale, node.op) if _is_scalar(graph, scale) else None


def _is_scalar(graph, ref):
  return all(_number(graph, ref, trial) is not None for trial in _TRIALS)


def _cancels(graph, probability, factor):
  """Whether P(mask) * factor is 1 whatever the rate is."""
  scale, op = factor
  for trial in _TRIALS:
    p = probability(trial)
    s = _number(graph, scale, trial)
    if p is None or s is None:
      return False
    with np.errstate(all="ignore"):
      product = p * s if op == "Mul" else p / s
    if not abs(product - 1) < 1e-3:
      return False
  return True


def _number(graph, ref, trial, depth=0):
  """Value of a scalar expression if its placeholder or variable is `trial`."""
  node = graph.node(ref.node)
  if depth > 20 or ref.index:
    return None
  if node.op == "Const":
    value = constant_value(graph, ref, largest=1)
    if value is None or value.dtype.kind not in "fiu":
      return None
    return float(uniform_value(value))
  if node.op in ops.PLACEHOLDERS or node.op in ops.VARIABLES:
    shape = node.attr["shape"].shape
    if not tf1.as_dtype(node.attr["dtype"].type).is_floating or (
      any(dim.size != 1 for dim in shape.dim)
    ):
      return None
    return trial
  refs = graph.data_inputs(ref.node)
  if node.op in STORED_VIEWS:
    return _number(graph, refs[0], trial, depth + 1)
  if node.op not in _SCALAR:
    return None
  values = [_number(graph, r, trial, depth + 1) for r in refs]
  if any(value is None for value in values):
    return None
  return float(arithmetic.compute(node, values))


class _Mask:
  """The probability with which a random mask is 1."""

  @staticmethod
  def of(graph, ref):
    """Returns a function from a trial rate to the probability, or None."""
    node = graph.node(origin_of(graph, ref, STORED_VIEWS).node)
    if node.op == "Floor":
      return _Mask._floor(graph, graph.data_inputs(node.name)[0])
    if node.op in ("GreaterEqual", "Greater", "Less", "LessEqual"):
      return _Mask._comparison(graph, node)
    return None

  @staticmethod
  def _floor(graph, ref):
    """floor(keep_prob + uniform) is 1 with probability keep_prob."""
    node = graph.node(ref.node)
    if node.op not in ("Add", "AddV2"):
      return None
    a, b = graph.data_inputs(ref.node)
    if _is_uniform(graph, a):
      a, b = b, a
    if not _is_uniform(graph, b) or not _is_scalar(graph, a):
      return None
    return lambda trial: _number(graph, a, trial)

  @staticmethod
  def _comparison(graph, node):
    a, b = graph.data_inputs(node.name)
    greater = node.op.startswith("Greater")
    if not _is_uniform(graph, a):
      a, b, greater = b, a, not greater
    if not _is_uniform(graph, a) or not _is_scalar(graph, b):
      return None
    if greater:
      return lambda trial: 1 - _number(graph, b, trial)
    return lambda trial: _number(graph, b, trial)


def _is_uniform(graph, ref):
  """Whether a tensor is uniform in [0, 1), as tf.random_uniform spells it."""
  node = graph.node(origin_of(graph, ref, STORED_VIEWS).node)
  if node.op in (
    "RandomUniform",
    "StatelessRandomUniform",
    "StatelessRandomUniformV2",
    "StatefulUniform",
  ):
    return True
  if node.op in ("Add", "AddV2", "Mul"):
    # random_uniform(minval, maxval) is uniform * (max - min) + min.
    neutral = 1.0 if node.op == "Mul" else 0.0
    refs = graph.data_inputs(node.name)
    for one, other in (refs, refs[::-1]):
      if _is_uniform(graph, one):
        return _number(graph, other, 0.5) == neutral
  return False
