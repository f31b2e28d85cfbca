# SPDX-License-Identifier: Apache-2.0
"""Ops that compute on eight bits, and when they compute the same.

Facts of TensorFlow's kernels, core/kernels/quantized_*.cc: they run on CPUs,
know NHWC and no dilation, and leave what is not in the table to float.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Tuple

from bnexport.analysis.shapes import data_format, flag
from bnexport.graph.nodes import constant_value
from bnexport.tf1 import tf1

_INT32 = tf1.int32.as_datatype_enum


class Rule(NamedTuple):
  """The quantized form of a float op.

  Attributes:
    op: the quantized op.
    result: its attribute for the type of its result; a qint32 where there is
      one, and quint8 where there is none.
    attrs: attributes that both ops have.
    plain: the input that is not quantized, or None.
    obstacle: from graph, node and shapes to why a node stays float; None where
      it does not, "" where nobody needs to be told.
  """

  op: str
  result: str = ""
  attrs: Tuple[str, ...] = ()
  plain: Optional[int] = None
  obstacle: Callable = lambda graph, node, shape_of: None


def _of_windows(graph, node, shape_of):
  if data_format(node) not in (None, b"NHWC"):
    return f"its data_format is {data_format(node).decode()}"
  if node.attr["padding"].s not in (b"SAME", b"VALID"):
    return f"its padding is {node.attr['padding'].s.decode()}"
  for key in ("strides", "ksize"):
    sizes = list(node.attr[key].list.i) if key in node.attr else [1] * 4
    if len(sizes) != 4 or sizes[0] != 1 or sizes[3] != 1:
      return f"its {key} reach over batch or channels"
  return None


def _of_convolution(graph, node, shape_of):
  reason = _of_windows(graph, node, shape_of)
  strides = list(node.attr["strides"].list.i)
  dilations = node.attr["dilations"].list.i if "dilations" in node.attr else ()
  if any(rate != 1 for rate in dilations):
    return "it is dilated"
  if not reason and strides[1] != strides[2]:
    return "its strides over height and width differ"
  x, filters = map(shape_of, graph.data_inputs(node.name))
  if x and filters and -1 not in (x[3], filters[2]) and x[3] != filters[2]:
    return "it is a grouped convolution"
  return reason


def _of_bias(graph, node, shape_of):
  if data_format(node) not in (None, b"NHWC"):
    return f"its data_format is {data_format(node).decode()}"
  return None


def _of_broadcast(graph, node, shape_of):
  """The kernels repeat a scalar, or a vector along the last axes.

  They take every other broadcast of two axes for the latter, silently.
  """
  shapes = [shape_of(ref) for ref in graph.data_inputs(node.name)]
  if None in shapes:
    return "shapes of its inputs are unknown"
  if not _is_repeated(*shapes):
    return "%s and %s may not broadcast in eight bits" % tuple(
      "[%s]" % ",".join("?" if s < 0 else str(s) for s in shape)
      for shape in shapes
    )
  return None


def _is_repeated(a, b):
  """Whether one shape is, in its last axes, the other, and 1 before."""
  rank = max(len(a), len(b))
  pairs = list(
    zip([1] * (rank - len(a)) + list(a), [1] * (rank - len(b)) + list(b))
  )
  # A size that is open on both sides may be 1 on one of them; in front of
  # known ones, that is a vector still.
  if rank > 1 and pairs[-1] == (-1, -1):
    return False
  while pairs and pairs[-1][0] == pairs[-1][1]:
    pairs.pop()
  return any(all(pair[side] == 1 for pair in pairs) for side in (0, 1))


def _of_concat(graph, node, shape_of):
  slot = 0 if node.op == "Concat" else -1
  axis = constant_value(graph, graph.data_inputs(node.name)[slot], largest=1)
  if axis is None or int(axis) < 0:
    return "its axis is no constant of 0 or more"
  if "Tidx" in node.attr and node.attr["Tidx"].type != _INT32:
    return "its axis is not int32"
  return None


def _of_reshape(graph, node, shape_of):
  # What this transform measures a range of, when it is applied again.
  readers = graph.readers(node.name)
  if readers and all(graph.op(name) in ("Min", "Max") for name in readers):
    return ""
  return None


def _of_resizing(graph, node, shape_of):
  if flag(node, "align_corners") and flag(node, "half_pixel_centers"):
    return "it has both align_corners and half_pixel_centers"
  return None


_POOL = ("ksize", "strides", "padding")
_CORNERS = ("align_corners", "half_pixel_centers")
_ADD = Rule("QuantizedAdd", "Toutput", obstacle=_of_broadcast)
_CONCAT = Rule("QuantizedConcat", plain=0, obstacle=_of_concat)
RULES = {
  "Add": _ADD,
  "AddV2": _ADD,
  "AvgPool": Rule("QuantizedAvgPool", attrs=_POOL, obstacle=_of_windows),
  "BiasAdd": Rule("QuantizedBiasAdd", "out_type", obstacle=_of_bias),
  "Concat": _CONCAT,
  "ConcatV2": _CONCAT,
  "Conv2D": Rule(
    "QuantizedConv2D",
    "out_type",
    ("strides", "padding"),
    obstacle=_of_convolution,
  ),
  "MatMul": Rule("QuantizedMatMul", "Toutput", ("transpose_a", "transpose_b")),
  "MaxPool": Rule("QuantizedMaxPool", attrs=_POOL, obstacle=_of_windows),
  "Mul": Rule("QuantizedMul", "Toutput", obstacle=_of_broadcast),
  "Relu": Rule("QuantizedRelu"),
  "Relu6": Rule("QuantizedRelu6"),
  "Reshape": Rule("QuantizedReshape", plain=1, obstacle=_of_reshape),
  "ResizeBilinear": Rule(
    "QuantizedResizeBilinear", attrs=_CORNERS, plain=1, obstacle=_of_resizing
  ),
}
# Their result has 32 bits, and its range is found before it has 8.
WIDE = frozenset(op for op, rule in RULES.items() if rule.result)
