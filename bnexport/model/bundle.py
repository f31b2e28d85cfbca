# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of format V2, read without TensorFlow.

`PREFIX.index` is a table of sorted keys in LevelDB's format, with a
BundleEntryProto for each tensor, and a BundleHeaderProto under the empty key;
`PREFIX.data-00000-of-00001` and its like hold the bytes that entries point to.
See tensorflow/core/util/tensor_bundle and tensorflow/core/lib/io/table_format.

What is not plain raises Unusual, for TensorFlow to read or to refuse.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import struct
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
from google.protobuf.message import DecodeError

from bnexport.tf1 import BundleEntryProto, BundleHeaderProto, tf1

_FOOTER = 48  # bytes: two handles, padding, and
MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
# Behind each block: how it is compressed, and its checksum.
_TRAILER = 5
_MASK = 0xA282EAD8
_WORD = 0xFFFFFFFF
_FULL = -1  # the length of a slice that takes a whole axis
# Bytes that are handed on at once: as many are still in the processor's cache
# when their checksum is computed and when they are written. Large memory comes
# fresh from the system besides, which takes ten times as long.
_PIECE = 1 << 18
# A system gives less than 2 GB at once.
_MOST = (1 << 31) - 1


class Unusual(Exception):
  """Something that this module does not read, or that is not sound."""


class _Part(NamedTuple):
  """Begin and end along one axis."""

  begin: int
  end: int


class Bundle:
  """The tensors of a checkpoint on this machine, by key.

  Attributes:
    shapes: lists of sizes by key.
    dtypes: DataType enums by key.
  """

  def __init__(self, prefix: str):
    """Reads the index.

    Raises:
      Unusual: it is not sound, or nothing here computes checksums.
      OSError: it can't be read.
    """
    self._extend = checksum()
    self._prefix = prefix
    with open(prefix + ".index", "rb") as f:
      table = dict(_table(f.read(), self._extend))
    try:
      header = BundleHeaderProto.FromString(table.pop(b""))
      entries = {
        key: BundleEntryProto.FromString(value) for key, value in table.items()
      }
    except (KeyError, DecodeError) as error:
      raise Unusual(prefix) from error
    if header.endianness != BundleHeaderProto.LITTLE:
      raise Unusual("it is of a big-endian machine")
    self._shards = header.num_shards
    self._entries = entries
    whole = {
      key.decode("utf-8", "surrogateescape"): entry
      for key, entry in entries.items()
      if not key.startswith(b"\0")  # a slice of another one
    }
    self.shapes = {k: [d.size for d in e.shape.dim] for k, e in whole.items()}
    self.dtypes = {key: entry.dtype for key, entry in whole.items()}

  def read(self, key: str, parts: Sequence[Any] = ()) -> np.ndarray:
    """A tensor, read-only; or a part of it.

    Args:
      key: one of `shapes`.
      parts: (begin, length) for each axis, or None for the whole axis; empty
        for all of the tensor.

    Raises:
      Unusual: the bytes are not there or not sound, or of a dtype that has no
        arrays here.
      OSError: they can't be read.
    """
    name = key.encode("utf-8", "surrogateescape")
    entry, shape = self._entries[name], self.shapes[key]
    wanted = [
      _Part(0, size) if part is None else _Part(part[0], sum(part))
      for part, size in zip(parts or [None] * len(shape), shape)
    ]
    if len(wanted) != len(shape) or any(
      not 0 <= part.begin <= part.end <= size
      for part, size in zip(wanted, shape)
    ):
      raise Unusual(f"{key} has no such part")
    if not entry.slices:
      whole = self._stored(entry, shape)
      return whole[tuple(slice(*part) for part in wanted)] if parts else whole
    return self._joined(name, entry, wanted)

  def content(self, key: str) -> Tuple[int, Iterator[bytes]]:
    """The bytes of a tensor as they are stored, and how many they are.

    Args:
      key: one of `shapes`.

    Returns:
      The number, and the bytes in pieces. Their checksum is known behind the
      last one: the iterator then raises Unusual where it does not match.

    Raises:
      Unusual: they are not those of an array, as of texts, or of slices.
    """
    entry = self._entries[key.encode("utf-8", "surrogateescape")]
    if entry.slices or entry.dtype == tf1.string:
      raise Unusual(f"{key} is not stored as it is")
    self._refuse_misfit(entry, self.shapes[key])
    return entry.size, self._checked(entry)

  def _checked(self, entry: Any) -> Iterator[bytes]:
    crc = 0
    for piece in _pieces(self._path(entry), entry.offset, entry.size, _PIECE):
      crc = self._extend(crc, piece)
      yield piece
    if masked(crc) != entry.crc32c:
      raise Unusual("a checksum does not match")

  def _path(self, entry: Any) -> str:
    return f"{self._prefix}.data-{entry.shard_id:05d}-of-{self._shards:05d}"

  def _refuse_misfit(self, entry: Any, shape: List[int]) -> Any:
    """The NumPy type of an entry that holds an array of this shape.

    Raises:
      Unusual: it does not.
    """
    dtype = _numpy_type(entry.dtype)
    if [dim.size for dim in entry.shape.dim] != shape or any(
      size < 0 for size in shape
    ):
      raise Unusual("a shape is another one")
    size = _count(shape) * np.dtype(dtype).itemsize
    if entry.dtype != tf1.string and entry.size != size:
      raise Unusual("a tensor is not as long as its shape is")
    return dtype

  def _joined(self, name: bytes, entry: Any, wanted: List[_Part]) -> np.ndarray:
    """A part of a tensor that is stored in slices."""
    shape = [dim.size for dim in entry.shape.dim]
    dtype = _numpy_type(entry.dtype)
    made = np.empty([part.end - part.begin for part in wanted], dtype)
    filled = 0
    for stored in entry.slices:
      own = list(_extents(stored, shape))
      common = [
        _Part(max(a.begin, b.begin), min(a.end, b.end))
        for a, b in zip(own, wanted)
      ]
      if any(part.begin >= part.end for part in common):
        continue
      held = self._entries.get(slice_key(name, stored))
      if held is None:
        raise Unusual("a slice is missing")
      array = self._stored(held, [part.end - part.begin for part in own])
      source = array[_within(common, own)]
      made[_within(common, wanted)] = source
      filled += source.size
    if filled != made.size:
      raise Unusual("slices do not make a whole")
    return made

  def _stored(self, entry: Any, shape: List[int]) -> np.ndarray:
    """The array that an entry points to, once its checksum is checked."""
    dtype = self._refuse_misfit(entry, shape)
    parts = list(_pieces(self._path(entry), entry.offset, entry.size, _MOST))
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if entry.dtype == tf1.string:
      count = _count(shape)
      texts = _strings(data, count, entry.crc32c, self._extend)
      return texts.reshape(shape)
    if masked(self._extend(0, data)) != entry.crc32c:
      raise Unusual("a checksum does not match")
    return np.frombuffer(data, np.uint8).view(dtype).reshape(shape)


