# SPDX-License-Identifier: Apache-2.0
"""Recognising batch norms in the three forms they are written in."""

from __future__ import annotations

from bnexport.analysis.dependence import (
  DATA,
  FREE,
  STATISTIC,
  Dependence,
  uses_batch,
)
from bnexport.batchnorm.norm import BATCH, STORED, UNKNOWN, BatchNorm
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape, uniform_value
from bnexport.graph.origins import stored_name

# Nobody adds more than this to a variance to keep it from zero.
_LARGEST_EPSILON = 0.11
# What a variance is computed by from stored moments.
_COMBINATIONS = frozenset(("Sub", "Square", "Mul", "Maximum", "Relu"))
_HANDED_ON = (
  ops.CARRIERS | ops.RESHAPES | ops.RESOURCE_READS | ops.SWITCHES | {"Cast"}
)
_GLOBAL = "BatchNormWithGlobalNormalization"


def find(graph, outputs):
  """All batch norms that the outputs need, in order of execution.

  Norms whose statistics belong to one row, such as layer and instance norms,
  are none of them.
  """
  order = graph.topological(
    graph.ancestors((ref.node for ref in outputs), control=False)
  )
  return find_among(graph, order, Dependence(graph, order))


def find_among(graph, order, dependence):
  """All batch norms among some nodes, in their order.

  Args:
    graph: stays as it is.
    order: names of nodes, inputs first.
    dependence: a Dependence that covers them.
  """
  members, found = set(order), []
  for name in order:
    node = graph.node(name)
    if node.op in ops.FUSED_NORMS:
      found.append(_fused(graph, node, dependence))
    elif node.op == _GLOBAL:
      x, mean, variance = graph.inputs(name)[:3]
      found.append(
        _norm(
          graph,
          "global",
          name,
          x,
          mean,
          variance,
          node.attr["variance_epsilon"].f,
          dependence,
        )
      )
    elif node.op in ("Rsqrt", "Sqrt", "Pow"):
      found.append(_arithmetic(graph, node, dependence, members))
  return [norm for norm in found if norm is not None]


def _norm(graph, form, name, x, mean, variance, epsilon, dependence):
  """Assembles a norm; says where its statistics come from."""
  level = max(dependence(r) for r in (mean, variance) if r is not None)
  stored = [
    None if r is None else stored_name(graph, r) for r in (mean, variance)
  ]
  statistics = UNKNOWN
  if level == STATISTIC:
    statistics = BATCH
  elif level == FREE and None not in stored:
    statistics = STORED
  return BatchNorm(form, name, x, mean, variance, epsilon, statistics, *stored)


def _fused(graph, node, dependence):
  refs = graph.inputs(node.name)
  epsilon = node.attr["epsilon"].f if "epsilon" in node.attr else 1e-4
  if uses_batch(node):
    if _is_of_rows(graph, node):
      return None
    return BatchNorm(
      "fused",
      node.name,
      refs[0],
      TensorRef(node.name, 1),
      TensorRef(node.name, 2),
      epsilon,
      BATCH,
      None,
      None,
    )
  return _norm(
    graph, "fused", node.name, refs[0], refs[3], refs[4], epsilon, dependence
  )


def _is_of_rows(graph, node):
  """Whether a fused norm takes the statistics of single rows.

  Layer, group and instance norms let the op take the rows for channels: they
  reshape [N, ...] to [1, N * groups, ...], or transpose.
  """
  axis = 1 if node.attr["data_format"].s == b"NCHW" else -1
  ref = graph.inputs(node.name)[0]
  while graph.op(ref.node) in ops.IDENTITIES or graph.op(ref.node) == (
    "Transpose"
  ):
    if graph.op(ref.node) == "Transpose":
      order = constant_value(graph, graph.inputs(ref.node)[1], largest=16)
      if order is None:
        return False
      axis = order[axis]
    ref = graph.inputs(ref.node)[0]
  if graph.op(ref.node) != "Reshape":
    return axis == 0
  x, target = graph.data_inputs(ref.node)
  sizes = _sizes(graph, target)
  if not sizes or sizes[0] != 1:
    return axis == 0
  if sizes[axis] is None:
    return True
  shape = static_shape(graph, x)  # of a batch whose size is fixed
  return bool(shape) and shape[0] > 1 and sizes[axis] % shape[0] == 0


