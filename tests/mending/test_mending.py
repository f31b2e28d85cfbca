# SPDX-License-Identifier: Apache-2.0
"""What is malformed in a GraphDef is mended, for what is asked of it."""

import pytest

from bnexport import text
from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.mending import mending
from bnexport.tf1 import tf1

X = "x = Placeholder() {shape=[?,3]}\n"


def mend(graph, outputs=("y",), inputs=()):
  """Mends a graph in text; returns it, opened, and what was said."""
  graph_def = text.loads(graph)
  told = mending.mend(
    graph_def,
    Signatures(),
    [TensorRef.parse(name) for name in outputs],
    [TensorRef.parse(name) for name in inputs],
  )
  opened = Graph(graph_def)
  opened.lint()
  return opened, told


def test_sound_graph_stays():
  graph_def = text.loads(X + "c = NoOp()\ny = Relu(x, ^c)")
  before = graph_def.SerializeToString(deterministic=True)
  assert mending.mend(graph_def, Signatures(), [TensorRef("y")]) == []
  assert graph_def.SerializeToString(deterministic=True) == before


def test_control_inputs_move():
  graph, told = mend(X + "a = NoOp()\nb = NoOp()\ny = Add(^a, x, ^b, x)")
  assert [str(ref) for ref in graph.inputs("y")] == ["x", "x", "^a", "^b"]
  assert told == ["'y' has its control inputs behind its data inputs"]


def test_control_inputs_from_nowhere_go():
  graph, told = mend(X + "a = NoOp()\ny = Relu(^gone, x, ^a, ^lost)")
  assert [str(ref) for ref in graph.inputs("y")] == ["x", "^a"]
  assert told == [
    "'y' waits no more for 'gone', 'lost', which is not in the graph"
  ]


def test_equal_nodes_become_one():
  graph, told = mend(X + X + X + "y = Relu(x)")
  assert graph.names() == ["x", "y"]
  assert told == ["'x' was there more than once; one is kept"]


def test_different_nodes_of_one_name():
  with pytest.raises(GraphError) as refused:
    mend(X + "y = Relu(x)\ny = Tanh(x)")
  for word in ("'y'", "Relu", "Tanh", "; rename"):
    assert word in str(refused.value)


@pytest.mark.parametrize(
  "bad",
  [
    "b = Relu(gone)",
    "b = Sub(x)",
    "b = Relu(x:3)",
    "b = PartitionedCall(x) {Tin=(float), Tout=(float), f=gone{}}",
  ],
)
def test_unusable_nodes_go_where_no_output_needs_them(bad):
  graph, told = mend(X + bad + "\nc = Tanh(b)\nd = Neg(c)\ny = Relu(x, ^d)")
  assert graph.names() == ["x", "y"]
  assert graph.inputs("y") == [TensorRef("x")]
  assert len(told) == 1 and told[0].startswith("removed 'b', which ")


@pytest.mark.parametrize(
  "bad, words",
  [
    ("b = Relu(gone)", ["--meta_graph", "--input_node=gone"]),
    ("b = Relu(gone:2)", ["--meta_graph", "--input_node=gone:2"]),
    ("b = Sub(x)", ["--meta_graph", "--input_node=b", "takes 2"]),
    ("b = Relu(x:3)", ["--meta_graph", "--input_node=b", "'x:3'"]),
    (
      "b = PartitionedCall(x) {Tin=(float), Tout=(float), f=gone{}}",
      ["--meta_graph", "'gone'", "--input_node=b"],
    ),
  ],
)
def test_unusable_nodes_that_are_needed(bad, words):
  graph = X + bad + "\nc = Tanh(b)\ny = Relu(c)"
  with pytest.raises(GraphError) as refused:
    mend(graph)
  message = str(refused.value)
  assert message.startswith("cannot mend output 'y': 'b', which it needs, ")
  for word in words:
    assert word in message
  # The way out that it names is one.
  fed = [w.partition("=")[2] for w in words if w.startswith("--input_node=")]
  graph, _ = mend(graph, inputs=fed)
  assert "y" in graph


