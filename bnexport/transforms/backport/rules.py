# SPDX-License-Identifier: Apache-2.0
"""Older ops for each op that an older TensorFlow lacks.

A rule gets a node and makes it, under its own name, what gives the same
values; nodes it needs besides lie below that name. A rule that can't says why
to the BackportGraph and leaves the node alone.
"""

from __future__ import annotations

from bnexport.analysis.shapes import flag
from bnexport.graph import TensorRef, op_history
from bnexport.graph.nodes import tensor_attr
from bnexport.tf1 import tf1
from bnexport.transforms.backport import norms, windows
from bnexport.transforms.backport.backport_graph import (
  broadcast_operands,
  covers,
  joined,
  part,
)

_INT_MAX = 2**31 - 1


def find(node, version):
  """The rule for a node that a TensorFlow does not know as it is, or None."""
  if node.op in norms.OPS:
    # FusedBatchNormV2 is older than its kernels.
    is_known = op_history.knows(version, "FusedBatchNormV3")
    return None if is_known else norms.lower
  if not op_history.knows(version, node.op):
    return RULES.get(node.op)
  if node.op in _WINDOWED and op_history.newer_in_node(node, version):
    return _WINDOWED[node.op]
  if node.op in _MATRICES_ONLY and op_history.is_older(version, "1.12"):
    return _flatten
  return None


def lower_in_function(function, node):
  """Rewrites a node of a function's body, where one op takes its place."""
  if node.op in norms.OPS:
    return norms.lower_in_function(function, node)
  if node.op in _SAME_ARGUMENTS:
    _rename(node)
    return True
  return False


# Ops whose older form takes the same inputs and gives outputs of the same
# names, and the attributes that form has.
_SAME_ARGUMENTS = {
  "AddV2": ("Add", ("T",)),
  "DeepCopy": ("Identity", ("T",)),
  "EnsureShape": ("Identity", ("T",)),
  "GuaranteeConst": ("Identity", ("T",)),
  "Snapshot": ("Identity", ("T",)),
}


def _rename(node):
  node.op, keys = _SAME_ARGUMENTS[node.op]
  for key in list(node.attr):
    if key not in keys and not key.startswith("_"):
      del node.attr[key]


def _lower_name(backport, node):
  _rename(node)
  return True


# Products of matrices, choices, what broadcasts.


def _lower_batch_matmul(backport, node):
  """Old products take matrices that are as many on both sides."""
  types = {
    node.attr[key].type for key in ("T", "Ta", "Tb", "Tout") if key in node.attr
  }
  if len(types) != 1:
    return backport.refuse(node, "its types differ")
  dtype = tf1.as_dtype(types.pop())
  refs = backport.graph.data_inputs(node.name)
  shapes = [backport.shape(ref) for ref in refs]
  batches = [None if shape is None else shape[:-2] for shape in shapes]
  is_one = batches[1] == () != batches[0]
  if is_one and not flag(node, "adj_x") and not dtype.is_complex:
    return _multiply_rows(backport, node)
  is_wide = [covers(batches[i], batches[1 - i]) for i in (0, 1)]
  if not all(is_wide):
    x, y = refs
    shape = backport.emit(node, _BATCH_SHAPE, x=x, y=y)["shape"]
    refs = [
      ref if wide else backport.broadcast(node, word, ref, dtype, shape)
      for word, ref, wide in zip("xy", refs, is_wide)
    ]
  return backport.become(
    node,
    "result = BatchMatMul(refs, ^waits) {T=$T, adj_x=$adj_x, adj_y=$adj_y}",
    refs=refs,
    T=dtype,
    adj_x=bool(flag(node, "adj_x")),
    adj_y=bool(flag(node, "adj_y")),
  )


# The shape that both operands' batches have in the product, and [1, 1].
_BATCH_SHAPE = (
  "shape0 = Shape(x) {out_type=int32}"
  + part("batch0", "shape0", 0, -2)
  + "shape1 = Shape(y) {out_type=int32}"
  + part("batch1", "shape1", 0, -2)
  + """
  batch = BroadcastArgs(batch0, batch1)
  ones = Const(^batch) {value=<int32 [2] 1 1>}
"""
  + joined("shape", "batch", "ones")
)
# [-1, the last size of x]. It is packed, so that its length is seen to be 2
# whatever x is.
_MATRIX = (
  "shape = Shape(x) {out_type=int32}"
  + part("last", "shape", -1, _INT_MAX, is_index=True)
  + """
  all = Const(^shape) {value=<int32 -1>}
  matrix = Pack(all, last) {axis=0}
"""
)
_PRODUCT_OF_ROWS = (
  _MATRIX
  + """
  rows = Reshape(x, matrix)
  product = MatMul(rows, y) {transpose_a=false, transpose_b=$adj_y}
  product_shape = Shape(product) {out_type=int32}
"""
  + part("batch", "shape", 0, -1)
  + part("width", "product_shape", 1, 2)
  + joined("y_shape", "batch", "width")
  + "result = Reshape(product, y_shape, ^waits)"
)


def _multiply_rows(backport, node):
  """All matrices times one: that one times the rows of all."""
  x, y = backport.graph.data_inputs(node.name)
  adj_y = bool(flag(node, "adj_y"))
  return backport.become(node, _PRODUCT_OF_ROWS, x=x, y=y, adj_y=adj_y)


