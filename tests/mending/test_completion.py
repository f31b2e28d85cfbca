# SPDX-License-Identifier: Apache-2.0
"""What a frozen graph has lost is given back from its training graph."""

import pytest
from judges.transforming import spelled

from bnexport import text
from bnexport.graph import Graph
from bnexport.graph.nodes import Signatures
from bnexport.mending.completion import complete, scope_of
from bnexport.tf1 import tf1

TRAINING = """
  x = Placeholder() {shape=[?,2]}   w = VariableV2() {shape=[2]}
  w/read = Identity(w)   h = Mul(x, w/read)   y = Relu(h)
  n = FusedBatchNorm(y, y, y, y, y) {is_training=true, epsilon=0.001}
  a = VariableV2() {shape=[2]}   u = AssignSub(a, h)   r = RefIdentity(a)
  call = PartitionedCall(x) {Tin=(float), Tout=(float), f=f{}}
  function f(x float) -> (y float = r:activations:0) { r = Relu(x) }
  function g(x float) -> (y float = x) {}
"""
FROZEN = """
  x = Placeholder() {shape=[?,2]}   w = Const() {value=<float [2] 3 4>}
  w/read = Identity(w)   h = Mul(x, w/read)   y = Relu(h)
"""


def completed(frozen, training=TRAINING):
  graph_def, training = text.loads(frozen), text.loads(training)
  before = training.SerializeToString(deterministic=True)
  done = complete(graph_def, training, Signatures())
  assert training.SerializeToString(deterministic=True) == before
  return graph_def, done


def graph_of(frozen):
  graph_def, done = completed(frozen)
  assert done.is_used
  return Graph(graph_def), done


def test_constants_are_variables_again_and_keep_their_values():
  graph, done = graph_of(FROZEN)
  assert graph.op("w") == "VariableV2"
  assert tf1.make_ndarray(done.held["w"]).tolist() == [3, 4]
  assert list(done.held) == ["w"]


def test_what_only_training_needs_is_added():
  graph, done = graph_of(FROZEN)
  assert spelled(graph, "u") == "AssignSub(a, h)"
  assert done.restored == []  # nobody missed it


@pytest.mark.parametrize(
  "lost",
  [
    "h = Mul(x, w/read)",
    "w/read = Identity(w)",
    "x = Placeholder() {shape=[?,2]}",
  ],
)
def test_nodes_that_are_missed_are_restored(lost):
  graph, done = graph_of(FROZEN.replace(lost, ""))
  name = lost.split()[0]
  assert done.restored == [name]
  assert graph.op(name) == lost.split("= ")[1].split("(")[0]


def test_functions_that_are_missed_are_restored():
  graph, done = graph_of(
    FROZEN + "call = PartitionedCall(x) {Tin=(float), Tout=(float), f=f{}}"
  )
  assert done.restored == ["f"]
  assert set(graph.library) == {"f", "g"}


def test_ops_that_were_renamed_are_what_they_were():
  """`float_ref` is mended on the web by taking the value."""
  graph, _ = graph_of(
    FROZEN
    + "a = Const() {value=<float [2] 0 0>}   u = Sub(a, h)   r = Identity(a)"
  )
  assert graph.op("u") == "AssignSub" and graph.op("r") == "RefIdentity"


@pytest.mark.parametrize(
  "edited, name, expected",
  [
    ("y = Tanh(h)", "y", "Tanh(h)"),
    ("y = Relu(x)", "y", "Relu(x)"),
  ],
)
def test_what_somebody_changed_stays_changed(edited, name, expected):
  graph, _ = graph_of(FROZEN.replace("y = Relu(h)", edited))
  assert spelled(graph, name) == expected


def test_attributes_that_somebody_set_stay_but_for_the_phase():
  graph, _ = graph_of(
    FROZEN
    + "n = FusedBatchNorm(y, y, y, y, y) {is_training=false, epsilon=0.5}"
  )
  assert graph.node("n").attr["is_training"].b
  assert graph.node("n").attr["epsilon"].f == 0.5


def test_graph_of_another_model_is_not_used():
  other = "a = Neg(b)   b = Placeholder()   c = Abs(a)"
  graph_def, done = completed(other)
  assert not done.is_used and done.held == {}
  assert graph_def == text.loads(other)


@pytest.mark.parametrize("others, is_used", [(2, True), (3, False)])
def test_half_of_a_graph_has_to_be_alike(others, is_used):
  new = "".join(f"   n{i} = Neg(x)" for i in range(others))
  frozen = "x = Placeholder() {shape=[?,2]}   y = Relu(x)" + new
  assert completed(frozen)[1].is_used == is_used


def test_graph_that_was_imported_below_a_scope():
  graph_def = text.loads(FROZEN)
  for node in graph_def.node:
    node.name = "import/" + node.name
    node.input[:] = ["import/" + name for name in node.input]
  done = complete(graph_def, text.loads(TRAINING), Signatures())
  graph = Graph(graph_def)
  assert done.is_used and list(done.held) == ["import/w"]
  assert spelled(graph, "import/u") == "AssignSub(import/a, import/h)"


@pytest.mark.parametrize(
  "names, expected",
  [
    (["a", "b", "c"], ("", 3)),
    (["s/a", "s/b", "c"], ("s/", 2)),
    (["s/t/a", "s/t/b", "s/c"], ("s/t/", 2)),
    (["x", "y"], ("", 0)),
    (["s/known/a"], ("s/", 1)),
  ],
)
def test_scope_below_which_most_is_known(names, expected):
  known = {"a", "b", "c", "known/a"}
  nodes = [tf1.NodeDef(name=name) for name in names]
  assert scope_of(nodes, lambda node, name: name in known) == expected
