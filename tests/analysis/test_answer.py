# SPDX-License-Identifier: Apache-2.0
"""The one output that can be meant, and doubts about it."""

import pytest
import zoo

from bnexport import sources, text
from bnexport.analysis import answer, ends
from bnexport.analysis.flow import Flow
from bnexport.graph import Graph
from bnexport.model.request import Request

NET = """
  x = Placeholder() {shape=[?,4]}   labels = Placeholder() {shape=[?,2]}
  w = VariableV2() {shape=[4,2]}   w/read = Identity(w)
  h = MatMul(x, w/read)   all = Const() {value=<int32 [2] 0 1>}
  first = Const() {value=<int32 1>}
"""
LOSS = (
  "loss = SoftmaxCrossEntropyWithLogits(h, labels)   cost = Mean(loss, all)"
)
# As tf.nn.sigmoid_cross_entropy_with_logits spells it out.
SIGMOID_LOSS = """
  zero = ZerosLike(h)   is_more = GreaterEqual(h, zero)
  most = Select(is_more, h, zero)   neg = Neg(h)   least = Select(is_more, neg, h)
  product = Mul(h, labels)   linear = Sub(most, product)   e = Exp(least)
  log = Log1p(e)   each = Add(linear, log)   cost = Mean(each, all)
"""
METRIC = """
  best = ArgMax(h, first)   right = ArgMax(labels, first)
  same = Equal(best, right)   ones = Cast(same)   accuracy = Mean(ones, all)
"""
SUMMARIES = """
  tag = Const() {value=<string "h">}   histogram = HistogramSummary(tag, h)
  mean = Mean(h, all)   scalar = ScalarSummary(tag, mean)
"""
# As tf.nn.softmax_cross_entropy_with_logits flattens its operands.
ROWS = """
  minus = Const() {value=<int32 [1] -1>}   axis = Const() {value=<int32 0>}
  size = Const() {value=<int32 [1] 2>}   shape = ConcatV2(minus, size, axis)
  rows = Reshape(h, shape)
  loss = SoftmaxCrossEntropyWithLogits(rows, labels)   cost = Mean(loss, all)
"""


def flow(*parts):
  return Flow(Graph(text.loads("\n".join(parts))))


@pytest.mark.parametrize(
  "parts, name",
  [
    (["r = Relu(h)"], "r"),
    ([LOSS], "h"),
    ([LOSS, METRIC, SUMMARIES], "h"),
    ([SIGMOID_LOSS], "h"),
    ([ROWS], "h"),
    (
      ["y = Tanh(h)   d = Sub(y, labels)   s = Square(d)  c = Mean(s, all)"],
      "y",
    ),
    (
      [
        "v = VariableV2() {shape=[2,4]}   v/read = Identity(v)",
        "y = MatMul(h, v/read)   d = Sub(y, x)   s = Square(d)",
        "c = Mean(s, all)",
      ],
      "y",
    ),
  ],
)
def test_the_one_that_can_be_meant(parts, name):
  assert answer.only_output(flow(NET, *parts)) == name


BY_HAND = """
  p = Softmax(h)   l = Log(p)   m = Mul(l, labels)   s = Sum(m, all)
"""
DOUBTS = {
  "two ends": ["a = Relu(h)   b = Tanh(h)"],
  "logits and probabilities": [LOSS, "p = Softmax(h)"],
  "classes that nothing compares": [LOSS, "best = ArgMax(h, first)"],
  "a cross entropy by hand": [BY_HAND],
  "a mask that is applied": ["y = Mul(h, labels)"],
  "a mask before the labels": [
    "other = Placeholder() {shape=[?,2]}   y = Mul(h, labels)",
    "d = Sub(y, other)   s = Square(d)   c = Mean(s, all)",
  ],
  "a loss without labels": ["s = Square(h)   c = Mean(s, all)"],
  "a positive answer": ["y = Softplus(h)   c = Mean(y, all)"],
  "two that are compared": [
    "v = VariableV2() {shape=[4,2]}   v/read = Identity(v)",
    "g = MatMul(x, v/read)   e = Sub(g, labels)   t = Square(e)",
    "cost2 = Mean(t, all)",
    LOSS,
  ],
  "another answer from the same": [
    LOSS,
    "more = Placeholder() {shape=[?,2]}   y = Exp(h)   d = Sub(y, more)",
    "s = Square(d)   c = Mean(s, all)",
  ],
  "several outputs of one op": [
    "k = Const() {value=<int32 1>}   t = TopKV2(h, k)"
  ],
  "an error for each row": ["d = Sub(h, labels)   s = Square(d)"],
  "no weights": ["n = Neg(x)   m = Neg(labels)"],
}


@pytest.mark.parametrize("doubt", sorted(DOUBTS))
def test_where_two_are_plausible_none_is_taken(doubt):
  net = NET
  if doubt == "no weights":
    net = NET.replace("h = MatMul(x, w/read)", "")
  assert answer.only_output(flow(net, *DOUBTS[doubt])) is None


def test_what_is_inside_of_the_loss_is_not_likely():
  assert ends.outputs(flow(NET, SIGMOID_LOSS)) == ["h"]
  assert ends.outputs(flow(NET, ROWS)) == ["h"]
  likely = ends.outputs(flow(NET, BY_HAND))
  assert likely.index("p") < likely.index("l")


def test_no_other_is_taken_in_the_zoo(cases, part):
  """Most training graphs need no asking, and none gets another output."""
  taken, some = 0, part(zoo.names(), 8, 6)
  for name in some:
    if "recursion" in name:  # it does not open
      continue
    case = cases(name)
    request = Request("meta_graph", case.prefix + ".meta")
    found = answer.only_output(Flow(sources.open(request).graph))
    assert found in (None, case.output), name
    taken += found is not None
  assert taken > len(some) * 2 // 3
