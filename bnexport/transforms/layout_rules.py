"""How each op goes over from channels first to channels last.

A rule takes a Layout and a node. It either rewrites the node, reading twins
that have their channels last, and returns True; or it changes nothing and
returns False: the node then goes on reading tensors as they were written.
"""

from __future__ import annotations

from bnexport import ops
from bnexport.graph import TensorRef
from bnexport.nodes import constant_value, type_attr
from bnexport.tf1 import tf1
from bnexport.transforms.layout import (
  RANKS, axis_last, first, keeps_order, last,
)
from bnexport.transforms.shapes import (
  BROADCASTING, UNARY, flag, slice_parts, squeezed,
)

FORMATS = {b"NCHW": b"NHWC", b"NCDHW": b"NDHWC"}
# What is left of a tensor's axes: they stand as they would have without us,
# or their channels are last.
_PLAIN, _LAST = (), (0,)


def _left(rank, dropped):
  """How the axes that stay stand; None where it is neither way."""
  before = [axis for axis in range(rank) if axis not in dropped]
  after = [axis for axis in last(rank) if axis not in dropped]
  if before == after:
    return _PLAIN
  return _LAST if before[:2] == [0, 1] else None


def _ints(layout, ref):
  """A constant scalar's or vector's ints, or None."""
  value = constant_value(layout.graph, ref, largest=16)
  return None if value is None else [int(v) for v in value.reshape(-1)]


def _axes_last(layout, ref, rank):
  """The constant `ref`, axes of a tensor, as a constant for channels last."""
  value = constant_value(layout.graph, ref, largest=16)
  axes = [axis_last(int(axis), rank) for axis in value.reshape(-1)]
  moved = type(value)(value.shape, value.dtype)
  moved.reshape(-1)[:] = axes
  return layout.constant(ref.node + "/NHWC", moved, value.dtype, ref.node)


# Ops that state their layout.

# Slots of the data, and of shapes and sizes that have an entry an axis.
_SPATIAL = dict.fromkeys((
  "AvgPool", "AvgPool3D", "BiasAdd", "Conv2D", "Conv3D", "DepthToSpace",
  "DepthwiseConv2dNative", "FusedBatchNorm", "FusedBatchNormV2",
  "FusedBatchNormV3", "MaxPool", "MaxPool3D", "SpaceToDepth",
), (0, ()))
_SPATIAL.update({
  "Conv2DBackpropInput": (2, (0,)), "Conv3DBackpropInputV2": (2, (0,)),
  "DepthwiseConv2dNativeBackpropInput": (2, (0,)), "MaxPoolV2": (0, (1, 2)),
})


def _spatial(layout, node):
  slot, sizes = _SPATIAL[node.op]
  rank = 5 if node.attr["data_format"].s == b"NCDHW" else 4
  refs = layout.graph.data_inputs(node.name)
  known = layout.shapes.rank(refs[slot])
  if node.op == "BiasAdd":
    rank = known  # says NCHW whatever its rank is
  if rank != known and (known is not None or rank is None):
    return False
  _set_format(node, rank)
  if rank == 2:
    return True
  refs[slot] = layout.last(refs[slot], rank)
  for i in sizes:
    refs[i] = layout.vector(refs[i], rank)
  layout.rewrite(node, refs, _LAST)
  return True


def _set_format(node, rank):
  """Makes a node's attributes those for channels last."""
  node.attr["data_format"].s = FORMATS[node.attr["data_format"].s]
  for key in ("strides", "ksize", "dilations"):
    if key in node.attr and len(node.attr[key].list.i) == rank:
      sizes = node.attr[key].list.i
      sizes[:] = [sizes[axis] for axis in last(rank)]
  if "explicit_paddings" in node.attr:
    pads = node.attr["explicit_paddings"].list.i
    if pads:
      pads[:] = [pads[2 * a + end] for a in last(rank) for end in (0, 1)]


SPATIAL = dict.fromkeys(_SPATIAL, _spatial)


# Ops that work at each place alone.