def checksum() -> Any:
  """The function (crc, bytes) -> crc that computes CRC-32C in C.

  Raises:
    Unusual: none is installed.
  """
  if importlib.util.find_spec("google_crc32c") is not None:
    module = importlib.import_module("google_crc32c")
    if module.implementation == "c":
      return module.extend
  raise Unusual("google-crc32c is not installed")


def masked(crc: int) -> int:
  """A CRC as it is stored: one of bytes that hold CRCs would be a poor one."""
  return (((crc >> 15) | (crc << 17)) + _MASK) & _WORD


def _numpy_type(number: int) -> Any:
  try:
    dtype = tf1.as_dtype(number)
    if dtype.base_dtype == dtype and not dtype.is_quantized:
      return dtype.as_numpy_dtype
  except (TypeError, KeyError):
    pass
  raise Unusual(f"type {number} has no arrays")


def _count(shape: Sequence[int]) -> int:
  """Elements of an array of a shape; a product that does not overflow."""
  count = 1
  for size in shape:
    count *= size
  return count


def _pieces(path: str, offset: int, size: int, most: int) -> Iterator[bytes]:
  """Yields a part of a file, at most `most` bytes at once.

  It is read, not mapped: who cuts a mapped file short, as a training job may do
  that saves again, ends the process that looks at it. No file stays open, since
  a process may hold more models than it may open files.

  Raises:
    Unusual: the file is too short.
  """
  with open(path, "rb", buffering=0) as f:
    if not 0 <= offset <= offset + size <= os.fstat(f.fileno()).st_size:
      raise Unusual("a file is cut short")
    while size:
      piece = os.pread(f.fileno(), min(size, most), offset)
      if not piece:
        raise Unusual("a file is cut short")
      size -= len(piece)
      offset += len(piece)
      yield piece


def _strings(data: bytes, count: int, stored: int, extend: Any) -> np.ndarray:
  """Texts: their lengths, a checksum of these, and the texts."""
  try:
    at, lengths = 0, []
    for _ in range(count):
      length, at = _varint(data, at)
      lengths.append(length)
    sizes = b"".join(struct.pack("<I", length) for length in lengths)
    crc = extend(0, sizes)
    (of_lengths,) = struct.unpack_from("<I", data, at)
  except (IndexError, struct.error) as error:
    raise Unusual("texts are cut short") from error
  begin = at + 4
  if masked(crc) != of_lengths or begin + sum(lengths) != len(data):
    raise Unusual("lengths of texts are not sound")
  if masked(extend(crc, data[at:])) != stored:
    raise Unusual("a checksum of texts does not match")
  made = np.empty(count, object)
  for i, length in enumerate(lengths):
    made[i] = data[begin : begin + length]
    begin += length
  return made