@pytest.mark.parametrize("ref, name", [("gone", "gone"), ("gone:2", "gone_2")])
def test_missing_input_that_is_fed(ref, name):
  statements = "a = Cast(%s) {SrcT=int32, DstT=float}\nb = Neg(%s) {T=int32}"
  graph, told = mend(statements % (ref, ref), ("a", "b"), [ref])
  assert graph.op(name) == "Placeholder"
  assert graph.node(name).attr["dtype"].type == tf1.int32.as_datatype_enum
  assert graph.inputs("a") == graph.inputs("b") == [TensorRef(name)]
  assert told[0] == (
    "'a' reads 'gone', which is not in the graph; it is a placeholder now"
  )
  assert mending.missing(text.loads(statements % (ref, ref)), [ref]) == {
    ref: name
  }


def test_fed_node_may_be_broken():
  """What it reads is of no use, and goes."""
  graph, told = mend(X + "b = Sub(x)\ny = Relu(b)", inputs=["b"])
  assert graph.inputs("y") == [TensorRef("b")]
  assert graph.inputs("b") == []
  assert told == []


def test_fed_node_keeps_its_inputs_where_they_are_sound():
  """Another of its outputs may be needed, and not be fed."""
  graph, _ = mend(
    X
    + """
    axis = Const() {value=<int32 1>}
    s = Split(axis, x) {num_split=3}
    y = Add(s, s:1)
    """,
    inputs=["s"],
  )
  assert graph.data_inputs("s") == [TensorRef("axis"), TensorRef("x")]


def test_what_is_behind_a_fed_node_is_not_needed():
  statements = X + "a = Relu(gone)\nb = Tanh(a)\ny = Neg(b)"
  graph, told = mend(statements, inputs=["b"])
  assert "y" in graph and "a" not in graph
  assert len(told) == 1


def test_clashes_are_left_to_transforms():
  graph, told = mend("v = Const() {value=<float 1>}\ny = AssignSub(v, v)")
  assert graph.names() == ["v", "y"]
  assert told == []


def test_placeholders_of_outputs_that_are_missing_have_their_number():
  assert mending.placeholder_name(TensorRef("a")) == "a"
  assert mending.placeholder_name(TensorRef("a", 2)) == "a_2"
  assert mending.missing(text.loads(X), ["x", "a", "a:2"]) == {
    "a": "a",
    "a:2": "a_2",
  }


@pytest.mark.parametrize(
  "reader, slot, dtype",
  [
    ("y = Relu(a) {T=half}", "a", tf1.float16),
    ("y = Gather(x, a) {Tindices=int64}", "a", tf1.int64),
    ("y = Switch(x, a)", "a", tf1.bool),
    ("y = Add(^c, x, a) {T=double}", "a", tf1.float64),
    ("y = Pack(x, a:1) {T=int32, N=2}", "a:1", tf1.int32),
  ],
)
def test_missing_tensors_have_the_dtype_that_is_read(reader, slot, dtype):
  node = text.loads(X + reader).node[1]
  found = Signatures().read_dtype(node, TensorRef.parse(slot))
  assert found == dtype.as_datatype_enum


def set_aside(graph, outputs=("y",), inputs=()):
  """Takes what can't be used out of a Graph in text; returns both."""
  opened = Graph(text.loads(X + graph))
  told = mending.set_aside(
    opened,
    Signatures(),
    [TensorRef.parse(name) for name in outputs],
    [TensorRef.parse(name) for name in inputs],
  )
  opened.lint()
  return opened, told


def test_sound_nodes_are_not_set_aside():
  graph, told = set_aside("y = Relu(x)\nz = Neg(x)")
  assert graph.names() == ["x", "y", "z"] and told == []


def test_unusable_nodes_and_their_readers_are_set_aside():
  graph, told = set_aside("b = Sub(x)\nc = Tanh(b)\ny = Relu(x, ^c)")
  assert graph.names() == ["x", "y"]
  assert graph.inputs("y") == [TensorRef("x")]
  (line,) = told
  assert line.startswith("removed 'b', which has 1 inputs, and its op Sub")


def test_unusable_nodes_that_an_output_needs_are_not_set_aside():
  with pytest.raises(GraphError, match="'b', which it needs") as refused:
    set_aside("b = Sub(x)\nc = Tanh(b)\ny = Relu(c)")
  assert "--input_node=b" in str(refused.value)


@pytest.mark.parametrize("fed", ["b", "c"])
def test_what_reads_a_fed_node_is_not_set_aside(fed):
  graph, told = set_aside("b = Sub(x)\nc = Tanh(b)\ny = Relu(c)", inputs=[fed])
  assert graph.inputs("y") == [TensorRef("c")]
  assert ("b" in graph) == (fed == "b")
  assert len(told) == (fed == "c")
