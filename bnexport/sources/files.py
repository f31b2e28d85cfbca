# SPDX-License-Identifier: Apache-2.0
"""Reading protobuf files that may be missing, truncated or something else."""

from __future__ import annotations

import os

from google.protobuf import message, text_format

from bnexport.errors import SourceError, first_line, nearest
from bnexport.graph.parts import Parts
from bnexport.model.paths import refuse_special
from bnexport.tf1 import tf1

# Bytes to read at once; a field that is longer is read whole.
_PIECE = 1 << 20
# Bytes of a field, by wire type.
_FIXED = {1: 8, 5: 4}
# How each node of a GraphDef begins: the field's number, and its wire type.
_NODE = 1 << 3 | 2
_LARGEST = (1 << 31) - 1


def read(path, what, most=-1):
  """Returns the bytes of a file, or its first ones; `what` is for messages.

  Raises:
    SourceError: it is missing or unreadable.
  """
  refuse_special(path, f"read {what} '{path}'")
  try:
    with tf1.gfile.GFile(path, "rb") as f:
      return f.read(most)
  except OSError as error:
    raise _unreadable(path, what, error) from error


def read_proto(path, kind, what):
  """Reads a binary or text protobuf.

  Args:
    path: a file, through tf.io.gfile.
    kind: the message class.
    what: names the file in messages.

  Raises:
    SourceError: it is missing, unreadable, truncated or not such a protobuf.
  """
  refuse_special(path, f"read {what} '{path}'")
  proto = kind()
  try:
    size = _size(path, what)
    with tf1.gfile.GFile(path, "rb") as f:
      read = sum(map(proto.MergeFromString, _pieces(f, size)))
    if read:
      return proto
  except OSError as error:
    raise _unreadable(path, what, error) from error
  except (message.DecodeError, RuntimeError):
    pass  # it may be text
  return _read_text_proto(path, kind, what)


def _read_text_proto(path, kind, what):
  data = read(path, what)
  if not data:
    raise SourceError(
      f"read {what} '{path}'",
      "the file is empty",
      "write or copy it again",
    )
  proto = kind()
  try:
    text_format.Parse(data.decode("utf-8"), proto)
    return proto
  except (
    UnicodeDecodeError,
    RecursionError,  # the parser calls itself for every message in a message
    text_format.ParseError,
  ) as error:
    raise SourceError(
      f"read {what} '{path}'",
      f"it is no {kind.DESCRIPTOR.name}, or it is cut short",
      "give the file that TensorFlow wrote",
    ) from error


def _size(path, what):
  """The bytes of a file, 0 where it is missing.

  Raises:
    SourceError: they are more than any protobuf has.
  """
  # What is missing, opening it tells.
  size = tf1.gfile.Stat(path).length if tf1.gfile.Exists(path) else 0
  if size > _LARGEST:
    raise SourceError(
      f"read {what} '{path}'",
      f"it has {size} bytes, and a protobuf has 2 GB at most",
      "give the file that TensorFlow wrote; text of a large graph has to be "
      "made binary",
    )
  return size


def _pieces(file, size):
  """Yields a binary protobuf in parts whose merging is the whole.

  A part is some of its fields. Nothing is held twice: a frozen graph may be
  large, and each node of it is a field. A field may state that it has more
  bytes than the file, whose size is `size`; no memory is asked for those.
  """
  left, missing = b"", 0
  while True:
    read = file.read(min(max(missing, _PIECE), size))
    left += read
    end, missing = _whole_fields(left)
    if not read:
      yield left  # what is cut short is for the parser to refuse
      return
    if end:
      yield left[:end]
      left = left[end:]


def read_parts(path, what):
  """Reads a binary GraphDef as Parts; None of what `read_proto` has to judge.

  Raises:
    SourceError: the file is too large, or no file.
  """
  refuse_special(path, f"read {what} '{path}'")
  nodes, rest = [], tf1.GraphDef()
  try:
    size = _size(path, what)
    with tf1.gfile.GFile(path, "rb") as f:
      for piece in _pieces(f, size):
        start, whole = 0, _whole_fields(piece)[0]
        while start < whole:
          at, end = _field(piece, start)
          if piece[start] == _NODE:
            nodes.append(tf1.NodeDef.FromString(piece[at:end]))
          else:
            rest.MergeFromString(piece[start:end])
          start = end
        rest.MergeFromString(piece[start:])  # refuses what is cut short
  except (OSError, message.DecodeError, RuntimeError):
    return None
  return Parts(nodes, rest) if nodes and not rest.node else None


def _whole_fields(data):
  """The end of the last whole field, and the bytes the next one lacks.

  Raises:
    DecodeError: these are no fields.
  """
  end = 0
  while True:
    try:
      _, next_end = _field(data, end)
    except IndexError:
      return end, 0
    if next_end > len(data):
      return end, next_end - len(data)
    end = next_end


def _field(data, start):
  """Where a field's value begins, and its end, which may be beyond the data.

  Raises:
    IndexError: the data ends before that can be told.
    DecodeError: this is no field.
  """
  tag, at = varint(data, start)
  kind = tag & 7
  if kind == 2:
    length, at = varint(data, at)
    return at, at + length
  if kind == 0:
    return at, varint(data, at)[1]
  if kind not in _FIXED:
    raise message.DecodeError(f"no field has wire type {kind}")
  return at, at + _FIXED[kind]


def varint(data, at):
  value = shift = 0
  while True:
    byte = data[at]
    at += 1
    value |= (byte & 0x7F) << shift
    shift += 7
    if byte < 0x80:
      return value, at
    if shift > 63:
      raise message.DecodeError("a number of more than 64 bits")


def read_graph_def(path):
  """Reads a GraphDef that has nodes, binary or text.

  Raises:
    SourceError: see `read_proto`; or it is empty.
  """
  return refuse_empty(read_proto(path, tf1.GraphDef, "the graph"), path)


def refuse_empty(graph_def, path):
  """Returns a GraphDef; raises SourceError where it has no nodes."""
  if not graph_def.node:
    raise SourceError(
      f"use '{path}'",
      "the graph is empty",
      "give the file that TensorFlow wrote",
    )
  return graph_def


def _unreadable(path, what, error):
  fact, step = _reason(path, error)
  return SourceError(f"read {what} '{path}'", fact, step)


def _reason(path, error):
  """The fact and the step of an error in reading."""
  if isinstance(error, FileNotFoundError):
    folder = os.path.dirname(path) or "."
    there = os.listdir(folder) if os.path.isdir(folder) else []
    step = nearest(os.path.basename(path), there, "check the path")
    return "there is no such file", step
  if tf1.gfile.IsDirectory(path):
    return "it is a directory", "give the file in it"
  return first_line(error), "check the file's permissions"
