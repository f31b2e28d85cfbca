# SPDX-License-Identifier: Apache-2.0
"""Rules of convert_layout: each op, from channels first to last.

A follower is a function of the conversion and a node that has a channels last
input. It rewrites the node and returns True, or returns False and leaves it:
then it reads channels first.
"""

from __future__ import annotations

from bnexport.analysis.shapes import BROADCASTING, UNARY, data_format
from bnexport.transforms.layout import axes
from bnexport.transforms.layout.views import RANKS, to_last

# Where an op with a data format takes the data.
DATA_SLOT = {
  "AvgPool": 0,
  "AvgPool3D": 0,
  "BiasAdd": 0,
  "Conv2D": 0,
  "Conv2DBackpropInput": 2,
  "Conv3D": 0,
  "Conv3DBackpropInputV2": 2,
  "DepthToSpace": 0,
  "DepthwiseConv2dNative": 0,
  "DepthwiseConv2dNativeBackpropInput": 2,
  "FusedBatchNorm": 0,
  "FusedBatchNormV2": 0,
  "FusedBatchNormV3": 0,
  "MaxPool": 0,
  "MaxPool3D": 0,
  "MaxPoolV2": 0,
  "SpaceToDepth": 0,
}
# Where it takes the shape of its result, or other sizes with one for an axis.
SIZES_SLOTS = {
  "Conv2DBackpropInput": (0,),
  "Conv3DBackpropInputV2": (0,),
  "DepthwiseConv2dNativeBackpropInput": (0,),
  "MaxPoolV2": (1, 2),
}
_LAST_OF = {b"NCHW": b"NHWC", b"NCDHW": b"NDHWC"}
_PER_AXIS = ("strides", "ksize", "dilations")


def is_channels_first(node):
  return data_format(node) in (b"NCHW", b"NCDHW", b"NCHW_VECT_C")


def is_known(node):
  """Whether a node that is channels first has a rule."""
  return node.op in DATA_SLOT and data_format(node) in _LAST_OF


def rank_of_data(conversion, node):
  """Rank of what a channels first node works on.

  Returns:
    None where it is not known, or another than the op takes.
  """
  data = conversion.graph.data_inputs(node.name)[DATA_SLOT[node.op]]
  known = conversion.shapes.rank(data)
  if node.op == "BiasAdd":
    return known  # it says NCHW whatever the rank is
  rank = 5 if data_format(node) == b"NCDHW" else 4
  return rank if known in (rank, None) else None


def turn(conversion, node):
  """Turns an op that states its data format."""
  rank = rank_of_data(conversion, node)
  _turn_attributes(node, rank)
  if rank == 2:
    return False  # channels are last as it is
  slot, sizes = DATA_SLOT[node.op], SIZES_SLOTS.get(node.op, ())
  data = conversion.graph.data_inputs(node.name)
  for i, ref in enumerate(data):
    if i == slot:
      data[i] = conversion.channels_last(ref, rank)
    elif i in sizes:
      data[i] = conversion.gathered(ref, to_last(rank))
    else:
      data[i] = conversion.channels_first(ref)
  return conversion.follow(node, data, rank)


def _turn_attributes(node, rank):
  """Permutes the attributes that have an entry for each axis."""
  node.attr["data_format"].s = _LAST_OF[node.attr["data_format"].s]
  for key in _PER_AXIS:
    if key in node.attr and len(node.attr[key].list.i) == rank:
      values = [node.attr[key].list.i[a] for a in to_last(rank)]
      node.attr[key].list.i[:] = values
  if "explicit_paddings" in node.attr:
    pads = list(node.attr["explicit_paddings"].list.i)
    if pads:
      node.attr["explicit_paddings"].list.i[:] = [
        pads[2 * a + side] for a in to_last(rank) for side in (0, 1)
      ]


# Ops that work at each place alone.


def _unary(conversion, node):
  x = conversion.graph.data_inputs(node.name)[0]
  if x not in conversion.rank:
    return False
  return conversion.follow(node, conversion.inputs(node), conversion.rank[x])


def _broadcasting(conversion, node):
  refs = conversion.graph.data_inputs(node.name)
  ranks = [conversion.shapes.rank(ref) for ref in refs]
  if None in ranks:
    return False
  rank = max(ranks)
  if not any(conversion.rank.get(ref) == rank for ref in refs):
    return False
  operands = [conversion.operand(ref, rank) for ref in refs]
  if node.op == "Select" and ranks[0] <= 1:
    operands[0] = refs[0]  # one bool for all, or one a row
  return conversion.follow(node, operands, rank)


def _switch(conversion, node):
  x = conversion.graph.data_inputs(node.name)[0]
  if x not in conversion.rank:
    return False
  return conversion.follow(
    node, conversion.inputs(node), conversion.rank[x], (0, 1)
  )


def _merge(conversion, node):
  refs = conversion.graph.data_inputs(node.name)
  ranks = {conversion.shapes.rank(ref) for ref in refs}
  if len(ranks) > 1 or not ranks <= RANKS:
    return False
  back = [r for r in refs if conversion.graph.op(r.node) == "NextIteration"]
  if back and not all(r in conversion.rank for r in refs if r not in back):
    return False
  conversion.loops.update(ref.node for ref in back)
  rank = ranks.pop()
  return conversion.follow(
    node,
    [
      ref if ref in back else conversion.channels_last(ref, rank)
      for ref in refs
    ],
    rank,
  )


def _next_iteration(conversion, node):
  """Goes by its Merge, which has been visited before it."""
  if node.name not in conversion.loops:
    return False
  x = conversion.graph.data_inputs(node.name)[0]
  return conversion.follow(
    node, conversion.inputs(node), conversion.shapes.rank(x)
  )


FOLLOWERS = dict(axes.FOLLOWERS)
FOLLOWERS.update(dict.fromkeys(UNARY, _unary))
FOLLOWERS.update(dict.fromkeys(BROADCASTING, _broadcasting))
FOLLOWERS.update(
  {
    "Enter": _unary,
    "Exit": _unary,
    "Merge": _merge,
    "NextIteration": _next_iteration,
    "Switch": _switch,
  }
)