def _sizes(graph, ref):
  """A shape tensor's elements, None where one isn't constant; or None."""
  node = graph.node(ref.node)
  if node.op == "Pack":
    values = [
      constant_value(graph, r, largest=1) for r in graph.data_inputs(ref.node)
    ]
  else:
    value = constant_value(graph, ref, largest=16)
    if value is None:
      return None
    values = list(value.reshape(-1))
  return [None if v is None or v < 0 else int(v) for v in values]


def _arithmetic(graph, node, dependence, members):
  """A norm around 1 / sqrt(variance + epsilon), or None."""
  if node.op == "Pow":
    power = constant_value(graph, graph.inputs(node.name)[1], largest=1)
    if power is None or abs(float(uniform_value(power))) != 0.5:
      return None
  variance, epsilon = _shifted(graph, graph.inputs(node.name)[0])
  if variance is None or dependence(variance) == DATA:
    return None
  if dependence(variance) == FREE and not _is_stored(graph, variance):
    return None
  mean, x = _centre(graph, node.name, dependence, members)
  if mean is None and (x is None or dependence(variance) == FREE):
    return None  # renorm takes the stddev of a norm by itself, too
  return _norm(
    graph, "arithmetic", node.name, x, mean, variance, epsilon, dependence
  )


def _is_stored(graph, ref):
  """Whether a tensor is made of stored ones, also by a conditional."""
  stack, seen, found = [ref], set(), False
  while stack:
    ref = stack.pop()
    op = graph.op(ref.node)
    if ref in seen or stored_name(graph, ref) is not None:
      found = True
    elif op in _HANDED_ON:
      stack.append(graph.inputs(ref.node)[0])
    elif op in ops.MERGES or op in _COMBINATIONS:
      stack.extend(graph.data_inputs(ref.node))
    else:
      return False
    seen.add(ref)
  return found


def _shifted(graph, ref):
  """Splits variance + epsilon."""
  while graph.op(ref.node) in ops.IDENTITIES:
    ref = graph.inputs(ref.node)[0]
  if graph.op(ref.node) not in ("Add", "AddV2"):
    return None, None
  a, b = graph.data_inputs(ref.node)
  for variance, shift in ((a, b), (b, a)):
    value = constant_value(graph, shift, largest=1)
    if (
      value is not None
      and value.dtype.kind == "f"
      and 0 < uniform_value(value) < _LARGEST_EPSILON
    ):
      return variance, float(uniform_value(value))
  return None, None


def _centre(graph, name, dependence, members):
  """Finds the mean that goes with a scale, and x.

  Either x has the mean taken away before it is scaled, or the scaled mean is
  taken away afterwards.
  """
  scales, seen, scaled, x = [name], {name}, None, None
  for scale in scales:
    for reader in graph.readers(scale):
      if reader not in members or reader in seen:
        continue
      seen.add(reader)
      others = [r for r in graph.data_inputs(reader) if r.node != scale]
      if dependence(TensorRef(reader)) != DATA:
        if graph.op(reader) in (
          "Mul",
          "RealDiv",
          "Neg",
          "Identity",
          "Reshape",
          "Reciprocal",
          "Cast",
          "Enter",
          "Squeeze",
        ):
          scales.append(reader)
          scaled = scaled or _scaled_mean(graph, reader, others)
      elif graph.op(reader) in ("Mul", "RealDiv") and others:
        x = others[0]
  if scaled is None and x is not None:
    x, centred = _difference(graph, x, dependence)
    return centred, x
  # x may be a difference all the same: the answer of the norm before.
  return scaled, x


def _scaled_mean(graph, product, others):
  """The mean in `beta - mean * scale`, read at the product."""
  subtracted = any(
    graph.op(r) in ("Sub", "Neg") for r in graph.readers(product)
  )
  if not others:
    return None
  if graph.op(others[0].node) == "Neg":
    return graph.inputs(others[0].node)[0]
  return others[0] if subtracted else None


def _difference(graph, ref, dependence):
  """Splits x - mean, scaled or not; x alone is itself."""
  while graph.op(ref.node) == "Mul":
    rows = [r for r in graph.data_inputs(ref.node) if dependence(r) == DATA]
    if len(rows) != 1 or graph.op(rows[0].node) not in ("Mul", "Sub"):
      break
    ref = rows[0]
  if graph.op(ref.node) == "Sub":
    x, mean = graph.data_inputs(ref.node)
    if dependence(mean) != DATA:
      return x, mean
  return ref, None
