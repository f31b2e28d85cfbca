# SPDX-License-Identifier: Apache-2.0
"""Records of graphs' origins: `GRAPH.bnexport.json` beside each graph.

It is written where several checkpoints are exported, for --resume. All it
holds are digests, of what was read and of the graph: a graph that somebody
else put there, or a checkpoint that was saved again, does not match.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os

from bnexport.errors import SourceError, first_line
from bnexport.exporting import writing
from bnexport.model.paths import refuse_special
from bnexport.tf1 import tf1
from bnexport.version import __version__

_PIECE = 1 << 22


def path(graph):
  """The record's file."""
  return graph + ".bnexport.json"


def origin(prefix, flags, *read):
  """The inputs of an export, as plain values.

  Args:
    prefix: of the checkpoint. Of format V2 the index stands for all of it: the
      index has the checksums of the tensors.
    flags: the values of the flags that matter, by name.
    *read: other files and directories that an export reads; None for none, and
      a module's name for model code.
  """
  files = tf1.gfile.Glob(prefix + ".index") or (
    tf1.gfile.Glob(prefix) + tf1.gfile.Glob(prefix + "-?????-of-?????")
  )
  for other in read:
    files = files + _files(other)
  digests = [[os.path.basename(name), digest(name)] for name in files]
  return {"bnexport": __version__, "flags": flags, "read": digests}


def _files(name):
  """The files that a path or a module's name means."""
  if not name:
    return []
  if tf1.gfile.IsDirectory(name):
    inside = [os.path.join(name, n) for n in tf1.gfile.ListDirectory(name)]
    return sorted(n for n in inside if not tf1.gfile.IsDirectory(n))
  if tf1.gfile.Exists(name):
    return [name]
  try:
    found = importlib.util.find_spec(name)
  except (ImportError, ValueError):
    found = None
  # What is not there, the export itself refuses.
  return [found.origin] if found is not None and found.has_location else []


def digest(name):
  """SHA-256 of a file.

  Raises:
    SourceError: it can't be read.
  """
  refuse_special(name, f"read '{name}'")
  hashed = hashlib.sha256()
  try:
    with tf1.gfile.GFile(name, "rb") as f:
      for piece in iter(lambda: f.read(_PIECE), b""):
        hashed.update(piece)
  except OSError as error:
    raise SourceError(
      f"read '{name}'",
      first_line(error),
      "check the file's permissions",
    ) from error
  return hashed.hexdigest()


def is_done(graph, made_from):
  """Whether a finished graph of this origin is there."""
  said = _read(graph)
  return bool(said.get("done")) and said["from"] == made_from and is_own(graph)


def is_own(graph):
  """Whether the file is there and an earlier run wrote it."""
  graphs = _read(graph).get("graphs")
  return bool(graphs) and tf1.gfile.Exists(graph) and digest(graph) in graphs


def noted(graph, made_from, data):
  """Yields a graph's bytes; they are recorded before its file gets its name.

  So an export that is killed at any time leaves no graph without a record. The
  graph of an earlier run stays known until it is replaced.
  """
  graphs = [digest(graph)] if is_own(graph) else []
  hashed = hashlib.sha256()
  for piece in data:
    hashed.update(piece)
    yield piece
  graphs.append(hashed.hexdigest())
  _write(graph, {"done": False, "graphs": graphs, "from": made_from})


def finish(graph, done, run="", verdict=()):
  """Notes that an export has ended.

  Args:
    graph: the graph's path.
    done: whether there is nothing left to do.
    run: a name of the run that exported it, or nothing.
    verdict: plain values that the run may ask for again; see `verdict`.
  """
  said = _read(graph)
  said.update(done=done, graphs=said["graphs"][-1:])
  if run:
    said.update(run=run, verdict=list(verdict))
  _write(graph, said)


def verdict(graph, run):
  """The verdict that `finish` got in a run of this name, or None."""
  said = _read(graph)
  if said.get("run") != run or not is_own(graph):
    return None
  return said["verdict"]


def clear(graph):
  """Removes the record of a graph that is not there."""
  if tf1.gfile.Exists(path(graph)) and not tf1.gfile.Exists(graph):
    tf1.gfile.Remove(path(graph))


def _read(graph):
  refuse_special(path(graph), f"read '{path(graph)}'")
  try:
    with tf1.gfile.GFile(path(graph), "r") as f:
      said = json.loads(f.read())
  except (OSError, ValueError, RecursionError):
    return {}
  is_own = isinstance(said, dict) and isinstance(said.get("graphs"), list)
  return said if is_own and "from" in said else {}


def _write(graph, said):
  text = json.dumps(said, indent=1, sort_keys=True) + "\n"
  with writing.whole_file(path(graph), [text.encode()]):
    pass
