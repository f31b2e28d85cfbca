# SPDX-License-Identifier: Apache-2.0
"""Sizes: what constants and shapes come to for a batch of so many rows."""

import numpy as np
import pytest
from judges.norms import graph_of

from bnexport.analysis.sizes import Sizes, reduced_count
from bnexport.graph import TensorRef

TEXT = """
x = Placeholder() {shape=[?,6,?,3]}
u = Placeholder()
shape = Shape(x)
zero = Const() {value=<int32 [1] 0>}
one = Const() {value=<int32 [1] 1>}
"""


def value(text, ref="y", rows=4):
  return Sizes(graph_of(TEXT + text), rows).value(TensorRef.parse(ref))


@pytest.mark.parametrize(
  "text, expected",
  [
    ("y = Identity(shape)", [4, 6, 3, 3]),
    ("y = Size(x)", 216),
    ("y = Rank(x)", 4),
    ("y = StridedSlice(shape, zero, one, one) {shrink_axis_mask=1}", 4),
    ("n = Prod(shape, zero)   y = Cast(n) {DstT=float}", 216.0),
    ("v = Const() {value=<float 2>}   y = Fill(one, v)", [2.0]),
    (
      "a = Const() {value=<int32 2>}   b = Const() {value=<int32 8>}"
      "   y = Range(a, b, a)",
      [2, 4, 6],
    ),
    ("p = Const() {value=<bool true>}   y = Select(p, zero, one)", None),
    ("p = Const() {value=<bool [1] true>}   y = Select(p, zero, one)", [0]),
    ("y = Shape(u)", None),
    ("y = Neg(x)", None),
    ("y = Reshape(shape, shape)", None),  # never runs
    ("y = RandomUniform(shape)", None),
  ],
)
def test_value(text, expected):
  found = value(text)
  if expected is None:
    assert found is None
  else:
    assert np.array_equal(found, expected)


def test_what_is_large_is_not_made():
  text = "wide = Const() {value=<int32 [2] 10000 10000>}   y = Fill(wide, one)"
  assert value(text.replace("Fill(wide, one)", "Fill(wide, zero)")) is None


@pytest.mark.parametrize(
  "axes, count", [("[3] 0 1 2", 7 * 6 * 3), ("[2] 1 -1", 18), ("[1] 9", None)]
)
def test_reduced_count(axes, count):
  text = f"axes = Const() {{value=<int32 {axes}>}}   y = Sum(x, axes)"
  graph = graph_of(TEXT + text)
  assert reduced_count(graph, Sizes(graph, 7), "y") == count
