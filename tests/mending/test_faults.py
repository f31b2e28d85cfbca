# SPDX-License-Identifier: Apache-2.0
"""What is malformed in a GraphDef is found."""

import pytest

from bnexport import text
from bnexport.graph.nodes import Signatures
from bnexport.mending import faults
from bnexport.mending.faults import (
  ARITY,
  DANGLING,
  DUPLICATE,
  FUNCTION,
  ORDER,
  PORT,
  REFERENCE,
)

X = "x = Placeholder() {shape=[?,3]}\n"


def find(graph):
  return faults.find(text.loads(graph), Signatures())


def kinds(graph):
  return [(fault.kind, fault.node) for fault in find(graph)]


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
