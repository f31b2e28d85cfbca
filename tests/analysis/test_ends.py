# SPDX-License-Identifier: Apache-2.0
"""Likely inputs and outputs of a graph, best first."""

import pytest

from bnexport import text
from bnexport.analysis import ends
from bnexport.analysis.flow import Flow
from bnexport.graph import Graph

NET = """
  x = Placeholder() {shape=[?,4]}
  w = VariableV2() {shape=[4,2]}   w/read = Identity(w)
  h = MatMul(x, w/read)
"""
LOSS = """
  labels = Placeholder() {shape=[?,2]}   all = Const() {value=<int32 0>}
  loss = SoftmaxCrossEntropyWithLogits(h, labels)   cost = Mean(loss, all)
"""


def flow(*parts):
  return Flow(Graph(text.loads("\n".join(parts))))


def test_output_is_where_the_forward_pass_ends():
  assert ends.outputs(flow(NET, "r = Relu(h)")) == ["r"]


def test_what_the_loss_judges_is_an_output():
  assert ends.outputs(flow(NET, LOSS)) == ["h"]


def test_logits_and_probabilities_are_both_likely():
  found = ends.outputs(flow(NET, LOSS, "prob = Softmax(h)"))
  assert set(found) == {"h", "prob"}


def test_names_choose_between_what_is_alike():
  heads = "a = Relu(h)   predictions = Relu(h)"
  assert ends.outputs(flow(NET, heads))[0] == "predictions"


def test_summaries_and_accuracy_are_aside():
  aside = """
    axis = Const() {value=<int32 1>}   right = Placeholder() {dtype=int64}
    best = ArgMax(h, axis)   same = Equal(best, right)
    tag = Const() {value=<string "h">}   summary = HistogramSummary(tag, h)
  """
  assert set(ends.outputs(flow(NET, LOSS, aside))) == {"best", "h"}


def test_losses_by_hand_are_no_outputs():
  by_hand = """
    target = Placeholder() {shape=[?,2]}   d = Sub(h, target)
    s = Square(d)   c = Const() {value=<int32 [2] 0 1>}   cost = Mean(s, c)
  """
  assert ends.outputs(flow(NET, by_hand)) == ["h"]


def test_list_is_as_long_as_asked():
  heads = "  ".join(f"head{i} = Relu(h)" for i in range(20))
  assert len(ends.outputs(flow(NET, heads))) == ends.MOST
  assert len(ends.outputs(flow(NET, heads), most=3)) == 3


def test_graph_without_weights_has_no_likely_output():
  assert (
    ends.outputs(flow("x = Placeholder() {shape=[?,4]}   y = Neg(x)")) == []
  )


def test_inputs_are_features_and_then_what_was_prepared():
  prepared = NET.replace("MatMul(x,", "MatMul(p,") + "p = Neg(x)"
  assert ends.inputs(flow(NET, LOSS), ["h"]) == ["x"]
  assert ends.inputs(flow(prepared), ["h"]) == ["x", "p"]
  assert ends.inputs(flow(prepared), ["h"], most=1) == ["x"]


def test_inputs_of_more_axes_come_first():
  two = """
    v = Placeholder() {shape=[?]}   u = VariableV2() {shape=[2]}
    b = Mul(v, u)   s = Add(h, b)
  """
  assert ends.inputs(flow(two, NET), ["s"]) == ["x", "v"]


@pytest.mark.parametrize("wanted, found", [("s", ["phase"]), ("h", [])])
def test_settings_that_an_output_needs(wanted, found):
  phased = """
    phase = Placeholder() {shape=[], dtype=bool}   sw = Switch(h, phase)
    t = Neg(sw:1)   s = Merge(sw, t)
  """
  assert ends.settings(flow(NET, phased), [wanted]) == found
