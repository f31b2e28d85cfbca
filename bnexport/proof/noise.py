# SPDX-License-Identifier: Apache-2.0
"""Noise of a training graph, decided by integrating over what it draws.

The export works out the mean of noise from the ops that it knows. Here
TensorFlow runs the part of the graph that makes the noise, for one value of a
draw after the other, and nothing is known of its ops: a mask shows by two
values and where it jumps, and a normal draw by what cancels.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from bnexport.analysis.partial_evaluation import PartialEvaluation
from bnexport.analysis.randomness import (
  FILLS,
  LIKES,
  MEANS,
  SELECTS,
  UNIFORMS,
  Randomness,
  sides_of,
)
from bnexport.editing.conditionals import open_branches
from bnexport.errors import ComparisonError
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import (
  constant,
  constant_value,
  in_scope,
  tensor_attr,
  type_attr,
)
from bnexport.proof.runs import TF_ERRORS, tensor_name
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
    keep: scopes of random ops that are part of the model.
    moments: tensors with noise that keeps mean 0 and variance 1, and the
      tensors without; whether it does is tried with normal numbers.

  Raises:
    ComparisonError: what some noise is on average is not told.
  """
  graph = original.graph
  if not any(ops.is_random(graph.op(n)) for n in original.needed()):
    return
  for name, value in decided.items():
    _state(original, name, value)
  for name, tensor in moments:
    _Noise(original, decided, keep).refuse_other_moments(name, tensor)
    graph.substitute({TensorRef(name): tensor})
  _Noise(original, decided, keep).expect_all()


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
    self._random = Randomness(
      self._graph,
      self._order,
      lambda name: any(in_scope(name, scope) for scope in keep),
    )

  def expect_all(self):
    """Lets whatever reads noise beside data read the mean."""
    meetings = list(self._meetings())
    merges = [n for n in self._order if self._predicate(n) is not None]
    wanted = [m.noise for m in meetings]
    wanted += [self._predicate(name) for name in merges]
    if not wanted:
      return
    with _Source(self._original, self._random, wanted, self._decided) as source:
      means = {ref: source.mean(ref) for ref in dict.fromkeys(wanted)}
    for name in merges:
      self._mix(name, means[self._predicate(name)], *self._sides(name))
    for predicate in dict.fromkeys(map(self._predicate, merges)):
      open_branches(self._graph, predicate.node, self._random.contexts)
    for node, slot, noise in meetings:
      if self._graph.op(node) in SELECTS and not slot:
        self._mix(node, means[noise], *self._graph.data_inputs(node)[1:])
      else:
        self._graph.set_input(node, slot, self._constant(noise, means[noise]))

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
    if not dtype.is_floating:
      raise _unknown(noise)
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
    with _Source(
      self._original, self._random, [ref], self._decided, base
    ) as source:
      mean, variance = source.moments(ref, base)
    if abs(mean) > _DISTANCE or abs(variance - 1) > _DISTANCE:
      raise ComparisonError(
        _WHAT,
        f"'{name}' does not keep mean 0 and variance 1: it makes {mean:.3g} "
        f"and {variance:.3g} of them",
      )


class _Source:
  """A graph of what makes some noise, with random ops to be fed."""

  def __init__(self, original, random, refs, decided, base=None):
    self._original = original
    self._graph = original.graph
    self._random = random
    self._decided = decided
    self._base = base
    self._made = Graph(tf1.GraphDef())
    self._emitter = Emitter(self._made, original.signatures)
    needed = self._needed(refs)
    if any(self._graph.op(name) == "NextIteration" for name in needed):
      raise _unknown(refs[0])
    for name in self._graph.topological(needed):
      self._add(self._graph.node(name))
    self._draws = {
      ref: [n for n in self._needed([ref]) if n in self._fed] for ref in refs
    }
    self._runs = 0

  @property
  def _fed(self):
    return {n.name for n in self._made if n.op == "Placeholder"}

  def __enter__(self):
    self._session = session(self._made.to_tf_graph())
    return self

  def __exit__(self, *error):
    self._session.close()

  def _needed(self, refs):
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
    """What is run for a node: shapes do not matter, nor what a branch is."""
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
    if node.op == "Fill":
      return refs[1:]
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
      or node.op == "Fill"
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
    try:
      return np.float64(self._session.run(tensor_name(ref), feeds))
    except (*TF_ERRORS, ValueError) as error:
      raise _unknown(ref) from error

  def mean(self, ref):
    """The integral of a tensor over all that is drawn for it."""
    self._runs = 0
    return self._integral(ref, list(self._draws[ref]), {})

  def _integral(self, ref, names, given):
    if not names:
      return self._run(ref, given)
    name, rest = names[0], names[1:]

    @functools.lru_cache(maxsize=None)
    def at(value):
      return self._integral(ref, rest, {**given, name: value})

    op = self._graph.op(name)
    if op in UNIFORMS:
      return _uniform_mean(at)
    if op in MEANS:
      sums = [at(z) + at(-z) - 2 * at(0.0) for z in _NORMALS]
      if all(np.all(np.abs(s) < _ROUNDING * (1 + abs(at(0.0)))) for s in sums):
        return at(0.0)
    raise _unknown(ref)

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
  return np.full([max(dim.size, 1) for dim in shape.dim], 0.5)


def _unknown(ref):
  return ComparisonError(
    _WHAT, f"what the noise '{ref}' is on average is not told by its values"
  )


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
