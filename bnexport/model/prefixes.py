# SPDX-License-Identifier: Apache-2.0
"""Prefixes of checkpoints: what the names of their files have in common."""

from __future__ import annotations

import os
import re
from typing import Any, List, Optional, Tuple

from google.protobuf import text_format

from bnexport.errors import Offer, SourceError, nearest
from bnexport.model.paths import refuse_special
from bnexport.tf1 import CheckpointState, tf1

# The ends of a checkpoint's files, behind its prefix; the last is what
# Saver.save returns of one in format V1 with shards.
_SUFFIX = re.compile(r"(\.(meta|index|data-\d{5}-of-\d{5})|-\?{5}-of-\d{5})$")


def find_prefix(path: str) -> str:
  """Returns the prefix of the checkpoint that a user's path means.

  Args:
    path: a prefix, a directory (its latest checkpoint), or any file of a
      checkpoint.

  Raises:
    SourceError: there is none.
  """
  prefix = _SUFFIX.sub("", path)
  what = f"read checkpoint '{path}'"
  for file in (prefix, prefix + ".index", os.path.join(path, "checkpoint")):
    refuse_special(file, what)
  # First: some file systems have no directories and call anything one.
  if tf1.gfile.Exists(prefix + ".index"):
    return prefix
  if tf1.gfile.IsDirectory(path):
    return _latest(path)
  if tf1.gfile.Exists(prefix) and prefix == path:
    if os.path.basename(path) == "checkpoint":
      return find_prefix(os.path.dirname(path) or ".")
    return prefix  # a checkpoint of format V1 is one file of that name
  if tf1.gfile.Glob(prefix + "-?????-of-?????"):
    return prefix  # V1 in several shards
  there = prefixes_in(os.path.dirname(prefix))
  raise SourceError(
    f"read checkpoint '{path}'",
    f"there is no '{prefix}.index'",
    nearest(prefix, there, "give the prefix that Saver.save returned"),
  )


def is_several(given: str) -> bool:
  """Tells whether a user's --checkpoint names a list or pattern."""
  if not re.search(r"[,*?\[]", given):
    return False
  # File names may hold those characters too.
  return not tf1.gfile.Exists(given) and not tf1.gfile.Exists(given + ".index")


def prefixes_in(folder: str) -> List[str]:
  """Prefixes of the checkpoints in a directory, sorted by their steps."""
  if not tf1.gfile.IsDirectory(folder or "."):
    return []
  names = tf1.gfile.ListDirectory(folder or ".")
  ends = filter(_SUFFIX.search, names)
  found = {os.path.join(folder, _SUFFIX.sub("", n)) for n in ends}
  return sorted(found, key=by_number)


def of_meta_graph(path: str) -> Optional[str]:
  """The prefix of the checkpoint that a `.meta` lies beside, or None."""
  prefix, end = os.path.splitext(path)
  is_there = end == ".meta" and tf1.gfile.Exists(prefix + ".index")
  return prefix if is_there else None


def by_number(path: str) -> Tuple[List[Any], str]:
  """A key that sorts model.ckpt-9 before model.ckpt-10."""
  parts = re.split(r"([0-9]+)", path)
  return [int(p) if i % 2 else p for i, p in enumerate(parts)], path


def _latest(folder: str) -> str:
  """The latest checkpoint of a directory, by its `checkpoint` file.

  That file names the checkpoint by a path which may be that of another
  machine. Where nothing is named, the only checkpoint there is the one.
  """
  there = prefixes_in(folder)
  named = _named(folder)
  if named:
    for prefix in (named, os.path.join(folder, os.path.basename(named))):
      if _is_there(prefix):
        return prefix
  elif len(there) == 1:
    return there[0]
  fact = "it has no `checkpoint` file that names the latest"
  if named:
    fact = f"its `checkpoint` file names '{named}', which is not there"
  raise SourceError(
    f"read checkpoint '{folder}'",
    fact,
    _one_of(there),
    [Offer({"checkpoint": prefix}) for prefix in reversed(there)],
  )


def _named(folder: str) -> str:
  """The path that a directory's `checkpoint` file names; empty for none."""
  state = CheckpointState()
  try:
    with tf1.gfile.GFile(os.path.join(folder, "checkpoint"), "rb") as f:
      text_format.Parse(f.read().decode("utf-8"), state)
  except (OSError, UnicodeDecodeError, text_format.ParseError):
    return ""
  # One that is not absolute is seen from the directory.
  return state.model_checkpoint_path and os.path.join(
    folder, state.model_checkpoint_path
  )


def _is_there(prefix: str) -> bool:
  """Tells whether there is a checkpoint of this prefix, of either format."""
  found = prefixes_in(os.path.dirname(prefix))
  return prefix in found or tf1.gfile.Exists(prefix)


def latest(folder: str) -> Optional[str]:
  """The prefix that a directory's `checkpoint` file names, if it is there."""
  named = _named(folder)
  return named if named and _is_there(named) else None


def _one_of(prefixes: List[str]) -> str:
  if not prefixes:
    return "give the prefix that Saver.save returned"
  return f"give the prefix of one, such as '{prefixes[-1]}'"
