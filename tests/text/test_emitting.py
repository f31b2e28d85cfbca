# SPDX-License-Identifier: Apache-2.0
"""Emitter: what a text says is added, and nothing besides."""

from __future__ import annotations

import numpy as np
import pytest
from judges.counting import assert_linear, lines
from judges.documented import failures
from judges.graphs import assert_sound

from bnexport import text
from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef, op_history
from bnexport.graph.nodes import Signatures, tensor_attr, type_attr
from bnexport.text import emitting
from bnexport.tf1 import OpDef, tf1


def graph_of(statements):
  return Graph(text.loads(statements))


def said(graph, *names):
  """The nodes as text, with all of their attributes."""
  return text.dumps([graph.node(name) for name in names]).splitlines()[1:]


@pytest.fixture
def graph():
  return graph_of(
    """
    x = Placeholder() {dtype=double}   n = Placeholder() {dtype=int32}
    s = Split(n, x) {num_split=3}      y = Neg(s:2, ^n)   z = Abs(y)
    """
  )


def test_example():
  failed, attempted = failures(emitting.__doc__, {})
  assert attempted and not failed


def test_nodes_lie_below_a_scope_and_have_what_their_inputs_tell(graph):
  made = text.Emitter(graph).emit(
    "scope",
    """
    shape = Shape(a) {out_type=int32}
    many = Pack(a, b, a)
    mixed = IdentityN(a, n, shape)
    """,
    a="s:2",
    b=TensorRef("x"),
    n="n",
  )
  assert made == {
    key: TensorRef("scope/" + key) for key in ("shape", "many", "mixed")
  }
  assert said(graph, *(ref.node for ref in made.values())) == [
    "scope/shape = Shape(s:2) {T=double, out_type=int32}",
    "scope/many = Pack(s:2, x, s:2) {N=3, T=double}",
    "scope/mixed = IdentityN(s:2, n, scope/shape) {T=(double, int32, int32)}",
  ]
  assert_sound(graph)


def test_no_scope_and_names_that_are_taken(graph):
  emit = text.Emitter(graph).emit
  assert emit("", "y = Relu(x)   z = Relu(y)", x="x") == {
    "y": TensorRef("y_1"),
    "z": TensorRef("z_1"),
  }
  assert list(graph.node("z_1").input) == ["y_1"]
  assert emit("z", "y = Relu(x)", x="x") == {"y": TensorRef("z/y")}


def test_what_words_stand_for(graph):
  more = {
    "strides": tf1.AttrValue(list={"i": [1, 2, 2, 1]}),
    "padding": tf1.AttrValue(s=b"SAME"),
  }
  made = text.Emitter(graph).emit(
    "",
    """
    sum = AddN(parts, x, none)
    second = op(first:1, ^waits, ^sum, ^none)
    pool = MaxPool(x) {padding=VALID, ksize=$sizes}
    """,
    parts=["s", "s:1"],
    x="x",
    none=None,
    op="Sqrt",
    first=TensorRef("s"),
    waits=[TensorRef("n", 0, True), "y"],
    pool=more,
    sizes=(1, 3, 3, 1),
  )
  assert said(graph, *(ref.node for ref in made.values())) == [
    "sum = AddN(s, s:1, x) {N=3, T=double}",
    "second = Sqrt(s:1, ^n, ^y, ^sum) {T=double}",
    'pool = MaxPool(x) {T=double, ksize=(1, 3, 3, 1), padding="VALID", strides=(1, 2, 2, 1)}',
  ]
  assert_sound(graph)


@pytest.mark.parametrize(
  "bound, value",
  [
    (True, "true"),
    (3, "3"),
    (0.5, "0.5"),
    (b"a b", '"a b"'),
    (tf1.float16, "half"),
    ([1, 2], "(1, 2)"),
    (np.float32(2), "<float 2>"),
    (np.array([[1, 2]], np.int64), "<int64 [1,2] 1 2>"),
    (np.bool_(True), "<bool true>"),
    (tensor_attr(1, tf1.bfloat16), "<bfloat16 1>"),
    (type_attr(tf1.string), "string"),
  ],
)
def test_values_of_attributes(bound, value):
  graph = Graph(tf1.GraphDef())
  text.Emitter(graph).emit("", "a = Ours() {key=$value}", value=bound)
  assert said(graph, "a") == ["a = Ours() {key=%s}" % value]


def test_become_keeps_readers_and_what_it_waited_for(graph):
  made = text.Emitter(graph).become(
    "y",
    """
    half = Const() {value=$half}
    scaled = Mul(a, half)
    result = Square(scaled, ^waits)
    """,
    a="s:1",
    half=np.float64(0.5),
  )
  assert made == {
    "half": TensorRef("y/half"),
    "scaled": TensorRef("y/scaled"),
    "result": TensorRef("y"),
  }
  assert said(graph, "y/half", "y/scaled", "y") == [
    "y/half = Const() {dtype=double, value=<double 0.5>}",
    "y/scaled = Mul(s:1, y/half) {T=double}",
    "y = Square(y/scaled, ^n) {T=double}",
  ]
  assert graph.readers("y") == ["z"]
  assert_sound(graph)