def _lower_select(backport, node):
  """Old choices take operands of one shape, or a scalar condition.

  A vector as the condition chooses rows there, so operands are broadcast
  unless they are known to be of one shape.
  """
  dtype = backport.dtype(TensorRef(node.name))
  refs = backport.graph.data_inputs(node.name)
  is_scalar = backport.shape(refs[0]) == ()
  if not backport.same_shape(refs[1:] if is_scalar else refs):
    if not (dtype.is_floating or dtype.is_integer or dtype == tf1.bool):
      return backport.refuse(node, f"{dtype.name} can't be broadcast there")
    wide = backport.widest(refs)
    shape = _common_shape(backport, node, refs if wide is None else [wide])
    refs = [
      ref
      if wide is not None and backport.same_shape([ref, wide])
      else backport.broadcast(node, word, ref, backport.dtype(ref), shape)
      for word, ref in zip(("condition", "t", "e"), refs)
    ]
  text = "result = Select(refs, ^waits) {T=$T}"
  return backport.become(node, text, refs=refs, T=dtype)


def _common_shape(backport, node, refs):
  """Adds the shape that tensors are broadcast to."""
  text, common = "shape = Shape(x) {out_type=int32}", "shape"
  shape = backport.emit(node, text, x=refs[0])[common]
  for i, ref in enumerate(refs[1:]):
    text = f"""
      shape{i} = Shape(x) {{out_type=int32}}
      common{i} = BroadcastArgs(shape, shape{i})
    """
    shape = backport.emit(node, text, x=ref, shape=shape)[f"common{i}"]
  return shape


def _lower_broadcast_to(backport, node):
  dtype = backport.dtype(TensorRef(node.name))
  if not (dtype.is_floating or dtype.is_integer or dtype == tf1.bool):
    return backport.refuse(node, f"{dtype.name} can't be broadcast there")
  ref, shape = backport.graph.data_inputs(node.name)
  if backport.dtype(shape) != tf1.int32:
    text = "shape = Cast(shape) {DstT=int32}"
    shape = backport.emit(node, text, shape=shape)["shape"]
  text = """
    one = Const(^shape) {value=$one}
    ones = Fill(shape, one)
    result = times(x, ones, ^waits)
  """
  operands = broadcast_operands(ref, dtype, shape)
  return backport.become(node, text, **operands)


# What an op computes where no zero is in the way, and which operand's zeros
# make the result zero, whatever the other is.
_GUARDED = {
  "DivNoNan": (1, "RealDiv"),
  "MulNoNan": (1, "Mul"),
  "Xdivy": (0, "RealDiv"),
  "Xlogy": (0, "Mul"),
}
_GUARD = """
  value = plain(a, b)
  zero = Const(^tested) {value=$zero}
  equal = Equal(tested, zero)
  shape = Shape(value) {out_type=int32}
  is_zero/one = Const(^shape) {value=<bool true>}
  is_zero/ones = Fill(shape, is_zero/one)
  is_zero = LogicalAnd(equal, is_zero/ones)
  zeros = ZerosLike(value)
  result = Select(is_zero, zeros, value, ^waits)
"""


def _lower_guarded(backport, node):
  guard, plain = _GUARDED[node.op]
  a, b = refs = backport.graph.data_inputs(node.name)
  if node.op == "Xlogy":
    b = backport.emit(node, "log = Log(b)", b=b)["log"]
  zero = tensor_attr(0, backport.dtype(refs[guard]))
  return backport.become(
    node, _GUARD, a=a, b=b, tested=refs[guard], zero=zero, plain=plain
  )


def _lower_leaky_relu(backport, node):
  """The larger of x and alpha * x; the smaller where alpha is above 1."""
  x = backport.graph.data_inputs(node.name)[0]
  alpha = node.attr["alpha"].f if "alpha" in node.attr else 0.2
  slope = tensor_attr(alpha, backport.dtype(x))
  scaled = """
    alpha = Const(^x) {value=$alpha}
    scaled = Mul(x, alpha)
  """
  larger = "Maximum" if alpha <= 1 else "Minimum"
  text = scaled + "result = larger(x, scaled, ^waits)"
  if alpha == 0:
    # 0 * inf is no number, and not to be compared with.
    text = (
      scaled
      + """
      is_kept = Greater(x, alpha)
      result = Select(is_kept, x, scaled, ^waits)
    """
    )
  return backport.become(node, text, x=x, alpha=slope, larger=larger)


def _lower_clip(backport, node):
  x, low, high = backport.graph.data_inputs(node.name)
  text = """
    below = Minimum(x, high)
    result = Maximum(below, low, ^waits)
  """
  return backport.become(node, text, x=x, low=low, high=high)


# Kernels that took nothing but matrices before 1.12.
_MATRICES_ONLY = frozenset(("Softmax", "LogSoftmax"))
_ROW_BY_ROW = (
  _MATRIX
  + """
  flat = Reshape(x, matrix)
  rowwise = op(flat)
  result = Reshape(rowwise, shape, ^waits)
"""
)


def _flatten(backport, node):
  """Makes the input a matrix of rows, and the output what it was."""
  x = backport.graph.data_inputs(node.name)[0]
  shape = backport.shape(x)
  if shape is not None and len(shape) == 2 or not backport.has_shapes():
    return False
  return backport.become(node, _ROW_BY_ROW, x=x, op=node.op)


_WINDOWED = {
  "Conv2D": windows.lower_window,
  "DepthwiseConv2dNative": windows.lower_window,
  "MaxPool": windows.lower_explicit,
}
RULES = dict.fromkeys(_SAME_ARGUMENTS, _lower_name)
RULES.update(dict.fromkeys(_GUARDED, _lower_guarded))
RULES.update(
  BatchMatMulV2=_lower_batch_matmul,
  BatchMatMulV3=_lower_batch_matmul,
  BroadcastTo=_lower_broadcast_to,
  ClipByValue=_lower_clip,
  LeakyRelu=_lower_leaky_relu,
  SelectV2=_lower_select,
)
