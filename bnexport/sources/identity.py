# SPDX-License-Identifier: Apache-2.0
"""The kind of whatever a path leads to, told by its first and last bytes.

Nothing is parsed as a whole, so the size of a file does not matter, and what is
damaged further on is for its reader to refuse. Names of files count only where
bytes say nothing.
"""

from __future__ import annotations

import ast
import os
import re
import struct
from typing import Iterator, List, NamedTuple, Optional, Tuple

from google.protobuf.message import DecodeError

from bnexport.errors import SourceError, nearest
from bnexport.model.bundle import MAGIC, masked
from bnexport.model.paths import refuse_special
from bnexport.model.prefixes import by_number, find_prefix, prefixes_in
from bnexport.sources import files, hub_module
from bnexport.sources.opening import SAVED_MODELS
from bnexport.tf1 import tf1

# Bytes that tell a file's kind; the first field of a MetaGraphDef may be long,
# and only its beginning is looked at.
_HEAD = 1 << 16
# Of a script, all of it counts.
_LONGEST_SCRIPT = 1 << 20

GRAPH_DEF = "graph_def"
META_GRAPH = "meta_graph"
CHECKPOINT = "checkpoint"
SAVED_MODEL = "saved_model"
HUB_MODULE = "hub_module"
KERAS = "keras"
KERAS_WEIGHTS = "keras_weights"
MODEL = "model"  # Python
TFLITE, ONNX, ARRAYS = "tflite", "onnx", "npz"
RECORDS, EVENTS = "tfrecord", "events"
FOLDER, OTHER = "folder", "other"

_OP = re.compile(rb"[A-Za-z_][A-Za-z0-9_>.]*\Z")
_TEXT_KINDS = (
  (re.compile(r"(saved_model_schema_version|meta_graphs)\b"), SAVED_MODEL),
  (re.compile(r"(meta_info_def|graph_def|saver_def)\b"), META_GRAPH),
  (re.compile(r"(node|library|versions)\s*:?\s*\{"), GRAPH_DEF),
  (re.compile(r"(all_)?model_checkpoint_path"), CHECKPOINT),
)
# What people give by mistake, by how it begins.
_SIGNS = (
  (b"version https://git-lfs", "a Git LFS pointer, not the file it stands for"),
  (b"<!DOCTYPE", "an HTML page, not what was to be downloaded"),
  (b"<html", "an HTML page, not what was to be downloaded"),
  (b"\x1f\x8b", "packed with gzip"),
  (b"BZh", "packed with bzip2"),
  (b"\x80\x02", "a Python pickle"),
  (b"\x80\x04", "a Python pickle"),
  (b"\x93NUMPY", "one NumPy array"),
)


class Identity(NamedTuple):
  """What a path leads to.

  Attributes:
    kind: one of the constants above.
    path: what a command is to be given: a checkpoint's prefix, a SavedModel's
      directory, or the path itself.
    fact: of what no command reads, what it is, in a few words.
    others: prefixes of a directory's further checkpoints, or versions of a
      SavedModel; functions of a Python file.
  """

  kind: str
  path: str
  fact: str = ""
  others: Tuple[str, ...] = ()


def identify(path: str) -> Identity:
  """The Identity of a path; nothing of it is run.

  Raises:
    SourceError: there is nothing, or it can't be read.
  """
  refuse_special(path, f"look at '{path}'")
  if tf1.gfile.IsDirectory(path):
    return _of_folder(path.rstrip("/") or path)
  if not tf1.gfile.Exists(path):
    return _of_prefix(path)
  head = files.read(path, "file", _HEAD)
  if not head:
    return Identity(OTHER, path, "an empty file")
  for find in (_of_magic, _of_records, _of_proto, _of_text):
    found = find(path, head)
    if found is not None:
      return found
  return _of_name(path)


