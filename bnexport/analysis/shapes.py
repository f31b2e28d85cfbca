# SPDX-License-Identifier: Apache-2.0
"""Shapes of tensors as TensorFlow infers them, and what ops do to shapes."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple

from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.importing import import_graph
from bnexport.graph.nodes import element_count, static_shape, type_attr
from bnexport.tf1 import tf1

STATED = "_output_shapes"
# Shape inference reads the values of small constants, such as axes.
_LARGEST = 1024

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


class Shapes:
  """Shapes of a graph as it was when the first one was asked for.

  Rewriting keeps the shape of what it keeps the name of.
  """

  def __init__(self, graph: Graph):
    self._graph = graph
    self._inferred: Optional[Dict[TensorRef, Optional[Tuple[int, ...]]]] = None

  def of(self, ref: TensorRef):
    """A tuple with -1 for open sizes; None where the rank is unknown."""
    if self._inferred is None:
      self._inferred = {
        ref: None if shape.dims is None else _sizes(shape)
        for ref, shape in (inferred(self._graph) or {}).items()
      }
    if ref in self._inferred:
      return self._inferred[ref]
    # A node that was added, or an op that TensorFlow does not know.
    return static_shape(self._graph, ref)

  def rank(self, ref: TensorRef):
    shape = self.of(ref)
    return None if shape is None else len(shape)


def _sizes(shape):
  return tuple(-1 if size is None else size for size in shape.as_list())


def inferred(graph, names=None):
  """TensorShapes by TensorRef; nothing of the graph is run.

  What the graph itself states may be stale, and is not looked at.

  Args:
    graph: a Graph; stays as it is.
    names: nodes, with all that they need; all where it is None.

  Returns:
    A dict; None where TensorFlow does not take the graph.
  """
  try:
    imported = import_graph(
      _skeleton(graph, graph.names() if names is None else names)
    )
  except (tf1.errors.OpError, ValueError, KeyError, TypeError):
    return None
  return {
    TensorRef(operation.name, i): output.shape
    for operation in imported.get_operations()
    if operation.name in graph  # importing may have added others
    for i, output in enumerate(operation.outputs)
  }


def _skeleton(graph, names):
  """A GraphDef with placeholders for large constants."""
  skeleton = tf1.GraphDef()
  graph.copy_rest(skeleton)
  for name in names:
    node = graph.node(name)
    tensor = node.attr["value"].tensor if node.op == "Const" else None
    copy = skeleton.node.add()
    if tensor is None or element_count(tensor) <= _LARGEST:
      copy.CopyFrom(node)
      for key in (STATED, "_class"):  # nothing is placed
        copy.attr.pop(key, None)
      continue
    copy.name, copy.op = name, "Placeholder"
    copy.attr["dtype"].CopyFrom(type_attr(tensor.dtype))
    copy.attr["shape"].shape.CopyFrom(tensor.tensor_shape)
  return skeleton


class Part(NamedTuple):
  """The part of one axis that a StridedSlice takes; `begin` None: a new axis.

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


def squeezed(node, shape):
  """The axes a Squeeze drops from a shape; None where it is up to the sizes."""
  axes = node.attr["squeeze_dims"].list.i if "squeeze_dims" in node.attr else ()
  if axes:
    return [axis % len(shape) for axis in axes]
  if -1 in shape:
    return None
  return [axis for axis, size in enumerate(shape) if size == 1]
