# SPDX-License-Identifier: Apache-2.0
"""Exports of checkpoints that have the same training graph.

Most of an export is to read a training graph, to decide its phase and to find
its averages. Where no value of a variable was read for that, it depends on the
graph's bytes, on what was asked for and on which tensors of which shapes the
checkpoint holds. Of several checkpoints where all these are the same, it is
done once. What depends on values is done for each.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Optional, Tuple

from bnexport import sources
from bnexport.errors import SourceError
from bnexport.exporting.export import (
  Begun,
  Export,
  Options,
  begin,
  export,
  finish,
)
from bnexport.model.checkpoint import Checkpoint
from bnexport.model.model import Model
from bnexport.model.request import Request
from bnexport.model.stream import StoredValue
from bnexport.sources import files

# Bytes of a training graph above which large constants are in it: these are
# not to be in memory once more.
_LARGEST = 1 << 26


class Beginnings:
  """The latest beginning of an export, for those that begin in the same way."""

  def __init__(self) -> None:
    self._key: Any = None
    self._held: Optional[Begun] = None

  def export(self, request: Request, options: Options) -> Export:
    """What `export` gives of a Request.

    Args:
      request: a Request.
      options: Options.

    Raises:
      Error: as `sources.open` and `export` do.
    """
    if not _can_be_shared(request, options):
      return export(sources.open(request), options)
    before = _bytes_of(request)
    if self._held is not None and before == self._key[0]:
      checkpoint = Checkpoint(str(request.checkpoint))
      if _key(before, request, options, checkpoint) == self._key:
        return finish(_of(self._held, request, checkpoint), options, _silent)
    self._key = self._held = None
    model = sources.open(request)
    assert model.values is not None and model.values.checkpoint is not None
    checkpoint = model.values.checkpoint
    begun = begin(model, options, _silent)
    key = _key(before, request, options, checkpoint)
    # Of a value that was read, the next checkpoint may have another one.
    if key is not None and not checkpoint.is_read and _is_deferred(model):
      if before == _bytes_of(request):  # what was opened is what was read
        self._key, self._held = key, _of(begun, request, checkpoint)
    return finish(begun, options, _silent)


def _silent(text):
  del text


def _can_be_shared(request: Request, options: Options) -> bool:
  return (
    request.kind == "meta_graph"
    and isinstance(request.source, str)
    and request.checkpoint is not None
    and options.engine != "session"
    and options.calibration_data is None
    and not options.keep_variables
    # Its values are computed, and may be random.
    and options.missing == "refuse"
  )


def _bytes_of(request: Request) -> Optional[bytes]:
  """The bytes of a training graph's file, as many as count, or None."""
  try:
    return files.read(request.source, "the training graph", _LARGEST + 1)
  except SourceError:
    return None  # opening it tells


def _key(
  graph: Optional[bytes],
  request: Request,
  options: Options,
  checkpoint: Checkpoint,
) -> Optional[Tuple[Any, ...]]:
  """What the beginning of an export depends on; None to begin each anew."""
  layout = checkpoint.layout
  if graph is None or layout is None or len(graph) > _LARGEST:
    return None
  asked = dataclasses.replace(request, source=None, checkpoint=None)
  return graph, asked, options, layout


def _is_deferred(model: Model) -> bool:
  """Whether all values of a Model are its checkpoint's, and read later on."""
  deferred = model.deferred.values()
  return all(isinstance(value, StoredValue) for value in deferred)


def _of(begun: Begun, request: Request, checkpoint: Checkpoint) -> Begun:
  """A Begun of another checkpoint; the first one stays as it is.

  The graph before the phase was decided is shared, as nothing edits it.
  """
  old = begun.model
  model = old.clone(is_twin=True)
  assert model.values is not None
  model.values.checkpoint = checkpoint
  for name, value in old.deferred.items():
    assert isinstance(value, StoredValue)  # see _is_deferred
    model.deferred[name] = value.of(model.values)
  model.origin, model.request = str(request.source), request
  original = copy.copy(begun.original)
  for key, value in vars(begun.original).items():
    if value is getattr(old, key):  # what the two had in common
      setattr(original, key, getattr(model, key))
  return dataclasses.replace(begun, model=model, original=original)
