# SPDX-License-Identifier: Apache-2.0
"""Single nodes: constants, attributes, dtypes of outputs, called functions."""

from __future__ import annotations

import collections
from typing import (
  Any,
  Dict,
  Iterable,
  Iterator,
  List,
  Optional,
  Sequence,
  Set,
  Tuple,
  Union,
)

import numpy as np

from bnexport.errors import GraphError
from bnexport.graph import AnyRef, Graph, TensorRef, ops
from bnexport.graph.origins import CONSTANT_COPIES, origin_of
from bnexport.graph.tensors import array_of, element_count, shape_proto
from bnexport.tf1 import FunctionDef, OpDef, op_def, tf1

# A tf.DType, or the DataType enum that protos have for it.
AnyType = Union[tf1.DType, int]

FLOATS = frozenset(
  dtype.as_datatype_enum
  for dtype in (tf1.float16, tf1.bfloat16, tf1.float32, tf1.float64)
)


def type_attr(dtype: AnyType) -> tf1.AttrValue:
  """An AttrValue of a DType or of a DataType enum."""
  return tf1.AttrValue(type=tf1.as_dtype(dtype).as_datatype_enum)


def int_attr(value: int) -> tf1.AttrValue:
  return tf1.AttrValue(i=value)


def bool_attr(value: bool) -> tf1.AttrValue:
  return tf1.AttrValue(b=value)


def tensor_attr(value: Any, dtype: Optional[AnyType] = None) -> tf1.AttrValue:
  """An AttrValue that holds an array of less than 2 GB."""
  return tf1.AttrValue(tensor=tf1.make_tensor_proto(value, dtype=dtype))


def constant(
  graph: Graph,
  name: str,
  value: Any,
  dtype: Optional[AnyType] = None,
  control: Iterable[AnyRef] = (),
) -> TensorRef:
  """Adds a Const and returns its output."""
  tensor = tensor_attr(value, dtype)
  attrs = {"dtype": type_attr(tensor.tensor.dtype), "value": tensor}
  return TensorRef(graph.add("Const", name, control, attrs).name)


def identity(graph: Graph, name: str, ref: AnyRef, dtype: AnyType) -> TensorRef:
  """Adds an Identity of `ref` and returns its output."""
  attrs = {"T": type_attr(dtype)}
  return TensorRef(graph.add("Identity", name, [ref], attrs).name)


# On a Const whose value is not in the graph: the key of the model's `deferred`.
DEFERRED = "_deferred"


def deferred_attrs(
  shape: Sequence[int], dtype: AnyType, key: str
) -> Dict[str, tf1.AttrValue]:
  """Attributes of a Const of a shape and a dtype, and no value yet.

  Args:
    shape: a tuple.
    dtype: a DType or DataType enum.
    key: where the model's `deferred` has the value; nodes may share one.
  """
  tensor = tf1.AttrValue().tensor
  tensor.dtype = tf1.as_dtype(dtype).as_datatype_enum
  tensor.tensor_shape.CopyFrom(shape_proto(shape))
  return {
    "dtype": type_attr(dtype),
    "value": tf1.AttrValue(tensor=tensor),
    DEFERRED: tf1.AttrValue(s=key.encode()),
  }


def constant_value(
  graph: Graph, ref: TensorRef, largest: int = 4096
) -> Optional[np.ndarray]:
  """Returns the array of a Const behind identities, or None.

  Args:
    graph: the graph.
    ref: the tensor.
    largest: constants of more elements than this are not decoded; None. The
      same for those that are deferred.
  """
  node = graph.node(origin_of(graph, ref, CONSTANT_COPIES).node)
  if node.op != "Const" or DEFERRED in node.attr:
    return None
  tensor = node.attr["value"].tensor
  if element_count(tensor) > largest:
    return None
  return array_of(tensor)


def static_shape(graph: Graph, ref: TensorRef) -> Optional[Tuple[int, ...]]:
  """Returns the shape the graph states for a tensor, or None.

  Unknown sizes are -1. Read from the `_output_shapes` that Saver writes into
  a metagraph, from `shape` and from constants; nothing is inferred.
  """
  node = graph.node(ref.node)
  attr = node.attr
  shape = None
  if node.op == "Const":
    shape = attr["value"].tensor.tensor_shape
  elif node.op in ops.VARIABLES:
    shape = attr["shape"].shape if "shape" in attr else None
  elif (
    "_output_shapes" in attr
    and len(attr["_output_shapes"].list.shape) > ref.index
  ):
    shape = attr["_output_shapes"].list.shape[ref.index]
  elif "shape" in attr and node.op in ops.PLACEHOLDERS:
    shape = attr["shape"].shape
  if shape is None or shape.unknown_rank:
    return None
  return tuple(dim.size for dim in shape.dim)


