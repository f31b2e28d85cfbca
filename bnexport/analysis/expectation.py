# SPDX-License-Identifier: Apache-2.0
"""Expected values of random tensors, in numbers.

An expectation is exact or not known: draws enter linearly, each of them once,
or by a step of one uniform number, such as a mask is.
"""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Optional, Union

import numpy as np

from bnexport.analysis import arithmetic
from bnexport.analysis.parity import is_odd
from bnexport.analysis.randomness import (
  CARRIED,
  FILLS,
  LIKES,
  MEANS,
  PRODUCTS,
  QUOTIENTS,
  ROUNDINGS,
  STEPS,
  SUMS,
  UNIFORMS,
  Randomness,
  sides_of,
)
from bnexport.analysis.trial_values import trial_value
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape
from bnexport.graph.origins import VIEWS, origin_of
from bnexport.tf1 import tf1

_PARTED = frozenset(("StridedSlice", "Unpack", "Split"))
_HANDED_ON = VIEWS | ops.ENTERS | ops.RESOURCE_READS
_COMPUTED = arithmetic.select(
  "Abs AddN DivNoNan Equal Exp FloorDiv FloorMod Inv Less LessEqual Greater "
  "GreaterEqual Ceil Floor Log Maximum Minimum NotEqual Pow Reciprocal Round "
  "Rsqrt Sigmoid Sqrt Square ConcatV2 Pack"
)
# From so many whole numbers a choice is drawn.
_MOST_WHOLE = 64
# A distribution has no longer formula.
_DEEPEST = 60
# What a step of a number that is uniform between a and a + 1 gives, less a.
ROUNDED = {"Floor": 0.0, "Round": 0.5, "Ceil": 1.0}


class Number(NamedTuple):
  """The expected value of a tensor.

  Attributes:
    value: an array or a NumPy scalar, up to broadcasting.
    draws: bits of the draws that were taken at their mean.
  """

  value: Union[np.ndarray, np.generic]
  draws: int


