# SPDX-License-Identifier: Apache-2.0
"""Rows from TFRecord files, made by a user's function."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np

from bnexport.errors import SourceError, first_line
from bnexport.graph import TensorRef
from bnexport.model.paths import refuse_special
from bnexport.sources.arrays import Header
from bnexport.sources.model_code import find_function
from bnexport.tf1 import tf1

_WHAT = "calibration data"
# Rows that are stacked at a time.
_ROWS = 256
# A record is its length (8 bytes), a checksum of that (4), its bytes, and a
# checksum of them (4); tensorflow/core/lib/io/record_writer.h.
_HEAD, _TAIL = 12, 4


@dataclasses.dataclass(frozen=True)
class Records:
  """Reads TFRecord files, which are not compressed.

  Attributes:
    function: package.module:function or file.py:function, from a serialized
      record to the arrays of one row, by input name.
  """

  function: str

  def headers(self, path):
    """The Header of what each input gets, all rows together.

    Raises:
      SourceError: the file is missing, cut short, or has no record.
    """
    refuse_special(path, f"read {_WHAT} '{path}'")
    count = _count(path)
    if not count:
      raise SourceError(
        f"use {_WHAT} '{path}'", "it has no record", "leave the file out"
      )
    first = next(self._rows(path, find_function(self.function)))
    return {
      name: Header((count, *value.shape), value.dtype)
      for name, value in first.items()
    }

  def blocks(self, path, names):
    """Yields arrays of the inputs that are named, some rows at a time."""
    rows = []
    for row in self._rows(path, find_function(self.function)):
      rows.append(row)
      if len(rows) == _ROWS:
        yield self._stacked(path, rows, names)
        rows = []
    if rows:
      yield self._stacked(path, rows, names)

  def _rows(self, path, function):
    """Yields arrays by input name, for each record."""
    try:
      local = tf1.gfile.Fetched(path, end="")
      for record in tf1.python_io.tf_record_iterator(local.prefix):
        yield self._row(path, function, record)
    except tf1.errors.OpError as error:
      raise SourceError(
        f"read {_WHAT} '{path}'", first_line(error), "copy the file again"
      ) from error

  def _row(self, path, function, record):
    try:
      made = {str(TensorRef.parse(k)): v for k, v in function(record).items()}
      row = {name: np.asarray(value) for name, value in made.items()}
    except Exception as error:  # user code may raise anything
      raise SourceError(
        f"make rows of '{path}' with --calibration_input={self.function}",
        f"{type(error).__name__}: {first_line(error)}",
        "return a dict of arrays by input name, each without the batch's axis",
      ) from error
    if not row or any(value.dtype == object for value in row.values()):
      raise SourceError(
        f"make rows of '{path}' with --calibration_input={self.function}",
        "it does not return arrays of numbers or bytes",
        "return a dict of arrays by input name",
      )
    return row

  def _stacked(self, path, rows, names):
    try:
      return {name: np.stack([row[name] for row in rows]) for name in names}
    except (KeyError, ValueError) as error:
      raise SourceError(
        f"make rows of '{path}' with --calibration_input={self.function}",
        f"its rows differ: {error}",
        "return the same inputs, in the same shapes, for each record",
      ) from error


def _count(path):
  """The number of a file's records; of them only lengths are read.

  Raises:
    SourceError: it is missing, or no whole TFRecord file.
  """
  count = 0
  try:
    size, at = tf1.gfile.Stat(path).length, 0
    with tf1.gfile.GFile(path, "rb") as f:
      while at < size:
        head = f.read(_HEAD)
        if len(head) < _HEAD:
          raise ValueError("it is cut short")
        at += _HEAD + struct.unpack("<Q", head[:8])[0] + _TAIL
        if at > size:
          raise ValueError("it is no TFRecord file, or cut short")
        f.seek(at)
        count += 1
  except (OSError, ValueError) as error:
    raise SourceError(
      f"read {_WHAT} '{path}'",
      first_line(error),
      "give .npz files, or TFRecord files that are not compressed",
    ) from error
  return count
