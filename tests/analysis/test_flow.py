# SPDX-License-Identifier: Apache-2.0
"""What the forward pass is, and what is there to train it."""

import pytest

from bnexport import text
from bnexport.analysis.flow import Flow, is_setting, is_sink
from bnexport.graph import Graph, TensorRef

# A network, a loss with labels, and the gradient of the last product.
NET = """
  x = Placeholder() {shape=[?,4]}   labels = Placeholder() {shape=[?,2]}
  rate = Placeholder() {shape=[]}
  v = VariableV2() {shape=[4,3]}   v/read = Identity(v)
  w = VariableV2() {shape=[3,2]}   w/read = Identity(w)
  hidden = MatMul(x, v/read)   bent = Relu(hidden)
  logits = MatMul(bent, w/read)
  loss = SoftmaxCrossEntropyWithLogits(logits, labels)
  all = Const() {value=<int32 0>}   cost = Mean(loss, all)
  gradients/g = MatMul(bent, loss:1) {transpose_a=true}
  step = ApplyGradientDescent(w, rate, gradients/g)
"""


def flow(net=NET):
  return Flow(Graph(text.loads(net)))


def test_gradients_and_what_follows_from_them():
  assert flow().gradients == {"gradients/g", "step"}
  assert flow().derived == {"gradients/g", "step"}


def test_second_output_of_a_loss_is_its_gradient():
  found = flow(NET.replace("gradients/g", "product"))
  assert found.gradients == {"product", "step"}


def test_features_are_data_that_weights_are_applied_to():
  assert flow().features == [TensorRef("x")]


def test_labels_are_read_where_answers_are_judged():
  found = flow()
  reading = [name for name in found.order if found.reads_labels(name)]
  assert reading == ["loss", "cost"]


def test_forward_pass_has_rows_and_no_labels():
  found = flow()
  forward = {name for name in found.order if found.is_forward(name)}
  assert forward == {"hidden", "bent", "logits"}


def test_depth_counts_weights_on_the_way():
  found = flow()
  depths = [found.depth(name) for name in ("x", "hidden", "bent", "logits")]
  assert depths == [0, 1, 1, 2]


def test_data_are_raw_up_to_the_first_weights():
  found = flow(NET.replace("MatMul(x,", "MatMul(scaled,") + "scaled = Neg(x)")
  assert found.is_raw(TensorRef("x")) and found.is_raw(TensorRef("scaled"))
  assert not found.is_raw(TensorRef("hidden"))
  assert not found.is_raw(TensorRef("v/read"))
  assert found.prepared() == [TensorRef("scaled")]


def test_weights_of_a_product():
  found = flow()
  assert found.weights_of("hidden") == {"v"}
  assert found.weights_of("bent") == set()
  assert found.applies_weights("logits") and not found.applies_weights("bent")


def test_features_of_an_output_are_those_it_needs():
  found = flow(
    NET + "other = Placeholder() {shape=[?,4]}   o = MatMul(other, v/read)"
  )
  assert found.features == [TensorRef("x"), TensorRef("other")]
  assert found.features_of(["logits"]) == [TensorRef("x")]
  assert found.features_of(["o"]) == [TensorRef("other")]
  assert found.features_of(["rate"]) == []


def test_generators_start_from_random_numbers():
  found = flow("""
    n = Const() {value=<int32 [2] 8 4>}
    z = RandomStandardNormal(n) {_output_shapes=([8,4])}
    w = VariableV2() {shape=[4,2]}   y = MatMul(z, w)
  """)
  assert found.features == []
  assert found.is_forward("y")


@pytest.mark.parametrize(
  "op, is_one",
  [
    ("Assign", True),
    ("AssignSubVariableOp", True),
    ("SaveV2", True),
    ("HistogramSummary", True),
    ("ApplyAdam", True),
    ("ResourceApplyMomentum", True),
    ("QueueEnqueueV2", True),
    ("NoOp", True),
    ("Relu", False),
    ("QueueDequeueV2", False),
    ("Identity", False),
  ],
)
def test_sinks_are_run_for_what_they_do(op, is_one):
  assert is_sink(op) == is_one


@pytest.mark.parametrize(
  "attrs, reader, is_one",
  [
    ("{shape=[]}", "Mul(w, p)", True),
    ("{shape=[?]}", "Mul(w, p)", False),
    ("{shape=?}", "Mul(w, p)", True),  # a rate, as far as one sees
    ("{shape=?}", "MatMul(w, p)", False),
    ("{shape=?, dtype=bool}", "LogicalNot(p)", True),
    ("{shape=[1], dtype=bool}", "LogicalNot(p)", True),
    ("{shape=[?], dtype=bool}", "LogicalNot(p)", False),
    ("{shape=[], dtype=string}", "ReadFile(p)", False),
    ("{shape=[], dtype=string}", "Equal(p, p)", True),
  ],
)
def test_settings_are_no_data(attrs, reader, is_one):
  graph = Graph(
    text.loads(
      f"w = Const() {{value=<float [2,2] 1>}}   p = Placeholder() {attrs}"
      f"  y = {reader}"
    )
  )
  assert is_setting(graph, graph.node("p")) == is_one


def test_a_scope_called_gradients_makes_nothing_a_gradient():
  net = NET.replace("bent", "gradients/bent").replace("logits", "gradients/y")
  assert "gradients/y" in flow(net).gradients
  assert flow(net).derived == {"gradients/g", "step"}
