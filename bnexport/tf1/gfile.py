# SPDX-License-Identifier: Apache-2.0
"""Files, by the names that tf.io.gfile has for what is done with them.

Local files are Python's own, and remote ones TensorFlow's, or Apache Beam's
where TensorFlow lacks their scheme. What goes wrong with any is an OSError.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import importlib
import importlib.util
import os
import re
import shutil
from typing import IO, Any, Iterator, List, NamedTuple

from bnexport.tf1 import loading


class FileStatistics(NamedTuple):
  """What is known of a file without opening it; `length` in bytes."""

  length: int


def is_local(path: str) -> bool:
  """Whether a path is one of the machine's own file system."""
  return "://" not in path


@contextlib.contextmanager
def _remote(path: str) -> Iterator[Any]:
  """What has tf.io.gfile's functions for a path; its errors become OSErrors."""
  tensorflow = loading.full().tf1
  try:
    yield _files_of(path.partition("://")[0]) or tensorflow.gfile
  except tensorflow.errors.NotFoundError as error:
    raise FileNotFoundError(error.message) from error
  except tensorflow.errors.OpError as error:
    raise OSError(error.message) from error


@functools.lru_cache(maxsize=None)
def _files_of(scheme: str) -> Any:
  """Beam's files where TensorFlow lacks a scheme and Beam has it, or None."""
  tensorflow = loading.full().tf1
  try:
    tensorflow.gfile.Exists(f"{scheme}://bnexport/file")
    return None
  except tensorflow.errors.UnimplementedError:
    if importlib.util.find_spec("apache_beam") is None:
      return None
  except tensorflow.errors.OpError:
    return None  # it has it, and may not look there
  files = importlib.import_module("bnexport.tf1.beam_files")
  return files if files.has(f"{scheme}://bnexport/file") else None


@contextlib.contextmanager
def GFile(path: str, mode: str = "r") -> Iterator[IO]:
  """A file that is open in the block; text is UTF-8, and stays as it is."""
  if not is_local(path):
    with _remote(path) as gfile, gfile.GFile(path, mode) as f:
      yield f
    return
  text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
  with open(path, mode, **text) as f:  # type: ignore[call-overload]
    yield f


def Exists(path: str) -> bool:
  return _is(os.path.exists, "Exists", path)


def IsDirectory(path: str) -> bool:
  return _is(os.path.isdir, "IsDirectory", path)


def _is(local: Any, remote: str, path: str) -> bool:
  if not is_local(path):
    with _remote(path) as gfile:
      return getattr(gfile, remote)(path)
  try:
    return local(path)
  except ValueError:  # a zero in it, of Pythons before 3.8
    return False


def Stat(path: str) -> FileStatistics:
  if is_local(path):
    return FileStatistics(os.stat(path).st_size)
  with _remote(path) as gfile:
    return FileStatistics(gfile.Stat(path).length)


def ListDirectory(path: str) -> List[str]:
  if is_local(path):
    return os.listdir(path)
  with _remote(path) as gfile:
    return gfile.ListDirectory(path)


def Glob(pattern: str) -> List[str]:
  """Paths that fit a pattern, sorted; `*` stays in one directory.

  As with TensorFlow, a name that begins with a dot is one like any other.
  """
  if not is_local(pattern):
    with _remote(pattern) as gfile:
      return gfile.Glob(pattern)
  if not _IS_PATTERN.search(pattern):
    return [pattern] if Exists(pattern) else []
  folder, name = os.path.split(pattern)
  fits = re.compile(fnmatch.translate(name)).match
  return sorted(
    os.path.join(within, found)
    for within in (Glob(folder) if folder else [""])
    if IsDirectory(within or ".")
    for found in os.listdir(within or ".")
    if fits(found)
  )


_IS_PATTERN = re.compile(r"[*?[]")


def Rename(old: str, new: str, overwrite: bool = False) -> None:
  if not (is_local(old) and is_local(new)):
    with _remote(new) as gfile:
      gfile.Rename(old, new, overwrite)
    return
  _refuse_existing(new, overwrite)
  os.replace(old, new)


def Copy(old: str, new: str, overwrite: bool = False) -> None:
  if not (is_local(old) and is_local(new)):
    with _remote(new) as gfile:
      gfile.Copy(old, new, overwrite)
    return
  _refuse_existing(new, overwrite)
  shutil.copyfile(old, new)


def _refuse_existing(path: str, overwrite: bool) -> None:
  if not overwrite and Exists(path):
    raise FileExistsError(f"{path} exists")


def Remove(path: str) -> None:
  if is_local(path):
    os.remove(path)
    return
  with _remote(path) as gfile:
    gfile.Remove(path)


def MakeDirs(path: str) -> None:
  if is_local(path):
    os.makedirs(path, exist_ok=True)
    return
  with _remote(path) as gfile:
    gfile.MakeDirs(path)


def DeleteRecursively(path: str) -> None:
  if is_local(path):
    shutil.rmtree(path)
    return
  with _remote(path) as gfile:
    gfile.DeleteRecursively(path)


class Fetched:
  """Files that TensorFlow can open by a prefix, copied here if they have to be.

  Attributes:
    prefix: the one given, or that of copies, which go with this object.
  """

  def __init__(self, prefix: str, end: str = "*"):
    """Copies nothing where TensorFlow has the prefix's scheme.

    Args:
      prefix: begins the files' paths.
      end: a pattern of what follows it.

    Raises:
      OSError: a file can't be copied.
    """
    self.prefix = prefix
    if is_local(prefix):
      return
    files = _files_of(prefix.partition("://")[0])
    if files is None:
      return
    import tempfile  # only now: local files need none

    self._folder = tempfile.TemporaryDirectory(prefix="bnexport-")
    self.prefix = os.path.join(self._folder.name, os.path.basename(prefix))
    for path in files.Glob(prefix + end):
      copy = os.path.join(self._folder.name, os.path.basename(path))
      with files.GFile(path, "rb") as f, open(copy, "wb") as made:
        shutil.copyfileobj(f, made)
