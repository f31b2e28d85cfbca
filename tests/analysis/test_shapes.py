# SPDX-License-Identifier: Apache-2.0
"""Shapes as TensorFlow has them, and where it has none."""

import pytest

from bnexport import text
from bnexport.analysis.shape_rules import DerivedShapes
from bnexport.analysis.shapes import Shapes
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.tf1 import tf1

STALE = """
  x = Placeholder() {shape=[?,3]}
  y = Relu(x) {_output_shapes=([8,3],)}   z = Neg(y) {_output_shapes=([8,3],)}
"""
# Nobody knows Custom.
CUSTOM = """
  x = Placeholder() {shape=[?,3]}   u = Custom(x) {_output_shapes=([?,1,4],)}
  w = Const() {value=<float [4] 1 2 3 4>}   s = Mul(u, w)   t = Squeeze(s) {squeeze_dims=[1]}
  v = Custom(x)
"""
LOOP = """
  x = Placeholder() {shape=[?,3]}   e = Enter(x) {frame_name="loop"}
  m = Merge(e, n)   a = Sum(m, k)   z = Const() {value=<float 9>}
  k = Const() {value=<int32 [2] 0 1>}   p = Less(a, z)   l = LoopCond(p)
  s = Switch(m, l)   i = Neg(s:1)   n = NextIteration(i)   y = Exit(s)
"""


def derived(statements):
  graph = Graph(text.loads(statements))
  return DerivedShapes(graph, graph.topological())


@pytest.mark.parametrize(
  "shapes_of", [lambda s: Shapes(Graph(text.loads(s))), derived]
)
def test_tensorflow_goes_before_what_a_file_states(shapes_of):
  shapes = shapes_of(STALE)
  assert shapes.of(TensorRef("z")) == (-1, 3)
  assert shapes.rank(TensorRef("y")) == 2


def test_shapes_are_those_before_editing():
  graph = Graph(text.loads(STALE))
  shapes = Shapes(graph)
  assert shapes.of(TensorRef("y")) == (-1, 3)
  graph.become("y", "Shape", ["x"], {})
  graph.add(
    "Placeholder",
    "new",
    (),
    {"shape": tf1.AttrValue(shape=tf1.TensorShape([5]).as_proto())},
  )
  assert shapes.of(TensorRef("y")) == (-1, 3)
  assert shapes.of(TensorRef("new")) == (5,)


def test_without_tensorflow_rules_go_on_from_what_is_stated():
  graph = Graph(text.loads(CUSTOM))
  assert Shapes(graph).of(TensorRef("u")) == (-1, 1, 4)
  assert Shapes(graph).of(TensorRef("s")) is None
  shapes = derived(CUSTOM)
  assert shapes.of(TensorRef("s")) == (-1, 1, 4)
  assert shapes.of(TensorRef("t")) == (-1, 4)
  assert shapes.of(TensorRef("v")) is None


def test_rank_is_known_in_loops():
  shapes = derived(LOOP)
  for name in ("m", "s:1", "i", "y"):
    assert shapes.rank(TensorRef.parse(name)) == 2
  assert shapes.of(TensorRef("m", 1)) == ()
  assert shapes.of(TensorRef("a")) == ()


def test_dtype_is_told_by_readers_where_the_op_is_unknown():
  graph = Graph(text.loads(CUSTOM + "  c = Cast(u:1) {SrcT=int64}"))
  dtype_of = Signatures().dtype_of
  assert dtype_of(graph, TensorRef("s")) == tf1.float32.as_datatype_enum
  assert dtype_of(graph, TensorRef("u")) == tf1.float32.as_datatype_enum
  assert dtype_of(graph, TensorRef("u", 1)) == tf1.int64.as_datatype_enum
  assert dtype_of(graph, TensorRef("v")) is None
