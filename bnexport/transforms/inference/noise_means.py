# SPDX-License-Identifier: Apache-2.0
"""The means of random tensors, as nodes of the graph."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import numpy as np

from bnexport.analysis.expectation import (
  ROUNDED,
  Expectation,
  divides,
  is_whole,
)
from bnexport.analysis.randomness import (
  COMPARISONS,
  FILLS,
  MEANS,
  PRODUCTS,
  QUOTIENTS,
  ROUNDINGS,
  STEPS,
  SUMS,
  Randomness,
  sides_of,
)
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant, static_shape, type_attr
from bnexport.graph.origins import VIEWS
from bnexport.model import Model
from bnexport.text import Emitter
from bnexport.tf1 import tf1

# Parameters that are not known have these trial values.
TRIALS = (1, 2)
# How far a number that is 0 or 1 may be off by rounding.
ROUNDING = 1e-5
# The mean of what these give is what they give of the mean.
_LINEAR = (
  VIEWS
  | ops.ENTERS
  | ops.EXITS
  | SUMS
  | PRODUCTS
  | FILLS
  | {"Transpose", "StridedSlice", "Slice", "ConcatV2", "Pack", "Sum", "Mean"}
)

_MIXED = """
  one = Const(^p) {value=$one}
  q = Sub(one, p)
  taken = Mul(p, a)
  not_taken = Mul(q, b)
  mixed = AddV2(taken, not_taken)
"""
_CLIPPED = """
  zero = Const(^x) {value=$zero}
  one = Const(^x) {value=$one}
  raised = Maximum(x, zero)
  clipped = Minimum(raised, one)
"""


def shape_slot(op):
  """The index of a random op's input that is its shape."""
  return 2 if op.startswith("Stateful") else 0


