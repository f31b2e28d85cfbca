# SPDX-License-Identifier: Apache-2.0
"""Variables of a graph: their reads, dtypes and assignments."""

from __future__ import annotations

from typing import Any, Collection, Dict, Iterable, Optional, Tuple

from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import AnyType, bool_attr, identity, type_attr
from bnexport.tf1 import tf1

_CONSTANTS = frozenset(("Const",))
_HANDOVERS = frozenset(
  (
    "Identity",
    "RefIdentity",
    "Switch",
    "RefSwitch",
    "Merge",
    "RefMerge",
    "Enter",
    "RefEnter",
    "Exit",
    "RefExit",
  )
)


def variable_dtype(graph: Graph, variable: str) -> int:
  """DataType enum of a variable's value."""
  return graph.node(variable).attr["dtype"].type


def variable_of(graph: Graph, ref: TensorRef) -> Optional[str]:
  """Name of the variable whose handle, reference or value this is, or None."""
  return holder_of(graph, ref, ops.VARIABLES)


def constant_of(graph: Graph, ref: TensorRef) -> Optional[str]:
  """Name of the Const whose value a tensor is, or None."""
  return holder_of(graph, ref, _CONSTANTS)


def holder_of(
  graph: Graph, ref: TensorRef, kinds: Collection[str]
) -> Optional[str]:
  """Name of the node of these ops whose value a tensor is, or None."""
  seen = set()
  while ref.node not in seen:
    seen.add(ref.node)
    op = graph.op(ref.node)
    if op in kinds:
      return ref.node
    if (
      op in ops.CARRIERS
      or op in ops.SWITCHES
      or op in ops.MERGES
      or op in ops.RESOURCE_READS
    ):
      ref = graph.inputs(ref.node)[0]
    else:
      return None
  return None


def read(graph: Graph, variable: str) -> TensorRef:
  """The value of a variable outside of all loops; a read is added if needed."""
  is_resource = graph.op(variable) == "VarHandleOp"
  wanted = "ReadVariableOp" if is_resource else "Identity"
  for reader in graph.readers(variable):
    if graph.op(reader) == wanted and graph.inputs(reader) == [
      TensorRef(variable)
    ]:
      return TensorRef(reader)
  if is_resource:
    return own_read(graph, variable)
  dtype = variable_dtype(graph, variable)
  return identity(graph, variable + "/read", TensorRef(variable), dtype)


def own_read(graph: Graph, variable: str) -> TensorRef:
  """The read of a handle by the name that tf.Variable gives it; added if new.

  TensorFlow's graph_util and its loaders look for that one.
  """
  name = variable + "/Read/ReadVariableOp"
  if name not in graph:
    dtype = {"dtype": type_attr(variable_dtype(graph, variable))}
    graph.add("ReadVariableOp", name, [TensorRef(variable)], dtype)
  return TensorRef(name)


def become_resource(
  graph: Graph, name: str, dtype: AnyType, shape: Any
) -> None:
  """Makes a node a resource variable; its readers read its value.

  Args:
    graph: the graph.
    name: the node.
    dtype: DType or DataType enum of the value.
    shape: a TensorShapeProto.
  """
  readers = graph.readers_of(TensorRef(name))
  attrs = {
    "dtype": type_attr(dtype),
    "shape": tf1.AttrValue(shape=shape),
    # Handles without a shared name would all be one variable.
    "shared_name": tf1.AttrValue(s=name.encode()),
  }
  graph.become(name, "VarHandleOp", graph.control_inputs(name), attrs)
  graph.redirect(TensorRef(name), read(graph, name), readers)


def is_reference(graph: Graph, ref: TensorRef) -> bool:
  """Tells whether a tensor is a variable's reference or handle."""
  while graph.op(ref.node) not in ops.VARIABLES:
    node = graph.node(ref.node)
    if node.op not in _HANDOVERS:
      return False
    if (
      not node.op.startswith("Ref")
      and node.attr["T"].type != tf1.resource.as_datatype_enum
    ):
      return False
    ref = graph.inputs(ref.node)[0]
  return True


def assignment(
  imported: tf1.Graph, node: tf1.NodeDef
) -> Tuple[tf1.Operation, tf1.Tensor]:
  """An operation that sets a variable in a tf Graph, and its placeholder.

  Args:
    imported: the tf.compat.v1.Graph with the variable; the default graph.
    node: the variable's NodeDef.
  """
  tensor = imported.get_tensor_by_name(node.name + ":0")
  holder = tf1.placeholder(node.attr["dtype"].type)
  if node.op == "VarHandleOp":
    return tf1.raw_ops.AssignVariableOp(resource=tensor, value=holder), holder
  assign = tf1.raw_ops.Assign(ref=tensor, value=holder, validate_shape=False)
  return assign, holder


# Frame names of while loops, from the outermost in.
Frame = Tuple[bytes, ...]


class Frames:
  """The frame of the while loops that each node runs in."""

  def __init__(self, graph: Graph, order: Iterable[str]):
    """Sweeps over `order`, names of nodes with inputs first."""
    self._graph = graph
    self._of: Dict[str, Frame] = {}
    self._enters: Dict[Frame, tf1.NodeDef] = {}
    for name in order:
      self._of[name] = self._frame(graph.node(name))

  def of(self, name: str) -> Frame:
    """Frame names from the outermost in; () outside of all loops."""
    return self._of.get(name, ())

  def _frame(self, node: tf1.NodeDef) -> Frame:
    frames = [self.of(ref.node) for ref in self._graph.inputs(node.name)]
    frame = max(frames, key=len, default=())
    if node.op in ops.ENTERS:
      frame += (node.attr["frame_name"].s,)
      self._enters.setdefault(frame, node)
    elif node.op in ops.EXITS:
      frame = frame[:-1]
    return frame

  def carry(self, ref: TensorRef, dtype: AnyType, frame: Frame) -> TensorRef:
    """Brings a tensor from outside of all loops into a frame."""
    for depth in range(1, len(frame) + 1):
      like = self._enters[frame[:depth]]
      attrs = {
        key: like.attr[key]
        for key in ("frame_name", "parallel_iterations")
        if key in like.attr
      }
      attrs["T"] = type_attr(dtype)
      attrs["is_constant"] = bool_attr(True)
      ref = TensorRef(
        self._graph.add("Enter", ref.node + "/Enter", [ref], attrs).name
      )
    return ref
