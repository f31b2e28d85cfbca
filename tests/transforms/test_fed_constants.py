# SPDX-License-Identifier: Apache-2.0
"""What is named as an input may be fed, also where it is a constant."""

import numpy as np
import pytest
from judges.transforming import answers, model_of, nodes, transformed

NET = """
  x = Placeholder() {shape=[1,2,2,1]}
  w = Const() {value=<float [1,1,1,2] 1 2>}
  c = Conv2D(x, w) {strides=(1, 1, 1, 1), padding=SAME}
  g = Const() {value=<float [2] 1 2>}   b = Const() {value=<float [2] 0 1>}
  m = Const() {value=<float [2] 1 -1>}   v = Const() {value=<float [2] 4 1>}
"""
FUSED = NET + "y = %s(c, g, b, m, v) {is_training=false, epsilon=0.001}"
SPELLED = (
  NET
  + """
  e = Const() {value=<float 0.001>}   ve = Add(v, e)   r = Rsqrt(ve)
  s = Mul(r, g)   cs = Mul(c, s)   ms = Mul(m, s)   o = Sub(b, ms)
  y = Add(cs, o)
"""
)
X = np.float32([1, -2, 3, 4]).reshape(1, 2, 2, 1)
SPECS = (
  "fold_batch_norms",
  "fold_old_batch_norms",
  "fold_constants fold_batch_norms",
  "remove_neutral_arithmetic",
  "round_weights(num_steps=2)",
  "quantize_weights(minimum_size=2)",
  "optimize_for_inference",
)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", ["m", "v", "g", "b", "w", "ve"])
@pytest.mark.parametrize(
  "graph", [FUSED % "FusedBatchNorm", FUSED % "FusedBatchNormV3", SPELLED]
)
def test_it_is_not_counted_on(graph, name, spec):
  if name == "ve" and graph is not SPELLED:
    name = "v"
  before = model_of(graph)
  fed = {"x": X, name: np.float32([7, 5])}
  if name == "w":
    fed[name] = np.float32([7, 5]).reshape(1, 1, 1, 2)
  model = transformed(graph, spec, inputs=["x", name])
  assert name in model.graph
  right = answers(before, fed)[0]
  found = answers(model, fed)[0]
  # What is not fed may be rounded by what rounds.
  limit = 0.5 if "weights" in spec else 1e-5
  assert np.abs(found - right).max() <= limit * np.abs(right).max()


@pytest.mark.parametrize("spec", SPECS[:6])
def test_it_is_what_it_was_again(spec):
  model = transformed(SPELLED, spec, inputs=["x", "m"])
  assert nodes(model)["m"] == nodes(model_of(SPELLED))["m"]
  assert not [n for n in model.graph.names() if n.endswith("/default")]


def test_what_constants_lead_to_is_computed_where_it_is_not_fed():
  model = transformed(SPELLED, "fold_constants", inputs=["x", "ve"])
  assert np.allclose(model.array("ve"), [4.001, 1.001])
  assert model.graph.op("r") == "Rsqrt"


def test_it_becomes_a_placeholder_where_that_is_asked_for():
  model = transformed(SPELLED, "strip_unused_nodes", inputs=["x", "ve"])
  assert model.graph.op("ve") == "Placeholder"
  assert "v" not in model.graph


def test_other_inputs_stay_what_they_are():
  model = transformed(SPELLED, "fold_batch_norms", inputs=["x"])
  assert model.graph.op("y") == "BiasAdd"
