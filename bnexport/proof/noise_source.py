# SPDX-License-Identifier: Apache-2.0
"""The sources of a graph's noise, run by TensorFlow on chosen draws.

A mask shows by the values that it has and where it jumps, and a normal draw by
what cancels. Numbers stand for what is drawn, whatever its shape, or arrays of
its own shape, all of one number, where that is known.
"""

from __future__ import annotations

import functools

import numpy as np

from bnexport.analysis.randomness import CARRIED, FILLS, LIKES, MEANS, UNIFORMS
from bnexport.errors import ComparisonError
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import (
  constant_value,
  static_shape,
  tensor_attr,
  type_attr,
)
from bnexport.proof.runs import tensor_name, tf_errors
from bnexport.text import Emitter
from bnexport.tf1 import session, tf1

_WHAT = "run the training graph"
# A jump is found this closely; floats of 32 bits below 1 are no closer.
_CLOSE = 2.0**-24
# So many runs of a noise's graph are enough for some masks of some channels.
_MOST_RUNS = 4000
_GRID = 16
_ROUNDING = 1e-5
# Draws at which what is odd about 0 shows.
_NORMALS = (0.3, 1.1, 2.7)
# Draws that a claim about mean and variance is tried with.
_TRIES = 1 << 16


class NoiseSource:
  """A graph of what makes some noise, with random ops to be fed."""

  def __init__(self, original, random, decided, base=None, is_whole=False):
    """Prepares; `open` makes the graph.

    Args:
      original: a Model; it is not touched.
      random: the Randomness of its graph.
      decided: values by name that placeholders and variables have.
      base: a tensor that is fed as well, or None.
      is_whole: whether what is drawn has its own shape.
    """
    self._is_whole = is_whole
    self._original = original
    self._graph = original.graph
    self._random = random
    self._decided = decided
    self._base = base
    self._session = None
    self._runs = 0

  def open(self, refs):
    """Makes the graph of some tensors; returns this, to be closed."""
    self._made = Graph(tf1.GraphDef())
    self._emitter = Emitter(self._made, self._original.signatures)
    for name in self._graph.topological(self.needed(refs)):
      self._add(self._graph.node(name))
    fed = {node.name for node in self._made if node.op == "Placeholder"}
    self._draws = {
      ref: [name for name in self.needed([ref]) if name in fed] for ref in refs
    }
    self._session = session(self._made.to_tf_graph())
    return self

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._session.close()

  def needed(self, refs):
    """Names of what is to be run for some tensors, as an ordered set."""
    seen = dict.fromkeys(ref.node for ref in refs)
    stack = list(seen)
    while stack:
      name = stack.pop()
      for ref in self._inputs(self._graph.node(name)):
        if ref.node not in seen:
          seen[ref.node] = None
          stack.append(ref.node)
    return seen

  def _inputs(self, node):
    """A node's inputs as they are run: shapes and branches do not matter."""
    refs = self._graph.data_inputs(node.name)
    if (
      ops.is_random(node.op)
      or node.name in self._decided
      or node.op in LIKES
      or node.op in ops.VARIABLES
      or node.op in ("Placeholder", "PlaceholderV2")
      or (self._base is not None and node.name == self._base.node)
    ):
      return []
    if node.op == "Fill" and not self._is_whole:
      return refs[1:]
    if node.op in CARRIED:
      return [refs[CARRIED[node.op]]]
    if self._is_shaped(node) or self._is_open(node):
      return refs[:1]
    # A constant waits for the branch that it is in, or for the loop.
    sides = self._random.contexts.sides
    return [
      r
      for r in self._graph.inputs(node.name)
      if not r.control or sides(TensorRef(r.node))
    ]

  def _is_shaped(self, node):
    """Whether a node gives noise another shape: numbers have none here."""
    refs = self._graph.data_inputs(node.name)
    if self._is_whole:
      return False
    return node.op in FILLS or (
      node.op in ops.RESHAPES and self._random.draws(refs[0]) != 0
    )

  def _is_open(self, node):
    """Whether a Switch is no part of what makes the noise."""
    if node.op in ops.ENTERS:
      return True
    if node.op not in ops.SWITCHES:
      return False
    return self._random.is_data(self._graph.data_inputs(node.name)[1])

  def _add(self, node):
    refs = [self._moved(ref) for ref in self._inputs(node)]
    op, attrs = self._op(node)
    self._emitter.add(op, node.name, refs, attrs)

  def _op(self, node):
    """The op that a node has here, and its attributes."""
    dtype = self._original.dtype(TensorRef(node.name)).as_datatype_enum
    if node.name in self._decided:
      return _const(self._decided[node.name], dtype)
    if node.op in ops.VARIABLES:
      value = self._original.values[node.name]
      return _const(value, node.attr["dtype"].type)
    if node.op == "PlaceholderWithDefault":
      return "Identity", {}
    if ops.is_random(node.op) or (
      self._base is not None and node.name == self._base.node
    ):
      return "Placeholder", {"dtype": type_attr(dtype)}
    if node.op in LIKES:
      return _const(LIKES[node.op], dtype)
    if node.op in ("Placeholder", "PlaceholderV2"):
      return _const(_halves(node), dtype)
    if (
      node.op in ops.RESOURCE_READS
      or node.op in CARRIED
      or self._is_shaped(node)
      or self._is_open(node)
    ):
      return "Identity", {}
    dropped = ("_output_shapes", "_class")
    return node.op, {k: v for k, v in node.attr.items() if k not in dropped}

  def _moved(self, ref):
    if self._made.op(ref.node) == "Identity" and not ref.control:
      return TensorRef(ref.node)
    return ref

  def _run(self, ref, draws):
    self._runs += 1
    if self._runs > _MOST_RUNS:
      raise _unknown(ref)
    feeds = {name + ":0": value for name, value in draws.items()}
    if self._is_whole:
      feeds = {
        name + ":0": np.full(self._shape(name), value)
        for name, value in draws.items()
      }
    try:
      return np.float64(self._session.run(tensor_name(ref), feeds))
    except (*tf_errors(), ValueError) as error:
      raise _unknown(ref) from error

  def _shape(self, name):
    """The shape of what is drawn; open sizes are any."""
    shape = static_shape(self._graph, TensorRef(name))
    if shape is None:
      raise _unknown(TensorRef(name))
    return [2 if size < 0 else size for size in shape]

  def mean(self, ref):
    """The integral of a tensor over all that is drawn for it."""
    self._runs = 0
    found = self._integral(ref, list(self._draws[ref]), {})
    shape = static_shape(self._graph, ref)
    if self._is_whole and (shape is None or -1 in shape):
      if np.ptp(found) > _ROUNDING:
        raise _unknown(ref)
      found = np.mean(found)
    return found

  def _integral(self, ref, names, given):
    if not names:
      return self._run(ref, given)
    name, rest = names[0], names[1:]

    @functools.lru_cache(maxsize=None)
    def at(value):
      return self._integral(ref, rest, {**given, name: value})

    op = self._graph.op(name)
    if op == "RandomUniformInt":
      return _mean_of_all(at, *self._ends(name))
    if op in UNIFORMS:
      return _uniform_mean(at)
    if op in MEANS:
      sums = [at(z) + at(-z) - 2 * at(0.0) for z in _NORMALS]
      if all(np.all(np.abs(s) < _ROUNDING * (1 + abs(at(0.0)))) for s in sums):
        return at(0.0)
    raise _unknown(ref)

  def _ends(self, name):
    """The least whole number that is drawn, and the first that is not."""
    refs = self._graph.data_inputs(name)[1:]
    ends = [constant_value(self._graph, ref) for ref in refs]
    if any(end is None or end.size != 1 for end in ends):
      raise _unknown(TensorRef(name))
    return map(int, ends)

  def moments(self, ref, base):
    """Mean and variance of a tensor for a base of normal numbers."""
    random = np.random.RandomState(11)
    draws = {name: random.rand(_TRIES) for name in self._draws[ref]}
    draws[base.node] = random.randn(_TRIES)
    found = self._run(ref, draws)
    return float(np.mean(found)), float(np.var(found))


