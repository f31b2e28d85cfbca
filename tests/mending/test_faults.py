# SPDX-License-Identifier: Apache-2.0
"""What is malformed in a GraphDef is found, and mended where it can be."""

import pytest

from bnexport import text
from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.mending import faults, mending
from bnexport.mending.faults import (
  ARITY,
  DANGLING,
  DUPLICATE,
  FUNCTION,
  ORDER,
  PORT,
  REFERENCE,
)
from bnexport.tf1 import tf1

X = "x = Placeholder() {shape=[?,3]}\n"


def find(graph):
  return faults.find(text.loads(graph), Signatures())


def kinds(graph):
  return [(fault.kind, fault.node) for fault in find(graph)]


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


# Finding.


@pytest.mark.parametrize(
  "graph, found",
  [
    (X + "y = Relu(x)", []),
    (X + "x = Placeholder()\ny = Relu(x)", [(DUPLICATE, "x")]),
    (X + "y = Relu(h)", [(DANGLING, "y")]),
    (X + "y = Relu(x, ^h)", [(DANGLING, "y")]),
    (X + "y = Add(h, h)", [(DANGLING, "y")]),
    (X + "y = Add(h, h:1)", [(DANGLING, "y"), (DANGLING, "y")]),
    (X + "c = NoOp()\ny = Relu(^c, x)", [(ORDER, "y")]),
    (X + "y = Relu(^h, x)", [(ORDER, "y"), (DANGLING, "y")]),
    (X + "y = Sub(x)", [(ARITY, "y")]),
    (X + "y = Relu(x, x)", [(ARITY, "y")]),
    (X + "y = Relu()", [(ARITY, "y")]),
    (X + "y = ConcatV2(x, x) {N=2}", [(ARITY, "y")]),
    (X + "y = Relu(x:1)", [(PORT, "y")]),
    (X + "y = Nobody(x:1, x, ^x) {f=1}", [(PORT, "y")]),
    (X + "h = Nobody(x)\ny = Relu(h:7)", []),
    (
      X + "y = PartitionedCall(x) {Tin=(float), Tout=(float), f=gone{}}",
      [(FUNCTION, "y")],
    ),
    ("v = Const() {value=<float 1>}\nu = AssignSub(v, v)", [(REFERENCE, "u")]),
    ("v = VariableV2() {shape=[]}\nu = AssignSub(v, v)", []),
    (
      "v = VariableV2() {shape=[]}\nr = Identity(v)\nu = AssignSub(r, r)",
      [(REFERENCE, "u")],
    ),
    (
      "v = VariableV2() {shape=[]}\np = Const() {value=<bool true>}\n"
      "s = RefSwitch(v, p)\nu = AssignSub(s:1, v)",
      [],
    ),
    (
      "v = Const() {value=<float 1>}\ny = ReadVariableOp(v)",
      [(REFERENCE, "y")],
    ),
    ("v = VarHandleOp() {shape=[]}\ny = ReadVariableOp(v)", []),
    (
      "v = Const() {value=<float 1>}\ny = AssignSubVariableOp(v, v)",
      [(REFERENCE, "y")],
    ),
  ],
)
def test_find(graph, found):
  assert kinds(graph) == found


def test_fault_says_what_it_is_about():
  (fault,) = find(X + "y = Relu(h:2)")
  assert (fault.subject, fault.fact) == (
    "h:2",
    "reads 'h', which is not in the graph",
  )
  (fault,) = find(X + "y = Relu(x, ^h)")
  assert (fault.subject, fault.fact) == (
    "^h",
    "waits for 'h', which is not in the graph",
  )
  (fault,) = find("v = Const() {value=<float 1>}\nu = AssignSub(v, v)")
  assert fault.fact == (
    "takes a variable's reference as its input 'ref' and gets the value of 'v'"
  )


def test_function_in_the_library_is_there():
  assert not find(
    X
    + """
    y = PartitionedCall(x) {Tin=(float), Tout=(float), f=double{}}
    function double(x float) -> (z float = sum:z:0) {
      sum = AddV2(x, x)
    }
    """
  )


def test_finding_leaves_the_graph_alone():
  graph_def = text.loads(X + "y = Sub(^c, x)\ny = Relu(h)")
  before = graph_def.SerializeToString(deterministic=True)
  assert faults.find(graph_def, Signatures())
  assert graph_def.SerializeToString(deterministic=True) == before


# Mending.


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
  graph, told = mend(X + "b = Sub(x)\ny = Relu(b)", inputs=["b"])
  assert graph.inputs("y") == [TensorRef("b")]
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
