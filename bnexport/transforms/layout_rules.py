"""How each op that convert_layout knows goes from channels first to last.

A follower is a function of the conversion and a node that has a channels last
input. It rewrites the node and returns True, or returns False and leaves it:
then it reads channels first.
"""

from __future__ import annotations

import numpy as np
from tensorflow.core.framework import types_pb2

from bnexport.graph import TensorRef
from bnexport.nodes import constant_value, static_shape

# Where an op with a data format takes the data.
DATA_SLOT = {
  "Conv2D": 0, "DepthwiseConv2dNative": 0, "Conv2DBackpropInput": 2,
  "Conv3D": 0, "Conv3DBackpropInputV2": 2, "MaxPool": 0, "MaxPoolV2": 0,
  "AvgPool": 0, "MaxPool3D": 0, "AvgPool3D": 0, "BiasAdd": 0,
  "FusedBatchNorm": 0, "FusedBatchNormV2": 0, "FusedBatchNormV3": 0,
  "SpaceToDepth": 0, "DepthToSpace": 0,
}
# Where it takes the shape of its result.
SIZES_SLOT = {"Conv2DBackpropInput": 0, "Conv3DBackpropInputV2": 0}
RANKS = {
  op: 5 if "3D" in op else 4 for op in DATA_SLOT
  if op != "BiasAdd" and not op.startswith("FusedBatchNorm")
}
_INT32 = types_pb2.DT_INT32
_PER_AXIS = ("strides", "ksize", "dilations")


def to_last(rank):
  """Permutation from channels first to channels last."""
  return (0,) + tuple(range(2, rank)) + (1,)


def to_first(rank):
  """Permutation from channels last to channels first."""
  return (0, rank - 1) + tuple(range(1, rank - 1))


def _axis(axis, rank):
  """Where an axis of a channels first tensor is when channels are last."""
  return to_last(rank).index(int(axis) % rank)


def is_channels_first(node):
  return ("data_format" in node.attr
          and node.attr["data_format"].s in (b"NCHW", b"NCDHW"))


def turn_attributes(node, rank):
  """Permutes the attributes that have an entry for each axis."""
  node.attr["data_format"].s = b"NDHWC" if (
    node.attr["data_format"].s == b"NCDHW") else b"NHWC"
  for key in _PER_AXIS:
    if key in node.attr and len(node.attr[key].list.i) == rank:
      values = [node.attr[key].list.i[a] for a in to_last(rank)]
      node.attr[key].list.i[:] = values
  if "explicit_paddings" in node.attr:
    pads = list(node.attr["explicit_paddings"].list.i)
    if pads:
      node.attr["explicit_paddings"].list.i[:] = [
        pads[2 * a + side] for a in to_last(rank) for side in (0, 1)]


def _rank(conversion, node):
  return next(conversion.rank[ref]
              for ref in conversion.graph.data_inputs(node.name)
              if ref in conversion.rank)


def _elementwise(conversion, node):
  rank = _rank(conversion, node)
  operands = [conversion.operand(ref, rank)
              for ref in conversion.graph.data_inputs(node.name)]
  if None in operands:
    return False
  return conversion.follow(node, operands, rank)


def _select(conversion, node):
  """The condition may be one bool for all, or one a row."""
  rank = _rank(conversion, node)
  condition, *branches = conversion.graph.data_inputs(node.name)
  if condition not in conversion.rank:
    shape = static_shape(conversion.graph, condition)
    if shape is None or len(shape) > 1:
      return False
  operands = [conversion.operand(ref, rank) for ref in branches]
  if None in operands:
    return False
  return conversion.follow(node, [condition] + operands, rank)


def _switch(conversion, node):
  data = conversion.graph.data_inputs(node.name)
  if data[0] not in conversion.rank:
    return False
  return conversion.follow(node, data, conversion.rank[data[0]], outputs=2)


def _merge(conversion, node):
  data = conversion.graph.data_inputs(node.name)
  if not all(ref in conversion.rank for ref in data):
    return False
  return conversion.follow(node, data, conversion.rank[data[0]])


def _concat(conversion, node):
  graph, rank = conversion.graph, _rank(conversion, node)
  data = graph.data_inputs(node.name)
  slot = 0 if node.op == "Concat" else len(data) - 1
  axis = constant_value(graph, data[slot], largest=1)
  if axis is None:
    return False
  for i, ref in enumerate(data):
    if i != slot:
      data[i] = conversion.channels_last(ref, rank)
  data[slot] = conversion.vector(data[slot - 1], node.name + "/axis_last",
                                 _axis(axis.reshape(-1)[0], rank))
  if node.op == "ConcatV2":
    node.attr["Tidx"].type = _INT32
  return conversion.follow(node, data, rank)


def _pad(conversion, node):
  rank = _rank(conversion, node)
  data = conversion.graph.data_inputs(node.name)
  if data[0] not in conversion.rank:
    return False
  data[1] = conversion.gathered(data[1], to_last(rank), "NHWC")
  return conversion.follow(node, data, rank)


