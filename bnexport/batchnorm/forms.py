"""Recognising batch norms in the three forms they are written in."""

from __future__ import annotations

from bnexport import ops
from bnexport.batchnorm import BATCH, STORED, UNKNOWN, BatchNorm, stored_name
from bnexport.batchnorm.dependence import (
  DATA,
  FREE,
  STATISTIC,
  Dependence,
  uses_batch,
)
from bnexport.graph import TensorRef
from bnexport.nodes import constant_value, uniform_value

# Nobody adds more than this to a variance to keep it from zero.
_LARGEST_EPSILON = 0.11
_GLOBAL = "BatchNormWithGlobalNormalization"


def find(graph, outputs):
  """All batch norms that the outputs need, in order of execution.

  Norms whose statistics belong to one row, such as layer and instance norms,
  are none of them.
  """
  order = graph.topological(
    graph.ancestors((ref.node for ref in outputs), control=False)
  )
  dependence = Dependence(graph, order)
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
    # Reshaped so that a row has its statistics to itself, it is an instance
    # or layer norm; nothing in the node tells.
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


def _arithmetic(graph, node, dependence, members):
  """A norm around 1 / sqrt(variance + epsilon), or None."""
  if node.op == "Pow":
    power = constant_value(graph, graph.inputs(node.name)[1], largest=1)
    if power is None or abs(float(uniform_value(power))) != 0.5:
      return None
  variance, epsilon = _shifted(graph, graph.inputs(node.name)[0])
  if variance is None or dependence(variance) == DATA:
    return None
  if dependence(variance) == FREE and stored_name(graph, variance) is None:
    return None
  mean, x = _centre(graph, node.name, dependence, members)
  if mean is None and dependence(variance) == FREE:
    return None
  return _norm(
    graph, "arithmetic", node.name, x, mean, variance, epsilon, dependence
  )


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
  scales, seen, mean, x = [name], {name}, None, None
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
          mean = mean or _scaled_mean(graph, reader, others)
      elif graph.op(reader) in ("Mul", "RealDiv") and others:
        x, centred = _difference(graph, others[0], dependence)
        mean = centred or mean
  return mean, x


def _scaled_mean(graph, product, others):
  """The mean in `beta - mean * scale`, read at the product."""
  subtracted = any(
    graph.op(r) in ("Sub", "Neg") for r in graph.readers(product)
  )
  return others[0] if others and subtracted else None


def _difference(graph, ref, dependence):
  """Splits x - mean; x alone is itself."""
  if graph.op(ref.node) == "Sub":
    x, mean = graph.data_inputs(ref.node)
    if dependence(mean) != DATA:
      return x, mean
  return ref, None
