# SPDX-License-Identifier: Apache-2.0
"""Ends of a SavedModel's graph are called as its signature calls them."""

import pytest
from judges.transforming import spelled

from bnexport import text
from bnexport.graph import Graph
from bnexport.graph.nodes import Signatures
from bnexport.sources.saved_model_file import SavedModel
from bnexport.sources.signature import by_signature

# As TensorFlow 2 writes them.
CALLED = """
  serving_default_x = Placeholder() {shape=[?,2]}
  StatefulPartitionedCall = StatefulPartitionedCall(serving_default_x)
    {Tin=(float), Tout=(float, int64), f=f{}}
  %s
  function f(x float) -> (a float = x, b int64 = c:y:0) {
    c = Cast(x) {DstT=int64}
  }
"""
PLAIN = "x = Placeholder() {shape=[?,2]}   h = Neg(x)   y = Relu(h)"


def saved(graph, inputs, outputs):
  return SavedModel(
    graph_def=text.loads(graph),
    signatures=Signatures(),
    inputs=inputs,
    outputs=outputs,
    signature="serving_default",
    tags=("serve",),
    variables=None,
    assets={},
    definitions={},
    initializer=None,
  )


def called(more="", **ends):
  model = saved(
    CALLED % more,
    {"x": "serving_default_x:0"},
    {
      "logits": "StatefulPartitionedCall:0",
      "label": "StatefulPartitionedCall:1",
    },
  )
  found = by_signature(model, **ends)
  return found, Graph(found.graph_def)


def test_ends_of_calls_get_the_signatures_names():
  found, graph = called()
  assert found.inputs == {"x": "x"}
  assert found.outputs == {"logits": "logits", "label": "label"}
  call = "StatefulPartitionedCall"
  assert spelled(graph, "logits") == f"Identity({call})"
  assert spelled(graph, "label") == f"Identity({call}:1)"
  assert graph.node("label").attr["T"].type == 9  # int64
  assert spelled(graph, call) == f"{call}(x)"


def test_outputs_that_a_user_chooses():
  found, graph = called(outputs=["label"])
  assert found.outputs == {"label": "label"} and "logits" not in graph


def test_outputs_that_a_user_calls_as_the_graph_does_stay():
  found, graph = called(outputs=["StatefulPartitionedCall:1"])
  assert found.outputs == {
    "StatefulPartitionedCall:1": "StatefulPartitionedCall:1"
  }
  assert "label" not in graph and "serving_default_x" in graph


def test_inputs_that_a_user_chooses_by_the_signature():
  found, _ = called(inputs=["x"])
  assert found.inputs == {"x": "x"}
  found, graph = called(inputs=["serving_default_x"])
  assert found.inputs == {"serving_default_x": "serving_default_x"}
  assert "serving_default_x" in graph


def test_names_that_are_taken():
  found, graph = called("logits = NoOp()")
  assert found.outputs["logits"] == "serving_default_logits"
  assert graph.op("logits") == "NoOp"
  found, _ = called("logits = NoOp()   serving_default_logits = NoOp()")
  assert found.outputs["logits"] == "StatefulPartitionedCall:0"


def test_ends_of_tensorflow_1_stay():
  found = by_signature(saved(PLAIN, {"image": "x:0"}, {"scores": "y:0"}))
  assert found.inputs == {"image": "x:0"}
  assert found.outputs == {"scores": "y:0"}
  assert found.graph_def == text.loads(PLAIN)


@pytest.mark.parametrize(
  "outputs, expected",
  [
    (["scores"], {"scores": "y:0"}),
    (["h"], {"h": "h"}),
    ([" y "], {"y": "y"}),
    (["h", "scores"], {"h": "h", "scores": "scores"}),
  ],
)
def test_names_of_the_graph_go_before_those_of_the_signature(outputs, expected):
  found = by_signature(
    saved(PLAIN, {"image": "x:0"}, {"scores": "y:0"}), outputs
  )
  assert found.outputs == expected


def test_key_that_is_a_node_means_the_node():
  found = by_signature(saved(PLAIN, {"x": "x:0"}, {"h": "y:0"}), ["h"])
  assert found.outputs == {"h": "h"}


def test_key_that_is_no_name_of_a_node():
  model = saved(
    CALLED % "",
    {"x": "serving_default_x:0"},
    {"a b": "StatefulPartitionedCall:0"},
  )
  found = by_signature(model)
  assert found.outputs == {"a b": "StatefulPartitionedCall:0"}