def _unary(layout, node):
  refs = layout.graph.data_inputs(node.name)
  if not layout.follows(refs[0]):
    return False
  layout.rewrite(node, [layout.last(refs[0])] + [
    layout.first(ref) for ref in refs[1:]], _LAST)
  return True


def _broadcasting(layout, node):
  refs = layout.graph.data_inputs(node.name)
  ranks = [layout.shapes.rank(ref) for ref in refs]
  if None in ranks:
    return False
  rank = max(ranks)
  if not any(layout.follows(ref) and r == rank
             for ref, r in zip(refs, ranks)):
    return False
  twins = [layout.operand(ref, rank) for ref in refs]
  if node.op == "Select" and ranks[0] <= 1:
    twins[0] = refs[0]  # picks rows of the batch
  layout.rewrite(node, twins, _LAST)
  return True


# Ops that take axes, or an entry for each axis.

# Slots of the data (None: all others) and of the axes.
_AXES = {
  "Concat": (None, 0), "ConcatV2": (None, -1), "Cumprod": (0, 1),
  "Cumsum": (0, 1), "ReverseV2": (0, 1), "Roll": (0, 2), "Split": (1, 0),
  "SplitV": (0, 2),
}


def _along(layout, node):
  refs = layout.graph.data_inputs(node.name)
  slot, axes = _AXES[node.op]
  axes %= len(refs)
  slots = [slot] if slot is not None else [
    i for i in range(len(refs)) if i != axes]
  ranks = {layout.shapes.rank(refs[i]) for i in slots}
  if (len(ranks) > 1 or not ranks <= set(RANKS)
      or _ints(layout, refs[axes]) is None
      or not any(layout.follows(refs[i]) for i in slots)):
    return False
  rank = ranks.pop()
  for i in slots:
    refs[i] = layout.last(refs[i])
  refs[axes] = _axes_last(layout, refs[axes], rank)
  layout.rewrite(node, refs, range(layout.output_count(node)))
  return True


_ROWS = {
  "BroadcastTo": (1,), "MirrorPad": (1,), "Pad": (1,), "PadV2": (1,),
  "Slice": (1, 2), "Tile": (1,),
}


def _rows(layout, node):
  refs = layout.graph.data_inputs(node.name)
  rank = layout.shapes.rank(refs[0])
  if not layout.follows(refs[0]) or (
      node.op == "BroadcastTo" and layout.shapes.rank(
        TensorRef(node.name)) != rank):
    return False
  refs[0] = layout.last(refs[0])
  for slot in _ROWS[node.op]:
    refs[slot] = layout.vector(refs[slot], rank)
  layout.rewrite(node, refs, _LAST)
  return True


def _reduction(layout, node):
  x, axes = layout.graph.data_inputs(node.name)
  rank, dropped = layout.shapes.rank(x), _ints(layout, axes)
  if not layout.follows(x) or dropped is None:
    return False
  stand = _LAST
  if not flag(node, "keep_dims"):
    stand = _left(rank, {axis % rank for axis in dropped})
  if stand is None:
    return False
  layout.rewrite(
    node, [layout.last(x), _axes_last(layout, axes, rank)], stand)
  return True


def _gather(layout, node):
  refs = layout.graph.data_inputs(node.name)
  axis = _ints(layout, refs[2]) if node.op == "GatherV2" else [0]
  if (not layout.follows(refs[0]) or axis is None or flag(node, "batch_dims")
      or layout.shapes.rank(refs[1]) != 1):
    return False
  if node.op == "GatherV2":
    refs[2] = _axes_last(layout, refs[2], layout.shapes.rank(refs[0]))
  refs[0] = layout.last(refs[0])
  layout.rewrite(node, refs, _LAST)
  return True


def _squeeze(layout, node):
  x, = layout.graph.data_inputs(node.name)
  shape = layout.shapes.of(x)
  axes = squeezed(node, shape)
  stand = None if axes is None else _left(len(shape), axes)
  if stand is None:
    return False
  node.attr["squeeze_dims"].list.i[:] = [
    axis_last(axis, len(shape)) for axis in axes]
  layout.rewrite(node, [layout.last(x)], stand)
  return True


