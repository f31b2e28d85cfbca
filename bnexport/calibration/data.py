# SPDX-License-Identifier: Apache-2.0
"""Calibration data: arrays by input name, in files."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np

from bnexport.calibration.records import Records
from bnexport.errors import SourceError
from bnexport.sources import arrays
from bnexport.tf1 import tf1

_WHAT = "calibration data"
_ROWS = 32
# Which kinds of arrays a placeholder of a kind takes; sizes may differ.
_KINDS = {"f": "fiub", "V": "fiub", "c": "cfiub", "i": "iu", "u": "iu"}


def read_data(path, rows=_ROWS, function=""):
  """Opens calibration data; of arrays, only the headers are read.

  Args:
    path: an .npz file, a directory of them, or a pattern of files, which are
      taken in the order of their names; on any file system that TensorFlow or
      Apache Beam has. An .npz file holds an array for every
      input, with rows first; `x:0` is the input `x`. Other files are TFRecord
      files.
    rows: how many rows to feed at a time where the inputs leave it open.
    function: package.module:function or file.py:function that makes of a
      serialized record the arrays of one row, by input name.

  Returns:
    A CalibrationData.

  Raises:
    SourceError: a file is missing, unreadable, no .npz, cut short, empty, or
      lacks an array that another one holds; records come without a function.
  """
  files = _files(path)
  kinds = {name: _kind(name, function) for name in files}
  headers = {name: kind.headers(name) for name, kind in kinds.items()}
  for name in files[1:]:
    apart = sorted(set(headers[name]) ^ set(headers[files[0]]))
    if apart:
      raise SourceError(
        f"use {_WHAT} '{path}'",
        f"one of '{files[0]}' and '{name}' holds '{apart[0]}' and the other "
        "does not",
        "give arrays of all inputs in each file",
      )
  return CalibrationData(path, kinds, headers, rows)


def _files(path):
  """The files of a path, a directory or a pattern, in order."""
  if re.search(r"[*?\[]", path) and not tf1.gfile.Exists(path):
    files = tf1.gfile.Glob(path)
    if not files:
      raise SourceError(
        f"use {_WHAT} '{path}'",
        "no file matches",
        "write the pattern of the shards, like 'data/train-*'",
      )
    return files
  if not tf1.gfile.IsDirectory(path):
    return [path]
  files = [
    os.path.join(path, name)
    for name in sorted(tf1.gfile.ListDirectory(path))
    if name.endswith(".npz")
  ]
  if not files:
    raise SourceError(
      f"use {_WHAT} '{path}'",
      "there is no .npz file in the directory",
      "write some with numpy.savez(FILE, INPUT=array)",
    )
  return files


def _kind(path, function):
  """The reader of a file: Arrays or Records."""
  # An .npz file of another name is one, too.
  if path.endswith(".npz") or not function:
    return Arrays()
  return Records(function)


@dataclasses.dataclass(frozen=True)
class Arrays:
  """Reads .npz files."""

  def headers(self, path):
    """The arrays.Header of each array, by input name."""
    return arrays.headers(path, _WHAT)

  def blocks(self, path, names):
    """Yields the arrays of the inputs that are named, some rows at a time."""
    yield arrays.read(path, _WHAT, names)


class Input(NamedTuple):
  """The feed of a placeholder; the shape is None where its rank is open."""

  dtype: object
  shape: Optional[Tuple[int, ...]]


class CalibrationData:
  """Opened files; see `read_data`."""

  def __init__(self, path, kinds, headers, rows):
    self.path = path
    self._kinds = kinds
    self._headers = headers
    self._rows = rows

  @property
  def files(self):
    """Their paths, in order."""
    return list(self._headers)

  @property
  def names(self):
    """Names of the arrays, the same in all files."""
    return list(next(iter(self._headers.values())))

  def feeds(self, inputs: Dict[str, Input], files=None):
    """The arrays as feeds for these inputs, as often as one iterates.

    Args:
      inputs: what is fed, by name.
      files: those to read; None for all.

    Raises:
      SourceError: an array's shape or dtype does not fit its input, or
        arrays have other numbers of rows.
    """
    chosen = self.files if files is None else files
    headers = {name: self._headers[name] for name in chosen}
    return Feeds(self.path, self._kinds, headers, inputs, self._rows)


class Feeds:
  """Iterating yields dicts of arrays by input name.

  Every file is read anew by each iteration, one at a time. Where an input
  takes an exact number of rows, batches go on from one file to the next;
  otherwise the rest of a file is a smaller batch.

  Attributes:
    rows: how many rows there are.
    left_out: how many rows at the end are never fed, because an input takes
      an exact number of rows and they are fewer.
  """

  def __init__(self, path, kinds, headers, inputs, rows):
    self._path = path
    self._kinds = kinds
    self._inputs = inputs
    self._headers = headers
    for file, found in headers.items():
      for name, wanted in inputs.items():
        _refuse_unfit(file, name, found[name], wanted)
    fixed = {
      name: wanted.shape[0]
      for name, wanted in inputs.items()
      if wanted.shape and wanted.shape[0] > 0
    }
    self._is_exact = bool(fixed)
    at_a_time = min(fixed.values()) if fixed else rows
    self._sizes = {
      name: fixed.get(name, at_a_time)
      for name, wanted in inputs.items()
      if wanted.shape != () and next(iter(headers.values()))[name].shape
    }
    if not self._sizes:
      raise SourceError(
        f"use {_WHAT} '{path}'",
        "no input of it has rows",
        "give arrays with rows first",
      )
    first = next(iter(self._sizes))
    for file, found in headers.items():
      self._refuse_uneven(file, found, first)
    self.rows = sum(found[first].shape[0] for found in headers.values())
    self.left_out = self.rows % self._sizes[first] if fixed else 0
    if self.left_out == self.rows:
      raise SourceError(
        f"use {_WHAT} '{path}'",
        f"it has {self.rows} rows",
        "give at least %s" % (self._sizes[first] if fixed else 1,),
      )

  def _refuse_uneven(self, file, found, first):
    for name, size in self._sizes.items():
      rows, others = found[name].shape[0], found[first].shape[0]
      if rows * self._sizes[first] != others * size:
        raise SourceError(
          f"use {_WHAT} '{file}'",
          f"'{name}' has {rows} rows for the {others} rows of '{first}'",
          "give each input the rows of the same samples",
        )

  def __iter__(self):
    left = {}
    for file, found in self._headers.items():
      for values in self._blocks(file, found):
        left = yield from self._cut(left, values)
      if left and not self._is_exact:
        yield left
        left = {}

  def _blocks(self, file, found):
    """Yields what one file holds, in the dtypes of the inputs.

    Raises:
      SourceError: it is not what its headers stated.
    """
    first = next(iter(self._sizes))
    rows = 0
    for values in self._kinds[file].blocks(file, self._inputs):
      for name, wanted in self._inputs.items():
        if not _is_of(values.get(name), found[name]):
          raise _changed(file)
        values[name] = _converted(file, name, values[name], wanted)
      rows += len(values[first])
      yield values
    if rows != found[first].shape[0]:
      raise _changed(file)

  def _cut(self, left, values):
    """Yields whole batches of what is left of the file before and of this.

    Returns:
      What is left now; none where nothing is.
    """
    whole = {n: v for n, v in values.items() if n not in self._sizes}
    name = next(iter(self._sizes))
    rows = len(left.get(name, ())) + len(values[name])
    batches = rows // self._sizes[name]
    for i in range(batches):
      yield dict(
        whole,
        **{
          name: _rows(left.get(name), values[name], i * size, (i + 1) * size)
          for name, size in self._sizes.items()
        },
      )
    rest = {
      name: _rows(left.get(name), values[name], batches * size, None)
      for name, size in self._sizes.items()
    }
    # A copy, so that the file's arrays can go.
    rest = {n: v.copy() for n, v in rest.items()}
    return dict(whole, **rest) if len(rest[name]) else {}


def _is_of(array, header):
  """Whether an array is, or is rows of, what a header states."""
  return (
    array is not None
    and array.shape[1:] == header.shape[1:]
    and len(array.shape) == len(header.shape)
    and array.dtype == header.dtype
  )


def _changed(file):
  return SourceError(
    f"read {_WHAT} '{file}'", "it has changed meanwhile", "run again"
  )


def _rows(left, array, start, end):
  """Rows of two arrays, one after the other."""
  if left is None or not len(left):
    return array[start:end]
  end = len(left) + len(array) if end is None else end
  tail = array[max(0, start - len(left)) : max(0, end - len(left))]
  if start >= len(left):
    return tail
  return np.concatenate([left[start:end], tail])


def _refuse_unfit(file, name, header, wanted):
  """Raises SourceError where an array can't be fed to its input."""
  dtype = wanted.dtype
  if dtype == tf1.string:
    kinds = "SU"
  else:
    kind = np.dtype(dtype.as_numpy_dtype).kind
    kinds = _KINDS.get(kind, kind)
  if header.dtype.kind not in kinds:
    raise SourceError(
      f"feed '{name}' of '{file}'",
      f"it holds {header.dtype} and the input takes {dtype.name}",
      "convert it",
    )
  if wanted.shape is None:
    return
  sizes = wanted.shape[1:], header.shape[1:]
  if len(header.shape) != len(wanted.shape) or any(
    a not in (b, -1) for a, b in zip(*sizes)
  ):
    raise SourceError(
      f"feed '{name}' of '{file}'",
      "its shape is %s and the input's [%s]"
      % (
        list(header.shape),
        ", ".join(("?" if size < 0 else str(size) for size in wanted.shape)),
      ),
      "give rows of the input's shape",
    )


def _converted(file, name, array, wanted):
  """The array in the input's dtype.

  Raises:
    SourceError: the dtype can't hold a value, or a value is not finite.
  """
  if wanted.dtype == tf1.string:
    return array
  with np.errstate(over="ignore"):
    fed = array.astype(wanted.dtype.as_numpy_dtype, copy=False)
  if wanted.dtype.is_integer:
    sound = (fed == array).all()
  else:
    # NumPy does not know whether a bfloat16 is finite.
    sound = np.isfinite(fed if fed.dtype.kind in "fcb" else np.float32(fed))
  if not np.all(sound):
    raise SourceError(
      f"use '{name}' of '{file}'",
      "it holds values that are not finite or too large for "
      f"{wanted.dtype.name}",
      "take their rows out",
    )
  return fed
