# SPDX-License-Identifier: Apache-2.0
"""Large constants of a graph that runs, held once.

A session makes a graph of its own for every set of tensors that it is asked
for, and copies the constants for each several times. Of a variable it has one
value. So a large Const runs as the reading of a variable, by the same name.
"""

from __future__ import annotations

from typing import Iterator, List, NamedTuple, Sequence, Tuple

from bnexport.graph.nodes import DEFERRED
from bnexport.graph.tensors import array_of, element_count
from bnexport.graph.variables import assignment
from bnexport.tf1 import tf1

# Bytes from which on a constant is held so; smaller ones may be axes or sizes,
# which TensorFlow reads as it infers shapes.
_LEAST = 1 << 16
# Bytes that are assigned at a time.
_AT_ONCE = 1 << 28


class Held(NamedTuple):
  """A variable in the place of a constant.

  Attributes:
    node: the variable's NodeDef.
    tensor: the constant's TensorProto.
  """

  node: tf1.NodeDef
  tensor: tf1.TensorProto


def apart(graph_def: tf1.GraphDef) -> Tuple[tf1.GraphDef, List[Held]]:
  """A GraphDef with variables for its large constants, and these.

  Args:
    graph_def: stays as it is; it is given back where no constant is large.
  """
  if not any(map(_is_large, graph_def.node)):
    return graph_def, []
  names = {node.name for node in graph_def.node}
  made = tf1.GraphDef(versions=graph_def.versions, library=graph_def.library)
  held = []
  for node in graph_def.node:
    if not _is_large(node):
      made.node.add().CopyFrom(node)
      continue
    handle = made.node.add(op="VarHandleOp", name=_handle(node.name, names))
    handle.attr["dtype"].CopyFrom(node.attr["dtype"])
    tensor = node.attr["value"].tensor
    handle.attr["shape"].shape.CopyFrom(tensor.tensor_shape)
    handle.attr["shared_name"].s = handle.name.encode()
    read = made.node.add(op="ReadVariableOp", name=node.name)
    read.input.append(handle.name)
    read.attr["dtype"].CopyFrom(node.attr["dtype"])
    held.append(Held(handle, tensor))
  return made, held


def assign(running: tf1.Session, held: List[Held]) -> None:
  """Gives variables of a session's graph the values of their constants."""
  with running.graph.as_default():
    assigns = [assignment(running.graph, one.node) for one in held]
  for part in parts([_size(one.tensor) for one in held]):
    chosen = [assigns[i] for i in part]
    values = [array_of(held[i].tensor) for i in part]
    running.run(
      [operation for operation, _ in chosen],
      {holder: value for (_, holder), value in zip(chosen, values)},
    )


def _is_large(node: tf1.NodeDef) -> bool:
  """Whether a node is a large Const of numbers, which waits for nothing."""
  if node.op != "Const" or node.input or DEFERRED in node.attr:
    return False
  return _size(node.attr["value"].tensor) >= _LEAST


def _size(tensor: tf1.TensorProto) -> int:
  """The bytes of a tensor of numbers; 0 of any other."""
  dtype = tf1.as_dtype(tensor.dtype)
  is_number = dtype.is_floating or dtype.is_integer or dtype.is_complex
  return element_count(tensor) * dtype.size if is_number else 0


def _handle(name, names) -> str:
  """A name for the variable; taken note of."""
  handle = f"{name}/held"
  while handle in names:
    handle += "_"
  names.add(handle)
  return handle


def parts(sizes: Sequence[int]) -> Iterator[List[int]]:
  """Yields numbers of arrays to hand to TensorFlow at a time.

  Handing over one by one takes a while for each, and all at once takes memory.

  Args:
    sizes: bytes of the arrays.
  """
  part: List[int] = []
  total = 0
  for i, size in enumerate(sizes):
    part.append(i)
    total += size
    if total > _AT_ONCE:
      yield part
      part, total = [], 0
  if part:
    yield part
