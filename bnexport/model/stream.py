# SPDX-License-Identifier: Apache-2.0
"""A graph's file, node by node: few large tensors are in memory at a time.

The nodes of a GraphDef are a repeated field, so a file is what its nodes give
one after another. See the encoding of protocol buffers,
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import collections
import concurrent.futures
from typing import (
  Deque,
  Iterable,
  Iterator,
  List,
  Optional,
  Tuple,
  Union,
)

import numpy as np

from bnexport.errors import SourceError
from bnexport.graph.nodes import DEFERRED, element_count, tensor_attr
from bnexport.model.checkpoint import Values
from bnexport.model.model import Model
from bnexport.tf1 import tf1

# The largest protobuf that can be read, in bytes.
MOST_BYTES = (1 << 31) - 1
# As many bytes are read before they are needed.
_MOST_WAITING = 1 << 25
# Field numbers, all of them of what is preceded by its length.
_GRAPH_NODE = 1
_NODE_ATTR = 5
_ENTRY_KEY = 1
_ENTRY_VALUE = 2
_ATTR_TENSOR = 8
_TENSOR_CONTENT = 4
# Bytes of a file, or of an array.
Piece = Union[bytes, memoryview]
# The number of a tensor's bytes, and these in pieces.
Content = Tuple[int, Iterable[Piece]]


class StoredValue:
  """The value of a variable, for a model's `deferred`.

  It gives the array when it is called. Where the checkpoint stores the same
  bytes, they are written without ever being one.
  """

  def __init__(self, values: Values, variable: str):
    self._values, self._variable = values, variable

  def __call__(self) -> np.ndarray:
    return self._values[self._variable]

  def of(self, values: Values) -> StoredValue:
    """The value of the same variable among others."""
    return StoredValue(values, self._variable)

  def content(self) -> Optional[Content]:
    """The bytes as they are stored, or None; see Values.content."""
    return self._values.content(self._variable)

  def rows(self, width: int, dtype: np.dtype) -> Optional[Iterator[np.ndarray]]:
    """The elements in rows of so many, some rows at a time; see `content`."""
    found = self.content()
    return None if found is None else _rows(found[1], width, dtype)


def _rows(
  content: Iterable[Piece], width: int, dtype: np.dtype
) -> Iterator[np.ndarray]:
  left, size = b"", width * dtype.itemsize
  for piece in content:
    data = left + piece if left else piece
    end = len(data) // size * size
    yield np.frombuffer(data[:end], dtype).reshape(-1, width)
    left = bytes(data[end:])


def pieces(model: Model) -> Iterator[Piece]:
  """Yields the bytes of a model's GraphDef, the same for the same graph.

  Args:
    model: a Model without variables; its deferred constants are read.

  Raises:
    SourceError: the file would not fit into one protobuf.
  """
  graph = model.graph
  names = graph.topological()
  _refuse_too_large(model)
  contents = _read_ahead(
    model, [n for n in names if DEFERRED in graph.node(n).attr]
  )
  for name in names:
    node = plain(graph.node(name))
    if DEFERRED in graph.node(name).attr:
      yield from _constant(node, *next(contents))
    else:
      yield _field(_GRAPH_NODE, node.SerializeToString(deterministic=True))
  rest = tf1.GraphDef()
  graph.copy_rest(rest)
  yield rest.SerializeToString(deterministic=True)


def _read_ahead(model: Model, names: List[str]) -> Iterator[Content]:
  """Yields what deferred constants hold; the next are made meanwhile.

  Making an array takes longer than writing it, so two are made at a time. What
  is written as it is stored is read in its turn.
  """
  waiting: Deque[Tuple[int, concurrent.futures.Future]] = collections.deque()
  size = 0
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    for name in names:
      stored = _as_stored(model, name)
      if stored is None:
        own = _value_bytes(model.graph.node(name))
        waiting.append((own, pool.submit(_made, model, name)))
        size += own
      else:
        waiting.append((0, concurrent.futures.Future()))
        waiting[-1][1].set_result(stored)
      while size > _MOST_WAITING or (waiting and not waiting[0][0]):
        size -= waiting[0][0]
        yield waiting.popleft()[1].result()
    while waiting:
      yield waiting.popleft()[1].result()


def _made(model: Model, name: str) -> Content:
  """What a deferred constant holds, made as an array."""
  # Viewed as bytes: bfloat16 has no format that a memoryview knows.
  array = np.ascontiguousarray(model.array(name))
  content = array.reshape(-1).view(np.uint8).data
  return len(content), [content]


def _as_stored(model: Model, name: str) -> Optional[Content]:
  """What a deferred constant holds, where the checkpoint has the same bytes."""
  node = model.graph.node(name)
  value = model.deferred[node.attr[DEFERRED].s.decode()]
  found = value.content() if hasattr(value, "content") else None
  # What is of another size is of another dtype, too.
  return found if found and found[0] == _value_bytes(node) else None


def to_graph_def(model: Model) -> tf1.GraphDef:
  """The model's GraphDef, with the deferred constants in it."""
  out = tf1.GraphDef()
  for name in model.graph.topological():
    out.node.add().CopyFrom(whole(model, name))
  model.graph.copy_rest(out)
  return out


