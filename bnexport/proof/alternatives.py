# SPDX-License-Identifier: Apache-2.0
"""The answers that other decisions would have led to.

An export decides what a training graph leaves open: values of phases, noise
that is taken out, inputs that nothing asks for any longer. Each is tried the
other way round on what the proof fed, so that a report tells how much hangs on
it.
"""

from __future__ import annotations

import dataclasses
from typing import List, Optional

import numpy as np

from bnexport.errors import ComparisonError
from bnexport.graph import TensorRef
from bnexport.graph.nodes import static_shape
from bnexport.proof.differences import difference
from bnexport.proof.training_graph import TrainingGraph
from bnexport.tf1 import tf1

# So many decisions of a kind are tried.
_MOST = 8
# What an input that is gone was, and is not now.
_VALUES = (1.0, 0.0, 0.5, 2.0)
_NOISE = ("remove_dropout", "remove_noise")


@dataclasses.dataclass(frozen=True)
class Alternative:
  """One decision, and what another one would have led to.

  Attributes:
    decided: the decision, in words.
    other: the other one, in words.
    apart: the largest difference that it makes to an answer; None where it
      was not told.
    matters: whether that is more than rounding.
    why_not: why it was not told.
    lost: name of the input that is gone, where that is the decision.
  """

  decided: str
  other: str
  apart: Optional[float] = None
  matters: bool = False
  why_not: str = ""
  lost: Optional[str] = None


def examine(export, feeds) -> List[Alternative]:
  """Tries the decisions of an export of a training graph.

  Args:
    export: an export.Export.
    feeds: arrays by node name.

  Raises:
    ComparisonError: the training graph does not run on these.
    OutOfTime: a limit of time ended it.
  """
  plain = export.reference
  if not isinstance(plain, TrainingGraph):
    return []
  usual = plain.run(feeds)
  found = list(_phases(export, usual, feeds))
  found += _noise(export, usual, feeds)
  found += _lost(export, plain, usual, feeds)
  return found


def _phases(export, usual, feeds):
  values = export.model.decisions.values
  for name in list(values)[:_MOST]:
    value = np.asarray(values[name])
    decided = f"'{name}' is {value}"
    if value.dtype != bool or value.ndim:
      yield Alternative(decided, "another value", why_not="it was not tried")
      continue
    yield _tried(
      export.reference.otherwise(flipped=[name]),
      Alternative(decided, str(not value)),
      usual,
      feeds,
    )


def _noise(export, usual, feeds):
  """What the noise that was taken out does to an answer."""
  done = [
    change
    for change in export.model.history
    if getattr(change, "transform", "") in _NOISE
  ]
  if not done:
    return []
  noisy = export.reference.otherwise(has_noise=True)
  words = f"noise is taken out in {len(done)} places"
  return [_tried(noisy, Alternative(words, "noise"), usual, feeds)]


def _tried(other, alternative, usual, feeds):
  """An Alternative with what a run of it says."""
  try:
    return _with(alternative, other.run(feeds), usual)
  except ComparisonError as error:
    return dataclasses.replace(alternative, why_not=error.fact)
  finally:
    other.close()


def _with(alternative, answers, usual):
  found = [difference("", a, b) for a, b in zip(answers, usual)]
  return dataclasses.replace(
    alternative,
    apart=max((one.largest for one in found), default=0.0),
    matters=not all(one.holds for one in found),
  )


def _lost(export, plain, usual, feeds):
  """What inputs do that the training graph has and the export does not."""
  left = set(export.model.placeholders()) | set(feeds)
  gone = [
    name
    for name in export.original.placeholders()
    if name not in left and name not in export.model.decisions.values
  ]
  found = []
  for name in gone[:_MOST]:
    one = Alternative(f"'{name}' is no input", "one", lost=name)
    if name in plain.graph:
      one = _moved(one, plain, usual, feeds)
    else:
      one = dataclasses.replace(one, apart=0.0)
    found.append(one)
  return found


def _moved(one, plain, usual, feeds):
  """The Alternative in which an input that is gone has other values."""
  node = plain.graph.node(one.lost)
  dtype = tf1.as_dtype(node.attr["dtype"].type)
  if not (dtype.is_floating or dtype.is_integer or dtype == tf1.bool):
    return dataclasses.replace(one, why_not="it has no numbers")
  worst = dataclasses.replace(one, apart=0.0)
  shape = static_shape(plain.graph, TensorRef(one.lost)) or ()
  rows = max((len(v) for v in feeds.values() if np.ndim(v)), default=1)
  sizes = [rows if i == 0 and s < 0 else max(s, 1) for i, s in enumerate(shape)]
  for value in _VALUES:
    filled = np.full(sizes, value).astype(dtype.as_numpy_dtype)
    tried = _tried_again(plain, one, usual, {**feeds, one.lost: filled})
    if tried is not None and tried.apart >= worst.apart:
      worst = tried
  return worst


def _tried_again(plain, one, usual, feeds):
  try:
    return _with(one, plain.run(feeds), usual)
  except ComparisonError:
    return None