def _of_folder(path):
  if tf1.gfile.Exists(os.path.join(path, hub_module.MODULE_DEF)):
    return Identity(HUB_MODULE, path)
  if any(tf1.gfile.Exists(os.path.join(path, n)) for n in SAVED_MODELS):
    return Identity(SAVED_MODEL, path)
  prefixes = prefixes_in(path)
  if prefixes or tf1.gfile.Exists(os.path.join(path, "checkpoint")):
    return _of_checkpoints(path, prefixes)
  names = sorted(n.rstrip("/") for n in tf1.gfile.ListDirectory(path))
  versions = [
    os.path.join(path, name)
    for name in names
    if name.isdigit()
    and tf1.gfile.Exists(os.path.join(path, name, SAVED_MODELS[0]))
  ]
  if versions:
    versions.sort(key=by_number)
    return Identity(SAVED_MODEL, versions[-1], others=tuple(versions[:-1]))
  inside = tuple(os.path.join(path, name) for name in names)
  return Identity(FOLDER, path, "a directory", inside)


def _of_checkpoints(path, prefixes):
  """The latest checkpoint of a directory, as its `checkpoint` file says."""
  whole = [p for p in prefixes if tf1.gfile.Exists(p + ".index")] or prefixes
  try:
    latest = find_prefix(path)
  except SourceError:
    if not whole:
      raise
    latest = whole[-1]
  others = tuple(p for p in whole if p != latest)
  return Identity(CHECKPOINT, latest, others=others)


def _of_prefix(path):
  """A checkpoint by its prefix, which is no file."""
  try:
    return Identity(CHECKPOINT, find_prefix(path))
  except SourceError as error:
    folder = os.path.dirname(path) or "."
    there = tf1.gfile.ListDirectory(folder) if os.path.isdir(folder) else []
    raise SourceError(
      f"look at '{path}'",
      "there is no such file, directory or checkpoint",
      nearest(os.path.basename(path), there, "check the path"),
    ) from error


def _of_magic(path, head):
  """What begins or ends with bytes that nothing else has."""
  if head[4:8] == b"TFL3":
    return Identity(TFLITE, path)
  if head.startswith(b"\x89HDF\r\n\x1a\n"):
    return _of_hdf5(path)
  if head.startswith(b"PK\x03\x04"):
    return _of_zip(path)
  for sign, fact in _SIGNS:
    if head.startswith(sign):
      return Identity(OTHER, path, fact)
  if re.search(r"\.data-\d{5}-of-\d{5}$|-\d{5}-of-\d{5}$", path):
    # These bytes are weights, and say nothing.
    try:
      return Identity(CHECKPOINT, find_prefix(path))
    except SourceError:
      fact = "a part of a checkpoint whose .index is not beside it"
      return Identity(OTHER, path, fact)
  if _ends_as_table(path):
    return Identity(CHECKPOINT, find_prefix(path))
  return None


def _ends_as_table(path):
  with tf1.gfile.GFile(path, "rb") as f:
    size = tf1.gfile.Stat(path).length
    f.seek(max(size - len(MAGIC), 0))
    return f.read(len(MAGIC)) == MAGIC


def _of_hdf5(path):
  try:
    import h5py  # comes with most TensorFlows
  except ImportError:
    return Identity(KERAS, path)
  try:
    with h5py.File(path, "r") as f:
      if "model_config" in f.attrs:
        return Identity(KERAS, path)
      if "layer_names" in f.attrs or "layers" in f or "_layer_checkpoint" in f:
        return Identity(KERAS_WEIGHTS, path)
  except (OSError, RuntimeError, ValueError, KeyError, TypeError):
    return Identity(OTHER, path, "a damaged HDF5 file")
  return Identity(OTHER, path, "an HDF5 file without a Keras model")


def _of_zip(path):
  import zipfile

  try:
    with zipfile.ZipFile(path) as archive:
      names = archive.namelist()
  except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
    return Identity(OTHER, path, "a damaged zip archive")
  if "config.json" in names and "metadata.json" in names:
    return Identity(KERAS, path)
  if names and all(name.endswith(".npy") for name in names):
    return Identity(ARRAYS, path)
  if any(name.endswith("data.pkl") for name in names):
    return Identity(OTHER, path, "a PyTorch file")
  return Identity(OTHER, path, "a zip archive")


def _of_records(path, head):
  """TFRecords begin with a length and its masked CRC-32C."""
  if len(head) < 16:
    return None
  length, stated = struct.unpack("<QI", head[:12])
  if masked(_crc(head[:8])) != stated:
    return None
  record = head[12 : 12 + min(length, 64)]
  is_events = b"brain.Event:" in record
  return Identity(EVENTS if is_events else RECORDS, path)