def _table(data: bytes, extend: Any) -> Iterator[Tuple[bytes, bytes]]:
  """Yields keys and values of a table."""
  if len(data) < _FOOTER or not data.endswith(MAGIC):
    raise Unusual("it is no table")
  try:
    _, at = _handle(data, len(data) - _FOOTER)  # of blocks that nobody needs
    index, _ = _handle(data, at)
    for _, value in _entries(_block(data, index, extend)):
      yield from _entries(_block(data, _handle(value, 0)[0], extend))
  except (IndexError, struct.error) as error:
    raise Unusual("a table is cut short") from error


def _handle(data: bytes, at: int) -> Tuple[Tuple[int, int], int]:
  """Offset and size of a block, and where what follows begins."""
  offset, at = _varint(data, at)
  size, at = _varint(data, at)
  return (offset, size), at


def _block(data: bytes, handle: Tuple[int, int], extend: Any) -> bytes:
  begin, size = handle
  end = begin + size
  if end + _TRAILER > len(data):
    raise Unusual("a table is cut short")
  (stored,) = struct.unpack_from("<I", data, end + 1)
  if masked(extend(0, data[begin : end + 1])) != stored:
    raise Unusual("a checksum of the table does not match")
  if data[end]:
    raise Unusual("a table is compressed")
  return data[begin:end]


def _entries(block: bytes) -> Iterator[Tuple[bytes, bytes]]:
  """Yields keys and values of a block; keys share beginnings."""
  (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
  end = len(block) - 4 - 4 * restarts
  at, key = 0, b""
  while at < end:
    shared, at = _varint(block, at)
    own, at = _varint(block, at)
    length, at = _varint(block, at)
    if shared > len(key) or at + own + length > end:
      raise Unusual("a table is not sound")
    key = key[:shared] + block[at : at + own]
    at += own + length
    yield key, block[at - length : at]


def _varint(data: Any, at: int) -> Tuple[int, int]:
  """A number of at most 64 bits, and where what follows begins."""
  value = shift = 0
  while shift < 64:
    byte = data[at]
    at += 1
    value |= (byte & 0x7F) << shift
    if byte < 0x80:
      return value, at
    shift += 7
  raise Unusual("a number has more than 64 bits")


def _extents(stored: Any, shape: List[int]) -> Iterator[_Part]:
  """What a TensorSliceProto takes along each axis."""
  if len(stored.extent) != len(shape):
    raise Unusual("a slice is of another rank")
  for extent, size in zip(stored.extent, shape):
    whole = not extent.HasField("length")
    end = size if whole else extent.start + extent.length
    if not 0 <= extent.start <= end <= size:
      raise Unusual("a slice reaches beyond its tensor")
    yield _Part(extent.start, end)


def _within(parts: List[_Part], whole: List[_Part]) -> Tuple[slice, ...]:
  """Slices of an array that holds `whole`."""
  return tuple(
    slice(part.begin - own.begin, part.end - own.begin)
    for part, own in zip(parts, whole)
  )


def slice_key(name: bytes, stored: Any) -> bytes:
  """The key of a slice, which sorts as names and slices do.

  See EncodeTensorNameSlice in tensorflow/core/util/saved_tensor_slice_util.
  """
  if b"\xff" in name or b"\0" in name:
    raise Unusual("a name has bytes that are escaped")
  made = [b"\0", name, b"\0\1", _number(len(stored.extent))]
  for extent in stored.extent:
    is_whole = not extent.HasField("length")
    made.append(_signed(extent.start))
    made.append(_signed(_FULL if is_whole else extent.length))
  return b"".join(made)


def _number(value: int) -> bytes:
  """How many bytes a number has, and these; OrderedCode's numbers."""
  size = (value.bit_length() + 7) // 8
  return bytes([size]) + value.to_bytes(size, "big")


def _signed(value: int) -> bytes:
  """OrderedCode's signed numbers: as many leading ones as there are bytes."""
  magnitude = ~value if value < 0 else value
  size = magnitude.bit_length() // 7 + 1
  if size > 8:
    raise Unusual("a slice begins too far away")
  made = bytearray(value.to_bytes(size, "big", signed=True))
  made[0] ^= (0xFF << (8 - size)) & 0xFF
  return bytes(made)
