# SPDX-License-Identifier: Apache-2.0
"""Conversion to channels last of ops that take axes, sizes or shapes.

What is said of followers in layout_rules holds here.
"""

from __future__ import annotations

import numpy as np

from bnexport.analysis.shapes import REDUCTIONS, flag, slice_parts, squeezed
from bnexport.graph import TensorRef
from bnexport.graph.nodes import constant_value
from bnexport.transforms.layout.views import (
  RANKS,
  keeps_order,
  to_first,
  to_last,
)


def _axis(axis, rank):
  """The place of a channels first axis when channels are last."""
  return to_last(rank).index(int(axis) % rank)


def _ints(conversion, ref):
  """The ints of a constant scalar or vector, or None."""
  value = constant_value(conversion.graph, ref, largest=16)
  return None if value is None else [int(v) for v in value.reshape(-1)]


def _axes_last(conversion, ref, rank):
  """The constant `ref`, axes of a tensor, as a constant for channels last."""
  value = constant_value(conversion.graph, ref, largest=16)
  axes = [_axis(axis, rank) for axis in value.reshape(-1)]
  return conversion.vector(
    ref,
    ref.node + "/NHWC",
    np.array(axes, value.dtype).reshape(value.shape),
    value.dtype,
  )


def _left(conversion, node, inputs, rank, gone, outputs=(0,)):
  """Finishes a node that drops axes, where the others keep an order."""
  left = [a for a in range(rank) if a not in gone]
  if [a for a in to_last(rank) if a in left] == left:
    return conversion.settle(node, inputs)
  return conversion.follow(node, inputs, len(left), outputs)


def _can_leave(rank, gone):
  """Whether `_left` can: channels stay last, or no order was to be kept."""
  left = [a for a in range(rank) if a not in gone]
  return left[:2] == [0, 1] or [a for a in to_last(rank) if a in left] == left


# Ops that take axes, or an entry for each axis.

# Slots of the data (None: all others) and of the axes.
_AXES = {
  "Concat": (None, 0),
  "ConcatV2": (None, -1),
  "Cumprod": (0, 1),
  "Cumsum": (0, 1),
  "ReverseV2": (0, 1),
  "Roll": (0, 2),
  "Split": (1, 0),
  "SplitV": (0, 2),
}
# Slots of vectors, or rows, with an entry for each axis.
_ENTRIES = {
  "BroadcastTo": (1,),
  "MirrorPad": (1,),
  "Pad": (1,),
  "PadV2": (1,),
  "Slice": (1, 2),
  "Tile": (1,),
}


def _along(conversion, node):
  refs = conversion.graph.data_inputs(node.name)
  slot, axes = _AXES[node.op]
  axes %= len(refs)
  slots = (
    [slot] if slot is not None else [i for i in range(len(refs)) if i != axes]
  )
  ranks = {conversion.shapes.rank(refs[i]) for i in slots}
  if (
    len(ranks) > 1
    or not ranks <= RANKS
    or _ints(conversion, refs[axes]) is None
  ):
    return False
  rank = ranks.pop()
  data = conversion.inputs(node, slots)
  data[axes] = _axes_last(conversion, refs[axes], rank)
  return conversion.follow(
    node, data, rank, range(conversion.output_count(node))
  )


def _by_entries(conversion, node):
  refs = conversion.graph.data_inputs(node.name)
  rank = conversion.rank.get(refs[0])
  if rank is None or conversion.shapes.rank(TensorRef(node.name)) != rank:
    return False
  data = conversion.inputs(node)
  for slot in _ENTRIES[node.op]:
    data[slot] = conversion.gathered(refs[slot], to_last(rank))
  return conversion.follow(node, data, rank)


def _blocks(conversion, node):
  """Dilation as TF 1.x spells it for NCHW: in blocks of one channel."""
  refs = conversion.graph.data_inputs(node.name)
  rank, sizes = conversion.rank.get(refs[0]), _ints(conversion, refs[1])
  if rank is None or sizes is None or (len(sizes) != rank - 1 or sizes[0] != 1):
    return False
  # The axes are counted without the batch's.
  order = tuple(range(1, rank - 1)) + (0,)
  data = conversion.inputs(node)
  data[1:] = [conversion.gathered(ref, order) for ref in refs[1:]]
  return conversion.follow(node, data, rank)


def _reduce(conversion, node):
  x, axes = conversion.graph.data_inputs(node.name)
  rank, gone = conversion.rank.get(x), _ints(conversion, axes)
  if rank is None or gone is None:
    return False
  gone = () if flag(node, "keep_dims") else [a % rank for a in gone]
  if not _can_leave(rank, gone):
    return False
  data = conversion.inputs(node)
  data[1] = _axes_last(conversion, axes, rank)
  return _left(conversion, node, data, rank, gone)


def _gather(conversion, node):
  refs = conversion.graph.data_inputs(node.name)
  rank = conversion.rank.get(refs[0])
  axis = _ints(conversion, refs[2]) if node.op == "GatherV2" else [0]
  if (
    rank is None
    or axis is None
    or flag(node, "batch_dims")
    or conversion.shapes.rank(refs[1]) != 1
  ):
    return False
  data = conversion.inputs(node)
  if node.op == "GatherV2":
    data[2] = _axes_last(conversion, refs[2], rank)
  return conversion.follow(node, data, rank)


def _squeeze(conversion, node):
  (x,) = conversion.graph.data_inputs(node.name)
  shape = conversion.shapes.of(x)
  gone = squeezed(node, shape)
  if gone is None or not _can_leave(len(shape), gone):
    return False
  node.attr["squeeze_dims"].list.i[:] = [_axis(a, len(shape)) for a in gone]
  return _left(conversion, node, conversion.inputs(node), len(shape), gone)


