# SPDX-License-Identifier: Apache-2.0
"""How each op that an older TensorFlow lacks is said in older ops.

A rule gets a node and makes it, under its own name, what gives the same
values; nodes it needs besides lie below that name. A rule that can't says why
to the Site and leaves the node alone.
"""

from __future__ import annotations

from bnexport.analysis.dependence import uses_batch
from bnexport.analysis.shapes import data_format, flag
from bnexport.graph import TensorRef, op_history
from bnexport.graph.nodes import bool_attr, int_attr, type_attr
from bnexport.tf1 import tf1
from bnexport.transforms.backport import windows
from bnexport.transforms.backport.backport_graph import covers

_INT_MAX = 2**31 - 1


def find(node, version):
  """The rule for a node that a TensorFlow does not know as it is, or None."""
  if node.op in NORMS:
    # FusedBatchNormV2 is older than its kernels.
    is_known = op_history.knows(version, "FusedBatchNormV3")
    return None if is_known else _lower_norm
  if not op_history.knows(version, node.op):
    return RULES.get(node.op)
  if node.op in _WINDOWED and op_history.newer_in_node(node, version):
    return _WINDOWED[node.op]
  if node.op in _MATRICES_ONLY and op_history.is_older(version, "1.12"):
    return _flatten
  return None


def lower_in_function(function, node):
  """Rewrites a node of a function's body, where one op takes its place."""
  if node.op in NORMS:
    reads = [text for n in function.node_def for text in n.input]
    reads.extend(function.ret.values())
    others = [
      text
      for text in reads
      if text.startswith(node.name + ":") and text != node.name + ":y:0"
    ]
    if others or _moves_averages(node) or not _is_plain_norm(node):
      return False
    _rename_norm(node)
    return True
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


def _lower_name(site, node):
  _rename(node)
  return True


# Norms.

NORMS = frozenset(("FusedBatchNormV2", "FusedBatchNormV3"))
_VOLUMES = (b"NDHWC", b"NCDHW")


def _is_plain_norm(node):
  """Whether FusedBatchNorm takes what the node takes."""
  is_single = node.attr["T"].type == tf1.float32.as_datatype_enum
  return is_single and data_format(node) not in _VOLUMES


def _moves_averages(node):
  return (
    "exponential_avg_factor" in node.attr
    and node.attr["exponential_avg_factor"].f != 1
  )


def _rename_norm(node):
  node.op = "FusedBatchNorm"
  node.attr.pop("U", None)
  node.attr.pop("exponential_avg_factor", None)


def _lower_norm(site, node):
  if site.is_read(TensorRef(node.name, 5)):
    return site.refuse(node, "its sixth output is read")
  if _moves_averages(node):
    return site.refuse(node, "its exponential_avg_factor is not 1")
  if data_format(node) == b"NCDHW":
    return site.refuse(node, "NCDHW, run convert_layout first")
  is_plain = _is_plain_norm(node)
  is_training = uses_batch(node)
  if not is_training or not is_plain:
    if any(site.is_output(TensorRef(node.name, i)) for i in range(1, 5)):
      return site.refuse(node, "its statistics are outputs")
  if not is_training:
    # Kernels up to those of 1.15 leave these outputs unwritten at inference.
    _, _, _, mean, variance = site.graph.data_inputs(node.name)
    site.graph.redirect(TensorRef(node.name, 1), mean)
    site.graph.redirect(TensorRef(node.name, 2), variance)
  if is_plain:
    _rename_norm(node)
    return True
  return _wrap_norm(site, node)


def _wrap_norm(site, node):
  """Norms of other types and of volumes, as one of float32 and four axes.

  Kernels of float16 compute in float32 and cast as well.
  """
  name, graph = node.name, site.graph
  data = graph.data_inputs(name)
  source, scale = data[0], data[1]
  dtype, single = node.attr["T"], type_attr(tf1.float32)
  x = source
  is_cast = dtype != single
  if is_cast:
    x = site.add("Cast", name + "/x", [x], SrcT=dtype, DstT=single)
  keys = ("epsilon", "is_training", "data_format")
  attrs = {key: node.attr[key] for key in keys if key in node.attr}
  attrs["T"] = single
  integer = type_attr(tf1.int32)
  is_volume = data_format(node) in _VOLUMES
  if is_volume:
    channels = site.shape_of(name + "/channels", scale)
    ones = site.constant(name + "/ones", [-1, 1, 1], tf1.int32, scale)
    rows = site.joined(name + "/rows", [ones, channels])
    x = site.add("Reshape", name + "/flat", [x, rows], T=single, Tshape=integer)
    attrs["data_format"] = tf1.AttrValue(s=b"NHWC")
  norm = site.add("FusedBatchNorm", name + "/norm", [x] + data[1:], **attrs)
  for i in range(1, 5):
    graph.redirect(TensorRef(name, i), TensorRef(norm.node, i))
  if is_volume:
    inputs = [norm, site.shape_of(name + "/shape", source)]
    if not is_cast:
      return site.become(node, "Reshape", inputs, T=single, Tshape=integer)
    norm = site.add("Reshape", name + "/y", inputs, T=single, Tshape=integer)
  return site.become(node, "Cast", [norm], SrcT=single, DstT=dtype)


