# SPDX-License-Identifier: Apache-2.0
"""Whether a graph answers twice the same; draws that several runs share."""

import numpy as np
import pytest
from judges.transforming import model_of

from bnexport.proof.draws import Draws
from bnexport.proof.runs import ImportedGraph
from bnexport.proof.steadiness import is_steady, is_unmoved

X = np.ones((2, 3), np.float32)
# A path that is dropped once in a million runs, or never.
RARE = """
  x = Placeholder() {shape=[?,3]}   none = Const() {value=<int32 [0]>}
  u = RandomUniform(none) {dtype=float}
  limit = Const() {value=<float %s>}   p = Less(u, limit)
  z = ZerosLike(x)   y = SelectV2(p, x, z)
"""
NOISY = """
  x = Placeholder() {shape=[?,3]}   s = Shape(x)
  n = RandomStandardNormal(s) {dtype=float}   y = Add(x, n)
"""


def opened(text):
  return ImportedGraph(model_of(text).graph.to_graph_def(), ["y"])


@pytest.mark.parametrize("limit, unmoved", [("0.9999989", False), ("2", True)])
def test_two_runs_that_agree_by_chance_are_not_steady(limit, unmoved):
  with opened(RARE % limit) as run:
    assert is_steady(run, {"x": X})
    assert is_unmoved(run, {"x": X}, ["u"]) == unmoved


def test_noise_is_not_steady():
  with opened(NOISY) as run:
    assert not is_steady(run, {"x": X})
    assert not is_unmoved(run, {"x": X}, ["n"])


def test_runs_with_the_same_draws_answer_the_same():
  with opened(NOISY) as one, opened(NOISY) as other:
    one.draws = other.draws = Draws(["n"], one.fetch)
    assert is_steady(one, {"x": X})
    assert np.array_equal(one.run({"x": X})[0], other.run({"x": X})[0])
    other.draws = None
    assert not np.array_equal(one.run({"x": X})[0], other.run({"x": X})[0])


def test_a_row_keeps_its_draws_in_any_batch():
  with opened(NOISY) as run:
    run.draws = Draws(["n"], run.fetch)
    sizes = (2, 1, 5, 3)
    found = [run.run({"x": np.ones((n, 3), np.float32)})[0] for n in sizes]
    for a, b in zip(found, found[1:]):
      rows = min(len(a), len(b))
      assert np.array_equal(a[:rows], b[:rows])
    assert len(np.unique(found[2][:2])) == 6