class Expectation:
  """Expectations as numbers, with trial values for what is not known.

  An expectation is exact or None: draws enter linearly, each of them once, or
  by a step of one uniform number.
  """

  def __init__(
    self,
    graph: Graph,
    randomness: Randomness,
    trial: int,
    given: Mapping[TensorRef, float],
    values: Optional[Mapping[str, np.ndarray]] = None,
  ):
    """Makes an Expectation.

    Args:
      graph: stays as it is.
      randomness: of the graph.
      trial: which trial values placeholders and variables have; any number.
      given: values by tensor, which are taken for it.
      values: of the variables by name; trial values where it is None.
    """
    self._graph = graph
    self._randomness = randomness
    self._trial = trial
    self._given = given
    self._values = values
    self._found: Dict[TensorRef, Optional[Number]] = {}
    self._depth = 0

  def of(self, ref: TensorRef) -> Optional[Number]:
    """The expectation of a tensor, or None where it is not known."""
    if ref not in self._found:
      self._found[ref] = None  # in a loop it is asked for itself
      if ref in self._given:
        self._found[ref] = Number(np.float64(self._given[ref]), 0)
      elif self._depth < _DEEPEST:
        self._depth += 1
        with np.errstate(all="ignore"):
          self._found[ref] = self._find(ref)
        self._depth -= 1
    return self._found[ref]

  def _find(self, ref):
    found = self._by_rule(ref)
    if found is None and not ref.index:
      found = self._enumerated(ref)
    if found is None and is_odd(self._graph, self._randomness, ref):
      return Number(np.float64(0), self._randomness.draws(ref))
    return found

  def _by_rule(self, ref):
    node = self._graph.node(ref.node)
    refs = self._graph.data_inputs(ref.node)
    if ref.index and node.op not in ops.SWITCHES | _PARTED:
      return None
    if node.op in _PARTED:
      return self._parted(node, refs, ref.index)
    leaf = trial_value(
      self._graph, self._randomness, node, self._trial, self._values
    )
    if leaf is not None:
      return Number(leaf, 0)
    if node.op in MEANS:
      bits = self._randomness.draws(ref)
      return Number(np.float64(MEANS[node.op]), bits)
    if node.op == "RandomUniformInt":
      return self._whole(ref, refs)
    if node.op in STEPS and any(map(self._is_drawn, refs)):
      return self._step(node, refs)
    rule = _RULES.get(node.op)
    if rule is not None:
      return rule(self, node, refs)
    if node.op in ops.SWITCHES or node.op in _HANDED_ON:
      return self._handed_on(node, refs)
    if node.op in CARRIED:
      return self.of(refs[CARRIED[node.op]])
    return self._computed(node, refs)

  def _is_drawn(self, ref):
    found = self.of(ref)
    return found is not None and found.draws != 0

  def _operands(self, refs):
    found = [self.of(ref) for ref in refs]
    return None if any(one is None for one in found) else found

  def _handed_on(self, node, refs):
    found = self.of(refs[0])
    if found is None or np.size(found.value) == 1:
      return found
    if node.op in ops.RESHAPES:
      return self._computed(node, refs)
    return found

  def _cast(self, node, refs):
    found = self.of(refs[0])
    source, to = (tf1.as_dtype(node.attr[k].type) for k in ("SrcT", "DstT"))
    if found is None or to.is_floating or not source.is_floating:
      return found
    if found.draws:
      return found if is_whole(self._graph, refs[0]) else None
    value = found.value != 0 if to == tf1.bool else np.trunc(found.value)
    return Number(np.float64(value), 0)

  def _range(self, ref):
    """The whole numbers that a random op draws from, a few of them."""
    if self._graph.op(ref.node) != "RandomUniformInt":
      return []
    ends = [
      constant_value(self._graph, r)
      for r in self._graph.data_inputs(ref.node)[1:]
    ]
    if any(end is None or end.size != 1 for end in ends):
      return []
    low, high = map(int, ends)
    return range(low, min(high, low + _MOST_WHOLE + 1))

  def _whole(self, ref, refs):
    values = self._range(ref)
    if not 0 < len(values) <= _MOST_WHOLE:
      return None
    return Number(np.mean(values), self._randomness.draws(ref))

  def _enumerated(self, ref):
    """The mean of what one whole number makes, over all of them."""
    sources = self._randomness.sources(self._randomness.draws(ref))
    if len(sources) != 1 or sources[0] == ref.node:
      return None
    source = TensorRef(sources[0])
    values = self._range(source)
    if source in self._given or not 0 < len(values) <= _MOST_WHOLE:
      return None
    found = [self._beside({source: value}).of(ref) for value in values]
    if any(one is None or one.draws for one in found):
      return None
    if any(np.size(one.value) > 1 for one in found):
      return None  # one number decides many elements: a place, or an order
    mean = np.mean([one.value for one in found], axis=0)
    return Number(mean, self._randomness.draws(source))

  def _beside(self, given):
    """An Expectation with more values given."""
    return Expectation(
      self._graph,
      self._randomness,
      self._trial,
      {**self._given, **given},
      self._values,
    )

  def _filled(self, node, refs):
    found = self.of(refs[1 if node.op == "Fill" else 0])
    return found if found is not None and np.size(found.value) == 1 else None

  def _parted(self, node, refs, index):
    """One part of a vector, such as of one rate for each layer."""
    found = self.of(refs[1 if node.op == "Split" else 0])
    if found is None or np.size(found.value) == 1:
      return found
    vectors = [constant_value(self._graph, ref) for ref in refs[1:]]
    if node.op == "Unpack":
      value = np.take(found.value, index, node.attr["axis"].i)
    elif node.op != "StridedSlice" or any(v is None for v in vectors):
      return None
    else:
      operands = [found, *(Number(v, 0) for v in vectors)]
      value = _computed(node, operands)
    return None if value is None else Number(value, found.draws)

  def _like(self, node, refs):
    return Number(np.float64(LIKES[node.op]), 0)

  def _summed(self, node, refs):
    found = self._operands(refs)
    if found is None:
      return None
    op = {"BiasAdd": "Add"}.get(node.op, node.op)
    value = _computed(tf1.NodeDef(op=op), found)
    return None if value is None else Number(value, _union(found))

  def _multiplied(self, node, refs):
    found = self._operands(refs)
    if found is None or not divides(node):
      return None
    a, b = found
    if node.op in QUOTIENTS and b.draws:
      return None
    if a.draws & b.draws:
      return None
    value = _computed(node, found)
    return None if value is None else Number(value, a.draws | b.draws)

  def _chosen(self, node, refs):
    """The expectation of a choice: p a + (1 - p) b."""
    found = self._operands(refs)
    return None if found is None else _mixed(*found)

  def _merged(self, node, refs):
    predicates = [
      p for p in self._randomness.predicates(node) if self.of(p) is not None
    ]
    if len(refs) != 2 or len(predicates) != 1:
      return None
    sides = sides_of(self._randomness.contexts, refs, predicates[0])
    return (
      None if sides is None else self._chosen(node, [predicates[0], *sides])
    )

  def _negated(self, node, refs):
    found = self.of(refs[0])
    return None if found is None else Number(1 - found.value, found.draws)

  def _both(self, node, refs):
    found = self._operands(refs)
    if found is None or found[0].draws & found[1].draws:
      return None
    return Number(found[0].value * found[1].value, _union(found))

  def _either(self, node, refs):
    both = self._both(node, refs)
    if both is None:
      return None
    a, b = (self.of(ref).value for ref in refs)
    return Number(a + b - both.value, both.draws)

  def _computed(self, node, refs):
    if node.op not in _COMPUTED:
      return None
    found = self._operands(refs)
    if not found or any(one.draws for one in found):
      return None
    value = _computed(node, found)
    return None if value is None else Number(value, 0)

  def ends(self, ref: TensorRef):
    """A tensor's values for the least and the largest uniform number.

    Returns:
      The random op, and two arrays; None where the tensor is not linear in
      one uniform number.
    """
    found = self.of(ref)
    if found is None or bin(found.draws).count("1") != 1:
      return None
    source = TensorRef(self._randomness.sources(found.draws)[0])
    if self._graph.op(source.node) not in UNIFORMS:
      return None
    low, high = (self._beside({source: end}).of(ref) for end in (0.0, 1.0))
    if low is None or high is None:
      return None
    return source, low.value, high.value

  def _draws_each(self, source, limits):
    """Whether a number is drawn for each limit, as far as shapes are known.

    One for all of them tells a place, such as where a mask ends.
    """
    shape = static_shape(self._graph, source)
    wide = [size for size in np.shape(limits) if size > 1]
    return shape is None or wide == list(shape[-1:])

  def _step(self, node, refs):
    """The expectation of a step of one uniform number."""
    drawn = [ref for ref in refs if self._is_drawn(ref)]
    ends = self.ends(drawn[0]) if len(drawn) == 1 else None
    if ends is None:
      return None
    source, low, high = ends
    bits = self._randomness.draws(source)
    if node.op in ROUNDINGS:
      if not np.allclose(np.abs(high - low), 1, atol=1e-6):
        return None
      return Number(np.minimum(low, high) + ROUNDED[node.op], bits)
    other = self.of(refs[1 if drawn[0] == refs[0] else 0])
    if other is None or not np.all(high != low):
      return None
    if np.size(other.value) > 1 and not self._draws_each(source, other.value):
      return None
    below = (other.value - low) / (high - low)
    below = np.clip(np.where(high > low, below, 1 - below), 0, 1)
    is_less = node.op.startswith("Less") == (drawn[0] == refs[0])
    return Number(below if is_less else 1 - below, bits)