# Products of matrices, choices, what broadcasts.


def _lower_batch_matmul(site, node):
  """Old products take matrices that are as many on both sides."""
  name = node.name
  types = {
    node.attr[key].type for key in ("T", "Ta", "Tb", "Tout") if key in node.attr
  }
  if len(types) != 1:
    return site.refuse(node, "its types differ")
  dtype = tf1.as_dtype(types.pop())
  refs = site.graph.data_inputs(name)
  shapes = [site.shape(ref) for ref in refs]
  batches = [None if shape is None else shape[:-2] for shape in shapes]
  is_one = batches[1] == () != batches[0]
  if is_one and not flag(node, "adj_x") and not dtype.is_complex:
    return _multiply_rows(site, node, dtype)
  is_wide = [covers(batches[i], batches[1 - i]) for i in (0, 1)]
  if not all(is_wide):
    shape = _batch_shape(site, name, refs)
    refs = [
      ref
      if is_wide[i]
      else site.add_broadcast(f"{name}/{'xy'[i]}", ref, dtype, shape)
      for i, ref in enumerate(refs)
    ]
  attrs = {key: bool_attr(bool(flag(node, key))) for key in ("adj_x", "adj_y")}
  return site.become(node, "BatchMatMul", refs, T=type_attr(dtype), **attrs)


def _batch_shape(site, name, refs):
  """Adds the shape that both operands' batches have in the product, [1, 1]."""
  batches = []
  for i, ref in enumerate(refs):
    shape = site.shape_of(f"{name}/shape{i}", ref)
    batches.append(site.part(f"{name}/batch{i}", shape, 0, -2))
  both = site.add(
    "BroadcastArgs", name + "/batch", batches, T=type_attr(tf1.int32)
  )
  ones = site.constant(name + "/ones", [1, 1], tf1.int32, both)
  return site.joined(name + "/shape", [both, ones])


def _multiply_rows(site, node, dtype):
  """All matrices times one: that one times the rows of all."""
  name = node.name
  x, y = site.graph.data_inputs(name)
  kind, integer = type_attr(dtype), type_attr(tf1.int32)
  sizes = site.shape_of(name + "/shape", x)
  rows = site.add(
    "Reshape",
    name + "/rows",
    [x, _row_shape(site, name, sizes)],
    T=kind,
    Tshape=integer,
  )
  transpose = bool(flag(node, "adj_y"))
  product = site.add(
    "MatMul",
    name + "/product",
    [rows, y],
    T=kind,
    transpose_a=bool_attr(False),
    transpose_b=bool_attr(transpose),
  )
  width = site.shape_of(name + "/product_shape", product)
  shape = site.joined(
    name + "/y_shape",
    [
      site.part(name + "/batch", sizes, 0, -1),
      site.part(name + "/width", width, 1, 2),
    ],
  )
  return site.become(node, "Reshape", [product, shape], T=kind, Tshape=integer)


def _row_shape(site, name, sizes):
  """Adds [-1, the last of the sizes]."""
  last = site.part(name + "/last", sizes, -1, _INT_MAX, is_index=True)
  rows = site.constant(name + "/all", -1, tf1.int32, sizes)
  # Packed, so that its length is seen to be 2 whatever x is.
  return site.add(
    "Pack",
    name + "/matrix",
    [rows, last],
    N=int_attr(2),
    T=type_attr(tf1.int32),
    axis=int_attr(0),
  )


def _lower_select(site, node):
  """Old choices take operands of one shape, or a scalar condition.

  A vector as the condition chooses rows there, so operands are broadcast
  unless they are known to be of one shape.
  """
  name = node.name
  dtype = site.dtype(TensorRef(name))
  refs = site.graph.data_inputs(name)
  is_scalar = site.shape(refs[0]) == ()
  if not site.same_shape(refs[1:] if is_scalar else refs):
    if not (dtype.is_floating or dtype.is_integer or dtype == tf1.bool):
      return site.refuse(node, f"{dtype.name} can't be broadcast there")
    wide = site.widest(refs)
    shape = _common_shape(site, name, refs if wide is None else [wide])
    refs = [
      ref
      if wide is not None and site.same_shape([ref, wide])
      else site.add_broadcast(f"{name}/{key}", ref, site.dtype(ref), shape)
      for key, ref in zip(("condition", "t", "e"), refs)
    ]
  return site.become(node, "Select", refs, T=type_attr(dtype))


