# SPDX-License-Identifier: Apache-2.0
"""Noisy tensors that are another tensor on average, as dropout is."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from bnexport.analysis.expectation import Expectation
from bnexport.analysis.randomness import (
  PRODUCTS,
  QUOTIENTS,
  STEPS,
  SUMS,
  Randomness,
)
from bnexport.analysis.shape_rules import DerivedShapes
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import static_shape
from bnexport.model import Model
from bnexport.transforms.inference.noise_means import ROUNDING, TRIALS

_CHAIN = SUMS | PRODUCTS | ops.SELECTS | ops.IDENTITIES
_MOST_BASES = 8
# Constants of a formula that keeps mean and variance have seven digits.
_MOMENTS = 1e-3


class Identity(NamedTuple):
  """One noisy tensor and what it is without its noise.

  Attributes:
    tensor: the tensor that it stands for.
    is_masked: whether the noise is masks alone, as of dropout.
    keeps_moments: whether it is no mean: mean 0 and variance 1 are kept.
  """

  tensor: TensorRef
  is_masked: bool
  keeps_moments: bool


class Identities:
  """Finds them, node after node, inputs first."""

  def __init__(self, model: Model, randomness: Randomness):
    self._model = model
    self._graph = model.graph
    self._randomness = randomness
    self._found: Dict[TensorRef, Tuple[TensorRef, ...]] = {}
    self._shapes: Optional[DerivedShapes] = None

  def of(self, name: str) -> Optional[Identity]:
    """A node's output without its noise, or None."""
    ref = TensorRef(name)
    if not self._randomness.is_noisy(ref) or self._graph.op(name) not in _CHAIN:
      return None
    for base in self._bases(ref):
      if not self._is_alike(base, ref):
        continue
      steps, others = self._draws(ref, base)
      if not steps and not others:
        continue
      is_masked = not others
      ways = [(trial, None) for trial in TRIALS]
      for some in (ways, [(0, self._model.values)]):
        if all(self._is_mean(ref, base, *way) for way in some):
          return Identity(base, is_masked, False)
      if len(steps) == 1 and all(
        self._keeps_moments(ref, base, steps[0], *way) for way in ways
      ):
        return Identity(base, is_masked, True)
    return None

  def _bases(self, ref, depth=0):
    """Tensors that all paths of sums and products lead back to, nearest first.

    Before its mask a tensor is scaled, so that the nearest may not be meant.
    """
    if ref not in self._found:
      self._found[ref] = ()  # in a loop it is asked for itself
      found = self._look_back(ref, depth + 1) if depth < _MOST_BASES else ()
      self._found[ref] = tuple(found)[:_MOST_BASES]
    return self._found[ref]

  def _look_back(self, ref, depth):
    op, refs = self._graph.op(ref.node), self._graph.data_inputs(ref.node)
    data = [r for r in refs if self._randomness.is_data(r)]
    if ref.index or op not in _CHAIN or (op in ops.SELECTS and refs[0] in data):
      return
    if not data or (op in QUOTIENTS and refs[1] in data):
      return
    paths = [(r, *self._bases(r, depth)) for r in data]
    yield from (r for r in paths[0] if all(r in path for path in paths))

  def _is_alike(self, base, ref):
    """Whether two tensors have one dtype and, as far as known, one shape."""
    if self._model.dtype(base) != self._model.dtype(ref):
      return False
    shapes = [static_shape(self._graph, r) for r in (base, ref)]
    if None in shapes:
      shapes = [self.shape(r) for r in (base, ref)]
    return None in shapes or shapes[0] == shapes[1]

  def shape(self, ref):
    """A tensor's shape as far as it can be derived, or None."""
    if self._shapes is None:
      self._shapes = DerivedShapes(self._graph, self._randomness.order)
    return self._shapes.of(ref)

  def _draws(self, ref, base):
    """Masks on the way from a base, and what else is drawn there."""
    stack, seen, steps, others = [ref], {base.node}, [], []
    while stack:
      at = stack.pop()
      if at.node in seen or not self._randomness.draws(at):
        continue
      seen.add(at.node)
      op = self._graph.op(at.node)
      if op in STEPS:
        steps.append(at)
        continue
      if ops.is_random(op):
        others.append(at)
      stack.extend(self._graph.data_inputs(at.node))
    return steps, others

  def _line(self, ref, base, trial, values, given):
    """Slope and offset of a tensor over its base; None where not known."""
    ends = [
      Expectation(
        self._graph, self._randomness, trial, {**given, base: x}, values
      ).of(ref)
      for x in (0.0, 1.0)
    ]
    if None in ends:
      return None
    offset, end = (one.value for one in ends)
    return end - offset, offset

  def _is_mean(self, ref, base, trial, values):
    line = self._line(ref, base, trial, values, {})
    return line is not None and bool(
      np.all(np.abs(line[0] - 1) < ROUNDING)
      and np.all(np.abs(line[1]) < ROUNDING)
    )

  def _keeps_moments(self, ref, base, step, trial, values):
    """Whether what has mean 0 and variance 1 has them behind a mask, too.

    That is dropout for self-normalizing networks, which puts the value of a
    saturated unit in the place of what it drops, and scales and shifts then
    (Klambauer et al., 2017, arXiv:1706.02515).
    """
    chance = Expectation(
      self._graph, self._randomness, trial, {base: 0.0}, values
    ).of(step)
    lines: List = [
      self._line(ref, base, trial, values, {step: end}) for end in (0.0, 1.0)
    ]
    if chance is None or None in lines:
      return False
    p = np.clip(chance.value, 0, 1)
    (a, b), (c, d) = lines
    mean = (1 - p) * b + p * d
    square = (1 - p) * (a * a + b * b) + p * (c * c + d * d)
    return bool(
      np.all(np.abs(mean) < _MOMENTS)
      and np.all(np.abs(square - 1) < _MOMENTS)
      and np.all(np.abs(b - d) > _MOMENTS)
    )
