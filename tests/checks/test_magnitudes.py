# SPDX-License-Identifier: Apache-2.0
"""Bounds of a layer's values hold, and are no larger than they have to be."""

import numpy as np
import pytest
from judges.transforming import answers, model_of

from bnexport import text
from bnexport.checks.averages.magnitudes import Magnitudes, product_of
from bnexport.checks.subject import Subject
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.model.request import Request
from bnexport.sources.contents import Contents

# Channels of mean 4 and 1, and of deviation 3 and 0: rms 5 and 1.
NORM = """
  x = Placeholder() {shape=[?,4,4,2]}
  g = Const() {value=<float [2] 3 0>}   b = Const() {value=<float [2] 4 1>}
  m = Const() {value=<float [2] 7 8>}   v = Const() {value=<float [2] 9 4>}
  n = FusedBatchNorm(x, g, b, m, v) {is_training=false, epsilon=0}
"""
# A product whose channels are sums of all that goes in.
SUM = """
  w = Const() {value=<float [1,1,%d,1] 1>}
  y = Conv2D(%s, w) {strides=(1, 1, 1, 1), padding=SAME}
"""
UNKNOWN = 1e12


def subject_of(statements):
  return Subject(
    Contents(text.loads(statements), Signatures(), "a test", outputs=("y",)),
    Request("graph_def", None),
  )


def variance(statements, product="y"):
  found = Magnitudes(subject_of(statements)).largest_variance(product)
  return None if found is None else found.tolist()


def of_one_channel(statements, read):
  """Of the first channel alone: what follows a norm of rms 5."""
  only = NORM.replace("[2] 3 0", "[1] 3").replace("[2] 4 1", "[1] 4")
  only = only.replace("[2] 7 8", "[1] 7").replace("[2] 9 4", "[1] 9")
  return variance(
    only.replace("4,4,2]", "4,4,1]") + statements + SUM % (1, read)
  )


def test_norm_leaves_beta_and_gamma():
  """|w|^2 = 2, and the squares of the rms are 25 and 1."""
  assert variance(NORM + SUM % (2, "n")) == pytest.approx([52])


@pytest.mark.parametrize(
  "statements, expected",
  [
    ("r = Identity(n)", 25),
    ("r = Relu(n)", 25),
    ("r = LeakyRelu(n)", 25),
    ("r = Sigmoid(n)", 1),
    ("r = Add(n, n)", 100),
    ("c = Const() {value=<float [1] -2>}   r = BiasAdd(n, c)", 49),
    (
      "r = AvgPool(n) {ksize=(1, 2, 2, 1), strides=(1, 1, 1, 1), padding=SAME}",
      25,
    ),
    (
      "r = MaxPool(n) {ksize=(1, 2, 2, 1), strides=(1, 1, 1, 1), padding=SAME}",
      100,
    ),
    (
      "p = Placeholder() {shape=[], dtype=bool}   s = Switch(n, p)"
      "  a = Add(s:1, s:1)   r = Merge(s, a)",
      100,
    ),
    ("r = Exp(n)", UNKNOWN),
    ("r = Identity(x)", UNKNOWN),
  ],
)
def test_what_follows_a_norm(statements, expected):
  assert of_one_channel(statements, "r") == pytest.approx([expected])


def test_channels_are_told_apart_until_they_are_mixed():
  apart = "k = Const() {value=<float [1,1,2,1] 1>}   y = DepthwiseConv2dNative(%s, k) {strides=(1, 1, 1, 1), padding=SAME}"
  assert variance(NORM + apart % "n") == [25, 1]
  mixed = "a = Const() {value=<int32 3>}   c = ConcatV2(n, n, a)"
  assert variance(NORM + mixed + SUM % (4, "c")) == [4 * 4 * 25]