def _crc(data: bytes) -> int:
  """CRC-32C, Castagnoli's, of a few bytes."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc ^= byte
    for _ in range(8):
      crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
  return crc ^ 0xFFFFFFFF


class _Field(NamedTuple):
  number: int
  value: bytes  # as much of it as there is
  varint: Optional[int]


def _fields(data: bytes, most: int = 64) -> List[_Field]:
  """The first fields of a message; none where these bytes are no message."""
  found: List[_Field] = []
  at = 0
  try:
    while at < len(data) and len(found) < most:
      tag, at = files.varint(data, at)
      number, kind = tag >> 3, tag & 7
      if number == 0:
        return []
      varint = None
      if kind == 2:
        length, at = files.varint(data, at)
        end = at + length
      elif kind == 0:
        start = at
        varint, end = files.varint(data, at)
        at = start
      else:
        end = at + {1: 8, 5: 4}[kind]
      found.append(_Field(number, data[at:end], varint))
      at = end
  except (IndexError, KeyError, DecodeError):
    return found if at >= len(data) - 10 else []
  return found


def _of_proto(path, head):
  """A GraphDef, a MetaGraphDef, a SavedModel or an ONNX model, binary."""
  fields = _fields(head)
  if not fields:
    return None
  first, numbers = fields[0], {field.number for field in fields}
  if first.number == 1 and first.varint is not None:
    if os.path.basename(path) == hub_module.MODULE_DEF:
      return Identity(HUB_MODULE, os.path.dirname(path) or ".")
    if 2 in numbers and numbers <= {1, 2} and _is_meta(fields[1].value):
      return Identity(SAVED_MODEL, path)
    graphs = [field.value for field in fields if field.number == 7]
    is_onnx = any(inner[:1] == b"\n" for inner in graphs)  # a node comes first
    return Identity(ONNX, path) if is_onnx else None
  nodes = [field.value for field in fields if field.number == 1]
  if nodes and all(map(_is_node, nodes[:-1] or nodes)):
    return Identity(GRAPH_DEF, path)
  return Identity(META_GRAPH, path) if _is_meta(head) else None


def _is_node(data):
  """Whether bytes begin as a NodeDef does: a name and an op."""
  fields = _fields(data, 2)
  return (
    [field.number for field in fields] == [1, 2]
    and bool(fields[0].value)
    and _OP.match(fields[1].value) is not None
  )


def _is_meta(data):
  """Whether bytes begin as a MetaGraphDef does.

  Its first field states ops and versions, its second holds the graph.
  """
  for field in _fields(data, 2):
    if field.number == 2:
      return any(map(_is_node, _values(field.value, 1)))
    if field.number == 1 and any(
      _OP.match(name)
      for ops in _values(field.value, 2)
      for op in _values(ops, 1)
      for name in _values(op, 1)
    ):
      return True
  return False


def _values(data: bytes, number: int) -> Iterator[bytes]:
  return (field.value for field in _fields(data) if field.number == number)


def _of_text(path, head):
  try:
    text = head.decode("utf-8")
  except UnicodeDecodeError as error:
    if error.start < len(head) - 4:  # else a character that is cut
      return None
    text = head[: error.start].decode("utf-8")
  if "\0" in text:
    return None
  body = re.sub(r"\A(\s|#.*\n)+", "", text)
  for begins, kind in _TEXT_KINDS:
    if begins.match(body):
      if kind == CHECKPOINT:
        folder = os.path.dirname(path) or "."
        return _of_checkpoints(folder, prefixes_in(folder))
      return Identity(kind, path)
  functions = _functions(path)
  if functions is not None:
    return Identity(MODEL, path, others=functions)
  return Identity(OTHER, path, "text that states no graph")


def _functions(path) -> Optional[Tuple[str, ...]]:
  """Functions of a Python file that can be told the phase; None of others."""
  if not path.endswith(".py"):
    return None
  source = files.read(path, "file", _LONGEST_SCRIPT)
  try:
    tree = ast.parse(source)
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return None
  found = []
  for node in tree.body:
    if isinstance(node, ast.FunctionDef):
      names = [a.arg for a in node.args.args + node.args.kwonlyargs]
      if "is_training" in names or node.args.kwarg is not None:
        found.append(node.name)
  return tuple(found)


def _of_name(path):
  fact = "no file that TensorFlow writes, or it is damaged from its beginning"
  return Identity(OTHER, path, fact)