def _expand_dims(layout, node):
  x, axis = layout.graph.data_inputs(node.name)
  axes, rank = _ints(layout, axis), layout.shapes.rank(x) + 1
  # A new axis among the spatial ones; before or behind them it is anything.
  if axes is None or axes[0] % rank < 2 or rank not in RANKS:
    return False
  layout.rewrite(
    node, [layout.last(x), _axes_last(layout, axis, rank)], _LAST)
  return True


def _unpack(layout, node):
  x, = layout.graph.data_inputs(node.name)
  rank = layout.shapes.rank(x)
  axis = flag(node, "axis") % rank
  stand = _left(rank, [axis])
  if stand is None:
    return False
  node.attr["axis"].i = axis_last(axis, rank)
  count = layout.output_count(node)
  layout.rewrite(node, [layout.last(x)], range(count) if stand else ())
  return True


# Slices.

_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask",
          "shrink_axis_mask")


def _strided_slice(layout, node):
  refs = layout.graph.data_inputs(node.name)
  if not layout.follows(refs[0]):
    return False
  vectors = [_ints(layout, ref) for ref in refs[1:]]
  rank, strides = layout.shapes.rank(refs[0]), vectors[2]
  if strides is None:
    return False
  is_computed = None in vectors[:2]
  if is_computed and (len(strides) != rank or flag(node, "ellipsis_mask")):
    return False
  known = [strides if v is None else v for v in vectors]
  parts = slice_parts(node, known, rank)
  if any(part.begin is None for part in parts):
    return False
  stand = _left(rank, [a for a, p in enumerate(parts) if p.is_index])
  if stand is None:
    return False
  parts = [parts[axis] for axis in last(rank)]
  twins = [layout.last(refs[0])]
  for i, ref in enumerate(refs[1:]):
    if is_computed:
      twins.append(layout.vector(ref, rank))
    else:
      twins.append(layout.constant(
        ref.node + "/NHWC", [part[i] for part in parts],
        layout.dtype(ref), ref.node))
  _set_masks(node, parts)
  layout.rewrite(node, twins, stand)
  return True


def _set_masks(node, parts):
  for key in _MASKS:
    node.attr[key].i = 0
  for axis, part in enumerate(parts):
    node.attr["begin_mask"].i |= part.is_open_begin << axis
    node.attr["end_mask"].i |= part.is_open_end << axis
    node.attr["shrink_axis_mask"].i |= part.is_index << axis


# Shapes.


def _shape(layout, node):
  x, = layout.graph.data_inputs(node.name)
  rank = layout.shapes.rank(x)
  sizes = layout.graph.add(
    "Shape", node.name + "/NHWC", [layout.last(x)], dict(node.attr))
  layout.rewritten.add(sizes.name)
  dtype = node.attr["out_type"].type if "out_type" in node.attr else tf1.int32
  dtype = type_attr(dtype)
  node.op = "Gather"
  node.attr.clear()
  node.attr["Tparams"].CopyFrom(dtype)
  node.attr["Tindices"].CopyFrom(type_attr(tf1.int32))
  perm = layout.constant(
    node.name + "/NCHW/indices", first(rank), tf1.int32, x.node)
  layout.rewrite(node, [TensorRef(sizes.name), perm])
  layout.shape_stands_for(TensorRef(node.name), TensorRef(sizes.name))
  return True


def _whole(layout, node):
  """One number for all elements, in whatever order they are."""
  x, = layout.graph.data_inputs(node.name)
  layout.rewrite(node, [layout.last(x)])
  return True


def _reshape(layout, node):
  x, target = layout.graph.data_inputs(node.name)
  if not layout.follows(x):
    return False
  shape, wanted = layout.shapes.of(x), _ints(layout, target)
  if keeps_order(shape, last(len(shape))):
    layout.rewrite(node, [layout.last(x), layout.first(target)])
    return True
  if wanted is None or not _regroups_places(shape, wanted):
    return False
  layout.rewrite(
    node, [layout.last(x), layout.vector(target, len(wanted))], _LAST)
  return True


def _regroups_places(shape, wanted):
  """Whether a Reshape leaves the batch and the channels as they are."""
  if len(wanted) not in RANKS or -1 in shape[1:] or -1 in wanted[1:]:
    return False
  return shape[1] == wanted[1] and (
    _product(shape[2:]) == _product(wanted[2:]))