class Means:
  """Adds nodes that compute means to a model's graph.

  In a graph's own shapes the mean of noise has the noise's shape; else it may
  be narrower, as a constant is, and broadcasts to it.
  """

  def __init__(self, model: Model, randomness: Randomness):
    self._model = model
    self._graph = model.graph
    self._randomness = randomness
    self._emitter = Emitter(model.graph, model.signatures)
    self._numbers = [
      Expectation(model.graph, randomness, trial, {}) for trial in TRIALS
    ]
    self._made: Dict[Tuple[TensorRef, bool], Optional[TensorRef]] = {}

  def number(self, ref: TensorRef):
    """The mean as one number, where it is the same whatever is stored."""
    values = []
    for numbers in self._numbers:
      found = numbers.of(ref)
      if found is None or np.size(found.value) != 1:
        return None
      values.append(float(np.reshape(found.value, ())))
    low, high = values
    return low if low == high and np.isfinite(low) else None

  def of(self, ref: TensorRef, keeps_shape: bool) -> Optional[TensorRef]:
    """A tensor with the mean of another; None where it is not known.

    Args:
      ref: noise, or free of draws.
      keeps_shape: whether it has the other's shape, too.
    """
    if not self._randomness.draws(ref):
      return ref
    key = ref, keeps_shape
    if key not in self._made:
      self._made[key] = None  # in a loop it is asked for itself
      self._made[key] = self._find(ref, keeps_shape)
    return self._made[key]

  def dtype(self, ref):
    """The DType of a tensor's mean: that of whole numbers is none."""
    dtype = self._model.dtype(ref)
    return dtype if dtype.is_floating else tf1.float32

  def constant(self, ref, value):
    """A number where a tensor stands, in its loop."""
    dtype, frame = self.dtype(ref), self._randomness.contexts.frame(ref.node)
    name = f"{ref.node}/mean"
    made = constant(self._graph, name, value, dtype)
    return self._randomness.contexts.carry(made, dtype, frame)

  def mixed(self, ref, chance, a, b):
    """p a + (1 - p) b in the place of a tensor; a or b may be None for 0."""
    dtype = self.dtype(ref)
    one = np.array(1, dtype.as_numpy_dtype)
    p = self._cast(chance, dtype)
    if b is None:
      return self._emitter.emit(ref.node, "taken = Mul(p, a)", p=p, a=a)[
        "taken"
      ]
    if a is None:
      text = "one = Const(^p) {value=$one}  q = Sub(one, p)  t = Mul(q, b)"
      return self._emitter.emit(ref.node, text, p=p, b=b, one=one)["t"]
    return self._emitter.emit(ref.node, _MIXED, p=p, a=a, b=b, one=one)["mixed"]

  def _cast(self, ref, dtype):
    if self._model.dtype(ref) == dtype:
      return ref
    text, to = "cast = Cast(x) {DstT=$to}", type_attr(dtype)
    return self._emitter.emit(ref.node, text, x=ref, to=to)["cast"]

  def _find(self, ref, keeps_shape):
    node = self._graph.node(ref.node)
    refs = self._graph.data_inputs(ref.node)
    value, shape = self.number(ref), static_shape(self._graph, ref)
    if value is not None and not keeps_shape:
      return self.constant(ref, value)
    if value is not None and shape is not None and -1 not in shape:
      return self.constant(ref, np.full(shape, value))
    if ref.index:
      return None
    if node.op in MEANS:
      return self._source(ref, MEANS[node.op], keeps_shape)
    if node.op in STEPS:
      return self._step(node, refs, keeps_shape)
    if node.op in ops.SELECTS or node.op in ops.MERGES:
      return self._choice(node, refs, keeps_shape)
    if node.op == "LogicalNot":
      mean = self.of(refs[0], keeps_shape)
      one = np.float32(1)
      text = "one = Const(^p) {value=$one}   chance = Sub(one, p)"
      made = mean and self._emitter.emit(node.name, text, p=mean, one=one)
      return made and made["chance"]
    if node.op not in _LINEAR or not self._is_linear(node, refs):
      return None
    means = [self.of(r, keeps_shape) for r in refs]
    return None if None in means else self._copied(node, means)

  def _is_linear(self, node, refs):
    """Whether no draw is cut off, divided by or multiplied with itself."""
    if node.op == "Cast":
      dtypes = [tf1.as_dtype(node.attr[k].type) for k in ("SrcT", "DstT")]
      is_cut = dtypes[0].is_floating and not dtypes[1].is_floating
      return not is_cut or is_whole(self._graph, refs[0])
    if not divides(node):
      return False
    drawn = [self._randomness.draws(ref) for ref in refs]
    if node.op in QUOTIENTS:
      return not drawn[1]
    return node.op not in PRODUCTS or not drawn[0] & drawn[1]

  def _copied(self, node, refs):
    """A copy of a node that reads other tensors, as floats."""
    if node.op == "Cast":
      return self._cast(refs[0], self.dtype(TensorRef(node.name)))
    if node.op in SUMS | PRODUCTS:
      refs = [self._cast(ref, self.dtype(ref)) for ref in refs]
    told = ("T", "_output_shapes")
    attrs = {k: v for k, v in node.attr.items() if k not in told}
    return self._emitter.add(node.op, f"{node.name}/mean", refs, attrs)

  def _source(self, ref, value, keeps_shape):
    """A number in the place of what a random op draws."""
    if not keeps_shape:
      return self.constant(ref, value)
    dtype = self.dtype(ref)
    op = self._graph.op(ref.node)
    shape = self._graph.data_inputs(ref.node)[shape_slot(op)]
    text = "value = Const(^shape) {value=$value}   mean = Fill(shape, value)"
    value = np.array(value, dtype.as_numpy_dtype)
    made = self._emitter.emit(ref.node, text, shape=shape, value=value)
    return made["mean"]

  def _instead(self, ref, source, value, keeps_shape):
    """A tensor's value for one value that a random op draws."""
    if ref == source:
      return self._source(ref, value, keeps_shape)
    if not self._randomness.draws(ref):
      return ref
    node, inputs = self._graph.node(ref.node), self._graph.data_inputs(ref.node)
    if node.op not in _LINEAR or not self._is_linear(node, inputs):
      return None
    refs = [self._instead(r, source, value, keeps_shape) for r in inputs]
    return None if None in refs else self._copied(node, refs)

  def _step(self, node, refs, keeps_shape):
    """Floors and comparisons of a number that is uniform."""
    drawn = [ref for ref in refs if self._randomness.draws(ref)]
    ends = [n.ends(drawn[0]) for n in self._numbers] if len(drawn) == 1 else []
    if not ends or None in ends:
      return None
    source, (slope, other) = ends[0][0], [high - low for _, low, high in ends]
    if not _is_one_number(slope, other):
      return None
    low = self._instead(drawn[0], source, 0.0, keeps_shape)
    if low is None:
      return None
    dtype = self.dtype(drawn[0])
    like = dtype.as_numpy_dtype
    if node.op in ROUNDINGS:
      if abs(abs(slope) - 1) > ROUNDING:
        return None
      more = np.array(ROUNDED[node.op] - (slope < 0), like)
      text = "more = Const(^x) {value=$more}   mean = AddV2(x, more)"
      return self._emitter.emit(node.name, text, x=low, more=more)["mean"]
    assert node.op in COMPARISONS
    return self._chance(node, refs, drawn[0], low, slope)

  def _chance(self, node, refs, drawn, low, slope):
    """How likely a comparison of a number with a uniform one is true."""
    like = self.dtype(drawn).as_numpy_dtype
    limit = refs[1 if drawn == refs[0] else 0]
    text = """
      width = Const(^low) {value=$slope}
      above = Sub(limit, low)
      part = RealDiv(above, width)
    """
    made = self._emitter.emit(
      node.name, text, limit=limit, low=low, slope=np.array(slope, like)
    )
    ends = {"zero": np.array(0, like), "one": np.array(1, like)}
    part = self._emitter.emit(node.name, _CLIPPED, x=made["part"], **ends)
    chance = part["clipped"]
    is_less = node.op.startswith("Less") == (drawn == refs[0])
    if is_less != (slope > 0):
      text = "one = Const(^p) {value=$one}   rest = Sub(one, p)"
      made = self._emitter.emit(node.name, text, p=chance, one=ends["one"])
      chance = made["rest"]
    return self._cast(chance, tf1.float32)

  def _choice(self, node, refs, keeps_shape):
    """A random one of two numbers that no data reaches."""
    predicate, sides = refs[0], refs[1:]
    if node.op in ops.MERGES:
      found = self.choice_of(node)
      if found is None:
        return None
      predicate, sides = found[0], found[1:]
    bits = [self._randomness.draws(ref) for ref in (predicate, *sides)]
    if bits[0] & (bits[1] | bits[2]) or not bits[0]:
      return None
    means = [self.of(ref, keeps_shape) for ref in (predicate, *sides)]
    return None if None in means else self.mixed(TensorRef(node.name), *means)

  def choice_of(self, node):
    """The random predicate of a Merge and what is taken for True and False."""
    refs = self._graph.data_inputs(node.name)
    predicates = [
      p for p in self._randomness.predicates(node) if self._randomness.draws(p)
    ]
    if len(refs) != 2 or len(predicates) != 1:
      return None
    sides = sides_of(self._randomness.contexts, refs, predicates[0])
    return None if sides is None else [predicates[0], *sides]


def _is_one_number(slope, other):
  """Whether two slopes are the same number, and not zero."""
  return (
    np.size(slope) == 1
    and np.size(other) == 1
    and np.isclose(slope, other)
    and abs(slope) >= ROUNDING
  )
