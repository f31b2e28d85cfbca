# SPDX-License-Identifier: Apache-2.0
"""Fused norms in the form that an older TensorFlow knows.

Rules as in bnexport.transforms.backport.rules.
"""

from __future__ import annotations

from bnexport.analysis.dependence import uses_batch
from bnexport.analysis.shapes import data_format
from bnexport.graph import TensorRef
from bnexport.tf1 import tf1
from bnexport.transforms.backport.backport_graph import joined

OPS = frozenset(("FusedBatchNormV2", "FusedBatchNormV3"))
_VOLUMES = (b"NDHWC", b"NCDHW")


def _is_plain(node):
  """Whether FusedBatchNorm takes what the node takes."""
  is_single = node.attr["T"].type == tf1.float32.as_datatype_enum
  return is_single and data_format(node) not in _VOLUMES


def _moves_averages(node):
  return (
    "exponential_avg_factor" in node.attr
    and node.attr["exponential_avg_factor"].f != 1
  )


def _rename(node):
  node.op = "FusedBatchNorm"
  node.attr.pop("U", None)
  node.attr.pop("exponential_avg_factor", None)


def lower(backport, node):
  if backport.is_read(TensorRef(node.name, 5)):
    return backport.refuse(node, "its sixth output is read")
  if _moves_averages(node):
    return backport.refuse(node, "its exponential_avg_factor is not 1")
  if data_format(node) == b"NCDHW":
    return backport.refuse(node, "NCDHW, run convert_layout first")
  keeps_form = _is_plain(node)
  is_training = uses_batch(node)
  if not is_training or not keeps_form:
    if any(backport.is_output(TensorRef(node.name, i)) for i in range(1, 5)):
      return backport.refuse(node, "its statistics are outputs")
  if not is_training:
    # Kernels up to those of 1.15 leave these outputs unwritten at inference.
    _, _, _, mean, variance = backport.graph.data_inputs(node.name)
    backport.graph.substitute(
      {TensorRef(node.name, 1): mean, TensorRef(node.name, 2): variance}
    )
  if keeps_form:
    _rename(node)
    return True
  return _wrap(backport, node)


# A volume is one row of all its places: [-1, 1, 1, channels].
_FLAT = (
  """
  channels = Shape(scale) {out_type=int32}
  ones = Const(^scale) {value=<int32 [3] -1 1 1>}
"""
  + joined("rows", "ones", "channels")
  + "flat = Reshape(x, rows)"
)
_CAST_BACK = "result = Cast(norm, ^waits) {DstT=$T}"
_RESHAPED_BACK = """
  shape = Shape(source) {out_type=int32}
  result = Reshape(norm, shape, ^waits)
"""
_RESHAPED_AND_CAST_BACK = """
  shape = Shape(source) {out_type=int32}
  y = Reshape(norm, shape)
  result = Cast(y, ^waits) {DstT=$T}
"""


def _wrap(backport, node):
  """Norms of other types and of volumes, as one of float32 and four axes.

  Kernels of float16 compute in float32 and cast as well.
  """
  name = node.name
  source, scale, *rest = backport.graph.data_inputs(name)
  keys = ("epsilon", "is_training", "data_format")
  attrs = {key: node.attr[key] for key in keys if key in node.attr}
  x, dtype = source, node.attr["T"]
  is_cast = dtype.type != tf1.float32.as_datatype_enum
  if is_cast:
    x = backport.emit(node, "x = Cast(x) {DstT=float}", x=x)["x"]
  is_volume = data_format(node) in _VOLUMES
  if is_volume:
    x = backport.emit(node, _FLAT, x=x, scale=scale)["flat"]
    attrs["data_format"] = tf1.AttrValue(s=b"NHWC")
  text = "norm = FusedBatchNorm(x, scale, rest)"
  made = backport.emit(node, text, x=x, scale=scale, rest=rest, norm=attrs)
  norm = made["norm"]
  backport.graph.substitute(
    {TensorRef(name, i): TensorRef(norm.node, i) for i in range(1, 5)}
  )
  text = _CAST_BACK
  if is_volume:
    text = _RESHAPED_AND_CAST_BACK if is_cast else _RESHAPED_BACK
  return backport.become(node, text, norm=norm, source=source, T=dtype)


def lower_in_function(function, node):
  """Rewrites a norm of a function's body, where one op takes its place."""
  reads = [text for n in function.node_def for text in n.input]
  reads.extend(function.ret.values())
  others = [
    text
    for text in reads
    if text.startswith(node.name + ":") and text != node.name + ":y:0"
  ]
  if others or _moves_averages(node) or not _is_plain(node):
    return False
  _rename(node)
  return True
