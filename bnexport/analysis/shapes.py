# SPDX-License-Identifier: Apache-2.0
"""Shapes of tensors, as far as a graph tells them without being run."""

from __future__ import annotations

from typing import NamedTuple, Optional

from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape

# Each element of the output comes from the elements at its place, and
# operands broadcast.
UNARY = ops.IDENTITIES | frozenset(
  (
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Cast",
    "Ceil",
    "Cos",
    "Cosh",
    "Digamma",
    "Elu",
    "Erf",
    "Erfc",
    "Exp",
    "Expm1",
    "FakeQuantWithMinMaxArgs",
    "Floor",
    "Inv",
    "Invert",
    "IsFinite",
    "IsInf",
    "IsNan",
    "LeakyRelu",
    "Lgamma",
    "Log",
    "Log1p",
    "LogicalNot",
    "Neg",
    "OnesLike",
    "Reciprocal",
    "Relu",
    "Relu6",
    "Rint",
    "Round",
    "Rsqrt",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Square",
    "Tan",
    "Tanh",
    "ZerosLike",
  )
) - {"EnsureShape"}
BROADCASTING = frozenset(
  (
    "Add",
    "AddN",
    "AddV2",
    "Atan2",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "ClipByValue",
    "Div",
    "DivNoNan",
    "Equal",
    "FakeQuantWithMinMaxVars",
    "FloorDiv",
    "FloorMod",
    "Greater",
    "GreaterEqual",
    "Less",
    "LessEqual",
    "LogicalAnd",
    "LogicalOr",
    "Maximum",
    "Minimum",
    "Mod",
    "Mul",
    "MulNoNan",
    "NotEqual",
    "Pow",
    "RealDiv",
    "Select",
    "SelectV2",
    "SquaredDifference",
    "Sub",
    "TruncateDiv",
    "TruncateMod",
    "Xdivy",
    "Xlogy",
  )
)
REDUCTIONS = ops.REDUCTIONS | {"All", "Any", "ArgMax", "ArgMin"}

_RANKS = {
  "AvgPool": 4,
  "Conv2D": 4,
  "Conv2DBackpropInput": 4,
  "DepthToSpace": 4,
  "DepthwiseConv2dNative": 4,
  "DepthwiseConv2dNativeBackpropInput": 4,
  "LRN": 4,
  "MaxPool": 4,
  "MaxPoolV2": 4,
  "ResizeArea": 4,
  "ResizeBicubic": 4,
  "ResizeBilinear": 4,
  "ResizeNearestNeighbor": 4,
  "SpaceToDepth": 4,
  "AvgPool3D": 5,
  "Conv3D": 5,
  "Conv3DBackpropInputV2": 5,
  "MaxPool3D": 5,
  "MatMul": 2,
  "Rank": 0,
  "Shape": 1,
  "Size": 0,
}
# The output has the rank of this input.
_RANK_OF = dict.fromkeys(
  (
    "BatchToSpaceND",
    "BiasAdd",
    "BiasAddV1",
    "Cumprod",
    "Cumsum",
    "EnsureShape",
    "Enter",
    "Exit",
    "LogSoftmax",
    "MirrorPad",
    "NextIteration",
    "Pad",
    "PadV2",
    "ReverseV2",
    "Roll",
    "Slice",
    "Softmax",
    "SpaceToBatchND",
    "SplitV",
    "Switch",
    "Tile",
  ),
  0,
)
_RANK_OF.update(Split=1, Concat=1, ConcatV2=0)


class Part(NamedTuple):
  """What a StridedSlice takes along one axis; `begin` None means a new axis.

  An index drops its axis; an open end reaches as far as the axis does.
  """

  begin: Optional[int] = 0
  end: int = 0
  stride: int = 1
  is_open_begin: bool = True
  is_open_end: bool = True
  is_index: bool = False


def flag(node, key):
  """An int or bool attribute; 0 where the node does not have it."""
  # Reading a missing key of a protobuf map would add it.
  return (node.attr[key].i or node.attr[key].b) if key in node.attr else 0


def data_format(node):
  """The layout a node states, as bytes, or None."""
  return node.attr["data_format"].s if "data_format" in node.attr else None


def channel_axis(node, rank):
  """The axis of a node's data that is its channels: the last or the second."""
  return 1 if (data_format(node) or b"").startswith(b"NC") else rank - 1


def slice_parts(node, vectors, rank):
  """Spells out a StridedSlice: masks, ellipsis and axes left out.

  Args:
    node: the StridedSlice.
    vectors: begin, end and strides as sequences of ints.
    rank: of the tensor that is sliced.

  Returns:
    A Part for each axis of the input, and one for each new axis.
  """
  length = len(vectors[2])
  news = [i for i in range(length) if flag(node, "new_axis_mask") >> i & 1]
  ellipsis = flag(node, "ellipsis_mask")
  whole = [Part()] * (rank - length + len(news) + bool(ellipsis))
  parts = []
  for i, (begin, end, stride) in enumerate(zip(*vectors)):
    if ellipsis >> i & 1:
      parts.extend(whole)
    elif i in news:
      parts.append(Part(begin=None))
    else:
      parts.append(
        Part(
          begin,
          end,
          stride,
          *(
            bool(flag(node, key) >> i & 1)
            for key in ("begin_mask", "end_mask", "shrink_axis_mask")
          ),
        )
      )
  return parts if ellipsis else parts + whole


def broadcast(shapes):
  """Shape of an elementwise op's output; None where an operand's is None."""
  if not shapes or any(shape is None for shape in shapes):
    return None
  rank = max(map(len, shapes))
  columns = zip(*((1,) * (rank - len(s)) + tuple(s) for s in shapes))
  return tuple(_broadcast_size(set(column)) for column in columns)