def _common_shape(site, name, refs):
  """Adds the shape that tensors are broadcast to."""
  shape = site.shape_of(name + "/shape", refs[0])
  for i, ref in enumerate(refs[1:]):
    other = site.shape_of(f"{name}/shape{i}", ref)
    shape = site.add(
      "BroadcastArgs",
      f"{name}/common{i}",
      [shape, other],
      T=type_attr(tf1.int32),
    )
  return shape


def _lower_broadcast_to(site, node):
  dtype = site.dtype(TensorRef(node.name))
  if not (dtype.is_floating or dtype.is_integer or dtype == tf1.bool):
    return site.refuse(node, f"{dtype.name} can't be broadcast there")
  ref, shape = site.graph.data_inputs(node.name)
  integer = type_attr(tf1.int32)
  if site.dtype(shape) != tf1.int32:
    shape = site.add(
      "Cast",
      node.name + "/shape",
      [shape],
      SrcT=type_attr(site.dtype(shape)),
      DstT=integer,
    )
  op, inputs, attrs = site.broadcast(node.name, ref, dtype, shape)
  return site.become(node, op, inputs, **attrs)


# What an op computes where no zero is in the way, and which operand's zeros
# make the result zero, whatever the other is.
_GUARDED = {
  "DivNoNan": (1, "RealDiv"),
  "MulNoNan": (1, "Mul"),
  "Xdivy": (0, "RealDiv"),
  "Xlogy": (0, "Mul"),
}


def _lower_guarded(site, node):
  name, op = node.name, node.op
  guard, plain = _GUARDED[op]
  kind = node.attr["T"]
  refs = site.graph.data_inputs(name)
  tested = refs[guard]
  if op == "Xlogy":
    refs[1] = site.add("Log", name + "/log", [refs[1]], T=kind)
  value = site.add(plain, name + "/value", refs, T=kind)
  zero = site.constant(name + "/zero", 0, site.dtype(tested), tested)
  is_zero = site.add("Equal", name + "/equal", [tested, zero], T=kind)
  shape = site.shape_of(name + "/shape", value)
  is_zero = site.add_broadcast(name + "/is_zero", is_zero, tf1.bool, shape)
  zeros = site.add("ZerosLike", name + "/zeros", [value], T=kind)
  return site.become(node, "Select", [is_zero, zeros, value], T=kind)


def _lower_leaky_relu(site, node):
  """The larger of x and alpha * x; the smaller where alpha is above 1."""
  x = site.graph.data_inputs(node.name)[0]
  alpha = node.attr["alpha"].f if "alpha" in node.attr else 0.2
  kind = type_attr(site.dtype(TensorRef(node.name)))
  slope = site.constant(node.name + "/alpha", alpha, site.dtype(x), x)
  scaled = site.add("Mul", node.name + "/scaled", [x, slope], T=kind)
  if alpha == 0:
    # 0 * inf is no number, and not to be compared with.
    is_kept = site.add("Greater", node.name + "/is_kept", [x, slope], T=kind)
    return site.become(node, "Select", [is_kept, x, scaled], T=kind)
  op = "Maximum" if alpha <= 1 else "Minimum"
  return site.become(node, op, [x, scaled], T=kind)


def _lower_clip(site, node):
  x, low, high = site.graph.data_inputs(node.name)
  kind = node.attr["T"]
  below = site.add("Minimum", node.name + "/below", [x, high], T=kind)
  return site.become(node, "Maximum", [below, low], T=kind)


# Kernels that took nothing but matrices before 1.12.
_MATRICES_ONLY = frozenset(("Softmax", "LogSoftmax"))


def _flatten(site, node):
  """Makes the input a matrix of rows, and the output what it was."""
  name, graph = node.name, site.graph
  x = graph.data_inputs(name)[0]
  shape = site.shape(x)
  if shape is not None and len(shape) == 2 or not site.has_shapes():
    return False
  kind, integer = node.attr["T"], type_attr(tf1.int32)
  sizes = site.shape_of(name + "/shape", x)
  matrix = _row_shape(site, name, sizes)
  flat = site.add(
    "Reshape", name + "/flat", [x, matrix], T=kind, Tshape=integer
  )
  flat = site.add(node.op, name + "/rowwise", [flat], T=kind)
  return site.become(node, "Reshape", [flat, sizes], T=kind, Tshape=integer)


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
