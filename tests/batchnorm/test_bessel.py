# SPDX-License-Identifier: Apache-2.0
"""Bessel's correction taken back is found by what it computes."""

import pytest

from bnexport import text
from bnexport.batchnorm.bessel import taken_back
from bnexport.graph import Graph, TensorRef

OPEN = "x = Placeholder() {shape=[?,4,4,2]}"
FIXED = "x = Placeholder() {shape=[3,4,4,2]}"
BASE = """
  g = Const() {value=<float [2] 1>}   none = Const() {value=<float [0]>}
  n = FusedBatchNorm(x, g, g, none, none) {is_training=true}
  v = Identity(n:2)   one = Const() {value=<float 1>}
"""
COUNTED = """
  s = Size(x)   t = Size(n:1) {_output_shapes=([])}
  sf = Cast(s) {DstT=float}   two = Const() {value=<float 2>}
  n_ = RealDiv(sf, two)   less = Sub(n_, one)
"""


def found(*statements):
  graph = Graph(text.loads("".join(statements)))
  refs = taken_back(
    graph, TensorRef("n", 2), TensorRef("x"), 2, set(graph.names())
  )
  return [str(ref) for ref in refs]


@pytest.mark.parametrize("x", [OPEN, FIXED])
@pytest.mark.parametrize(
  "statements",
  [
    "f = RealDiv(less, n_)   y = Mul(v, f)",
    "a = Mul(less, v)   y = RealDiv(a, n_)",
    "a = RealDiv(v, n_)   y = Mul(a, less)",
    "q = Reciprocal(n_)   f = Sub(one, q)   y = Mul(f, v)",
  ],
)
def test_factors_of_a_counted_batch(x, statements):
  assert found(x, BASE, COUNTED, statements) == ["y"]


def test_a_constant_factor_has_to_be_that_of_a_fixed_batch():
  right = "f = Const() {value=<float 0.979166667>}   y = Mul(v, f)"  # 47 / 48
  assert found(FIXED, BASE, right) == ["y"]
  assert found(OPEN, BASE, right) == []
  assert found(FIXED, BASE, right.replace("0.979166667", "0.98")) == []


@pytest.mark.parametrize(
  "statements",
  [
    "y = Mul(v, v)",
    "f = RealDiv(n_, less)   y = Mul(v, f)",
    "f = RealDiv(less, n_)   y = Add(v, f)",
    "a = Mul(v, less)",
    "d = Placeholder() {shape=[]}   y = Mul(v, d)",
  ],
)
def test_other_factors_are_none(statements):
  assert found(OPEN, BASE, COUNTED, statements) == []


def chain(first, length):
  """Identities one behind the other, from `c0` on; the last is `last`."""
  names = [f"c{i}" for i in range(length)] + ["last"]
  links = zip(names, [first, *names])
  return "".join(f"{name} = Identity({before})\n" for name, before in links)


@pytest.mark.parametrize("length, is_near", [(40, True), (80, False)])
def test_so_many_views_are_followed(length, is_near):
  factor = "f = RealDiv(less, n_)   y = Mul(last, f)"
  assert found(FIXED, BASE, COUNTED, chain("v", length), factor) == (
    ["y"] if is_near else []
  )


@pytest.mark.parametrize("length, is_near", [(4, True), (20, False)])
def test_so_many_nodes_behind_a_factor_are_read(length, is_near):
  factor = "f = RealDiv(less, n_)   y = Mul(v, last)"
  assert found(FIXED, BASE, COUNTED, chain("f", length), factor) == (
    ["y"] if is_near else []
  )