def _broadcast_size(sizes):
  wide = sizes - {1}
  if len(wide) > 1:
    wide -= {-1}
  return wide.pop() if len(wide) == 1 else -1 if wide else 1


class Shapes:
  """Shapes of the tensors of a graph as it was when this was made.

  What the graph states goes first; what follows from the ops fills in ranks,
  and sizes where a broadcast against them matters: those of 1.
  """

  def __init__(self, graph: Graph, order):
    """Sweeps over `order`, names of nodes with inputs first."""
    self._graph = graph
    self._of = {}
    for name in order:
      shape = static_shape(graph, TensorRef(name))
      if shape is None:
        shape = self._infer(graph.node(name))
      self._of[name] = shape

  def of(self, ref: TensorRef):
    """A tuple with -1 for what is unknown, or None for an unknown rank."""
    node = self._graph.node(ref.node)
    if ref.index:
      stated = static_shape(self._graph, ref)
      if stated is not None:
        return stated
      if node.op in ops.FUSED_NORMS or node.op in ops.MERGES:
        return (-1,) if node.op in ops.FUSED_NORMS else ()
    return self._of.get(ref.node)

  def rank(self, ref: TensorRef):
    shape = self.of(ref)
    return None if shape is None else len(shape)

  def _infer(self, node):
    refs = self._graph.data_inputs(node.name)
    if node.op in _RANKS:
      return (-1,) * _RANKS[node.op]
    if node.op in ops.FUSED_NORMS:
      is_volume = data_format(node) in (b"NDHWC", b"NCDHW")
      return (-1,) * (5 if is_volume else 4)
    if node.op in UNARY or node.op in ops.RESOURCE_READS:
      return self.of(refs[0])
    if node.op in BROADCASTING:
      return broadcast([self.of(ref) for ref in refs])
    if node.op in ops.MERGES:
      known = [self.rank(ref) for ref in refs]
      # A loop may change sizes at its Merge.
      return next(((-1,) * r for r in known if r is not None), None)
    if node.op in ("Squeeze", "ExpandDims", "Pack", "Unpack"):
      return self._infer_axes(node, refs)
    if node.op in REDUCTIONS:
      return self._infer_reduction(node, refs)
    if node.op in ("Reshape", "BroadcastTo", "Fill"):
      return self._vector(refs[0 if node.op == "Fill" else 1])
    if node.op in ("Gather", "GatherV2"):
      ranks = [self.rank(ref) for ref in refs[:2]]
      return None if None in ranks else (-1,) * (sum(ranks) - 1)
    if node.op == "StridedSlice":
      return self._infer_slice(node, refs)
    if node.op == "Transpose":
      perm = self._vector(refs[1])
      return (-1,) * len(perm) if perm else self.of(refs[0])
    if node.op in _RANK_OF:
      rank = self.rank(refs[_RANK_OF[node.op]])
      return None if rank is None else (-1,) * rank
    return None

  def _infer_axes(self, node, refs):
    shape = self.of(refs[0])
    if shape is None:
      return None
    if node.op in ("Pack", "Unpack"):
      return (-1,) * (len(shape) + (1 if node.op == "Pack" else -1))
    if node.op == "Squeeze":
      axes = squeezed(node, shape)
      if axes is None:
        return None
      return tuple(s for a, s in enumerate(shape) if a not in axes)
    axis = constant_value(self._graph, refs[1], largest=1)
    if axis is None:
      return (-1,) * (len(shape) + 1)
    axis = int(axis.reshape(-1)[0]) % (len(shape) + 1)
    return shape[:axis] + (1,) + shape[axis:]

  def _infer_reduction(self, node, refs):
    shape = self.of(refs[0])
    axes = constant_value(self._graph, refs[1], largest=16)
    keep = flag(node, "keep_dims")
    if shape is None or axes is None:
      return shape and (-1,) * len(shape) if keep else None
    axes = {int(axis) % len(shape) for axis in axes.reshape(-1)}
    sizes = [1 if a in axes else s for a, s in enumerate(shape)]
    return tuple(s for a, s in enumerate(sizes) if keep or a not in axes)

  def _infer_slice(self, node, refs):
    shape = self.of(refs[0])
    strides = constant_value(self._graph, refs[3], largest=16)
    if shape is None or strides is None:
      return None
    sizes, axes = [], iter(shape)
    for part in slice_parts(node, (strides.tolist(),) * 3, len(shape)):
      size = 1 if part.begin is None else next(axes)
      is_whole = (
        part.is_open_begin and part.is_open_end and abs(part.stride) == 1
      )
      if not part.is_index:
        sizes.append(size if is_whole or part.begin is None else -1)
    return tuple(sizes)

  def _vector(self, ref):
    """The ints in a vector, -1 for unknown ones; None for unknown lengths."""
    value = constant_value(self._graph, ref, largest=16)
    if value is not None:
      return tuple(int(v) for v in value.reshape(-1))
    node = self._graph.node(ref.node)
    refs = self._graph.data_inputs(ref.node)
    if node.op == "Pack":
      scalars = [constant_value(self._graph, r, largest=1) for r in refs]
      return tuple(-1 if s is None else int(s.reshape(-1)[0]) for s in scalars)
    if node.op == "Shape":
      return self.of(refs[0])
    shape = self.of(ref)
    if shape is None or len(shape) != 1 or shape[0] < 0:
      return None
    return (-1,) * shape[0]


def squeezed(node, shape):
  """The axes a Squeeze drops from a shape; None where it is up to the sizes."""
  axes = node.attr["squeeze_dims"].list.i if "squeeze_dims" in node.attr else ()
  if axes:
    return [axis % len(shape) for axis in axes]
  if -1 in shape:
    return None
  return [axis for axis, size in enumerate(shape) if size == 1]
