# SPDX-License-Identifier: Apache-2.0
"""Importing a GraphDef without computing any of it.

To infer shapes, `import_graph_def` computes what constants lead to: a ReadFile
of a constant path is read, a Fill of constant sizes is made, whatever size
that is. A PlaceholderWithDefault, which might be fed, keeps it from doing so;
a session gives the same values with it.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Set

from bnexport.errors import ComparisonError
from bnexport.graph import ops
from bnexport.graph.refs import TensorRef
from bnexport.graph.tensors import array_of, element_count
from bnexport.tf1 import op_def, tf1

# What keeps a constant from being one, and gives its value.
_BARRIER = "PlaceholderWithDefault"
# What makes much of little: a file's bytes, sizes or counts.
GROWS = re.compile(
  r"^Decode(?!Raw$|Base64$)|^(Fill|Tile|BroadcastTo|Range|LinSpace|OneHot|PadV?2?"
  r"|MirrorPad|Resize\w+|ScatterNd|Bincount|DenseBincount|SparseToDense"
  r"|MatrixDiag\w*|Diag|ParseTensor|UnsortedSegment\w+)$"
)
# Constants of more elements state no sizes.
_MOST_SIZES = 64
# Constants of fewer elements are no burden, and shapes may follow from them.
_FEW = 1 << 20
# The most bytes of a tensor that a run may make of constants: as many as a
# protobuf holds.
_LARGEST = 1 << 31
# Which input of such an op states no size.
_NO_SIZE = (
  (re.compile(r"(Fill|ScatterNd)$"), 1),
  (re.compile(r"OneHot$"), 2),
)


def import_graph(graph_def: tf1.GraphDef) -> tf1.Graph:
  """A new tf.compat.v1.Graph of a GraphDef, of which nothing is computed.

  Raises:
    Exception: whatever TensorFlow raises of a graph that it does not take.
  """
  graph = tf1.Graph()
  with graph.as_default():
    tf1.import_graph_def(_with_barriers(graph_def), name="")
  return graph


def import_to_run(graph_def: tf1.GraphDef) -> tf1.Graph:
  """A new tf.compat.v1.Graph that is to run; see `import_graph`.

  A few bytes can ask for any memory, as a Fill of large sizes does. What is
  made of inputs is as large as what is fed.

  Raises:
    ComparisonError: a tensor that is made of constants alone is larger than any
      that a file can hold.
    Exception: whatever TensorFlow raises of a graph that it does not take.
  """
  imported = import_graph(graph_def)
  for operation in imported.get_operations():
    for output in operation.outputs:
      size = (output.shape.num_elements() or 0) * output.dtype.size
      if size > _LARGEST and _is_constant(operation):
        raise ComparisonError(
          "run the graph",
          f"'{operation.name}' makes {size} bytes of constants",
          "cut it out with --input_node, or export without a proof: "
          "--proof=none",
        )
  return imported


def _is_constant(operation: tf1.Operation) -> bool:
  """Whether what an operation gives depends on constants alone."""
  left, seen = [operation], {operation}
  while left:
    at = left.pop()
    if at.type in ops.VARIABLES:
      return False
    if ops.is_data_source(at.type) and at.type != _BARRIER:
      return False
    for tensor in at.inputs:
      if tensor.op not in seen:
        seen.add(tensor.op)
        left.append(tensor.op)
  return True


def _with_barriers(graph_def: tf1.GraphDef) -> tf1.GraphDef:
  """The GraphDef, or a copy in which risky ops read no constants."""
  risky = [node for node in graph_def.node if _is_risky(node)]
  if not risky:
    return graph_def
  nodes = {node.name: node for node in graph_def.node}
  constants = _constants(graph_def)
  names = {
    node.name
    for node in risky
    if node.name in constants and not _is_small(node, nodes)
  }
  if not names:
    return graph_def
  made = tf1.GraphDef()
  made.CopyFrom(graph_def)
  for node in [node for node in made.node if node.name in names]:
    _put_barrier(made, nodes, node, _slot(node))
  return made


def _is_risky(node: tf1.NodeDef) -> bool:
  is_risky = GROWS.search(node.op) or ops.reaches(node)
  known = op_def(node.op) if is_risky else None
  # What has a state is never computed.
  return known is not None and not known.is_stateful


def _is_small(node: tf1.NodeDef, nodes: Mapping[str, tf1.NodeDef]) -> bool:
  """Whether a node that makes much of little makes little here."""
  if not GROWS.search(node.op):
    return False
  tensors = []
  for text in node.input:
    source = nodes[TensorRef.parse(text).node]
    tensors.append(
      source.attr["value"].tensor if source.op == "Const" else None
    )
  most = most_elements(tensors)
  return most is not None and most <= _FEW


def most_elements(
  tensors: Sequence[Optional[tf1.TensorProto]],
) -> Optional[int]:
  """The bound on elements of a node that makes much of little.

  Args:
    tensors: the constants that it reads; None for what is no constant.

  Returns:
    A number; None where the constants do not tell it.
  """
  most = 1
  for tensor in tensors:
    if tensor is None or tensor.dtype == tf1.string.as_datatype_enum:
      return None
    if element_count(tensor) > _MOST_SIZES:
      most *= element_count(tensor)
      continue
    for value in array_of(tensor).reshape(-1).tolist():
      if isinstance(value, float) and 0 < abs(value) < 1:
        return None  # so small a step makes many of it
      most *= max(int(abs(value)), 1) if value == value else 1
  return most * max((element_count(t) for t in tensors if t), default=1)


def _slot(node: tf1.NodeDef) -> int:
  """The input to put a barrier before: one that states no size.

  The node's shape can be inferred then from those that do.
  """
  return next((slot for pattern, slot in _NO_SIZE if pattern.match(node.op)), 0)


def _put_barrier(
  graph_def: tf1.GraphDef,
  nodes: Mapping[str, tf1.NodeDef],
  node: tf1.NodeDef,
  slot: int,
) -> None:
  source = nodes[TensorRef.parse(node.input[slot]).node]
  known = op_def(node.op)
  assert known is not None  # only known ops are risky
  arg = known.input_arg[slot]
  barrier = graph_def.node.add(op=_BARRIER)
  barrier.input.append(node.input[slot])
  barrier.name = f"{node.name}/might_be_fed"
  barrier.attr["shape"].shape.unknown_rank = True
  if source.op == "Const":
    shape = source.attr["value"].tensor.tensor_shape
    barrier.attr["shape"].shape.CopyFrom(shape)
  types = node.attr[arg.type_list_attr].list.type if arg.type_list_attr else ()
  barrier.attr["dtype"].type = (
    types[0] if types else arg.type or node.attr[arg.type_attr].type
  )
  node.input[slot] = barrier.name


def _constants(graph_def: tf1.GraphDef) -> Set[str]:
  """Names of the nodes that nothing but constants lead to."""
  waiting: Dict[str, int] = {}
  readers: Dict[str, List[str]] = {}
  ready = []
  for node in graph_def.node:
    sources = set(_sources(node))
    if node.op == "Const":
      ready.append(node.name)
    elif sources and node.op not in ops.PLACEHOLDERS:
      waiting[node.name] = len(sources)
      for source in sources:
        readers.setdefault(source, []).append(node.name)
  for name in ready:
    for reader in readers.get(name, ()):
      waiting[reader] -= 1
      if not waiting[reader]:
        ready.append(reader)
  return set(ready)


def _sources(node: tf1.NodeDef) -> Iterable[str]:
  return (TensorRef.parse(t).node for t in node.input if not t.startswith("^"))
