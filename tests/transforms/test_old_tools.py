# SPDX-License-Identifier: Apache-2.0
"""What the tests of TensorFlow's own tools expect, and once fell short here."""

import numpy as np
import pytest
from judges.transforming import answers, model_of, transformed

import bnexport
from bnexport import editing, text
from bnexport.errors import GraphError
from bnexport.graph import Graph
from bnexport.tf1 import session, tf1

FAKE = """
  x = Placeholder() {shape=[2]}   a = Const() {value=<float 0>}
  b = Const() {value=<float 1>}   f = FakeQuantWithMinMaxVars(x, a, b)
  y = Relu(f)
"""


@pytest.mark.parametrize(
  "product",
  [
    """
    x = Const() {value=<float [1,2,1,2] 1 2 3 4>}
    k = Const() {value=<float [1,1,2,2] 1 2 3 4>}
    c = Conv2D(x, k) {strides=(1, 1, 1, 1), padding=VALID}
    """,
    """
    x = Const() {value=<float [2,2] 1 2 3 4>}
    k = Const() {value=<float [2,2] 1 2 3 4>}
    c = MatMul(x, k)
    """,
  ],
)
def test_products_of_constants_are_folded(product):
  """Their data is a Const in the Graph Transform Tool's own tests."""
  graph = product + "m = Const() {value=<float [2] 2 3>}   y = Mul(c, m)"
  before, after = model_of(graph), transformed(graph, "fold_batch_norms")
  assert after.graph.op("y") == before.graph.op("c")
  assert np.allclose(answers(after)[0], answers(before)[0])


def test_removed_nodes_wait_for_no_constant():
  graph = """
    x = Placeholder() {shape=[2]}   k = Const() {value=<float 1>}
    i = Identity(x, ^k)   a = Add(i, k)   y = Relu(a)
  """
  model = transformed(graph, "remove_nodes(op=Identity)", inputs=["x"])
  assert list(map(str, model.graph.inputs("a"))) == ["x", "k"]


def test_what_only_removed_nodes_read_goes():
  spec = "remove_nodes(op=FakeQuantWithMinMaxVars, max_inputs=3)"
  model = transformed(FAKE, spec, inputs=["x"])
  assert set(model.graph.names()) == {"x", "y"}
  model = transformed(FAKE, spec, inputs=["x", "a"])
  assert set(model.graph.names()) == {"x", "a", "y"}


def test_rewiring_refuses_another_shape():
  graph = Graph(
    text.loads("""
    x = Placeholder() {shape=[?,2]}   z = Placeholder() {shape=[4,3]}
    w = Placeholder() {shape=[4,2]}   y = Relu(x)
  """)
  )
  with pytest.raises(GraphError, match="Reshape"):
    editing.reroute(graph, {"x": "z"})
  editing.reroute(graph, {"x": "w"})
  assert str(graph.inputs("y")[0]) == "w"


def test_a_text_is_one_name():
  graph = text.loads("x1 = Placeholder()   y1 = Relu(x1)")
  model = bnexport.load(graph, outputs="y1", inputs="x1")
  assert list(map(str, model.outputs + model.inputs)) == ["y1", "x1"]


def test_a_session_holds_the_values_of_a_graph_def():
  with tf1.Graph().as_default() as graph:
    v = tf1.get_variable("v", [2], use_resource=False)
    tf1.add(tf1.placeholder(tf1.float32, [2]), v, name="y")
    with session(graph) as running:
      running.run(v.assign([3.0, 4.0]))
      model = bnexport.load(
        graph.as_graph_def(), outputs=["y"], session=running
      )
  assert model.values["v"].tolist() == [3, 4]
