# SPDX-License-Identifier: Apache-2.0
"""Lets a channels-first graph run on a CPU: each op between two transposes.

TensorFlow has no CPU kernels for NCHW convolutions and pools. This shares
nothing with the transform `convert_layout`, which moves the order of axes
through a whole graph: here every op is looked at alone.
"""

from __future__ import annotations

import numpy as np

from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import constant
from bnexport.tf1 import tf1

# Slots of the operands that have channels, and of those that hold such a shape.
_DATA = {
  "AvgPool": ((0,), ()),
  "AvgPool3D": ((0,), ()),
  "BiasAdd": ((0,), ()),
  "Conv2D": ((0,), ()),
  "Conv2DBackpropInput": ((2,), (0,)),
  "Conv3D": ((0,), ()),
  "Conv3DBackpropInputV2": ((2,), (0,)),
  "DepthToSpace": ((0,), ()),
  "DepthwiseConv2dNative": ((0,), ()),
  "DepthwiseConv2dNativeBackpropInput": ((2,), (0,)),
  "FusedBatchNorm": ((0,), ()),
  "FusedBatchNormV2": ((0,), ()),
  "FusedBatchNormV3": ((0,), ()),
  "MaxPool": ((0,), ()),
  "MaxPool3D": ((0,), ()),
  "SpaceToDepth": ((0,), ()),
}
_BY_AXIS = ("strides", "dilations", "ksize")
_LAST = {b"NCHW": b"NHWC", b"NCDHW": b"NDHWC"}


def run_channels_last(graph: Graph) -> None:
  """Puts every channels-first op between transposes, in place.

  Args:
    graph: is edited; tensors keep their names, shapes and values, but for
      those of the ops themselves, whose first output is handed on by a
      Transpose.
  """
  for node in list(graph):
    if node.op in _DATA and "data_format" in node.attr:
      if node.attr["data_format"].s in _LAST:
        _wrap(graph, node)


def _wrap(graph, node):
  form = node.attr["data_format"].s
  rank = len(form)
  to_last = [0, *range(2, rank), 1]
  to_first = [0, rank - 1, *range(1, rank - 1)]
  slots, shapes = _DATA[node.op]
  readers = graph.readers_of(TensorRef(node.name))
  kind = node.attr["T"]
  for slot in slots:
    name = f"{node.name}/last_{slot}"
    ref = _transposed(graph, name, graph.inputs(node.name)[slot], to_last, kind)
    graph.set_input(node.name, slot, ref)
  for slot in shapes:
    ref = _picked(graph, f"{node.name}/sizes_{slot}", node, slot, to_last)
    graph.set_input(node.name, slot, ref)
  for key in _BY_AXIS:
    sizes = list(node.attr[key].list.i) if key in node.attr else []
    if len(sizes) == rank:
      node.attr[key].list.i[:] = [sizes[axis] for axis in to_last]
  if "explicit_paddings" in node.attr:
    pads = np.array(node.attr["explicit_paddings"].list.i).reshape(-1, 2)
    if len(pads) == rank:
      node.attr["explicit_paddings"].list.i[:] = list(pads[to_last].ravel())
  node.attr["data_format"].s = _LAST[form]
  first = _transposed(
    graph, node.name + "/first", TensorRef(node.name), to_first, kind
  )
  graph.substitute({TensorRef(node.name): first}, readers)


def _transposed(graph, name, ref, order, kind):
  perm = constant(graph, name + "/perm", np.array(order, np.int32))
  attrs = {"T": kind, "Tperm": tf1.AttrValue(type=tf1.int32.as_datatype_enum)}
  return TensorRef(graph.add("Transpose", name, [ref, perm], attrs).name)


def _picked(graph, name, node, slot, order):
  """A shape in another order."""
  indices = constant(graph, name + "/order", np.array(order, np.int32))
  integer = tf1.AttrValue(type=tf1.int32.as_datatype_enum)
  attrs = {"Tparams": integer, "Tindices": integer}
  ref = graph.inputs(node.name)[slot]
  return TensorRef(graph.add("Gather", name, [ref, indices], attrs).name)