def _expand_dims(conversion, node):
  x, axis = conversion.graph.data_inputs(node.name)
  axes, rank = _ints(conversion, axis), conversion.shapes.rank(x) + 1
  # A new axis among the spatial ones; elsewhere it is anything.
  if axes is None or axes[0] % rank < 2 or rank not in RANKS:
    return False
  data = conversion.inputs(node)
  data[1] = _axes_last(conversion, axis, rank)
  return conversion.follow(node, data, rank)


def _unpack(conversion, node):
  (x,) = conversion.graph.data_inputs(node.name)
  rank = conversion.rank[x]
  axis = flag(node, "axis") % rank
  if not _can_leave(rank, [axis]):
    return False
  node.attr["axis"].i = _axis(axis, rank)
  return _left(
    conversion,
    node,
    conversion.inputs(node),
    rank,
    [axis],
    range(conversion.output_count(node)),
  )


_MASKS = {
  "begin_mask": "is_open_begin",
  "end_mask": "is_open_end",
  "shrink_axis_mask": "is_index",
}


def _strided_slice(conversion, node):
  refs = conversion.graph.data_inputs(node.name)
  rank, strides = conversion.rank.get(refs[0]), _ints(conversion, refs[3])
  if rank is None or strides is None:
    return False
  bounds = [_ints(conversion, ref) for ref in refs[1:3]]
  is_computed = None in bounds
  if is_computed and (len(strides) != rank or flag(node, "ellipsis_mask")):
    return False
  known = [strides if bound is None else bound for bound in bounds]
  parts = slice_parts(node, known + [strides], rank)
  gone = [axis for axis, part in enumerate(parts) if part.is_index]
  if len(parts) != rank or not _can_leave(rank, gone):
    return False
  data = conversion.inputs(node)
  parts = [parts[axis] for axis in to_last(rank)]
  for i, ref in enumerate(refs[1:]):
    data[i + 1] = (
      conversion.gathered(ref, to_last(rank))
      if (is_computed)
      else conversion.vector(
        ref,
        ref.node + "/NHWC",
        [part[i] for part in parts],
        conversion.dtype(ref),
      )
    )
  node.attr["ellipsis_mask"].i = 0
  for mask, field in _MASKS.items():
    node.attr[mask].i = sum(
      getattr(part, field) << axis for axis, part in enumerate(parts)
    )
  return _left(conversion, node, data, rank, gone)


# Shapes, and axes that move.


def _shape(conversion, node):
  """The shape as it was, as readers count on its order, from its twin's."""
  (x,) = conversion.graph.data_inputs(node.name)
  rank = conversion.rank[x]
  twin = conversion.add(
    "Shape", node.name + "/NHWC", conversion.inputs(node), dict(node.attr)
  )
  text = """
    NCHW/indices = Const(^beside) {value=$order}
    result = Gather(sizes, NCHW/indices, ^waits)
  """
  order = np.int32(to_first(rank))
  conversion.emitter.become(
    node.name, text, sizes=twin, beside=conversion.beside(x), order=order
  )
  conversion.sizes_stand_for(TensorRef(node.name), to_last(rank), twin)
  return True


def _whole(conversion, node):
  """One number for all elements, in whatever order they are."""
  return conversion.settle(node, conversion.inputs(node))


def _reshape(conversion, node):
  x, target = conversion.graph.data_inputs(node.name)
  if x not in conversion.rank:
    return False
  shape, wanted = conversion.shapes.of(x), _ints(conversion, target)
  data = conversion.inputs(node)
  if keeps_order(shape, to_last(len(shape))):
    return conversion.settle(node, data)
  if wanted is None or not _regroups_places(shape, wanted):
    return False
  data[1] = conversion.gathered(target, to_last(len(wanted)))
  return conversion.follow(node, data, len(wanted))


def _regroups_places(shape, wanted):
  """Whether a Reshape leaves the batch and the channels as they are."""
  if len(wanted) not in RANKS or -1 in shape[1:] or -1 in wanted[1:]:
    return False
  return shape[1] == wanted[1] and (np.prod(shape[2:]) == np.prod(wanted[2:]))


def _transpose(conversion, node):
  x, perm = conversion.graph.data_inputs(node.name)
  axes = _ints(conversion, perm)
  if axes is None:
    return False
  rank = len(axes)
  if x not in conversion.rank:
    # Of rank 3 this is any transposed matrix.
    if rank in (4, 5) and tuple(axes) == to_first(rank):
      conversion.stands_for(TensorRef(node.name), x, rank)
    return False
  stays = axes[:2] == [0, 1]
  order = [axes[a] for a in to_last(rank)] if stays else axes
  order = [_axis(a, rank) for a in order]
  data = conversion.inputs(node)
  data[1] = conversion.vector(
    perm, perm.node + "/NHWC", order, conversion.dtype(perm)
  )
  if order == sorted(order):
    node.op = "Identity"
    node.attr.pop("Tperm", None)
    data.pop()
  if stays:
    return conversion.follow(node, data, rank)
  return conversion.settle(node, data)


FOLLOWERS = dict.fromkeys(REDUCTIONS, _reduce)
FOLLOWERS.update(dict.fromkeys(_AXES, _along))
FOLLOWERS.update(dict.fromkeys(_ENTRIES, _by_entries))
FOLLOWERS.update(
  {
    "BatchToSpaceND": _blocks,
    "ExpandDims": _expand_dims,
    "Gather": _gather,
    "GatherV2": _gather,
    "L2Loss": _whole,
    "Rank": _whole,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _whole,
    "SpaceToBatchND": _blocks,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
    "Transpose": _transpose,
    "Unpack": _unpack,
  }
)
