# SPDX-License-Identifier: Apache-2.0
"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
from typing import Set

from google.protobuf import text_format

from bnexport.errors import SourceError, first_line
from bnexport.model.stream import pieces, to_graph_def
from bnexport.tf1 import tf1


def is_graph(path):
  """Whether a path is that of a GraphDef rather than a SavedModel's."""
  return path.endswith((".pb", ".pbtxt"))


def refuse_existing(path, overwrite):
  """Raises SourceError where a file would be lost or can't be made."""
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
  if not tf1.gfile.IsDirectory(folder):
    raise SourceError(
      f"write '{path}'",
      f"there is no directory '{folder}'",
      "make it first",
    )


def refuse_source(path, prefix, *files):
  """Raises SourceError where a file that is read would be written over."""
  same = [f for f in files if f]
  if prefix:
    same += tf1.gfile.Glob(prefix) + tf1.gfile.Glob(prefix + ".meta")
    same += tf1.gfile.Glob(prefix + ".index") + tf1.gfile.Glob(
      prefix + ".data-?????-of-?????"
    )
  if os.path.realpath(path) in map(os.path.realpath, same):
    raise SourceError(
      f"write '{path}'",
      "the model is read from it",
      "give another --output_graph",
    )


# GFile takes bytes only: what is written is copied, this much at a time.
_AT_ONCE = 1 << 18


def part_of(path, process):
  """What `process` writes to before it is whole and gets the name `path`."""
  return f"{path.rstrip('/')}.part-{process}"


# What this process has begun to write, and not taken away again.
_begun: Set[str] = set()


@contextlib.contextmanager
def part(path):
  """What to write to before it is whole; nothing of it is left afterwards."""
  name = part_of(path, os.getpid())
  _begun.add(name)
  try:
    yield name
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
    try:
      with tf1.gfile.GFile(name, "wb") as f:
        for piece in data:
          for start in range(0, len(piece), _AT_ONCE):
            f.write(bytes(piece[start : start + _AT_ONCE]))
      yield name
      tf1.gfile.Rename(name, path, overwrite=True)
    except (tf1.errors.OpError, OSError) as error:
      raise SourceError(
        f"write '{path}'",
        first_line(error),
        "free space or give another path",
      ) from error


def serialize(model, as_text):
  """Yields the bytes of a model's GraphDef, the same for the same graph."""
  if as_text:
    yield text_format.MessageToString(to_graph_def(model)).encode()
  else:
    yield from pieces(model)
