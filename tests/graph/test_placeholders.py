# SPDX-License-Identifier: Apache-2.0
"""Cutting a graph at a tensor: the name, dtype and shape of what is fed."""

from __future__ import annotations

import pytest

from bnexport import text
from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures, output_dtypes, static_shape
from bnexport.graph.placeholders import (
  cut_dtype,
  placeholder_attrs,
  placeholder_name,
  state_open_shapes,
)
from bnexport.graph.tensors import shape_proto
from bnexport.tf1 import OpDef, tf1

GRAPH = """
  function f(a half, n int32) -> (y half = a, z int32 = n) { }
  x = Placeholder() {dtype=double}   n = Placeholder() {dtype=int32}
  s = Split(n, x) {num_split=2}      call = f(x, n)
  ours = Ours(x)                     again = Ours(ours:1)
  both = Less(ours, again)           short = Less(again) {T=half}
  sum = Add(ours:1, again) {T=half}
"""
FLOAT, DOUBLE, HALF, INT32 = (
  dtype.as_datatype_enum
  for dtype in (tf1.float32, tf1.float64, tf1.float16, tf1.int32)
)


@pytest.fixture
def graph():
  return Graph(text.loads(GRAPH))


def test_names():
  assert placeholder_name(TensorRef("a/b")) == "a/b"
  assert placeholder_name(TensorRef("a/b", 2)) == "a/b_2"


def test_attributes():
  shape = shape_proto([None, 3])
  attrs = placeholder_attrs(INT32, shape)
  assert attrs["dtype"].type == INT32
  assert attrs["shape"].shape == shape
  assert placeholder_attrs(INT32, shape_proto(None))["shape"].shape.unknown_rank
  assert set(placeholder_attrs(INT32)) == {"dtype"}


@pytest.mark.parametrize(
  "tensor, dtype",
  [
    ("x", DOUBLE),
    ("s:1", DOUBLE),
    ("both", tf1.bool.as_datatype_enum),
    ("call:1", INT32),
    ("ours", FLOAT),  # both, whose T is left to the notation
    ("ours:1", HALF),  # sum; another reader is of an unknown op
    ("again", FLOAT),
  ],
)
def test_dtypes(graph, tensor, dtype):
  assert cut_dtype(graph, TensorRef.parse(tensor), Signatures()) == dtype


@pytest.mark.parametrize("tensor", ["ours:2", "again:3"])
def test_nothing_tells_a_dtype(graph, tensor):
  with pytest.raises(GraphError) as raised:
    cut_dtype(graph, TensorRef.parse(tensor), Signatures())
  assert str(raised.value) == (
    "cannot cut at '%s': TensorFlow knows neither its op 'Ours' nor one that "
    "reads it, so nothing tells its dtype; cut behind it" % tensor
  )


def test_the_file_brings_an_op_along(graph):
  ours = OpDef(name="Ours")
  ours.output_arg.add(name="a", type=INT32)
  ours.output_arg.add(name="b", type_attr="B")
  ours.attr.add(name="B", type="type").default_value.type = HALF
  signatures = Signatures([ours])
  assert output_dtypes(graph, "ours", signatures) == [INT32, HALF]
  assert output_dtypes(graph, "ours", Signatures()) is None
  assert cut_dtype(graph, TensorRef("again", 1), signatures) == HALF


def test_readers_that_tell_nothing(graph):
  ref, signatures = TensorRef("again"), Signatures()
  # A reader that has not all its inputs may mean another one by this.
  assert signatures.read_dtype(graph.node("short"), ref) is None
  assert signatures.read_dtype(graph.node("ours"), TensorRef("x")) is None
  assert signatures.read_dtype(graph.node("sum"), ref) == HALF
  graph.remove(["both", "sum"])
  assert signatures.dtype_of(graph, ref) is None


def test_what_a_node_leaves_out_has_its_default():
  graph = Graph(tf1.GraphDef())
  graph.add("QuantizedRelu", "r")
  assert (
    output_dtypes(graph, "r", Signatures())[0] == tf1.quint8.as_datatype_enum
  )
  graph.add("Reshape", "s", (), {"T": tf1.AttrValue(type=HALF)})
  assert Signatures().input_dtypes(graph.node("s")) == [HALF, INT32]
  assert set(graph.node("s").attr) == {"T"}


@pytest.mark.parametrize(
  "producer, stated, shape",
  [
    (21, "shape=[], _output_shapes=([?,3],)", (-1, 3)),
    (21, "shape=[], _output_shapes=(?,)", None),
    (21, "shape=[], _output_shapes=()", ()),
    (21, "shape=[4,3], _output_shapes=([?,3],)", (4, 3)),
    (21, "shape=[]", ()),
    (24, "shape=[], _output_shapes=([?,3],)", ()),
  ],
)
def test_open_shapes_of_old_files(producer, stated, shape):
  """Up to version 21, TensorFlow reads a scalar's shape as an open one."""
  graph = Graph(text.loads("x = Placeholder() {%s}" % stated))
  graph.versions.producer = producer
  state_open_shapes(graph)
  graph.node("x").attr.pop("_output_shapes", None)
  assert static_shape(graph, TensorRef("x")) == shape
