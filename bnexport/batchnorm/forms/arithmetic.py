# SPDX-License-Identifier: Apache-2.0
"""Norms that are spelled out around 1 / sqrt(variance + epsilon)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from bnexport.analysis.dependence import DATA, FREE
from bnexport.batchnorm.form import Form, Match, Place, Slot
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value, uniform_value
from bnexport.graph.origins import stored_name

# Nobody adds more than this to a variance to keep it from zero.
_LARGEST_EPSILON = 0.11
# What a variance is computed by from stored moments.
_COMBINATIONS = frozenset(("Sub", "Square", "Mul", "Maximum", "Relu"))
_HANDED_ON = (
  ops.CARRIERS | ops.RESHAPES | ops.RESOURCE_READS | ops.SWITCHES | {"Cast"}
)
_PRODUCTS = frozenset(("Mul", "RealDiv"))
_VIEWS = ops.RESHAPES | {"Identity", "Cast"}
# From 1 / sqrt(variance + epsilon) to what x is multiplied with. Renorm takes
# the stddev for another use, behind StopGradient.
_SCALES = _PRODUCTS | _VIEWS | {"Enter", "Neg", "Reciprocal", "Inv"}
# What a mean may go through before it is scaled.
_BEFORE_SCALE = ops.IDENTITIES | {"Neg"}
_AFFINE = frozenset(("Mul", "Sub", "Add", "AddV2", "BiasAdd", "RealDiv"))
# Ops from the inverse stddev over the scale and the offset to y.
_REACH = 6


@dataclasses.dataclass(frozen=True)
class Arithmetic(Form):
  """y = (x - mean) * gamma / sqrt(variance + epsilon) + beta, in any order

  The node that takes the root has the norm's name. Shapes may broadcast.
  """

  name: ClassVar = "arithmetic"
  ops: ClassVar = frozenset(("Rsqrt", "Sqrt", "Pow"))

  def match(self, graph, node, dependence, members):
    if not _is_root(graph, node):
      return None
    variance, epsilon = _shifted(graph, _sum_of(graph, node.name))
    if variance is None or dependence(variance) == DATA:
      return None
    if dependence(variance) == FREE and not _is_stored(graph, variance):
      return None
    mean, x = _centre(graph, node.name, dependence, members)
    if mean is None and (x is None or dependence(variance) == FREE):
      return None  # renorm takes the stddev of a norm by itself, too
    return Match(x, mean, variance, epsilon)

  def place(self, graph, norm):
    if norm.x is None or norm.mean is None:
      return None
    variance = _slots(graph, _sum_of(graph, norm.name).node, norm.variance)
    rows, mean = _rows(graph, norm)
    scale = None
    for read, reader, others in _scales(
      graph, norm.name, lambda reader: not rows & set(graph.inputs(reader))
    ):
      if rows & set(others):
        scale = read
      elif graph.op(reader) in _SCALES:
        mean += _slots(graph, reader, norm.mean)
        for ref in others:
          if graph.op(ref.node) in _BEFORE_SCALE:
            mean += _slots(graph, ref.node, norm.mean)
    if not (mean and variance and scale):
      return None
    return Place(tuple(mean), tuple(variance), scale)

  def shape_tensors(self, norm, place):
    """See Form: what x is multiplied with, the mean and the variance."""
    scale = norm.mean if place is None else place.scale
    return scale, norm.mean, norm.variance

  def channel_axes(self, node, shape, statistics):
    _, mean, variance = statistics
    # A scale may vary where the statistics do not.
    for like in statistics:
      axes = _varying(shape, like)
      if axes is not None and _size(like) == _size(mean) == _size(variance):
        return axes
    return None

  def scale(self, graph, name):
    """See Form; None, since nothing promises one number a channel."""
    return None

  def parameters(self, graph, name):
    steps = {name: 0}
    names = [name]
    for node in names:
      for reader in graph.readers(node):
        if (
          reader not in steps
          and graph.op(reader) in _AFFINE
          and steps[node] < _REACH
        ):
          steps[reader] = steps[node] + 1
          names.append(reader)
    return tuple(
      ref
      for node in names[1:]
      for ref in graph.data_inputs(node)
      if ref.node not in steps
    )


def _is_root(graph, node):
  """Whether a node takes a square root, or one over it."""
  if node.op != "Pow":
    return True
  power = constant_value(graph, graph.inputs(node.name)[1], largest=1)
  return power is not None and abs(float(uniform_value(power))) == 0.5


def _sum_of(graph, root):
  """The tensor that a node takes the root of."""
  ref = graph.inputs(root)[0]
  while graph.op(ref.node) in ops.IDENTITIES:
    ref = graph.inputs(ref.node)[0]
  return ref


def _shifted(graph, ref):
  """Splits variance + epsilon."""
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


def _scales(graph, name, is_scale):
  """Follows the inverse stddev of a norm to where x is multiplied with it.

  Args:
    graph: holds the norm.
    name: the norm's.
    is_scale: tells by its name whether a reader works on the scale alone.

  Yields:
    For each node that reads the inverse stddev, scaled or not: the tensor it
    reads, its name, and its other data inputs.
  """
  scales, seen = [name], {name}
  for scale in scales:
    for reader in graph.readers(scale):
      if reader in seen:
        continue
      seen.add(reader)
      refs = graph.data_inputs(reader)
      others = [ref for ref in refs if ref.node != scale]
      read = [ref for ref in refs if ref.node == scale]
      if not read:
        continue
      yield read[0], reader, others
      if graph.op(reader) in _SCALES and is_scale(reader):
        scales.append(reader)


# Recognising.


def _centre(graph, name, dependence, members):
  """Finds the mean that goes with a scale, and x.

  Either x has the mean taken away before it is scaled, or the scaled mean is
  taken away afterwards.
  """

  def is_scale(reader):
    return reader in members and dependence(TensorRef(reader)) != DATA

  scaled, x = None, None
  for _, reader, others in _scales(graph, name, is_scale):
    if reader not in members or graph.op(reader) not in _PRODUCTS or not others:
      continue
    if is_scale(reader):
      scaled = scaled or _scaled_mean(graph, reader, others[0])
    else:
      x = others[0]
  if scaled is None and x is not None:
    x, centred = _difference(graph, x, dependence)
    return centred, x
  # x may be a difference all the same: the answer of the norm before.
  return scaled, x


def _scaled_mean(graph, product, other):
  """The mean in `beta - mean * scale`, read at the product; or None."""
  if graph.op(other.node) == "Neg":
    return graph.inputs(other.node)[0]
  views = [product]
  for name in views:
    for reader in graph.readers(name):
      if graph.op(reader) in ("Sub", "Neg"):
        return other
      if graph.op(reader) in _VIEWS and graph.inputs(reader)[0].node == name:
        views.append(reader)
  return None


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


# Slots.


def _rows(graph, norm):
  """x, x - mean and products of them; and the slots that take the mean."""
  rows, seen, slots = [norm.x], {norm.x}, []
  for row in rows:
    for name in graph.readers_of(row):
      refs = graph.data_inputs(name)
      is_centred = graph.op(name) == "Sub" and refs == [row, norm.mean]
      if is_centred:
        slots.append(Slot(name, 1))
      if is_centred or graph.op(name) == "Mul":
        made = TensorRef(name)
        if made not in seen:
          seen.add(made)
          rows.append(made)
  return seen, slots


def _slots(graph, name, ref):
  return [
    Slot(name, i) for i, r in enumerate(graph.data_inputs(name)) if r == ref
  ]


# Shapes.


def _varying(shape, like):
  """Axes of `shape` along which a broadcast tensor varies.

  None where the tensor does not broadcast to that shape.
  """
  missing = len(shape) - len(like)
  axes = tuple(missing + i for i, size in enumerate(like) if size != 1)
  if missing < 0 or any(shape[axis] != like[axis - missing] for axis in axes):
    return None
  return axes


def _size(shape):
  return int(np.prod(shape, dtype=np.int64))
