# SPDX-License-Identifier: Apache-2.0
"""Reading variables in a graph: by reference, by handle, by value."""

import numpy as np
import pytest
from judges.graphs import assert_sound
from judges.transforming import spelled

from bnexport import text
from bnexport.graph import Graph, TensorRef, variables
from bnexport.graph.nodes import type_attr
from bnexport.tf1 import session, tf1

BOTH = """
  v = VariableV2() {shape=[2]}   r = Identity(v)
  h = VarHandleOp() {shape=[2], dtype=half, shared_name="h"}
  q = ReadVariableOp(h) {dtype=half}   p = Placeholder() {dtype=bool}
  s = RefSwitch(v, p)   m = RefMerge(s, s:1)   t = Switch(h, p)
  u = Switch(r, p)   n = Neg(r)
  c = Const() {value=<float [2] 1 2>}   d = Identity(c)
"""


def graph(statements=BOTH):
  return Graph(text.loads(statements))


@pytest.mark.parametrize(
  "ref, variable",
  [
    ("v", "v"),
    ("r", "v"),
    ("h", "h"),
    ("q", "h"),
    ("s:1", "v"),
    ("m", "v"),
    ("t:1", "h"),
    ("u", "v"),
    ("n", None),
    ("d", None),
    ("p", None),
  ],
)
def test_variable_that_a_tensor_is_handed_on_from(ref, variable):
  assert variables.variable_of(graph(), TensorRef.parse(ref)) == variable


@pytest.mark.parametrize("ref, name", [("c", "c"), ("d", "c"), ("r", None)])
def test_constant_that_a_tensor_is_handed_on_from(ref, name):
  assert variables.constant_of(graph(), TensorRef.parse(ref)) == name


def test_loops_are_walked_once():
  looped = graph("""
    e = Enter(v) {frame_name="f"}   m = Merge(n, e)   n = NextIteration(m)
    v = VariableV2() {shape=[2]}
  """)
  assert variables.variable_of(looped, TensorRef("m")) is None


@pytest.mark.parametrize(
  "ref, is_one",
  [
    ("v", True),
    ("s", True),
    ("m", True),
    ("h", True),
    ("t:1", True),
    ("r", False),
    ("q", False),
    ("u", False),
    ("c", False),
  ],
)
def test_references_and_handles_are_no_values(ref, is_one):
  assert variables.is_reference(graph(), TensorRef.parse(ref)) == is_one


def test_dtype_is_that_of_the_value():
  assert variables.variable_dtype(graph(), "v") == tf1.float32.as_datatype_enum
  assert variables.variable_dtype(graph(), "h") == tf1.float16.as_datatype_enum


def test_reads_that_are_there_are_used():
  found = graph()
  size = len(found)
  assert variables.read(found, "v") == TensorRef("r")
  assert variables.read(found, "h") == TensorRef("q")
  assert len(found) == size


def test_reads_are_added_as_tensorflow_names_them():
  found = graph("""
    v = VariableV2() {shape=[2]}   w = VariableV2() {shape=[2]}
    late = Identity(w, ^v)   h = VarHandleOp() {shape=[2], dtype=half}
  """)
  assert variables.read(found, "v") == TensorRef("v/read")
  # One that waits for something is another value.
  assert variables.read(found, "w") == TensorRef("w/read")
  assert variables.read(found, "h") == TensorRef("h/Read/ReadVariableOp")
  assert spelled(found, "v/read") == "Identity(v)"
  assert spelled(found, "h/Read/ReadVariableOp") == "ReadVariableOp(h)"
  assert found.node("h/Read/ReadVariableOp").attr["dtype"] == type_attr(
    tf1.float16
  )
  assert variables.own_read(found, "h") == variables.read(found, "h")
  assert_sound(found)


def test_reader_of_its_own_name_is_added_beside_others():
  found = graph()
  assert variables.own_read(found, "h") == TensorRef("h/Read/ReadVariableOp")
  assert found.readers("h") == ["q", "t", "h/Read/ReadVariableOp"]


def test_node_that_becomes_a_resource_variable_is_read_as_before():
  found = graph("c = Const() {value=<float [2] 1 2>}   y = Neg(c)   z = Abs(c)")
  shape = tf1.TensorShape([2]).as_proto()
  variables.become_resource(found, "c", tf1.float32, shape)
  read = "c/Read/ReadVariableOp"
  assert found.op("c") == "VarHandleOp"
  assert found.node("c").attr["shared_name"].s == b"c"
  assert spelled(found, "y") == f"Neg({read})"
  assert spelled(found, "z") == f"Abs({read})"
  assert_sound(found)


@pytest.mark.parametrize("name, dtype", [("v", "float32"), ("h", "float16")])
def test_assignments_set_variables(name, dtype):
  value = np.array([3, 4], dtype)
  found = graph()
  imported = found.to_tf_graph()
  with imported.as_default(), session(imported) as running:
    assign, holder = variables.assignment(imported, found.node(name))
    running.run(assign, {holder: value})
    read = running.run({"v": "r:0", "h": "q:0"}[name])
  assert read.dtype == value.dtype and (read == value).all()


@pytest.mark.parametrize(
  "readers, variable, expected",
  [
    ("r = Identity(v)  n = Neg(v)", "v", True),
    ("q = ReadVariableOp(h)", "h", True),
    ("c = Const() {value=<float [2] 1 2>}  u = Assign(v, c)", "v", False),
    ("p = Placeholder() {dtype=bool}  s = RefSwitch(v, p)", "v", False),
    ("p = Placeholder() {dtype=bool}  t = Switch(h, p)", "h", False),
    ("u = Unknown(v)", "v", False),
  ],
)
def test_variables_that_are_only_read(readers, variable, expected):
  variables_of_both = """
    v = VariableV2() {shape=[2]}
    h = VarHandleOp() {shape=[2], shared_name="h"}
  """
  found = variables.is_only_read(graph(variables_of_both + readers), variable)
  assert found is expected