def test_become_drops_what_the_text_does_not_say(graph):
  graph.node("y").attr["_note"].i = 3
  emitter = text.Emitter(graph)
  emitter.become("y", "y = Identity(a)", a="x")
  assert said(graph, "y") == ["y = Identity(x) {T=double}"]
  emitter.become("y", "y = Identity(a, ^waits)", a="x", waits=["^n"])
  assert said(graph, "y") == ["y = Identity(x, ^n) {T=double}"]


def test_constants_are_pinned_where_there_are_loops(graph):
  notation = """
    one = Const(^x) {value=<float 1>}   two = Const(^waits) {value=<float 2>}
    sum = Add(one, two, ^x)
  """
  waits = graph.control_inputs("y")
  text.Emitter(graph).emit("pinned", notation, x="x", waits=waits)
  text.Emitter(graph, pins=False).emit("free", notation, x="x", waits=waits)
  assert [
    list(graph.node(f"{scope}/{name}").input)
    for scope in ("pinned", "free")
    for name in ("one", "two")
  ] == [
    ["^x"],
    ["^n"],
    [],
    ["^n"],
  ]
  assert graph.control_inputs("free/sum") == [TensorRef("x", 0, True)]


def test_what_an_op_got_later_stays_out_where_it_is_as_before():
  graph = graph_of(
    "n = Placeholder() {dtype=int32}   m = Placeholder() {dtype=int64}   x = Placeholder()"
  )
  notation = "y = Fill(dims, x)"
  assert op_history.default("Fill", "index_type") == type_attr(tf1.int32)
  emit = text.Emitter(graph).emit
  emit("a", notation, dims="n", x="x")
  emit("b", notation, dims="m", x="x")
  assert said(graph, "a/y", "b/y") == [
    "a/y = Fill(n, x) {T=float}",
    "b/y = Fill(m, x) {T=float, index_type=int64}",
  ]


def test_defaults_stay_out_and_tell_types_all_the_same():
  graph = graph_of(
    "x = Placeholder() {dtype=quint8}   a = Placeholder()   b = Placeholder()"
  )
  text.Emitter(graph).emit(
    "",
    "r = QuantizedRelu(x, a, b)   s = QuantizedRelu(r, r:1, r:2)",
    x="x",
    a="a",
    b="b",
  )
  # QuantizedRelu's out_type is quint8 where it says nothing.
  assert said(graph, "r", "s") == [
    "r = QuantizedRelu(x, a, b) {Tinput=quint8}",
    "s = QuantizedRelu(r, r:1, r:2) {Tinput=quint8}",
  ]


def test_ops_of_the_file_and_of_the_library():
  ours = OpDef(name="Ours")
  ours.input_arg.add(name="a", type_attr="T")
  ours.output_arg.add(name="b", type_attr="T")
  ours.attr.add(name="T", type="type")
  graph = graph_of(
    """
    function f(a half, b int32) -> (y half = a, z int32 = b) { }
    x = Placeholder() {dtype=half}   n = Placeholder() {dtype=int32}
    """
  )
  notation = (
    "o = Ours(x)   c = f(o, n)   y = Abs(c:1)   u = Unknown(y)   z = Abs(u)"
  )
  text.Emitter(graph, Signatures([ours])).emit("", notation, x="x", n="n")
  assert said(graph, "o", "c", "y", "u", "z")[-5:] == [
    "o = Ours(x) {T=half}",
    "c = f(o, n)",
    "y = Abs(c:1) {T=int32}",
    "u = Unknown(y)",
    "z = Abs(u)",
  ]


@pytest.mark.parametrize(
  "notation, error",
  [
    ("y = Relu(nothing)", KeyError),
    ("y = Relu(x) {key=$nothing}", KeyError),
    ("y = Relu(later)   later = Relu(x)", KeyError),
    ("y = Relu(gone)", GraphError),
    ("y = Relu(x", GraphError),
  ],
)
def test_texts_that_say_nothing(graph, notation, error):
  before = graph.to_graph_def()
  with pytest.raises(error):
    text.Emitter(graph).emit("", notation, x="x", gone="no/such/node")
  assert graph.to_graph_def() == before
  assert_sound(graph)


NORM = """
  epsilon = Const(^x) {value=<float 0.001>}
  added = Add(x, epsilon)   inverse = Rsqrt(added)   result = Mul(x, inverse)
"""


def chain(size):
  graph = graph_of("n0 = Placeholder()")
  for i in range(size):
    graph.add("Relu", f"n{i + 1}", [f"n{i}"], {"T": type_attr(tf1.float32)})
  return graph


def test_cost_is_that_of_what_is_emitted():
  def emitting_into(size):
    graph = chain(size)
    emitter = text.Emitter(graph)

    def work():
      emitter.emit("scope", NORM, x=f"n{size}")
      emitter.become(f"n{size}", NORM, x="n0")

    return work

  emitting_into(1)()  # what is made once
  assert lines(emitting_into(10)) == lines(emitting_into(1000))

  def emitting_often(times):
    graph = chain(2)
    emitter = text.Emitter(graph)
    return lambda: [emitter.emit(f"at{i}", NORM, x="n1") for i in range(times)]

  assert_linear(emitting_often, 10, 80)
