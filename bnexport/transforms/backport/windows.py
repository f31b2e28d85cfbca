# SPDX-License-Identifier: Apache-2.0
"""Convolutions and pools in ops that an older TensorFlow knows.

Rules as in backport_rules.
"""

from __future__ import annotations

import numpy as np

from bnexport.analysis.shapes import data_format
from bnexport.graph import TensorRef, op_history
from bnexport.graph.nodes import int_attr, type_attr
from bnexport.tf1 import tf1


def lower_window(site, node):
  """Explicit paddings become a Pad, dilations a rearranged batch.

  The latter is what tf.nn.convolution wrote before there were dilations.
  """
  dilations = [1, 1, 1, 1]
  if "dilations" in node.attr:
    dilations = list(node.attr["dilations"].list.i)
  if max(dilations) == 1 or op_history.knows_attribute(
    site.version, node.op, "dilations"
  ):
    return lower_explicit(site, node)
  if data_format(node) == b"NCHW":
    return site.refuse(node, "NCHW, run convert_layout first")
  if max(node.attr["strides"].list.i) > 1:
    return site.refuse(node, "it has strides as well")
  before, after = _spatial_paddings(site, node, dilations)
  if before is None:
    return site.refuse(node, "the size of its kernel is not known")
  return _rearrange_batch(site, node, dilations[1:3], before, after)


def lower_explicit(site, node):
  if node.attr["padding"].s != b"EXPLICIT":
    return False
  name, graph = node.name, site.graph
  x = graph.data_inputs(name)[0]
  dtype = site.dtype(TensorRef(name))
  paddings = np.reshape(node.attr["explicit_paddings"].list.i, (4, 2))
  paddings = site.constant(name + "/paddings", paddings, tf1.int32, x)
  attrs = {"T": type_attr(dtype), "Tpaddings": type_attr(tf1.int32)}
  op, inputs = "Pad", [x, paddings]
  if node.op == "MaxPool":
    if not dtype.is_floating:
      return site.refuse(node, "it is explicitly padded and not of floats")
    # Padding is never the largest element of a window.
    op = "PadV2"
    inputs.append(site.constant(name + "/least", -np.inf, dtype, x))
  graph.set_input(name, 0, site.add(op, name + "/padded", inputs, **attrs))
  node.attr["padding"].s = b"VALID"
  del node.attr["explicit_paddings"]
  return True


def _spatial_paddings(site, node, dilations):
  """Rows and columns of padding before and after the image."""
  padding = node.attr["padding"].s
  if padding == b"VALID":
    return np.zeros(2, int), np.zeros(2, int)
  if padding == b"EXPLICIT":
    explicit = np.reshape(node.attr["explicit_paddings"].list.i, (4, 2))
    return explicit[1:3, 0], explicit[1:3, 1]
  kernel = site.shape(site.graph.data_inputs(node.name)[1])
  if kernel is None or -1 in kernel[:2]:
    return None, None
  total = (np.array(kernel[:2]) - 1) * dilations[1:3]
  return total // 2, total - total // 2


def _rearrange_batch(site, node, block, before, after):
  name, graph = node.name, site.graph
  x, kernel = graph.data_inputs(name)
  kind, integer = type_attr(site.dtype(x)), type_attr(tf1.int32)

  def number(key, value):
    return site.constant(f"{name}/{key}", value, tf1.int32, x)

  shape = site.shape(x)
  if shape is not None and -1 not in shape[1:3]:
    # What is missing to a multiple of the block is cut off again.
    missing = -(np.array(shape[1:3]) + before + after) % block
    paddings = number("paddings", np.stack([before, after + missing], 1))
    crops = number("crops", np.stack([0 * missing, missing], 1))
  else:
    sizes = site.part(name + "/sizes", site.shape_of(name + "/shape", x), 1, 3)
    padded = site.add(
      "Add",
      name + "/sizes_padded",
      [sizes, number("total", before + after)],
      T=integer,
    )
    negative = site.add("Neg", name + "/negative", [padded], T=integer)
    missing = site.add(
      "FloorMod",
      name + "/missing",
      [negative, number("block_sizes", block)],
      T=integer,
    )
    end = site.add(
      "Add", name + "/end", [missing, number("after", after)], T=integer
    )
    pack = {"N": int_attr(2), "T": integer, "axis": int_attr(1)}
    paddings = site.add(
      "Pack", name + "/paddings", [number("before", before), end], **pack
    )
    crops = site.add(
      "Pack", name + "/crops", [number("none", [0, 0]), missing], **pack
    )
  block = number("block", block)
  images = site.add(
    "SpaceToBatchND",
    name + "/images",
    [x, block, paddings],
    T=kind,
    Tblock_shape=integer,
    Tpaddings=integer,
  )
  attrs = {
    key: attr
    for key, attr in node.attr.items()
    if key not in ("dilations", "explicit_paddings", "padding")
    and not key.startswith("_")
  }
  attrs["padding"] = tf1.AttrValue(s=b"VALID")
  convolved = site.add(node.op, name + "/plain", [images, kernel], **attrs)
  return site.become(
    node,
    "BatchToSpaceND",
    [convolved, block, crops],
    T=kind,
    Tblock_shape=integer,
    Tcrops=integer,
  )
