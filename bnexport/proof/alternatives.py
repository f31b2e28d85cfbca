# SPDX-License-Identifier: Apache-2.0
"""The answers that other decisions would have led to.

An export decides what a training graph leaves open: values of phases, which of
several averages a statistic has, noise that is taken out, inputs that nothing
asks for any longer. Each is tried the other way round on what the proof fed, so
that a report tells how much hangs on it.
"""

from __future__ import annotations

import dataclasses
from typing import List, Optional

import numpy as np

from bnexport.analysis.partial_evaluation import PartialEvaluation
from bnexport.analysis.phase import find_leaves, value_text
from bnexport.errors import ComparisonError
from bnexport.proof.differences import difference
from bnexport.proof.training_graph import TrainingGraph
from bnexport.tf1 import tf1

# So many decisions of a kind are tried.
_MOST = 8
# So many values of one that is no bool.
_MOST_VALUES = 2
# Values of an input that is gone.
_RATES, _COUNTS = (0.25, 0.75), (0, 2)
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
  found += list(_averages(export, usual, feeds))[:_MOST]
  found += _noise(export, usual, feeds)
  found += _drawn(export, usual, feeds)
  found += _lost(export, usual, feeds)
  return found


def _phases(export, usual, feeds):
  values = export.model.decisions.values
  others = _other_values(export.original, values)
  for name in list(values)[:_MOST]:
    decided = f"'{name}' is {value_text(values[name])}"
    if not others.get(name):
      yield Alternative(decided, "another value", why_not="it was not tried")
    for other in others.get(name, ()):
      yield _tried(
        export.reference.otherwise({name: other}),
        Alternative(decided, value_text(other)),
        usual,
        feeds,
      )


def _other_values(original, values):
  """Further values that can make a difference, by name of what was decided."""
  graph = original.graph
  order = graph.topological(graph.ancestors(r.node for r in original.outputs))
  leaves = find_leaves(original, PartialEvaluation(graph, order, {}))
  found = {
    leaf.name: [c for c in leaf.candidates if c != values[leaf.name]]
    for leaf in leaves
    if leaf.name in values
  }
  for name, value in values.items():
    if np.ndim(value) == 0 and np.asarray(value).dtype == bool:
      found[name] = [np.bool_(not value)]
  return {name: others[:_MOST_VALUES] for name, others in found.items()}


def _averages(export, usual, feeds):
  """The effect of other averages that track the same statistic."""
  decisions = export.model.decisions
  for ref, others in decisions.others.items():
    for other in others if ref in decisions.stored else ():
      yield _tried(
        export.reference.otherwise(stored={ref: other}),
        Alternative(
          f"'{decisions.stored[ref]}' is the average of '{ref}'", f"'{other}'"
        ),
        usual,
        feeds,
      )


def _noise(export, usual, feeds):
  """The effect on answers of the noise that was taken out."""
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


def _drawn(export, usual, feeds):
  """The effect of means in the place of random ops that stay."""
  kept = export.model.decisions.random_kept
  for name in [n for n in kept if n in export.model.graph][:_MOST]:
    yield _tried(
      export.reference.otherwise(keep_random=[n for n in kept if n != name]),
      Alternative(f"'{name}' stays random", "its mean"),
      usual,
      feeds,
    )


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


def _lost(export, usual, feeds):
  """The effect of inputs that the training graph has and the export lacks."""
  left = set(export.model.placeholders()) | set(feeds)
  return [
    _moved(export, name, usual, feeds)
    for name in export.original.placeholders()
    if name not in left and name not in export.model.decisions.values
  ][:_MOST]


def _moved(export, name, usual, feeds):
  """The Alternative in which an input that is gone has other values.

  A rate of dropout may not be any number; noise is decided for each anew.
  """
  found = Alternative(f"'{name}' is no input", "other values of it", lost=name)
  dtype = tf1.as_dtype(export.original.graph.node(name).attr["dtype"].type)
  if not (dtype.is_floating or dtype.is_integer or dtype == tf1.bool):
    return dataclasses.replace(found, why_not="it takes no numbers")
  for value in _RATES if dtype.is_floating else _COUNTS:
    value = np.asarray(value, dtype.as_numpy_dtype)
    one = _tried(export.reference.otherwise({name: value}), found, usual, feeds)
    if one.apart is not None and np.isfinite(one.apart):
      found = max(found, one, key=lambda a: a.apart or 0.0)
    found = found if found.apart is not None else one
  return found
