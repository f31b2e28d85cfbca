# SPDX-License-Identifier: Apache-2.0
"""Random tensors, and what they are on average."""

import numpy as np
import pytest

from bnexport import text
from bnexport.analysis.expectation import Expectation
from bnexport.analysis.parity import is_odd
from bnexport.analysis.randomness import Randomness
from bnexport.graph import Graph, TensorRef

BASE = """
  x = Placeholder() {shape=[?,4]}   k = Placeholder() {shape=[]}
  half = Const() {value=<float 0.5>}   two = Const() {value=<float 2>}
  each = Const() {value=<float [2] 0.25 0.75>}
  n = Shape(x)   r = RandomStandardNormal(n)   q = RandomStandardNormal(n)
  u = RandomUniform(n)   v = RandomUniform(n)
  zero = Const() {value=<int32 0>}   three = Const() {value=<int32 3>}
  w = RandomUniformInt(n, zero, three)
"""


def read(statements):
  graph = Graph(text.loads(BASE + statements))
  return graph, Randomness(graph, graph.topological())


def mean(statements, trial=1, given=()):
  graph, randomness = read(statements)
  given = {TensorRef(name): value for name, value in given}
  found = Expectation(graph, randomness, trial, given).of(TensorRef("y"))
  return None if found is None else found.value


KNOWN = {
  "y = Identity(u)": 0.5,
  "y = Mul(u, v)": 0.25,
  "y = Sub(u, r)": 0.5,
  "y = RealDiv(u, half)": 1,
  "a = Add(u, half)   y = Floor(a)": 0.5,
  "a = Sub(half, u)   y = Floor(a)": -0.5,
  "a = Sub(half, u)   y = Ceil(a)": 0.5,
  "a = Add(u, u)   y = Less(a, half)": 0.25,
  "y = Less(u, each)": [0.25, 0.75],
  "y = Greater(u, two)": 0,
  "a = Less(u, half)   b = Less(v, half)   y = LogicalOr(a, b)": 0.75,
  "a = Less(u, half)   y = SelectV2(a, two, half)": 1.25,
  "y = Cast(w) {DstT=float}": 1,
  "y = Equal(w, zero)": 1 / 3,
  "a = Cast(w) {DstT=float}   b = Square(a)   y = Mul(b, half)": 5 / 6,
  "a = Cast(w) {DstT=float}   y = Mul(a, u)": 0.5,
  "a = Sign(r)   b = Abs(r)   c = Sqrt(b)   y = Mul(a, c)": 0,
  "a = Square(q)   y = Mul(r, a)": 0,
  "z = ZerosLike(r)   y = Exp(z)": 1,
}
UNKNOWN = [
  "y = Mul(u, u)",
  "y = Mul(r, r)",
  "y = RealDiv(half, u)",
  "y = Exp(r)",
  "y = Square(u)",
  "a = Mul(u, two)   y = Floor(a)",
  "a = Mul(u, two)   y = Cast(a) {DstT=int32}",
  "a = Less(u, half)   b = Less(u, two)   y = LogicalAnd(a, b)",
  "a = Less(u, half)   y = SelectV2(a, u, half)",
  "y = Add(x, u)",
  "y = Less(r, half)",
]


@pytest.mark.parametrize("statements", KNOWN)
def test_expectation(statements):
  found = mean(statements)
  assert found is not None
  assert np.allclose(found, KNOWN[statements], atol=1e-7)


@pytest.mark.parametrize("statements", UNKNOWN)
def test_expectation_that_is_not_known(statements):
  assert mean(statements) is None


def test_trials_differ_and_repeat():
  mask = "a = Add(u, k)   y = Floor(a)"
  assert mean(mask, 1) == mean(mask, 1) != mean(mask, 2)
  assert np.allclose(mean(mask + "   z = Neg(y)", 1), mean(mask, 1))


def test_given_values_are_taken():
  assert mean("y = Exp(r)", given=[("r", 0.0)]) == 1
  assert mean("y = Less(u, half)", given=[("u", 0.25)]) == 1


@pytest.mark.parametrize(
  "statements, expected",
  [
    ("y = Tanh(r)", True),
    ("y = Neg(r)", True),
    ("y = Square(r)", False),
    ("y = Add(r, half)", False),
    ("y = Pow(r, two)", False),
    ("a = Square(r)   y = Mul(a, r)", True),
    ("y = Exp(r)", False),
    ("y = Sub(u, half)", False),
    ("y = Mul(r, r)", False),
  ],
)
def test_parity(statements, expected):
  graph, randomness = read(statements)
  assert is_odd(graph, randomness, TensorRef("y")) is expected


def test_noise_and_what_it_reaches():
  graph, randomness = read(
    "m = Mul(u, half)   a = Add(x, m)   s = Shape(a)   o = OnesLike(a)"
  )
  refs = {name: TensorRef(name) for name in graph.names()}
  assert randomness.is_noise(refs["m"]) and randomness.is_noise(refs["u"])
  assert randomness.is_noisy(refs["a"])
  assert randomness.is_free(refs["half"]) and randomness.is_free(refs["s"])
  assert randomness.is_free(refs["o"]) and randomness.is_free(refs["k"])
  assert randomness.is_data(refs["x"]) and not randomness.draws(refs["x"])
  assert randomness.sources(randomness.draws(refs["a"])) == ["u"]


def test_what_is_kept_counts_as_data():
  graph, _ = read("a = Add(x, u)")
  randomness = Randomness(graph, graph.topological(), frozenset(["u"]))
  assert randomness.is_data(TensorRef("u"))
  assert not randomness.draws(TensorRef("a"))


@pytest.mark.parametrize(
  "statements, expected",
  [
    ("c = Placeholder() {shape=[3]}", True),
    ("c = Placeholder() {shape=[?]}", True),
    ("c = Placeholder() {shape=[?,4]}", False),
  ],
)
def test_vector_of_rates_is_no_data(statements, expected):
  graph, randomness = read(
    statements + "   i = Const() {value=<int32 [1] 1>}"
    "   j = Const() {value=<int32 [1] 2>}   o = Const() {value=<int32 [1] 1>}"
    "   p = StridedSlice(c, i, j, o) {shrink_axis_mask=1}"
    "   a = Add(u, p)   m = Floor(a)"
  )
  assert randomness.is_noise(TensorRef("m")) is expected