class Signatures:
  """OpDefs by name: the registry's, and those a metagraph brings along."""

  def __init__(self, stripped_op_list: Iterable[OpDef] = ()):
    self._own = {op.name: op for op in stripped_op_list}

  def __getitem__(self, op: str) -> OpDef:
    """Returns the OpDef of `op`.

    Raises:
      GraphError: neither TensorFlow nor the file knows it.
    """
    found = op_def(op) or self._own.get(op)
    if found is None:
      raise GraphError(
        f"use op '{op}'",
        "this TensorFlow does not know it",
        "import the library that registers it, or cut it away with "
        "--input_node",
      )
    return found

  def __contains__(self, op: str) -> bool:
    return op in self._own or op_def(op) is not None

  def output_dtypes(self, node: tf1.NodeDef) -> List[int]:
    """DataType enums of a node's outputs, in order."""
    signature = self[node.op]
    return expand(node, signature, signature.output_arg)

  def input_dtypes(self, node: tf1.NodeDef) -> List[int]:
    """DataType enums of the data inputs that a node takes, in order."""
    signature = self[node.op]
    return expand(node, signature, signature.input_arg)

  def read_dtype(self, reader: tf1.NodeDef, ref: TensorRef) -> Optional[int]:
    """DataType enum that a node reads a tensor as; None where nobody knows it.

    A node that has more or fewer inputs than its op takes tells nothing.
    """
    if reader.op not in self:
      return None
    dtypes = self.input_dtypes(reader)
    refs = [TensorRef.parse(t) for t in reader.input if not t.startswith("^")]
    return dtypes[refs.index(ref)] if len(dtypes) == len(refs) else None

  def dtype_of(self, graph: Graph, ref: TensorRef) -> Optional[int]:
    """DataType enum of a tensor; None where nothing tells it.

    What reads the tensor tells it where its own op is not known.
    """
    dtypes = output_dtypes(graph, ref.node, self)
    if dtypes is not None:
      return dtypes[ref.index]
    readers = map(graph.node, graph.readers_of(ref))
    told = (self.read_dtype(reader, ref) for reader in readers)
    return next((dtype for dtype in told if dtype), None)


def output_dtypes(
  graph: Graph, name: str, signatures: Signatures
) -> Optional[List[int]]:
  """DataTypes of what a node hands out; None where nobody knows its op."""
  node = graph.node(name)
  if node.op in graph.library:
    signature = graph.library[node.op].signature
    return expand(node, signature, signature.output_arg)
  return signatures.output_dtypes(node) if node.op in signatures else None


def expand(
  node: tf1.NodeDef, signature: OpDef, args: Iterable[OpDef.ArgDef]
) -> List[int]:
  """DataTypes that an OpDef's args stand for, given a node's attributes."""
  return [dtype for arg in args for dtype in arg_dtypes(node, signature, arg)]


def arg_dtypes(
  node: tf1.NodeDef, signature: OpDef, arg: OpDef.ArgDef
) -> List[int]:
  """DataTypes that one ArgDef stands for, given a node's attributes."""
  if arg.type_list_attr:
    return list(_attr(node, signature, arg.type_list_attr).list.type)
  dtype = arg.type or _attr(node, signature, arg.type_attr).type
  if not arg.number_attr:
    return [dtype]
  return [dtype] * _attr(node, signature, arg.number_attr).i


def _attr(node: tf1.NodeDef, signature: OpDef, key: str) -> tf1.AttrValue:
  """An attribute; what a node leaves out has the OpDef's default."""
  if key in node.attr:  # reading what is missing would add it
    return node.attr[key]
  for attr in signature.attr:
    if attr.name == key and attr.HasField("default_value"):
      return attr.default_value
  raise GraphError(
    f"tell the types of node '{node.name}'",
    f"it lacks attribute '{key}', which its op {node.op} has to have",
    "write the graph again, or cut it away with --input_node",
  )


def required_attributes(op: OpDef) -> Tuple[str, ...]:
  """Names of the attributes that a node of an op has to state, in order."""
  return tuple(
    attr.name for attr in op.attr if not attr.HasField("default_value")
  )


def missing_attribute(node: tf1.NodeDef, op: OpDef) -> Optional[str]:
  """Name of an attribute that a node has to state and does not, or None."""
  return first_missing(node, required_attributes(op))


def first_missing(node: tf1.NodeDef, required: Iterable[str]) -> Optional[str]:
  """The first of some attributes that a node does not state, or None."""
  attrs = node.attr
  for key in required:
    if key not in attrs or not attrs[key].WhichOneof("value"):
      return key
  return None


def uniform_value(array: Any) -> Optional[np.generic]:
  """The one value all elements have, as a NumPy scalar, or None."""
  flat = np.asarray(array).reshape(-1)
  if flat.size and (flat == flat[0]).all():
    return flat[0]
  return None


def functions_of(node: tf1.NodeDef) -> List[str]:
  """Names of the functions a node calls."""
  names = [node.op]
  for attr in node.attr.values():
    kind = attr.WhichOneof("value")
    if kind == "func":
      names.append(attr.func.name)
    elif kind == "list":
      names += [func.name for func in attr.list.func]
  return names


def called_functions(
  graph: Graph, nodes: Iterable[tf1.NodeDef]
) -> Iterator[FunctionDef]:
  """Yields the FunctionDefs that nodes call, directly or not, each once."""
  names = [name for node in nodes for name in functions_of(node)]
  seen: Set[str] = set()
  for name in names:
    if name in seen or name not in graph.library:
      continue
    seen.add(name)
    function = graph.library[name]
    yield function
    for inner in function.node_def:
      names.extend(functions_of(inner))


def called_ops(graph: Graph, node: tf1.NodeDef) -> Set[str]:
  """Ops in the bodies of the functions that a node calls, directly or not."""
  called = called_functions(graph, [node])
  return {inner.op for function in called for inner in function.node_def}


def in_scope(name: str, scope: str) -> bool:
  """Tells whether `name` is the scope or lies below it."""
  scope = scope.rstrip("/")
  return name == scope or name.startswith(scope + "/")


def op_histogram(
  nodes: Iterable[tf1.NodeDef], functions: Iterable[FunctionDef]
) -> Dict[str, int]:
  """Counts of the ops by name, the largest count first.

  Args:
    nodes: NodeDefs.
    functions: FunctionDefs, whose bodies count as well.
  """
  count = collections.Counter(node.op for node in nodes)
  for function in functions:
    count.update(node.op for node in function.node_def)
  return dict(sorted(count.items(), key=lambda item: (-item[1], item[0])))
