# SPDX-License-Identifier: Apache-2.0
"""Norms that get statistics together, and how deep they lie."""

import pytest
from judges.counting import assert_linear
from judges.norms import CONSTANTS, graph_of, norms_of

from bnexport.calibration.groups import group_norms
from bnexport.errors import TransformError
from bnexport.graph import TensorRef
from bnexport.graph.components import strong_components

INPUT = "x = Placeholder() {shape=[?,3,2,2]}\n" + CONSTANTS
OWN = """
{0}/mean = Const() {{value=<float [2] 1.5 -3>}}
{0}/variance = Const() {{value=<float [2] 4 0.7>}}
{0} = FusedBatchNorm({1}, gamma, beta, {2}/mean, {2}/variance)
    {{is_training=false}}
"""


def norm(name, x, shares=None):
  """A norm of x; with the statistics of another, where that is named."""
  return OWN.format(name, x, shares or name)


def groups_of(text, output="y"):
  graph = graph_of(INPUT + text)
  outputs = [TensorRef.parse(output)]
  return group_norms(graph, outputs, norms_of(graph, output))


def told(groups):
  return {
    "+".join(norm.name for norm in group.norms): (group.depth, group.repeats)
    for group in groups
  }


def test_norms_in_a_row_lie_one_behind_the_other():
  text = norm("a", "x") + "r = Relu(a)" + norm("b", "r") + norm("y", "b")
  groups = groups_of(text)
  assert told(groups) == {"a": (0, False), "b": (1, False), "y": (2, False)}
  assert [group.depth for group in groups] == [0, 1, 2]


def test_norms_side_by_side_are_equally_deep():
  text = norm("a", "x") + norm("b", "x") + "s = Add(a, b)" + norm("y", "s")
  assert told(groups_of(text)) == {
    "a": (0, False),
    "b": (0, False),
    "y": (1, False),
  }


def test_norms_that_share_statistics_wait_for_the_deeper_one():
  """c reads a alone, which shares with b, which lies behind d."""
  text = (
    norm("a", "x")
    + norm("d", "x")
    + norm("b", "d", shares="a")
    + norm("c", "a")
    + "y = Add(b, c)"
  )
  assert told(groups_of(text)) == {
    "d": (0, False),
    "a+b": (1, False),
    "c": (2, False),
  }


def test_norm_behind_itself_repeats():
  text = norm("a", "x") + "r = Relu(a)" + norm("b", "r", "a") + norm("y", "b")
  assert told(groups_of(text)) == {"a+b": (0, True), "y": (1, False)}


def test_norms_that_need_each_other_are_done_together():
  text = (
    norm("a", "x")
    + norm("b", "x")
    + norm("c", "a", shares="b")
    + norm("d", "b", shares="a")
    + "s = Add(c, d)"
    + norm("y", "s")
  )
  assert told(groups_of(text)) == {
    "a+d": (0, True),
    "b+c": (0, True),
    "y": (1, False),
  }


@pytest.mark.parametrize(
  "text, fact",
  [
    (
      "on = Placeholder() {dtype=bool, shape=[]} s = Switch(x, on)"
      + norm("n", "s:1")
      + "y = Merge(s, n)",
      "inside a conditional",
    ),
    (
      "sum = Add(variance, epsilon) r = Rsqrt(sum) shift = Mul(mean, r) "
      "less = Neg(shift) y = BiasAdd(x, less)",
      "does not tell what it normalises",
    ),
  ],
)
def test_norms_that_no_run_shows_are_refused(text, fact):
  with pytest.raises(TransformError, match=fact):
    groups_of(text)


def test_depth_costs_no_more_than_the_graph():
  def prepare(count):
    names = ["x"] + [f"n{i}" for i in range(count - 1)] + ["y"]
    text = "".join(norm(name, x) for x, name in zip(names, names[1:]))
    graph = graph_of(INPUT + text)
    norms, outputs = norms_of(graph), [TensorRef("y")]
    return lambda: group_norms(graph, outputs, norms)

  assert_linear(prepare, 40, 160)


@pytest.mark.parametrize(
  "edges, parts",
  [
    ({"a": "b", "b": "c", "c": ""}, ["c", "b", "a"]),
    ({"a": "b", "b": "a"}, ["ab"]),
    ({"a": "a"}, ["a"]),
    ({"a": "bc", "b": "d", "c": "d", "d": ""}, ["d", "b", "c", "a"]),
    ({"a": "b", "b": "cd", "c": "b", "d": "e", "e": "d"}, ["de", "bc", "a"]),
  ],
)
def test_strong_components_come_after_what_they_need(edges, parts):
  found = strong_components(sorted(edges), edges.__getitem__)
  assert ["".join(sorted(part)) for part in found] == parts
