# SPDX-License-Identifier: Apache-2.0
"""Runs: steps in a row, each read by the next one alone."""

from __future__ import annotations

from typing import List, NamedTuple, Tuple

import numpy as np

from bnexport.batchnorm.folding import (
  Affine,
  CannotFold,
  check_finite,
  per_channel,
)
from bnexport.graph import TensorRef, ops
from bnexport.transforms.folding.steps import SHIFTS, TRIVIAL


def asks_for_shape(graph, reader, name):
  """Whether a node wants nothing but the shape of another's first output."""
  return graph.op(reader) in ops.SHAPES and all(
    ref == TensorRef(name) for ref in graph.inputs(reader) if ref.node == name
  )


class Run(NamedTuple):
  """Steps in a row.

  Attributes:
    base: what the first one reads as x.
    names: the steps, in order of execution.
  """

  base: TensorRef
  names: Tuple[str, ...]

  @property
  def end(self):
    return self.names[-1]


def operands_of(graph, run: Run) -> List[str]:
  """Names of the constants that a run's steps read."""
  return [
    ref.node
    for name in run.names
    for ref in graph.data_inputs(name)
    if ref != run.base and ref.node not in run.names
  ]


class Runs:
  """The runs of a graph as it is when they are asked for."""

  def __init__(self, graph, steps, protected):
    """Looks at nothing yet.

    Args:
      graph: a Graph.
      steps: its Steps.
      protected: names of nodes whose values others count on.
    """
    self._graph = graph
    self._steps = steps
    self._protected = protected

  def is_protected(self, name):
    return name in self._protected

  def readers(self, name):
    """The nodes that need a node's values, or wait for it."""
    return [
      reader
      for reader in self._graph.readers(name)
      if not asks_for_shape(self._graph, reader, name)
    ]

  def sole_reader(self, name):
    """The one reader of a node's first output; None where it has more."""
    if name in self._protected:
      return None
    sole = None
    for reader, ref, count in self._graph.edges(name):
      if asks_for_shape(self._graph, reader, name):
        continue
      if sole is not None or count != 1 or ref != TensorRef(name):
        return None
      sole = reader
    return sole

  def check_sole(self, ref, reader):
    """Raises CannotFold where anybody but `reader` needs a tensor."""
    name = ref.node
    if name in self._protected:
      raise CannotFold(f"'{name}' is an input or output of the model")
    others = [other for other in self.readers(name) if other != reader]
    if others:
      raise CannotFold(f"'{name}' is read by '{others[0]}' too")
    if self.sole_reader(name) is None or ref.index:
      raise CannotFold(f"'{name}' is read by '{reader}' more than once")

  def ends_at(self, name):
    """Whether a node is the last step of a run."""
    if self._graph.op(name) in TRIVIAL or self._steps.input_of(name) is None:
      return False
    reader = self.sole_reader(name)
    while reader is not None and self._steps.input_of(reader) is not None:
      if self._graph.op(reader) not in TRIVIAL:
        return False
      reader = self.sole_reader(reader)
    return True

  def ending(self, end) -> Run:
    """The longest run whose last step is `end`."""
    names, x = [end], self._steps.input_of(end)
    while not x.index and self.sole_reader(x.node) == names[-1]:
      before = self._steps.input_of(x.node)
      if before is None:
        break
      names.append(x.node)
      x = before
    return Run(x, tuple(reversed(names)))

  def real(self, run):
    """The steps of a run that do something."""
    return [n for n in run.names if self._graph.op(n) not in TRIVIAL]

  def is_lone_shift(self, run):
    real = self.real(run)
    return (
      len(real) == 1
      and self._graph.op(real[0]) in SHIFTS
      and not self._is_difference(real[0])
    )

  def _is_difference(self, name):
    """Whether a step is c - x."""
    refs = self._graph.data_inputs(name)
    return self._graph.op(name) == "Sub" and (
      refs[1] == self._steps.input_of(name)
    )

  def affine(self, run, rank, axis, width) -> Affine:
    """A run's scale and shift of each channel: float64, length `width`.

    Raises:
      CannotFold: it does no such thing, or a number is not finite.
    """

    def vector(array):
      return None if array is None else per_channel(array, rank, axis, width)

    total = Affine(np.ones(width), np.zeros(width))
    for name in run.names:
      scale, shift, spread = map(vector, self._steps.affine(name, rank))
      with np.errstate(all="ignore"):
        total = total.then(Affine(scale, shift, spread))
    check_finite(total)
    return total

  def longest_vector(self, run, rank):
    """The most numbers that a step of a run has."""
    return max(
      array.size
      for name in run.names
      for array in self._steps.affine(name, rank)[:2]
    )