# What a step of a number that is uniform between a and a + 1 gives, less a.
ROUNDED = {"Floor": 0.0, "Round": 0.5, "Ceil": 1.0}


def is_whole(graph, ref):
  """Whether the floats of a tensor are whole numbers, as far as is known."""
  through = ops.IDENTITIES | ops.RESHAPES
  return graph.op(origin_of(graph, ref, through).node) in ROUNDINGS


def divides(node):
  """Whether a node has the quotient's fraction too, if it is a quotient."""
  dtype = tf1.as_dtype(node.attr["T"].type)
  return node.op not in QUOTIENTS or dtype.is_floating


def _computed(node, numbers):
  value = arithmetic.compute(node, [one.value for one in numbers])
  return None if value is None else np.float64(value)


def _union(numbers):
  bits = 0
  for one in numbers:
    bits |= one.draws
  return bits


def _mixed(chance, a, b):
  if chance.draws & (a.draws | b.draws):
    return None
  try:
    value = chance.value * a.value + (1 - chance.value) * b.value
  except ValueError:
    return None
  return Number(value, chance.draws | a.draws | b.draws)


_RULES = {
  **dict.fromkeys(FILLS, Expectation._filled),
  **dict.fromkeys(LIKES, Expectation._like),
  **dict.fromkeys(SUMS, Expectation._summed),
  **dict.fromkeys(PRODUCTS, Expectation._multiplied),
  **dict.fromkeys(ops.SELECTS, Expectation._chosen),
  **dict.fromkeys(ops.MERGES, Expectation._merged),
  "Cast": Expectation._cast,
  "LogicalNot": Expectation._negated,
  "LogicalAnd": Expectation._both,
  "LogicalOr": Expectation._either,
}
