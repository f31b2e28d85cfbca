# SPDX-License-Identifier: Apache-2.0
"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import shutil
from typing import Set

from google.protobuf import text_format

from bnexport.errors import SourceError, first_line
from bnexport.model.paths import refuse_special
from bnexport.model.stream import pieces, to_graph_def
from bnexport.tf1 import tf1


def is_graph(path):
  """Whether a path is that of a GraphDef rather than a SavedModel's."""
  return path.endswith((".pb", ".pbtxt"))


def refuse_existing(path, overwrite):
  """Raises SourceError where a file would be lost or can't be made."""
  refuse_special(path, f"write '{path}'")
  if _is_of_the_system(path):
    raise SourceError(f"write '{path}'", "it is no file", "give a file's name")
  if tf1.gfile.IsDirectory(path):
    raise SourceError(
      f"write '{path}'",
      "it is a directory",
      "give a file name in it with --output_graph",
    )
  if tf1.gfile.Exists(path) and not overwrite:
    raise SourceError(
      f"write '{path}'",
      "the file exists",
      "pass --overwrite, or another --output_graph",
    )
  folder = os.path.dirname(path) or "."
  # Stores of objects have no directories to make.
  if tf1.gfile.is_local(path) and not tf1.gfile.IsDirectory(folder):
    raise SourceError(
      f"write '{path}'",
      f"there is no directory '{folder}'",
      "make it first",
    )


def _is_of_the_system(path):
  """Whether a path is that of a device, or of an open file of a process."""
  return any(
    real.startswith(("/dev/", "/proc/")) and not real.startswith("/dev/shm/")
    for real in (os.path.abspath(path), os.path.realpath(path))
  )


def refuse_source(path, prefix, *files):
  """Raises SourceError where a file that is read would be written over."""
  same = [f for f in files if f]
  # What is not there is no file of a checkpoint, whose directory may be large.
  if prefix and (os.path.lexists(path) or not tf1.gfile.is_local(path)):
    same += tf1.gfile.Glob(prefix) + tf1.gfile.Glob(prefix + ".meta")
    same += tf1.gfile.Glob(prefix + ".index") + tf1.gfile.Glob(
      prefix + ".data-?????-of-?????"
    )
  if any(_is_within(path, other) for other in same):
    raise SourceError(
      f"write '{path}'",
      "the model is read from it",
      "give another --output_graph",
    )


def _is_within(path, other):
  """Whether a path is another one, by whatever name, or in that directory."""
  if os.path.exists(path) and os.path.exists(other):
    if os.path.samefile(path, other):
      return True
  real = os.path.realpath(path)
  if not os.path.isdir(other):
    return real == os.path.realpath(other)
  # Beside what a SavedModel consists of there may be other files.
  below = os.path.relpath(real, os.path.realpath(other))
  return below.split(os.sep)[0] in _OF_SAVED_MODELS


_OF_SAVED_MODELS = (
  "saved_model.pb",
  "saved_model.pbtxt",
  "variables",
  "assets",
  "assets.extra",
)
# Linux writes a file many times slower where it is given more at once; and a
# remote file takes bytes only, so that what is written is copied.
_AT_ONCE = 1 << 18


def part_of(path, process, end="part"):
  """The name under which `process` writes what becomes `path`."""
  return f"{_left_of(path)}{end}-{process}"


def _left_of(path):
  """The beginning of the names of what this machine's processes leave."""
  host = re.sub(r"[^\w-]", "_", platform.node())
  return f"{path.rstrip('/')}.bnexport-{host}."


def clear_parts(path):
  """Removes what processes of this machine left that were killed as they wrote.

  A directory that one of them had moved away to replace it, and did not, gets
  its name back.
  """
  folder, start = os.path.split(_left_of(path))
  for name in _left_in(folder or ".", os.getpid()):
    end, _, process = name[len(start) :].partition("-")
    if not name.startswith(start) or end not in ("part", "before"):
      continue
    if not process.isdigit() or _is_alive(int(process)):
      continue
    left = os.path.join(folder, name)
    # Another process may have taken it away.
    with contextlib.suppress(FileNotFoundError):
      if end == "before" and not os.path.lexists(path.rstrip("/")):
        os.rename(left, path.rstrip("/"))
      elif os.path.isdir(left) and not os.path.islink(left):
        shutil.rmtree(left, ignore_errors=True)
      else:
        os.remove(left)


@functools.lru_cache(maxsize=None)
def _left_in(folder, process):
  """Names of what this machine's processes left unfinished in a folder.

  A process lists a folder once: where a batch writes n files to it, listing it
  for each of them would take n * n steps.
  """
  del process  # a fork lists it again
  mark = _left_of("")
  try:
    return [name for name in os.listdir(folder) if mark in name]
  except OSError:
    return []  # it is told where the file is made


def _is_alive(process):
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except OSError:
    pass  # somebody else's
  return True


@contextlib.contextmanager
def _new_file(part):
  """A new file to write bytes to, which no link leads elsewhere."""
  if not tf1.gfile.is_local(part):
    with tf1.gfile.GFile(part, "wb") as f:
      yield f
    return
  if os.path.lexists(part):
    os.remove(part)
  flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
  with open(os.open(part, flags, 0o666), "wb") as f:
    yield f


# What this process has begun to write, and not taken away again.
_begun: Set[str] = set()


@contextlib.contextmanager
def part(path, kind=""):
  """A name to write under before it is whole; nothing of it is left.

  Args:
    path: what it becomes.
    kind: goes before the path in the error, such as "SavedModel ".

  Raises:
    SourceError: it can't be written.
  """
  name = part_of(path, os.getpid())
  _begun.add(name)
  try:
    if tf1.gfile.is_local(path):
      clear_parts(path)
    yield name
  except OSError as error:
    raise SourceError(
      f"write {kind}'{path}'",
      first_line(error),
      "free space or give another path",
    ) from error
  finally:
    _remove(name)


def remove_parts():
  """Takes away what was begun, where a signal came between doing so."""
  for name in list(_begun):
    _remove(name)


def _remove(name):
  if tf1.gfile.IsDirectory(name):
    tf1.gfile.DeleteRecursively(name)
  elif tf1.gfile.Exists(name):
    tf1.gfile.Remove(name)
  _begun.discard(name)


@contextlib.contextmanager
def whole_file(path, data):
  """Writes beside `path`; puts the file there when the block has ended well.

  Args:
    path: the file, which is replaced where it exists.
    data: its bytes, piece by piece.

  Yields:
    The path of the finished file before it gets its name.

  Raises:
    SourceError: it can't be written. Nothing is left then, and what was at
      `path` stays.
  """
  with part(path) as name:
    kind = memoryview if tf1.gfile.is_local(name) else bytes
    with _new_file(name) as f:
      for piece in data:
        for start in range(0, len(piece), _AT_ONCE):
          f.write(kind(piece[start : start + _AT_ONCE]))
    yield name
    tf1.gfile.Rename(name, path, overwrite=True)


def serialize(model, as_text):
  """Yields the bytes of a model's GraphDef, the same for the same graph."""
  if as_text:
    yield text_format.MessageToString(to_graph_def(model)).encode()
  else:
    yield from pieces(model)
