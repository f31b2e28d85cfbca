# SPDX-License-Identifier: Apache-2.0
"""Convolutions that can take in the padding and resizing of x.

The kernels of FusedPadConv2D and FusedResizeAndPadConv2D (TensorFlow's
core/kernels/conv_ops_fused_image_transform.cc) run on CPUs only, know NHWC, no
dilation, padding of height and width alone, and no half_pixel_centers. And
they answer rightly for the first image of a batch only: what is kept of its
rows is taken for the next image's rows, in TF 1.15 and 2.21 alike.
"""

from __future__ import annotations

import numpy as np

from bnexport.analysis.shapes import Shapes, data_format, flag
from bnexport.graph.nodes import constant, constant_value
from bnexport.tf1 import tf1
from bnexport.transforms.uses import Uses, controls

_DTYPES = (tf1.float16, tf1.float32, tf1.float64)


def fuse(model, pattern, op, inputs, attrs, what):
  """Replaces every chain of `pattern` by one convolution `op`.

  Args:
    model: is edited.
    pattern: ops from the convolution up through first inputs.
    op: the op that takes the convolution's place and name.
    inputs: from a Uses and the chain's names to the inputs of `op`.
    attrs: from the chain's names to attributes of `op`, without those that
      every convolution has.
    what: the chain in words, for the report.

  Returns:
    What was done and what was left alone, a line each.
  """
  graph, told = model.graph, []
  uses, shapes = Uses(model), Shapes(graph)
  for node in graph:
    if node.name not in graph:
      continue
    chain = _chain(graph, node.name, pattern)
    if chain is None:
      continue
    x = graph.data_inputs(chain[-1])[0]
    reason = _obstacle(graph, uses, chain) or _of_batch(shapes.of(x))
    if reason:
      told.append(f"left {what} '{node.name}' as it is: {reason}")
      continue
    conv, *absorbed = chain
    new_attrs = {
      key: node.attr[key]
      for key in ("T", "strides", "padding", "_class")
      if key in node.attr
    }
    new_attrs.update(attrs(chain))
    waits = controls(graph, *chain)
    graph.become(conv, op, list(inputs(uses, chain)) + waits, new_attrs)
    uses.remove_unread(absorbed)
    told.append(f"fused {what} '{conv}' into one {op}")
  return told


def mirror_paddings(graph, uses, conv, pad):
  """The paddings of a MirrorPad as an int32 tensor."""
  paddings = graph.data_inputs(pad)[1]
  value = constant_value(graph, paddings)
  if value.dtype == np.int32:
    return paddings
  return constant(
    graph,
    conv + "/paddings",
    value.astype(np.int32),
    control=uses.beside(paddings),
  )


def _chain(graph, name, pattern):
  """Names of the nodes that match, or None."""
  chain = []
  for op in pattern:
    if graph.op(name) != op:
      return None
    chain.append(name)
    ref = graph.data_inputs(name)[0]
    name = ref.node
  return chain


def _obstacle(graph, uses, chain):
  """The reason why a fused op would answer otherwise, or None."""
  reason = _of_convolution(graph.node(chain[0]))
  for reader, name in zip(chain, chain[1:]):
    node = graph.node(name)
    # The filter may be the padded tensor as well.
    reads = sum(ref.node == name for ref in graph.inputs(reader))
    if not uses.is_inner(name, reader) or reads > 1:
      reason = reason or f"'{name}' is read elsewhere or is an end of the model"
    elif node.op == "MirrorPad":
      reason = reason or _of_padding(graph, node)
    elif node.op == "ResizeBilinear":
      reason = reason or _of_resizing(node)
  return reason


def _of_batch(shape):
  if shape and shape[0] == 1:
    return None
  return (
    "its batch is not known to be 1, and TensorFlow's fused op is wrong for "
    'all images of a batch but the first; strip_unused_nodes(shape="1,...") '
    "before it states a batch of 1"
  )


def _of_convolution(node):
  strides = list(node.attr["strides"].list.i)
  dilations = []
  if "dilations" in node.attr:
    dilations = list(node.attr["dilations"].list.i)
  if data_format(node) not in (None, b"NHWC"):
    return f"its data_format is {data_format(node).decode()}"
  if any(rate != 1 for rate in dilations):
    return "it is dilated"
  if node.attr["padding"].s not in (b"SAME", b"VALID"):
    return f"its padding is {node.attr['padding'].s.decode()}"
  if strides[0] != 1 or strides[3] != 1:
    return "it has strides over batch or channels"
  dtype = tf1.as_dtype(node.attr["T"].type)
  if dtype not in _DTYPES:
    return f"no fused convolution computes in {dtype.name}"
  return None


def _of_padding(graph, node):
  paddings = constant_value(graph, graph.data_inputs(node.name)[1])
  if paddings is None:
    return f"the paddings of '{node.name}' are not constant"
  if paddings.shape != (4, 2) or paddings[[0, 3]].any():
    return f"'{node.name}' pads more than height and width"
  return None


def _of_resizing(node):
  if flag(node, "half_pixel_centers"):
    return f"'{node.name}' has half_pixel_centers"
  if node.attr["T"].type != tf1.float32.as_datatype_enum:
    return f"'{node.name}' resizes {tf1.as_dtype(node.attr['T'].type).name}"
  return None