def skeleton(model: Model) -> tf1.GraphDef:
  """The model's GraphDef with placeholders for the deferred constants."""
  out = tf1.GraphDef()
  for name in model.graph.topological():
    node = out.node.add()
    node.CopyFrom(plain(model.graph.node(name)))
    if DEFERRED in model.graph.node(name).attr:
      node.op = "Placeholder"
      shape = node.attr["value"].tensor.tensor_shape
      node.attr["shape"].shape.CopyFrom(shape)
      del node.attr["value"]
  model.graph.copy_rest(out)
  return out


def whole(model: Model, name: str) -> tf1.NodeDef:
  """A node with its value in it, as it is written."""
  node = plain(model.graph.node(name))
  if DEFERRED in model.graph.node(name).attr:
    value = tensor_attr(model.array(name), node.attr["dtype"].type)
    node.attr["value"].CopyFrom(value)
  return node


def plain(node: tf1.NodeDef) -> tf1.NodeDef:
  """A NodeDef without the attributes that rewriting notes on it."""
  if DEFERRED in node.attr or "_output_shapes" in node.attr:
    node, noted = type(node)(), node
    node.CopyFrom(noted)
    for key in (DEFERRED, "_output_shapes"):
      node.attr.pop(key, None)
  return node


def weight_bytes(model: Model) -> int:
  """Size of the deferred constants."""
  return sum(_value_bytes(n) for n in model.graph if DEFERRED in n.attr)


def _value_bytes(node: tf1.NodeDef) -> int:
  tensor = node.attr["value"].tensor
  return element_count(tensor) * tf1.as_dtype(tensor.dtype).size


def _refuse_too_large(model: Model) -> None:
  size = weight_bytes(model)
  size += sum(node.ByteSize() for node in model.graph)
  if size > MOST_BYTES:
    raise SourceError(
      f"write {size} bytes into one file",
      "a frozen graph is one protobuf and holds less than 2 GB",
      "write a SavedModel, of any size, with --saved_model_out=DIRECTORY",
    )


def _constant(
  node: tf1.NodeDef, length: int, content: Iterable[Piece]
) -> Iterator[Piece]:
  """The bytes of a Const whose tensor has this content."""
  tensor = node.attr["value"].tensor.SerializeToString(deterministic=True)
  dtype = node.attr["dtype"]
  del node.attr["value"], node.attr["dtype"]
  head = node.SerializeToString(deterministic=True)
  first = tf1.AttrValue()
  first.CopyFrom(dtype)
  entry = _field(_ENTRY_KEY, b"dtype") + _field(
    _ENTRY_VALUE, first.SerializeToString(deterministic=True)
  )
  head += _field(_NODE_ATTR, entry)
  # From the inside out: each length covers what follows.
  head_of_content = tensor + _head(_TENSOR_CONTENT, length)
  size = len(head_of_content) + length
  parts = [head_of_content]
  for number, before in (
    (_ATTR_TENSOR, b""),
    (_ENTRY_VALUE, _field(_ENTRY_KEY, b"value")),
    (_NODE_ATTR, head),
    (_GRAPH_NODE, b""),
  ):
    parts.insert(0, before + _head(number, size))
    size += len(parts[0])
  yield b"".join(parts)
  yield from content


def _field(number: int, data: bytes) -> bytes:
  return _head(number, len(data)) + data


def _head(number: int, length: int) -> bytes:
  """A field's number and the length of what follows, as varints."""
  return bytes([number << 3 | 2]) + _varint(length)


def _varint(value: int) -> bytes:
  out = bytearray()
  while value > 0x7F:
    out.append(value & 0x7F | 0x80)
    value >>= 7
  out.append(value)
  return bytes(out)