def _reduce(conversion, node):
  graph, rank = conversion.graph, _rank(conversion, node)
  data = graph.data_inputs(node.name)
  axes = constant_value(graph, data[1], largest=8)
  if axes is None or data[0] not in conversion.rank:
    return False
  axes = sorted(int(a) % rank for a in axes.reshape(-1))
  keeps = node.attr["keep_dims"].b
  if not keeps and not _order_survives(axes, rank):
    return False
  moved = sorted(_axis(a, rank) for a in axes)
  data[1] = conversion.vector(data[0], node.name + "/axes_last", moved)
  node.attr["Tidx"].type = _INT32
  if keeps:
    return conversion.follow(node, data, rank)
  return conversion.settle(node, data)


def _order_survives(gone, rank):
  """Whether the axes that are left have one order in both layouts."""
  left = [a for a in range(rank) if a not in gone]
  return [a for a in to_last(rank) if a in left] == left


def _squeeze(conversion, node):
  rank = _rank(conversion, node)
  axes = sorted(a % rank for a in node.attr["squeeze_dims"].list.i)
  if not axes or not _order_survives(axes, rank):
    return False
  node.attr["squeeze_dims"].list.i[:] = sorted(_axis(a, rank) for a in axes)
  return True


def _shape(conversion, node):
  """The shape as it was: readers count on its order."""
  graph = conversion.graph
  rank = _rank(conversion, node)
  readers = graph.readers(node.name)
  first = conversion.gathered(TensorRef(node.name), to_first(rank), "NCHW")
  graph.redirect(TensorRef(node.name), first, readers)
  return True


def _transpose(conversion, node):
  graph, rank = conversion.graph, _rank(conversion, node)
  data = graph.data_inputs(node.name)
  perm = constant_value(graph, data[1], largest=8)
  if perm is None:
    return False
  moved = [_axis(a, rank) for a in perm]
  data[1] = conversion.vector(data[0], node.name + "/perm_last", moved)
  node.attr["Tperm"].type = _INT32
  return conversion.settle(node, data)


def _split(conversion, node):
  graph, rank = conversion.graph, _rank(conversion, node)
  data = graph.data_inputs(node.name)
  axis_slot, data_slot = (0, 1) if node.op == "Split" else (2, 0)
  axis = constant_value(graph, data[axis_slot], largest=1)
  if axis is None or data[data_slot] not in conversion.rank:
    return False
  data[axis_slot] = conversion.vector(
    data[data_slot], node.name + "/axis_last", _axis(axis.reshape(-1)[0],
                                                     rank))
  return conversion.follow(node, data, rank, node.attr["num_split"].i)


def _slice(conversion, node):
  rank = _rank(conversion, node)
  data = conversion.graph.data_inputs(node.name)
  if data[0] not in conversion.rank:
    return False
  data[1:] = [conversion.gathered(ref, to_last(rank), "NHWC")
              for ref in data[1:]]
  return conversion.follow(node, data, rank)


def _strided_slice(conversion, node):
  graph, rank = conversion.graph, _rank(conversion, node)
  data = graph.data_inputs(node.name)
  bounds = [constant_value(graph, ref, largest=8) for ref in data[1:]]
  masks = ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
  if (data[0] not in conversion.rank or any(b is None for b in bounds)
      or any(node.attr[mask].i for mask in masks)):
    return False
  missing = rank - bounds[0].size
  fill = (0, 0, 1)
  bounds = [np.concatenate([b, np.full(missing, f, b.dtype)])
            for b, f in zip(bounds, fill)]
  order = to_last(rank)
  for i, (bound, label) in enumerate(zip(bounds, ("begin", "end", "stride"))):
    data[i + 1] = conversion.vector(data[0], "%s/%s_last" % (
      node.name, label), bound[list(order)])
  node.attr["Index"].type = _INT32
  beyond = sum(1 << a for a in range(rank - missing, rank))
  for mask in ("begin_mask", "end_mask"):
    bits = node.attr[mask].i | beyond
    node.attr[mask].i = sum(
      1 << i for i, a in enumerate(order) if bits >> a & 1)
  return conversion.follow(node, data, rank)


_ELEMENTWISE = (
  "Abs Add AddN AddV2 Ceil Cast CheckNumerics Clip ClipByValue Div DivNoNan "
  "Elu Equal EnsureShape Exp Floor FloorDiv Greater GreaterEqual Identity "
  "Less LessEqual LeakyRelu Log Log1p LogicalAnd LogicalNot LogicalOr Maximum "
  "Minimum Mul Neg OnesLike Pow PreventGradient RealDiv Reciprocal Relu Relu6 "
  "Round Rsqrt Selu Sigmoid Sign Softplus Softsign Sqrt Square "
  "SquaredDifference StopGradient Sub Tanh ZerosLike Exit").split()

FOLLOWERS = {op: _elementwise for op in _ELEMENTWISE}
FOLLOWERS.update({
  "Select": _select, "SelectV2": _select, "Switch": _switch, "Merge": _merge,
  "Concat": _concat, "ConcatV2": _concat, "Pad": _pad, "PadV2": _pad,
  "MirrorPad": _pad, "Mean": _reduce, "Sum": _reduce, "Max": _reduce,
  "Min": _reduce, "Prod": _reduce, "All": _reduce, "Any": _reduce,
  "Squeeze": _squeeze, "Shape": _shape, "Transpose": _transpose,
  "Split": _split, "SplitV": _split, "Slice": _slice,
  "StridedSlice": _strided_slice,
})
