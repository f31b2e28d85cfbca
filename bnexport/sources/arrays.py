# SPDX-License-Identifier: Apache-2.0
"""Arrays by input name: .npz files that may be missing, cut or something else.

Does not import TensorFlow.
"""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from typing import NamedTuple, Tuple

import numpy as np

from bnexport.errors import SourceError
from bnexport.graph import TensorRef
from bnexport.model.paths import refuse_special
from bnexport.sources.archives import refuse_bomb, zipped_size
from bnexport.tf1 import tf1

_READ_HEADER = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}


class Header(NamedTuple):
  """The shape and dtype that a file states of an array."""

  shape: Tuple[int, ...]
  dtype: np.dtype


def headers(path, what):
  """Headers of an .npz file's arrays by input name; reads no values.

  Args:
    path: the file.
    what: names the file in messages.

  Raises:
    SourceError: it is missing, no .npz, cut short, or holds no arrays.
  """
  with _readable(path, what) as f, zipfile.ZipFile(f) as archive:
    return _some(_headers(path, archive), path, what)


def _headers(path, archive):
  refuse_bomb(path, zipped_size(archive))
  found = {}
  for member in archive.namelist():
    with archive.open(member) as f:
      version = np.lib.format.read_magic(f)
      if version not in _READ_HEADER:
        raise ValueError(f"'{member}' is in a format of its own")
      shape, _, dtype = _READ_HEADER[version](f)
      start = f.tell()
    if dtype.hasobject:
      raise ValueError(f"'{member}' holds Python objects")
    # NumPy makes room for what the header states before it reads.
    size = dtype.itemsize * _product(shape)
    if size != archive.getinfo(member).file_size - start:
      raise ValueError(f"'{member}' is not as large as it states")
    found[_input_name(member)] = Header(shape, dtype)
  return found


def read(path, what, names=None):
  """Arrays of an .npz file by input name; `x:0` in the file is `x`.

  Args:
    path: the file.
    what: names the file in messages.
    names: the inputs to read, which the file holds; all where it is None.

  Raises:
    SourceError: it is missing, no .npz, cut short, or holds no arrays.
  """
  headers(path, what)
  with _readable(path, what) as f, np.load(f, allow_pickle=False) as arrays:
    found = {
      _input_name(name): arrays[name]
      for name in arrays.files
      if names is None or _input_name(name) in names
    }
  return _some(found, path, what)


def _product(shape):
  product = 1
  for size in shape:
    product *= size
  return product


def _input_name(member):
  name = member[:-4] if member.endswith(".npy") else member
  return str(TensorRef.parse(name))


def _some(found, path, what):
  if not found:
    raise SourceError(
      f"use {what} '{path}'",
      "it holds no arrays",
      "write them with numpy.savez(FILE, INPUT=array)",
    )
  return found


@contextlib.contextmanager
def _readable(path, what):
  """The open file; says in one line what NumPy and zipfile say in many ways."""
  refuse_special(path, f"read {what} '{path}'")
  try:
    with tf1.gfile.GFile(path, "rb") as f:
      # Old NumPy complains on stderr of files that are cut short.
      if not zipfile.is_zipfile(f):
        raise ValueError("it is no .npz file, or it is cut short")
      f.seek(0)
      yield f
  except (
    OSError,
    ValueError,
    AttributeError,
    TypeError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
  ) as error:
    raise SourceError(
      f"read {what} '{path}'",
      error,
      "write an .npz with numpy.savez(FILE, INPUT=array)",
    ) from error
