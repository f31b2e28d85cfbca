# SPDX-License-Identifier: Apache-2.0
"""Parity: random tensors that change their sign with a drawn number."""

from __future__ import annotations

from bnexport.analysis.randomness import PRODUCTS, SUMS, SYMMETRIC
from bnexport.graph import ops
from bnexport.graph.nodes import constant_value
from bnexport.graph.origins import VIEWS

_HANDED_ON = VIEWS | ops.ENTERS
_BILINEAR = frozenset(("BatchMatMul", "BatchMatMulV2", "MatMul"))
# f(-x) = -f(x), and f(-x) = f(x)
_ODD_OPS = frozenset(
  ("Asinh", "Atan", "Sign", "Sin", "Sinh", "Softsign", "Tanh")
)
_EVEN_OPS = frozenset(("Abs", "Cos", "Cosh", "Square"))
_EVEN, _ODD = 0, 1
# A formula of noise is no deeper.
_DEEPEST = 60


def is_odd(graph, randomness, ref):
  """Whether a tensor changes its sign with one of its normal numbers.

  Then its mean is 0.
  """
  names = randomness.sources(randomness.draws(ref))
  return any(
    graph.op(name) in SYMMETRIC
    and _parity(graph, randomness, ref, name, 0) == _ODD
    for name in names
  )


def _is_zero(graph, ref):
  value = constant_value(graph, ref)
  return value is not None and not value.any()


def _parity(graph, randomness, ref, source, depth):
  """Whether a tensor is odd or even in what a random op draws, or None."""
  if ref.node == source:
    return _ODD
  if source not in randomness.sources(randomness.draws(ref)):
    return _EVEN
  if depth > _DEEPEST:
    return None
  op, refs = graph.op(ref.node), graph.data_inputs(ref.node)
  if op in _BILINEAR and not all(map(randomness.draws, refs)):
    return None  # weights make a code of it
  if op in SUMS:
    refs = [r for r in refs if not _is_zero(graph, r)]
  found = [_parity(graph, randomness, r, source, depth + 1) for r in refs]
  if None in found:
    return None
  if op in PRODUCTS | _BILINEAR:
    return sum(found) % 2
  if op in SUMS and len(set(found)) == 1:
    return found[0]
  if op == "Pow":
    return _power(constant_value(graph, refs[1]), found[0])
  if op in _HANDED_ON | _ODD_OPS:
    return found[0]
  return _EVEN if op in _EVEN_OPS or _ODD not in found else None


def _power(exponent, base):
  """The parity of a power, from its exponent and the parity of its base."""
  if exponent is None or exponent.size != 1 or float(exponent) % 1:
    return None if base == _ODD else _EVEN
  return _ODD if base == _ODD and float(exponent) % 2 else _EVEN
