# SPDX-License-Identifier: Apache-2.0
"""Convolutions and pools in ops that an older TensorFlow knows.

Rules as in bnexport.transforms.backport.rules.
"""

from __future__ import annotations

import numpy as np

from bnexport.analysis.shapes import data_format
from bnexport.graph import TensorRef, op_history
from bnexport.graph.nodes import tensor_attr
from bnexport.transforms.backport.backport_graph import part


def lower_window(backport, node):
  """Explicit paddings become a Pad, dilations a rearranged batch.

  The latter is what tf.nn.convolution wrote before there were dilations.
  """
  dilations = [1, 1, 1, 1]
  if "dilations" in node.attr:
    dilations = list(node.attr["dilations"].list.i)
  if max(dilations) == 1 or op_history.knows_attribute(
    backport.version, node.op, "dilations"
  ):
    return lower_explicit(backport, node)
  if data_format(node) == b"NCHW":
    return backport.refuse(node, "NCHW, run convert_layout first")
  if max(node.attr["strides"].list.i) > 1:
    return backport.refuse(node, "it has strides as well")
  before, after = _spatial_paddings(backport, node, dilations)
  if before is None:
    return backport.refuse(node, "the size of its kernel is not known")
  return _rearrange_batch(backport, node, dilations[1:3], before, after)


_PADDED = """
  paddings = Const(^x) {value=$paddings}
  padded = Pad(x, paddings)
"""
# Padding is never the largest element of a window.
_PADDED_FOR_MAX = """
  paddings = Const(^x) {value=$paddings}
  least = Const(^x) {value=$least}
  padded = PadV2(x, paddings, least)
"""


def lower_explicit(backport, node):
  if node.attr["padding"].s != b"EXPLICIT":
    return False
  graph, dtype = backport.graph, backport.dtype(TensorRef(node.name))
  is_max = node.op == "MaxPool"
  if is_max and not dtype.is_floating:
    return backport.refuse(node, "it is explicitly padded and not of floats")
  paddings = np.reshape(node.attr["explicit_paddings"].list.i, (4, 2))
  made = backport.emit(
    node,
    _PADDED_FOR_MAX if is_max else _PADDED,
    x=graph.data_inputs(node.name)[0],
    paddings=paddings.astype(np.int32),
    least=tensor_attr(-np.inf, dtype) if is_max else None,
  )
  graph.set_input(node.name, 0, made["padded"])
  node.attr["padding"].s = b"VALID"
  del node.attr["explicit_paddings"]
  return True


def _spatial_paddings(backport, node, dilations):
  """Rows and columns of padding before and after the image."""
  padding = node.attr["padding"].s
  if padding == b"VALID":
    return np.zeros(2, int), np.zeros(2, int)
  if padding == b"EXPLICIT":
    explicit = np.reshape(node.attr["explicit_paddings"].list.i, (4, 2))
    return explicit[1:3, 0], explicit[1:3, 1]
  kernel = backport.shape(backport.graph.data_inputs(node.name)[1])
  if kernel is None or -1 in kernel[:2]:
    return None, None
  total = (np.array(kernel[:2]) - 1) * dilations[1:3]
  return total // 2, total - total // 2


# What is missing to a multiple of the block is cut off again.
_STATED_SIZES = """
  paddings = Const(^x) {value=$paddings}
  crops = Const(^x) {value=$crops}
"""
_COMPUTED_SIZES = (
  "shape = Shape(x) {out_type=int32}"
  + part("sizes", "shape", 1, 3)
  + """
  total = Const(^x) {value=$total}
  sizes_padded = Add(sizes, total)
  negative = Neg(sizes_padded)
  block_sizes = Const(^x) {value=$block}
  missing = FloorMod(negative, block_sizes)
  after = Const(^x) {value=$after}
  end = Add(missing, after)
  before = Const(^x) {value=$before}
  paddings = Pack(before, end) {axis=1}
  none = Const(^x) {value=<int32 [2] 0 0>}
  crops = Pack(none, missing) {axis=1}
"""
)
_IN_THE_BATCH = """
  block = Const(^x) {value=$block}
  images = SpaceToBatchND(x, block, paddings)
  plain = convolution(images, kernel) {padding=VALID}
  result = BatchToSpaceND(plain, block, crops, ^waits)
"""


def _rearrange_batch(backport, node, block, before, after):
  x, kernel = backport.graph.data_inputs(node.name)
  block, before, after = (np.int32(sizes) for sizes in (block, before, after))
  shape = backport.shape(x)
  if shape is not None and -1 not in shape[1:3]:
    missing = -(np.int32(shape[1:3]) + before + after) % block
    paddings = np.stack([before, after + missing], 1)
    crops = np.stack([0 * missing, missing], 1)
    made = backport.emit(
      node, _STATED_SIZES, x=x, paddings=paddings, crops=crops
    )
  else:
    made = backport.emit(
      node,
      _COMPUTED_SIZES,
      x=x,
      block=block,
      before=before,
      after=after,
      total=before + after,
    )
  attrs = {
    key: attr
    for key, attr in node.attr.items()
    if key not in ("dilations", "explicit_paddings", "padding")
    and not key.startswith("_")
  }
  return backport.become(
    node,
    _IN_THE_BATCH,
    x=x,
    kernel=kernel,
    block=block,
    paddings=made["paddings"],
    crops=made["crops"],
    convolution=node.op,
    plain=attrs,
  )
