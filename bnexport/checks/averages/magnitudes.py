# SPDX-License-Identifier: Apache-2.0
"""Upper bounds for the values of layers, from the norms before them.

Nothing is run. On the data that its averages are of, a norm's output has mean
beta and variance gamma squared. From there on

  rms(relu(a)) <= rms(a)            rms(a + b) <= rms(a) + rms(b)
  rms(w * a + b) <= |w| * |rms(a)| + |b|

with rms the root of the mean square and |.| the root of the sum of squares
over the operands of one output element: Minkowski's inequality and Cauchy's
and Schwarz's. The last one without b bounds the deviation too: the variance
of a layer's channel is at most |w|^2 times the mean square of its operands.
"""

from __future__ import annotations

import numpy as np

from bnexport.analysis import arithmetic
from bnexport.analysis.dependence import FREE
from bnexport.batchnorm.forms import NORM_OPS, op_form
from bnexport.batchnorm.norm import STORED
from bnexport.graph import TensorRef, ops
from bnexport.graph.origins import BRANCH_VIEWS, origin_of, stored_name

# The bound of a tensor of which nothing is known. Images of 16 bits stay below
# 65536, and columns of a table are seldom larger than this.
_UNKNOWN = 1e6

# Ops whose output elements are no larger than the input's; in pools of means
# the mean square is no larger.
_SHRINKING = (
  ops.CARRIERS
  | ops.SWITCHES
  | frozenset(
    "Relu Relu6 LeakyRelu Elu Tanh Cast Pad AvgPool AvgPool3D SpaceToBatchND "
    "BatchToSpaceND".split()
  )
)
# Ops of that kind that reorder channels or select some of them.
_MIXING = frozenset(
  "Reshape Squeeze ExpandDims Transpose Mean Slice StridedSlice ConcatV2 "
  "ResizeBilinear ResizeNearestNeighbor".split()
)
_SUMS = frozenset(("Add", "AddV2", "AddN", "BiasAdd"))

# By op: the slots of data and weights, and the axes of the weights that are
# output channels.
_PRODUCTS = {
  "Conv2D": (0, 1, (3,)),
  "Conv3D": (0, 1, (4,)),
  "MatMul": (0, 1, (1,)),
  "DepthwiseConv2dNative": (0, 1, (2, 3)),
  "Conv2DBackpropInput": (2, 1, (2,)),
  "Conv3DBackpropInputV2": (2, 1, (3,)),
}

_LARGEST_VECTOR = 1 << 20
_VECTOR_OPS = arithmetic.select("Add AddV2 Mul Neg RealDiv Rsqrt Sqrt Sub")


def _viewed(graph, ref):
  return origin_of(graph, ref, BRANCH_VIEWS)


def product_of(graph, ref):
  """Name of the product behind a tensor, through views and biases, or None."""
  ref = _viewed(graph, ref)
  if graph.op(ref.node) == "BiasAdd" or (
    graph.op(ref.node) in _SUMS
    and stored_name(graph, graph.data_inputs(ref.node)[1]) is not None
  ):
    ref = _viewed(graph, graph.data_inputs(ref.node)[0])
  return ref.node if graph.op(ref.node) in _PRODUCTS else None


