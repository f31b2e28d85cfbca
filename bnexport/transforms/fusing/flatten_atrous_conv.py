# SPDX-License-Identifier: Apache-2.0
"""Atrous convolutions without the trip through the batch."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List, NamedTuple, Tuple

import numpy as np

from bnexport.analysis.shapes import data_format
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import (
  DEFERRED,
  constant,
  constant_value,
  tensor_attr,
)
from bnexport.graph.origins import holder_of
from bnexport.model import Model
from bnexport.text import Emitter
from bnexport.tf1 import tf1
from bnexport.transforms.fusing.shape_arithmetic import value_of
from bnexport.transforms.uses import Uses, controls

_AXES = frozenset((1, 2, 3))
_LARGE = 1 << 10  # a size of an image that no padding exceeds
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
# Attributes that say how the convolution runs, not what of.
_KEPT = ("T", "strides", "data_format", "use_cudnn_on_gpu", "_class")


class _Atrous(NamedTuple):
  """An atrous convolution as tf.nn.convolution writes it.

  Attributes:
    name: the BatchToSpaceND.
    conv: the convolution.
    x: what is convolved.
    filter: the filter's Const.
    axes: of height and width.
    rates: for height and width.
    pads: before and after, for height and width.
  """

  name: str
  conv: str
  x: TensorRef
  filter: str
  axes: Tuple[int, int]
  rates: Tuple[int, int]
  pads: Tuple[Tuple[int, int], Tuple[int, int]]


class _Obstacle(Exception):
  """The reason why one convolution stays as it is."""


@dataclasses.dataclass(frozen=True)
class FlattenAtrousConv:
  """A convolution between SpaceToBatchND and BatchToSpaceND is a plain one.

  Its filter is spread: rate - 1 zeros stand between its taps, which is more
  to multiply, and runs where neither dilation nor the two ops do. From the
  paddings p and crops c of the two ops, the rate b and the inner padding q
  follows the padding of the plain convolution: p - c + q * b on either side,
  which is SAME, VALID, or a Pad of its own. Paddings that are computed from
  the size of the image, as tf.nn.convolution does where it is open, are found
  to be of the same kind for all sizes.

  Before: b = Const() {value=<int32 [2] 2 2>}
          p = Const() {value=<int32 [2,2] 2 3 2 3>}
          c = Const() {value=<int32 [2,2] 0 1 0 1>}
          w = Const() {value=<float [3,3,1,1] 1 2 3 4 5 6 7 8 9>}
          s = SpaceToBatchND(x, b, p)
          a = Conv2D(s, w) {strides=(1, 1, 1, 1), padding="VALID"}
          y = BatchToSpaceND(a, b, c)
  After:  w = Const() {value=<float [5,5,1,1]
              1 0 2 0 3  0 0 0 0 0  4 0 5 0 6  0 0 0 0 0  7 0 8 0 9>}
          y = Conv2D(x, w) {strides=(1, 1, 1, 1), padding="SAME"}

  Leaves alone a convolution with strides or a dilation of its own, one that
  has another reader or is an output, a filter that is no constant, and crops
  that reach into the image.
  """

  name: ClassVar[str] = "flatten_atrous_conv"

  def apply(self, model: Model) -> List[str]:
    graph, told = model.graph, []
    uses = Uses(model)
    for name in graph.names():
      if name not in graph or graph.op(name) != "BatchToSpaceND":
        continue
      try:
        found = _find(graph, uses, name)
      except _Obstacle as reason:
        told.append(f"left atrous convolution '{name}' as it is: {reason}")
        continue
      if found is not None:
        _flatten(model, uses, found)
        told.append(f"flattened atrous convolution '{name}'")
    return told


def _find(graph, uses, name):
  """The atrous convolution that ends in `name`; None where there is none.

  Raises:
    _Obstacle: there is one, and it can't be flattened.
  """
  output, block_after, crops = graph.data_inputs(name)
  conv = output.node
  if graph.op(conv) not in _CONVOLUTIONS:
    return None
  split, weights = graph.data_inputs(conv)
  if graph.op(split.node) != "SpaceToBatchND":
    return None
  x, block, paddings = graph.data_inputs(split.node)
  node = graph.node(conv)
  if not uses.is_inner(conv, name):
    raise _Obstacle(f"'{conv}' is read elsewhere or is an end of the model")
  for key in ("strides", "dilations"):
    if key in node.attr and any(i != 1 for i in node.attr[key].list.i):
      raise _Obstacle(f"'{conv}' has {key} of its own")
  filter_node = holder_of(graph, weights, ("Const",), ops.IDENTITIES)
  if filter_node is None:
    raise _Obstacle(f"its filter '{weights.node}' is no constant")
  axes = (2, 3) if data_format(node) == b"NCHW" else (1, 2)
  rates = _rates(graph, (block, block_after), axes)
  pads = tuple(
    tuple(int(outer + inner * rate) for outer, inner in zip(*both))
    for rate, both in zip(
      rates,
      zip(
        _outer_padding(graph, x, (paddings, crops), axes, rates),
        _inner_padding(node, _taps(graph, filter_node), axes),
      ),
    )
  )
  if min(min(pair) for pair in pads) < 0:
    raise _Obstacle("its crops reach into the image")
  return _Atrous(name, conv, x, filter_node, axes, rates, pads)


def _taps(graph, filter_node):
  shape = graph.node(filter_node).attr["value"].tensor.tensor_shape
  return [dim.size for dim in shape.dim[:2]]


def _rates(graph, blocks, axes):
  """The rates for height and width, which both ops have to state."""
  both = [constant_value(graph, block) for block in blocks]
  if both[0] is None or not np.array_equal(*both):
    raise _Obstacle("its block shapes are not constant, or differ")
  by_axis = _by_axis(both[0], 1)
  if any(by_axis[axis] != 1 for axis in _AXES.difference(axes)):
    raise _Obstacle("its block shape splits the channels")
  return tuple(int(by_axis[axis]) for axis in axes)


def _by_axis(rows, otherwise):
  """The statements of a SpaceToBatchND, for every axis."""
  found = dict.fromkeys(_AXES, otherwise)
  found.update(enumerate(rows, start=1))
  return found


def _outer_padding(graph, x, tensors, axes, rates):
  """Paddings minus crops, for height and width: of all sizes the same."""
  found = []
  # Which size is left over by a rate repeats with the rate.
  for extra in range(2 * max(rates)):
    shape = [1, 1, 1, 1]
    for axis in axes:
      shape[axis] = _LARGE + extra
    values = [value_of(graph, ref, x, shape) for ref in tensors]
    if any(value is None for value in values):
      raise _Obstacle("its paddings or crops are computed of what is unknown")
    pads, crops = (_by_axis(value, (0, 0)) for value in values)
    margins = {axis: np.subtract(pads[axis], crops[axis]) for axis in _AXES}
    if any(np.any(margins[axis]) for axis in _AXES.difference(axes)):
      raise _Obstacle("it pads the channels")
    found.append(tuple(tuple(margins[axis]) for axis in axes))
  if len(set(found)) > 1:
    raise _Obstacle("its paddings depend on the size of the image")
  return found[0]


def _inner_padding(node, taps, axes):
  """Padding of the convolution itself, for height and width."""
  padding = node.attr["padding"].s
  if padding == b"EXPLICIT":
    explicit = node.attr["explicit_paddings"].list.i
    return [explicit[2 * axis : 2 * axis + 2] for axis in axes]
  if padding == b"SAME":
    return [_same(size - 1) for size in taps]
  return [(0, 0), (0, 0)]


def _same(total):
  """The padding of "SAME" before and after, without strides."""
  return total // 2, total - total // 2


def _flatten(model, uses, found):
  graph, node = model.graph, model.graph.node(found.conv)
  spans = [
    (size - 1) * rate
    for size, rate in zip(_taps(graph, found.filter), found.rates)
  ]
  weights = _spread_filter(model, uses, found)
  x, padding = found.x, b"VALID"
  if found.pads == tuple(map(_same, spans)):
    padding = b"SAME"
  elif np.any(found.pads):
    x = _pad(graph, uses, found, node.attr["T"])
  attrs = {key: node.attr[key] for key in _KEPT if key in node.attr}
  attrs["padding"] = tf1.AttrValue(s=padding)
  old = graph.data_inputs(found.name)
  split = graph.data_inputs(found.conv)[0].node
  waits = controls(graph, found.name, found.conv, split)
  graph.become(found.name, node.op, [x, weights] + waits, attrs)
  graph.node(found.name).device = node.device
  uses.remove_unread(ref.node for ref in old)


def _spread_filter(model, uses, found):
  """The filter with rate - 1 zeros between its taps, as a Const."""
  graph, values = model.graph, model.array(found.filter)
  height, width = found.rates
  rows, columns = _taps(graph, found.filter)
  spread = np.zeros(
    ((rows - 1) * height + 1, (columns - 1) * width + 1) + values.shape[2:],
    values.dtype,
  )
  spread[::height, ::width] = values
  if uses.is_inner(found.filter, found.conv):
    node = graph.node(found.filter)
    node.attr["value"].CopyFrom(tensor_attr(spread))
    for key in (DEFERRED, "_output_shapes"):
      node.attr.pop(key, None)
    return TensorRef(found.filter)
  control = graph.control_inputs(found.filter)
  return constant(graph, found.conv + "/spread_filter", spread, control=control)


def _pad(graph, uses, found, dtype):
  """A Pad of what is convolved, with zeros."""
  rows = np.zeros((4, 2), np.int32)
  rows[list(found.axes)] = found.pads
  text = """
    Pad/paddings = Const(^beside) {value=$rows}
    Pad = Pad(x, Pad/paddings) {T=$T}
  """
  beside = uses.beside(found.x)
  made = Emitter(graph).emit(
    found.name, text, x=found.x, beside=beside, rows=rows, T=dtype
  )
  return made["Pad"]