@pytest.mark.parametrize(
  "shifted",
  [
    "a = Mul(x, s)   f = Mul(m, s)   h = Sub(b, f)   n = AddV2(a, h)",
    "a = Mul(x, s)   f = Mul(m, s)   h = Sub(b, f)   n = AddV2(h, a)",
    "c = Sub(x, m)   a = Mul(c, s)   n = AddV2(a, b)",
  ],
)
def test_norm_that_is_spelled_out(shifted):
  """3 (x - 7) / sqrt(8.9 + 0.1) + 4 is x - 3."""
  assert variance(
    """
    x = Placeholder() {shape=[?,4,4,1]}   m = Const() {value=<float [1] 7>}
    v = Const() {value=<float [1] 8.9>}   e = Const() {value=<float 0.1>}
    g = Const() {value=<float [1] 3>}   b = Const() {value=<float [1] 4>}
    d = AddV2(v, e)   r = Rsqrt(d)   s = Mul(r, g)
  """
    + shifted
    + SUM % (1, "n")
  ) == pytest.approx([8.9 + 16])


@pytest.mark.parametrize(
  "statements, product",
  [
    ("w = Placeholder() {shape=[1,1,2,1]}", None),
    ("w = Const() {value=<float [1,1,2,1] inf>}", [np.inf]),
    ("w = Const() {value=<float [1,1,2,1] 0>}", [0]),
  ],
)
def test_weights_that_are_unknown_damaged_or_zero(statements, product):
  conv = "y = Conv2D(n, w) {strides=(1, 1, 1, 1), padding=SAME}"
  assert variance(NORM + statements + conv) == product


@pytest.mark.parametrize("transposed", ["false", "true"])
def test_matrix_products(transposed):
  weights = {
    "false": "<float [2,3] 1 2 3 4 5 6>",
    "true": "<float [3,2] 1 4 2 5 3 6>",
  }[transposed]
  found = variance(
    NORM
    + f"""
    w = Const() {{value={weights}}}   axes = Const() {{value=<int32 [2] 1 2>}}
    p = Mean(n, axes)   y = MatMul(p, w) {{transpose_b={transposed}}}
  """
  )
  # |w|^2 of each column, times 5^2 for each of both channels: they are mixed.
  assert found == pytest.approx([17 * 50, 29 * 50, 45 * 50])


@pytest.mark.parametrize("seed", range(5))
def test_no_layer_varies_more(seed):
  random = np.random.RandomState(seed)
  x = random.randn(64, 4, 4, 2) * random.uniform(0.1, 9, 2) + random.randn(2)
  kernel = " ".join(map(str, random.randn(3 * 3 * 2 * 3)))
  gamma, beta, mean, var = (
    " ".join(map(str, values))
    for values in (
      random.randn(2),
      random.randn(2),
      x.mean((0, 1, 2)),
      x.var((0, 1, 2)),
    )
  )
  statements = f"""
    x = Placeholder() {{shape=[?,4,4,2]}}
    g = Const() {{value=<float [2] {gamma}>}}
    b = Const() {{value=<float [2] {beta}>}}
    m = Const() {{value=<float [2] {mean}>}}
    v = Const() {{value=<float [2] {var}>}}
    n = FusedBatchNorm(x, g, b, m, v) {{is_training=false, epsilon=1e-12}}
    r = Relu(n)   k = Const() {{value=<float [3,3,2,3] {kernel}>}}
    y = Conv2D(r, k) {{strides=(1, 1, 1, 1), padding=SAME}}
  """
  (y,) = answers(model_of(statements), {"x": x.astype(np.float32)})
  bound = np.array(variance(statements))
  assert (y.var((0, 1, 2)) <= bound).all()
  assert (bound < 1e3 * y.var((0, 1, 2)) + 1).all()


@pytest.mark.parametrize(
  "statements, product",
  [
    ("y = Conv2D(x, w)", "y"),
    ("c = Conv2D(x, w)   y = BiasAdd(c, b)", "c"),
    ("c = Conv2D(x, w)   y = Add(c, b)", "c"),
    ("c = Conv2D(x, w)   i = Identity(c)   y = BiasAdd(i, b)", "c"),
    ("c = Conv2D(x, w)   y = Add(c, x)", None),
    ("c = Conv2D(x, w)   y = Relu(c)", None),
    ("y = Identity(x)", None),
  ],
)
def test_layer_that_makes_a_tensor(statements, product):
  graph = Graph(
    text.loads(
      "x = Placeholder() {shape=[?,4,4,2]}   b = VariableV2() {shape=[2]}"
      "  w = VariableV2() {shape=[1,1,2,2]}   " + statements
    )
  )
  assert product_of(graph, TensorRef("y")) == product
