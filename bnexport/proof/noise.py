# SPDX-License-Identifier: Apache-2.0
"""Noise of a training graph, decided by integrating over what it draws.

The export works out the mean of noise from the ops that it knows. Here the part
of the graph that makes the noise is run, for one value of a draw after the
other, and nothing is known of its ops.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bnexport.analysis.partial_evaluation import PartialEvaluation
from bnexport.analysis.randomness import (
  Randomness,
  sides_of,
)
from bnexport.editing.conditionals import open_branches
from bnexport.errors import ComparisonError
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import (
  constant,
  constant_value,
  type_attr,
)
from bnexport.proof.noise_source import NoiseSource
from bnexport.text import Emitter
from bnexport.tf1 import tf1

_WHAT = "run the training graph"
# As the mean of so many tries may be off.
_DISTANCE = 0.05

_MIXED = """
  p = Const(^a, ^b) {value=$p}
  q = Const(^a, ^b) {value=$q}
  taken = Mul(a, p)
  not_taken = Mul(b, q)
  mean = AddV2(taken, not_taken)
"""


def expect(original, decided, keep=(), moments=()):
  """Makes noise what it is on average, in the graph of a training Model.

  Args:
    original: a Model; its graph is edited.
    decided: values by name that placeholders and variables have in the run.
    keep: names of random ops that are part of the model.
    moments: tensors with noise that keeps mean 0 and variance 1, and the
      tensors without; whether it does is tried with normal numbers.

  Returns:
    Names of random tensors whose mean is not told: they stay random.

  Raises:
    ComparisonError: what keeps mean and variance does not.
  """
  graph = original.graph
  needed = original.needed(control=True)
  if not any(ops.is_random(graph.op(name)) for name in needed):
    return []
  for name, value in decided.items():
    _state(original, name, value)
  for name, tensor in moments:
    _Noise(original, decided, keep).refuse_other_moments(name, tensor)
    graph.substitute({TensorRef(name): tensor})
  return _Noise(original, decided, keep).expect_all()


def _defaults(graph, names):
  """Values of placeholders that nobody feeds, by name."""
  found = {}
  for name in names:
    if graph.op(name) == "PlaceholderWithDefault":
      value = constant_value(graph, graph.data_inputs(name)[0])
      if value is not None and value.size == 1:
        found[name] = value
  return found


def _state(original, name, value):
  """Gives a tensor that is computed the value that is stated for it."""
  graph, ref = original.graph, TensorRef(name)
  if (
    name not in graph
    or graph.op(name) in ops.PLACEHOLDERS
    or not graph.data_inputs(name)
  ):
    return
  dtype, readers = original.dtype(ref), graph.readers_of(ref)
  emitter = Emitter(graph, original.signatures)
  like = np.asarray(value, dtype.as_numpy_dtype)
  text = "like = ZerosLike(x)   value = Const(^x) {value=$value}"
  made = emitter.emit(name, text, x=ref, value=like)
  op = "LogicalOr" if dtype == tf1.bool else "Add"
  stated = emitter.add(op, f"{name}/stated", [made["like"], made["value"]])
  graph.substitute({ref: stated}, readers)


class _Meeting(NamedTuple):
  """A place where noise meets data."""

  node: str
  slot: int
  noise: TensorRef


class _Noise:
  """The noise of one Model's graph, and a small graph that makes it."""

  def __init__(self, original, decided, keep):
    self._original = original
    self._graph = original.graph
    self._decided = decided
    order = self._graph.topological(
      self._graph.ancestors(ref.node for ref in original.outputs)
    )
    known = {**_defaults(self._graph, order), **decided}
    known = {name: np.ravel(value)[0] for name, value in known.items()}
    live = PartialEvaluation(self._graph, order, known).needed(original.outputs)
    self._order = [name for name in order if name in live]
    self._random = Randomness(self._graph, self._order, frozenset(keep))

  def expect_all(self):
    """Lets whatever reads noise beside data read the mean."""
    meetings = list(self._meetings())
    merges = [n for n in self._order if self._predicate(n) is not None]
    wanted = [m.noise for m in meetings]
    wanted += [self._predicate(name) for name in merges]
    means = self._means(dict.fromkeys(wanted))
    opened = {}
    for name in merges:
      predicate = self._predicate(name)
      if predicate in means:
        self._mix(name, means[predicate], *self._sides(name))
        opened[predicate.node] = None
    for name in opened:
      open_branches(self._graph, name, self._random.contexts)
    for node, slot, noise in meetings:
      if noise in means:
        self._meet(node, slot, noise, means[noise])
    return [ref.node for ref in wanted if ref not in means]

  def _means(self, refs):
    """The means of tensors that are told, by tensor."""
    found = {}
    for is_whole in (False, True):
      source = NoiseSource(
        self._original, self._random, self._decided, None, is_whole
      )
      left = [r for r in refs if r not in found and self._has_mean(r, source)]
      if not left:
        continue
      with source.open(left):
        for ref in left:
          try:
            found[ref] = source.mean(ref)
          except ComparisonError:
            continue  # it stays random, and is named
    return found

  def _has_mean(self, ref, source):
    """Whether a tensor has a mean, and is no state of a loop."""
    dtype = self._original.dtype(ref)
    return (dtype.is_floating or dtype == tf1.bool) and not any(
      self._graph.op(name) == "NextIteration" for name in source.needed([ref])
    )

  def _meet(self, node, slot, noise, mean):
    """Lets a node of data read the mean of noise."""
    if self._graph.op(node) in ops.SELECTS and not slot:
      self._mix(node, mean, *self._graph.data_inputs(node)[1:])
    else:
      self._graph.set_input(node, slot, self._constant(noise, mean))

  def _meetings(self):
    random = self._random
    merges = {n for n in self._order if self._predicate(n) is not None}
    for name in self._order:
      if not random.is_data(TensorRef(name)) or name in merges:
        continue
      if self._graph.op(name) in ops.SWITCHES:
        continue  # by data, or opened with its Merge
      for slot, ref in enumerate(self._graph.data_inputs(name)):
        if random.is_noise(ref):
          yield _Meeting(name, slot, ref)

  def _predicate(self, name):
    """The noise that a Merge of data is decided by, or None."""
    node, random = self._graph.node(name), self._random
    if node.op not in ops.MERGES or not random.is_noisy(TensorRef(name)):
      return None
    found = [p for p in random.predicates(node) if random.is_noise(p)]
    return found[0] if len(found) == 1 and self._sides(name, found) else None

  def _sides(self, name, predicates=None):
    predicate = predicates[0] if predicates else self._predicate(name)
    refs = self._graph.data_inputs(name)
    return sides_of(self._random.contexts, refs, predicate)

  def _mix(self, name, chance, a, b):
    """p a + (1 - p) b in the place of a node that chooses."""
    dtype = self._original.dtype(TensorRef(name)).as_numpy_dtype
    p = np.asarray(chance, dtype)
    made = Emitter(self._graph).emit(
      name, _MIXED, a=a, b=b, p=p, q=np.asarray(1 - chance, dtype)
    )
    self._graph.substitute({TensorRef(name): made["mean"]})
    if name in {ref.node for ref in self._original.outputs}:
      attrs = {"T": type_attr(self._original.dtype(TensorRef(name)))}
      self._graph.become(name, "Identity", [made["mean"]], attrs)

  def _constant(self, noise, mean):
    """The mean in the shape of the noise, in its loop."""
    dtype = self._original.dtype(noise)
    kind = {"T": type_attr(dtype)}
    zeros = self._graph.add("ZerosLike", f"{noise.node}/zeros", [noise], kind)
    pin = [TensorRef(zeros.name, 0, True)]
    value = constant(self._graph, f"{noise.node}/integral", mean, dtype, pin)
    made = self._graph.add(
      "Add", f"{noise.node}/expected", [TensorRef(zeros.name), value], kind
    )
    return TensorRef(made.name)

  def refuse_other_moments(self, name, base):
    """Tries with normal numbers that noise keeps mean 0 and variance 1.

    Raises:
      ComparisonError: it does not.
    """
    ref = TensorRef(name)
    source = NoiseSource(self._original, self._random, self._decided, base)
    with source.open([ref]):
      mean, variance = source.moments(ref, base)
    if abs(mean) > _DISTANCE or abs(variance - 1) > _DISTANCE:
      raise ComparisonError(
        _WHAT,
        f"'{name}' does not keep mean 0 and variance 1: it makes {mean:.3g} "
        f"and {variance:.3g} of them",
      )