class Magnitudes:
  """Bounds for the tensors of a graph, per channel."""

  def __init__(self, subject):
    """Sweeps over the forward pass of a Subject once."""
    self._subject = subject
    self._graph = subject.graph
    self._rms = {}
    self._weights = {}  # what is known of those of products, by their names
    self._norms = {
      _viewed(self._graph, norm.x): norm
      for norm in subject.norms
      if norm.x is not None and norm.statistics == STORED
    }
    with np.errstate(all="ignore"):  # damaged values are no surprise here
      for name in subject.flow.order:
        if name in subject.needed:
          self._rms[name] = self._bound(name)

  def largest_variance(self, product):
    """Bounds of the variances of a layer's channels; None where unknown."""
    with np.errstate(all="ignore"):
      bound = self._product(product, self._graph.data_inputs(product))
      return None if bound is None else bound**2

  def _of(self, ref):
    return self._rms.get(ref.node, _UNKNOWN)

  def _bound(self, name):
    """Array of a bound per channel, or one number for all of them."""
    bound = _BOUNDS.get(self._graph.op(name), lambda *_: None)
    found = bound(self, name, self._graph.data_inputs(name))
    return _UNKNOWN if found is None else found

  def _of_sum(self, name, refs):
    bound = self._normalised(name)
    return self._combined(refs, sum) if bound is None else bound

  def _of_merge(self, name, refs):
    return self._combined(refs, lambda all: np.max(list(all), axis=0))

  def _of_window(self, name, refs):
    # The largest square is no larger than the sum of all in the window.
    window = list(self._graph.node(name).attr["ksize"].list.i) or [1]
    return self._of(refs[0]) * np.sqrt(np.prod(window))

  def _of_shrunk(self, name, refs):
    return self._of(refs[0])

  def _of_mixed(self, name, refs):
    data = [r for r in refs if self._subject.flow.dependence(r) != FREE]
    return max((np.max(self._of(ref)) for ref in data), default=None)

  def _of_norm(self, name, refs):
    form = op_form(self._graph.op(name))
    scale = form.scale(self._graph, name)
    gamma = 1.0 if scale is None else self._value(scale)
    beta = self._value(form.input(self._graph, name, form.beta))
    return None if gamma is None or beta is None else np.hypot(gamma, beta)

  def _combined(self, refs, combine):
    """One bound from those of several tensors, where their channels agree."""
    bounds = []
    for ref in refs:
      stored = self._value(ref)
      bounds.append(self._of(ref) if stored is None else np.abs(stored))
    sizes = {np.size(bound) for bound in bounds} - {1}
    return combine(np.broadcast_arrays(*bounds)) if len(sizes) < 2 else None

  def _product(self, name, refs):
    """|w| times |rms| over one output element's operands, by channel."""
    data, slot, kept = _PRODUCTS[self._graph.op(name)]
    if name not in self._weights:
      self._weights[name] = self._lengths(name, refs[slot], kept)
    if self._weights[name] is None:
      return None
    norm, count, shape = self._weights[name]
    rms = np.asarray(self._of(refs[data]), np.float64).reshape(-1)
    if len(kept) == 2 and rms.size == shape[2]:
      # A channel of a depthwise layer has one channel as its operand.
      return norm * np.sqrt(count) * np.repeat(rms, shape[3])
    if len(kept) == 1 and count % rms.size == 0:
      return norm * np.sqrt(np.sum(rms**2) * (count // rms.size))
    return norm * np.sqrt(count) * np.max(rms)

  def _lengths(self, name, ref, kept):
    """|w| by channel, over how many weights that is, and the shape of all.

    None where they are not stored.
    """
    node, weights = self._graph.node(name), self._stored(ref)
    if weights is None or node.attr["transpose_a"].b:
      return None
    squares = weights.astype(np.float64)
    squares *= squares
    if node.op == "MatMul" and node.attr["transpose_b"].b:
      squares = squares.T
    summed = [axis for axis in range(squares.ndim) if axis not in kept]
    count = int(np.prod([squares.shape[axis] for axis in summed]))
    norm = np.sqrt(np.sum(squares, axis=tuple(summed))).reshape(-1)
    return norm, count, squares.shape

  # Norms that are spelled out.

  def _normalised(self, name):
    """Bound of `scale * x + shift` where x is what a norm normalises."""
    found = self._affine(TensorRef(name))
    if found is None:
      return None
    norm, scale, shift = found
    mean, variance = (
      self._flat(n) for n in (norm.moving_mean, norm.moving_variance)
    )
    if mean is None or variance is None:
      return None
    sizes = {a.size for a in (mean, variance, scale, shift)} - {1}
    if len(sizes) > 1:
      return None
    return np.hypot(
      scale * np.sqrt(np.maximum(variance, 0)), scale * mean + shift
    )

  def _affine(self, ref):
    """(norm, scale, shift) where a tensor is its x, scaled and shifted."""
    graph = self._graph
    seen = _viewed(graph, ref)
    if seen in self._norms:
      return self._norms[seen], np.ones(1), np.zeros(1)
    op = graph.op(seen.node)
    if op not in ("Mul", "Add", "AddV2", "Sub", "RealDiv"):
      return None
    for x, other in _orders(op, graph.data_inputs(seen.node)):
      value = self._value(other)
      inner = None if value is None else self._affine(x)
      if inner is not None:
        norm, scale, shift = inner
        if op in ("Mul", "RealDiv"):
          factor = value if op == "Mul" else 1 / value
          return norm, scale * factor, shift * factor
        return norm, scale, shift - value if op == "Sub" else shift + value
    return None

  # Stored values.

  def _value(self, ref):
    """A small vector that depends on stored ones alone, or None."""
    graph = self._graph
    ref = _viewed(graph, ref)
    if stored_name(graph, ref) is not None:
      return self._flat(stored_name(graph, ref))
    node = graph.node(ref.node)
    if node.op not in _VECTOR_OPS or ref.index:
      return None
    values = [self._value(r) for r in graph.data_inputs(ref.node)]
    if any(v is None for v in values):
      return None
    return arithmetic.compute(node, values)

  def _flat(self, name):
    value = self._subject.array(name, _LARGEST_VECTOR)
    if value is None or value.dtype.kind not in "fV":
      return None
    return value.astype(np.float64).reshape(-1)

  def _stored(self, ref):
    name = stored_name(self._graph, _viewed(self._graph, ref))
    return None if name is None else self._subject.array(name)


def _orders(op, refs):
  """Pairs (data, stored) that two operands may be."""
  first, second = refs
  yield first, second
  if op in ("Mul", "Add", "AddV2"):
    yield second, first


_BOUNDS = {
  **dict.fromkeys(NORM_OPS, Magnitudes._of_norm),
  **dict.fromkeys(("Sigmoid", "Softmax"), lambda *_: 1.0),
  **dict.fromkeys(_PRODUCTS, Magnitudes._product),
  **dict.fromkeys(_SUMS, Magnitudes._of_sum),
  **dict.fromkeys(ops.MERGES, Magnitudes._of_merge),
  **dict.fromkeys(("MaxPool", "MaxPool3D"), Magnitudes._of_window),
  **dict.fromkeys(_SHRINKING, Magnitudes._of_shrunk),
  **dict.fromkeys(_MIXING, Magnitudes._of_mixed),
}