def _const(value, dtype):
  value = np.asarray(value).astype(tf1.as_dtype(dtype).as_numpy_dtype)
  attrs = {"dtype": type_attr(dtype), "value": tensor_attr(value, dtype)}
  return "Const", attrs


def _halves(node):
  """As a run of the training graph feeds what nobody feeds."""
  shape = node.attr["shape"].shape
  return np.full([dim.size if dim.size > 0 else 64 for dim in shape.dim], 0.5)


def _unknown(ref):
  return ComparisonError(
    _WHAT, f"what the noise '{ref}' is on average is not told by its values"
  )


def _mean_of_all(at, low, high):
  total = sum(at(value) for value in range(low, high))
  return total / (high - low)


def _uniform_mean(at):
  """The integral from 0 to 1 of what is straight between jumps.

  Args:
    at: gives an array for a number.
  """
  top = 1 - _CLOSE
  grid = np.linspace(0, top, _GRID + 1)
  total = 0.0
  stack = list(zip(grid[:-1], grid[1:]))[::-1]
  while stack:
    low, high = map(float, stack.pop())
    a, b = at(low), at(high)
    third = at(low + (high - low) / 3)
    line = a + (b - a) / 3
    is_straight = np.all(np.abs(third - line) < _ROUNDING * (1 + np.abs(line)))
    if high - low < 2 * _CLOSE or is_straight:
      total = total + (a + b) / 2 * (high - low)
      continue
    middle = (low + high) / 2
    stack += [(middle, high), (low, middle)]
  return total / top
