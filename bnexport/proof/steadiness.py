# SPDX-License-Identifier: Apache-2.0
"""Steadiness of a Run that may have something random in it."""

from __future__ import annotations

from typing import Iterator, Mapping, Optional, Sequence

import numpy as np

from bnexport.analysis.randomness import MEANS, UNIFORMS
from bnexport.errors import ComparisonError
from bnexport.proof.differences import difference
from bnexport.proof.runs import ImportedGraph, Run

# Draws between which every mask and every choice turns.
_UNIFORM, _NORMAL = (0.0, 0.5, 1 - 2.0**-20), (-4.0, 0.0, 4.0)
# So many runs where draws can't be given.
_RUNS = 8


def repeats(run: Run, feeds: Mapping, answers: Sequence) -> bool:
  """Whether another run answers the same."""
  return all(
    difference("again", a, b).holds for a, b in zip(run.run(feeds), answers)
  )


def is_steady(run: Optional[Run], feeds: Mapping, runs: int = 2) -> bool:
  """Whether a Run answers the same each time, but for the last digit or so."""
  if run is None:
    return False
  try:
    first = run.run(feeds)
    return all(_are_alike(first, run.run(feeds)) for _ in range(runs - 1))
  except ComparisonError:
    return False


def is_unmoved(runner: ImportedGraph, feeds: Mapping, random) -> bool:
  """Whether no answer moves with what some random ops draw.

  Two runs may agree by chance: a path that is dropped once in ten runs.

  Args:
    runner: a graph.
    feeds: arrays by node name.
    random: names of its random ops.
  """
  if not is_steady(runner, feeds):
    return False
  try:
    first = runner.run(feeds)
    return all(
      _are_alike(first, runner.run({**feeds, **draws}))
      for draws in _extremes(runner, feeds, random)
    )
  except ComparisonError:  # a draw in a loop can't be given
    return is_steady(runner, feeds, _RUNS)


def _extremes(runner, feeds, random) -> Iterator[Mapping]:
  """Yields arrays of random ops that turn whatever hangs on them."""
  drawn = dict(zip(random, runner.fetch(random, feeds)))
  for uniform, normal in zip(_UNIFORM, _NORMAL):
    values = {}
    for name, value in drawn.items():
      op = runner.graph.op(name)
      if op in UNIFORMS - {"RandomUniformInt"}:
        values[name] = np.full_like(value, uniform)
      elif op in MEANS:
        values[name] = np.full_like(value, normal)
    yield values


def _are_alike(one, other):
  return all(
    difference("", a, b, moved=np.zeros(())).holds for a, b in zip(one, other)
  )
