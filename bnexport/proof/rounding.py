# SPDX-License-Identifier: Apache-2.0
"""The effect of rounding on a graph's answers, measured.

Two right graphs add up the same products in another order, or multiply weights
before they are added up. Each such rounding moves an answer as a change of the
weights by a few units in the last place does. So the inputs and weights are
changed by that much, at random, and the movement of the answers is read off: it
is large where answers are small differences of large numbers, and small under a
softmax of many classes.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, Mapping, Optional, Sequence

import numpy as np

from bnexport.graph import TensorRef, ops
from bnexport.proof.differences import (
  Difference,
  by_column,
  difference,
  is_float,
  precision,
)
from bnexport.proof.runs import ImportedGraph
from bnexport.tf1 import tf1

# Units in the last place by which numbers are changed, up or down.
_UNITS = 8
_RUNS = 2
_HOLDERS = ops.VARIABLES - {"VarHandleOp"} | {"Const", "ReadVariableOp"}


def compared(
  runner: ImportedGraph,
  refs: Sequence,
  feeds: Mapping[str, np.ndarray],
  answers: Sequence,
  expected: Sequence,
  rows: Optional[int] = None,
) -> List[Difference]:
  """The distance of tensors from the right ones, held to their rounding.

  Args:
    runner: the graph that gave the answers.
    refs: names or TensorRefs of the tensors.
    feeds: arrays by node name.
    answers: what the graph made of them.
    expected: what they should be.
    rows: how many of their first rows are compared; all where it is None.

  Raises:
    ComparisonError: the graph does not run on the changed numbers.
  """
  rounding = measured(runner, refs, feeds, answers)
  return [
    difference(str(ref), a[:rows], b[:rows], runner.rounding, moved)
    if rows
    else difference(str(ref), a, b, runner.rounding, moved)
    for ref, a, b, moved in zip(refs, answers, expected, rounding)
  ]


def measured(
  runner: ImportedGraph,
  refs: Sequence,
  feeds: Mapping[str, np.ndarray],
  answers: Sequence,
) -> List[np.ndarray]:
  """The largest movements of tensors, one for each column.

  Args:
    runner: the graph.
    refs: names or TensorRefs of the tensors.
    feeds: arrays by node name.
    answers: the tensors for them.

  Returns:
    An array for each answer; see `differences.by_column`. Infinite where a
    small change makes a number something else.

  Raises:
    ComparisonError: the graph does not run on the changed numbers.
  """
  moved: List[np.ndarray] = [np.zeros(())] * len(answers)
  for other in changed(runner, refs, feeds):
    found = runner.fetch(refs, other)
    del other  # the weights, before the next ones are made
    moved = [
      np.maximum(most, movement(a, b))
      for most, a, b in zip(moved, answers, found)
    ]
  return moved


def changed(
  runner: ImportedGraph, refs: Sequence, feeds: Mapping[str, np.ndarray]
) -> Iterator[Dict[str, np.ndarray]]:
  """Yields feeds in which inputs and weights are a little different.

  Args:
    runner: the graph.
    refs: names or TensorRefs of the tensors that are asked for.
    feeds: arrays by node name.

  Raises:
    ComparisonError: the graph does not run on the feeds.
  """
  random = np.random.RandomState(11)
  step = _UNITS * precision(runner.coarsest)
  numbers = {**_weights(runner, refs, feeds), **feeds}
  for _ in range(_RUNS):
    yield {name: _beside(one, step, random) for name, one in numbers.items()}


def movement(before, after):
  """The distance of two answers of one graph, column by column.

  Args:
    before: an array.
    after: what it became when inputs and weights were changed.
  """
  before, after = np.asarray(before), np.asarray(after)
  if before.dtype.kind in "OSU" or before.shape != after.shape:
    return np.float64(0.0)
  wide = np.complex128 if before.dtype.kind == "c" else np.float64
  before, after = before.astype(wide), after.astype(wide)
  with np.errstate(all="ignore"):
    apart = np.abs(after - before)
  was, is_now = np.isfinite(before), np.isfinite(after)
  return by_column(np.where(was & is_now, apart, np.where(was, np.inf, 0.0)))


def _weights(runner, refs, feeds) -> Dict[str, np.ndarray]:
  """Arrays of the weights, by the node that hands them out.

  A scalar is left alone: it may be an exponent or a bound that is exact. What
  waits for something may stand in a loop, where nothing can be fed.
  """
  graph = runner.graph
  ends = [TensorRef.parse(str(ref)).node for ref in refs]
  needed = graph.ancestors(name for name in ends if name in graph)
  names = []
  for name in needed:
    node = graph.node(name)
    is_free = not any(ref.control for ref in graph.inputs(name))
    if node.op in _HOLDERS and is_free:
      if tf1.as_dtype(node.attr["dtype"].type).base_dtype.is_floating:
        names.append(name)
  arrays = runner.fetch(names, feeds) if names else []
  return {n: a for n, a in zip(names, arrays) if np.size(a) > 1}


def _beside(value, step, random):
  """An array with each number a little larger or smaller; exact ones stay."""
  value = np.asarray(value)
  if not is_float(value.dtype):
    return value
  # A bit for each number: weights are many.
  bits = np.frombuffer(random.bytes(-(-value.size // 8)), np.uint8)
  signs = np.unpackbits(bits)[: value.size].reshape(value.shape)
  factors = np.asarray([1 - step, 1 + step]).astype(value.dtype)
  return (value * factors[signs]).astype(value.dtype)
