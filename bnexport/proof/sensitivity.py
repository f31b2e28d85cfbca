# SPDX-License-Identifier: Apache-2.0
"""Norms that a proof is blind to.

Two graphs that answer alike on some feeds may differ where these feeds do not
reach: behind dead activations, in rows of a table that nobody looks up, behind
an argmax. So each norm's stored statistics are moved a little in the export;
where no output moves by more than the tolerance, nothing was proven of them.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import time
from typing import Dict, List

import numpy as np

from bnexport.batchnorm.norm import STORED, BatchNorm
from bnexport.errors import ComparisonError
from bnexport.graph import TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.model.stream import to_graph_def
from bnexport.proof import stages
from bnexport.proof.differences import difference, limits
from bnexport.proof.rounding import measured
from bnexport.proof.runs import (
  ImportedGraph,
  restore_variables,
  tensor_name,
  tf_errors,
)
from bnexport.tf1 import tf1
from bnexport.transforms.inference.freeze_variables import FreezeVariables

# Statistics are moved by this part of a standard deviation or variance: an
# error of that size has to be seen.
_MOVED = 0.05
# At least so many tolerances of the dtype that the graph computes with.
_TOLERANCES = 10
# Seconds of runs above which derivatives are asked first: to make them takes
# a while, and one run then.
_AT_ONCE = 2.0
# A derivative says that an output moves where it says so by this factor; what
# is nearer to the tolerance is tried out.
_SURELY = 3.0
# Loops and conditionals that were imported have no derivatives.
_NO_DERIVATIVES = frozenset(
  ops.SWITCHES
  | ops.MERGES
  | ops.ENTERS
  | {"Case", "If", "StatelessCase", "StatelessIf", "StatelessWhile", "While"}
)


# What TensorFlow raises beside `tf_errors` where it has no derivative of an op.
_NO_SLOPE = (AssertionError, AttributeError, LookupError, NotImplementedError)


@dataclasses.dataclass(frozen=True)
class Statistic:
  """One stored statistic of a norm.

  Attributes:
    norm: the norm's name.
    what: "mean" or "variance".
    ref: the tensor to feed in its place.
    variance: the tensor of the norm's variance.
    epsilon: what the norm adds to it.
  """

  norm: str
  what: str
  ref: TensorRef
  variance: TensorRef
  epsilon: float

  def __str__(self):
    return f"{self.what} of norm '{self.norm}'"


class Sensitivity:
  """An export before its norms were folded, with statistics to be moved."""

  def __init__(self, export, beside=()):
    """Imports it.

    Args:
      export: an export.Export, with its norms.
      beside: further tensors to be watched beside the outputs, by name.

    Raises:
      ComparisonError: TensorFlow does not import it.
    """
    model = _frozen(export.before_folding().model)
    self._graph = model.graph
    self._statistics = _statistics(model.graph, export.norms)
    self._runner = ImportedGraph(
      _with_derivatives(to_graph_def(model)),
      model.outputs,
      model.initializers,
      functools.partial(restore_variables, model),
    )
    self._watched = [str(ref) for ref in model.outputs]
    self.watch(beside)
    # Answers to the feeds, with how far rounding moves them.
    self._before = []
    self._part = max(_MOVED, _TOLERANCES * self._runner.rounding)

  @property
  def statistics(self) -> List[Statistic]:
    return self._statistics

  def close(self):
    self._runner.close()

  def use(self, draws):
    """Has random ops draw as Draws say, or None."""
    self._runner.draws = draws

  def watch(self, names):
    """Has further tensors count as answers."""
    for name in names:
      if (
        name not in self._watched and TensorRef.parse(name).node in self._graph
      ):
        self._watched.append(name)

  def readers(self, statistics, names) -> List[str]:
    """The first of some nodes that a norm's statistics lead to, for each.

    Args:
      statistics: Statistics.
      names: of nodes that depend on what is fed.
    """
    found: Dict[str, None] = {}
    for one in statistics:
      queue, seen = [one.ref.node], {one.ref.node}
      for name in queue:
        if name in names:
          found[name] = None
          break
        readers = [r for r in self._graph.readers(name) if r not in seen]
        seen.update(readers)
        queue += readers
    return list(found)

  def unseen(self, feeds, among) -> List[Statistic]:
    """Those of some statistics that no output depends on, on some feeds.

    Args:
      feeds: arrays by node name.
      among: Statistics.

    Raises:
      ComparisonError: it does not run on these feeds.
    """
    begun = time.monotonic()
    before = self._runner.fetch(self._watched, feeds)
    seconds = (time.monotonic() - begun) * len(among)
    refs = list({r: None for s in among for r in (s.ref, s.variance)})
    values = dict(zip(refs, self._runner.fetch(refs, feeds)))
    moved = measured(self._runner, self._watched, feeds, before)
    self._before = list(zip(self._watched, before, moved))
    moves = {one: self._move(one, values) for one in among}
    left = among
    if seconds > _AT_ONCE:
      left = self._beyond_doubt(feeds, moves)
    return [
      one
      for one in stages.each("moving each stored statistic", left)
      if not self._moves(one, feeds, values[one.ref], moves[one])
    ]

  def _move(self, one, values):
    """The movement of a statistic, elementwise; in both directions."""
    value = np.asarray(values[one.ref])
    variance = np.float64(values[one.variance]) + one.epsilon
    step = variance
    if one.what == "mean":
      step = np.sqrt(np.maximum(variance, 0))
    if step.size == value.size:
      step = step.reshape(value.shape)
    else:
      step = np.full(value.shape, np.median(step))
    sign = np.random.RandomState(5).choice([-1.0, 1.0], value.shape)
    if one.what == "variance":
      sign = np.abs(sign)  # it stays positive
    return self._part * sign * np.where(np.isfinite(step), step, 1.0)

  def _moves(self, one, feeds, value, move):
    """Whether an answer moves with a statistic by more than rounding does."""
    moved = np.asarray(value + move, value.dtype)
    try:
      after = self._runner.fetch(self._watched, {**feeds, str(one.ref): moved})
    except ComparisonError:
      return False
    return not all(
      difference(name, a, b, self._runner.rounding, rounding).holds
      for a, (name, b, rounding) in zip(after, self._before)
    )

  def _beyond_doubt(self, feeds, moves):
    """Statistics whose derivatives do not tell that an output moves.

    One backward pass gives those of all: of a random projection of the
    outputs, each in units of its tolerance.
    """
    statistics = list(moves)
    if any(node.op in _NO_DERIVATIVES for node in self._graph):
      return statistics
    try:
      slopes = self._slopes(feeds, [one.ref for one in statistics])
    except (ComparisonError, *tf_errors(), *_NO_SLOPE):
      return statistics
    size = sum(np.size(value) for _, value, _ in self._before)
    left = []
    for one, slope in zip(statistics, slopes):
      seen = 0.0
      if slope is not None:
        # The projection of n elements that move by a tolerance is about the
        # root of n.
        seen = float(np.sqrt(np.sum(np.square(slope * moves[one]))))
      if not seen > _SURELY * np.sqrt(size):
        left.append(one)
    return left

  def _slopes(self, feeds, refs):
    imported = self._runner.imported
    random = np.random.RandomState(3)
    terms = []
    with imported.as_default():
      for name, value, moved in self._before:
        tensor = imported.get_tensor_by_name(tensor_name(name))
        if tensor.dtype.is_floating and np.size(value):
          limit = limits(value, self._runner.rounding, moved)
          with np.errstate(divide="ignore"):  # nothing may differ
            signs = random.choice([-1.0, 1.0], np.shape(value)) / limit
          wide = tf1.cast(tensor, tf1.float64)
          terms.append(tf1.reduce_sum(wide * signs))
      tensors = [imported.get_tensor_by_name(tensor_name(r)) for r in refs]
      found = tf1.gradients(terms, tensors) if terms else [None] * len(refs)
      found = [s if s is None else tf1.convert_to_tensor(s) for s in found]
    there = [slope.name for slope in found if slope is not None]
    values = iter(self._runner.fetch(there, feeds))
    return [None if s is None else np.float64(next(values)) for s in found]


def _frozen(model):
  """The Model with constants for variables: these can be moved in one place."""
  if not any(node.op in ops.VARIABLES for node in model.graph):
    return model
  model = copy.copy(model)
  model.graph = model.graph.clone()
  model.deferred = dict(model.deferred)
  FreezeVariables().apply(model)
  return model


# TensorFlow gives a fused norm's stored statistics no derivatives.
_FUSED = "bnexport/fused_norm"


def _with_derivatives(graph_def):
  """The GraphDef, whose fused norms take the gradients of `_fused`."""
  _register()
  for node in graph_def.node:
    if node.op in ops.FUSED_NORMS:
      node.attr["_gradient_op_type"].s = _FUSED.encode()
  return graph_def


@functools.lru_cache(maxsize=None)
def _register():
  """Makes `_fused` known to TensorFlow, once."""
  tf1.RegisterGradient(_FUSED)(_fused)


def _fused(op, change, *_):
  """Gradients of y = scale (x - mean) / sqrt(variance + epsilon) + offset."""
  x, scale, _, mean, variance = op.inputs
  rank = x.shape.rank or 4
  axis = 1 if op.get_attr("data_format").startswith(b"NC") else rank - 1
  others = [i for i in range(rank) if i != axis]
  sizes = [-1 if i == axis else 1 for i in range(rank)]
  inverse = tf1.rsqrt(variance + op.get_attr("epsilon"))
  wide = tf1.cast(change, scale.dtype)
  centred = tf1.cast(x, scale.dtype) - tf1.reshape(mean, sizes)
  back = wide * tf1.reshape(scale * inverse, sizes)
  of_mean = -tf1.reduce_sum(wide, others) * scale * inverse
  of_variance = tf1.reduce_sum(wide * centred, others) * scale * inverse**3
  return tf1.cast(back, x.dtype), None, None, of_mean, -0.5 * of_variance


def _statistics(graph, norms: List[BatchNorm]) -> List[Statistic]:
  """The stored statistics of norms that can be fed."""
  contexts = Contexts(graph, graph.topological())
  norms = [norm for norm in norms if norm.statistics == STORED]
  users = collections.Counter(
    name for n in norms for name in (n.moving_mean, n.moving_variance)
  )
  found = []
  for norm in norms:
    if contexts.is_inside(norm.variance):
      variance = _stored(graph, norm.moving_variance)
    else:
      variance = norm.variance
    for what, ref, stored in (
      ("mean", norm.mean, norm.moving_mean),
      ("variance", norm.variance, norm.moving_variance),
    ):
      # Renorm reads a mean twice, so that it cancels where it is moved once.
      # What several norms share is moved for one of them.
      is_inner = ref is None or contexts.is_inside(ref)
      if is_inner or users[stored] == 1:
        ref = _stored(graph, stored) or (None if is_inner else ref)
      if ref is not None and variance is not None:
        found.append(
          Statistic(norm.name, what, ref, variance, float(norm.epsilon))
        )
  return found


def _stored(graph, name):
  """The constant that a stored statistic has become; None where it is none."""
  is_there = name is not None and name in graph and graph.op(name) == "Const"
  return TensorRef(name) if is_there else None