def _product(sizes):
  product = 1
  for size in sizes:
    product *= size
  return product


# Axes that move.


def _transpose(layout, node):
  x, perm = layout.graph.data_inputs(node.name)
  axes, rank = _ints(layout, perm), layout.shapes.rank(x)
  if axes is None:
    return False
  rank = len(axes)
  if not layout.follows(x):
    if rank in (4, 5) and tuple(axes) == first(rank):
      layout.stands_for(TensorRef(node.name), x)
    return False
  stand = _LAST if axes[:2] == [0, 1] else _PLAIN
  order = [axes[a] for a in last(rank)] if stand else axes
  order = [axis_last(axis, rank) for axis in order]
  twin = layout.last(x)
  if order != sorted(order):
    moved = layout.constant(
      perm.node + "/NHWC", order, layout.dtype(perm), perm.node)
    layout.rewrite(node, [twin, moved], stand)
    return True
  node.op = "Identity"
  if "Tperm" in node.attr:
    del node.attr["Tperm"]
  layout.rewrite(node, [twin], stand)
  return True


def _blocks(layout, node):
  """Dilation spelled out in NCHW: blocks of 1 channel, and of some places."""
  x, block, amounts = layout.graph.data_inputs(node.name)
  rank, sizes = layout.shapes.rank(x), _ints(layout, block)
  if not layout.follows(x) or sizes is None or (
      len(sizes) != rank - 1 or sizes[0] != 1):
    return False
  # The channels are axis 1, and the last of the blocks' axes afterwards.
  order = list(range(1, rank - 1)) + [0]
  dtype = layout.dtype(block)
  moved = layout.constant(
    block.node + "/NHWC", [sizes[i] for i in order], dtype, block.node)
  layout.rewrite(
    node, [layout.last(x), moved, layout.gather(amounts, order)], _LAST)
  return True


# Control flow.


def _switch(layout, node):
  x, predicate = layout.graph.data_inputs(node.name)
  if not layout.follows(x):
    return False
  layout.rewrite(node, [layout.last(x), predicate], (0, 1))
  return True


def _merge(layout, node):
  refs = layout.graph.data_inputs(node.name)
  ranks = {layout.shapes.rank(ref) for ref in refs}
  if len(ranks) > 1 or not ranks <= set(RANKS):
    return False
  back = [r for r in refs if layout.graph.op(r.node) == "NextIteration"]
  if back and not all(layout.follows(r) for r in refs if r not in back):
    return False
  layout.loops.update(ref.node for ref in back)
  layout.rewrite(
    node, [r if r in back else layout.last(r) for r in refs], _LAST)
  return True


def _next_iteration(layout, node):
  if node.name not in layout.loops:
    return False
  x, = layout.graph.data_inputs(node.name)
  layout.rewrite(node, [layout.last(x)], _LAST)
  return True


FOLLOWING = dict.fromkeys(UNARY, _unary)
FOLLOWING.update(dict.fromkeys(BROADCASTING, _broadcasting))
FOLLOWING.update(dict.fromkeys(_AXES, _along))
FOLLOWING.update(dict.fromkeys(_ROWS, _rows))
FOLLOWING.update(dict.fromkeys(
  ops.REDUCTIONS | {"All", "Any", "ArgMax", "ArgMin"}, _reduction))
FOLLOWING.update(dict.fromkeys(("L2Loss", "Rank", "Size"), _whole))
FOLLOWING.update(dict.fromkeys(
  ("BatchToSpaceND", "SpaceToBatchND"), _blocks))
FOLLOWING.update({
  "Enter": _unary, "Exit": _unary, "ExpandDims": _expand_dims,
  "Gather": _gather, "GatherV2": _gather, "Merge": _merge,
  "NextIteration": _next_iteration, "Reshape": _reshape, "Shape": _shape,
  "Squeeze": _squeeze, "StridedSlice": _strided_slice, "Switch": _switch,
  "Transpose": _transpose, "Unpack": _unpack,
})
