# SPDX-License-Identifier: Apache-2.0
"""Large constants run as variables, and answer as they do."""

import numpy as np
import pytest

from bnexport import text
from bnexport.graph.tensors import array_of
from bnexport.proof import held
from bnexport.proof.runs import ImportedGraph
from bnexport.tf1 import session, tf1

# Two of 64 KiB, of which one waits for something; names that are taken.
GRAPH = """
x = Placeholder() {shape=[?,128]}
w = Const() {value=<float [128,128] 0>}
h = Const(^x) {value=<float [128,128] 0>}
few = Const() {value=<float [128] 3>}
said = Const() {value=<string [2] "a" "b">}
@NAME = Identity(few)
a = MatMul(x, w)
b = MatMul(a, h)
y = Add(b, @NAME)
"""


def graph_of(name="w/held"):
  made = text.loads(GRAPH.replace("@NAME", name))
  random = np.random.RandomState(1)
  for node in made.node:
    if node.name in ("w", "h"):
      value = random.normal(size=(128, 128)).astype(np.float32)
      node.attr["value"].tensor.CopyFrom(tf1.make_tensor_proto(value))
  return made


@pytest.mark.parametrize("name", ["w/held", "other"])
def test_large_constants_are_variables_of_their_value(name):
  graph_def = graph_of(name)
  before = graph_def.SerializeToString()
  made, found = held.apart(graph_def)
  assert graph_def.SerializeToString() == before
  assert len(made.SerializeToString()) < 80_000 < len(before)
  ops = {node.name: node.op for node in made.node}
  assert (ops["w"], ops["h"], ops["few"]) == (
    "ReadVariableOp",
    "Const",
    "Const",
  )
  (one,) = found
  assert one.node.name == ("w/held_" if name == "w/held" else "w/held")
  rows = np.random.RandomState(2).normal(size=(3, 128)).astype(np.float32)
  with tf1.Graph().as_default() as plain:
    tf1.import_graph_def(graph_def, name="")
  with session(plain) as running:
    expected = running.run(["y:0", "w:0"], {"x:0": rows})
  with ImportedGraph(graph_def, ["y", "w"]) as run:
    y, w = run.run({"x": rows})
    np.testing.assert_allclose(y, expected[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(w, expected[1])
    # As who moves the weights does.
    (moved,) = run.fetch(["y"], {"x": rows, "w": 2 * w})
  assert np.abs(moved - y).max() > 1


def test_a_graph_of_small_constants_is_left_as_it_is():
  graph_def = text.loads("x = Const() {value=<float [2] 1 2>} y = Neg(x)")
  made, found = held.apart(graph_def)
  assert made is graph_def and found == []


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "complex64"])
def test_numbers_of_each_kind(dtype):
  value = np.random.RandomState(3).randint(0, 9, 1 << 16).astype(dtype)
  graph_def = tf1.GraphDef()
  node = graph_def.node.add(name="c", op="Const")
  node.attr["dtype"].type = tf1.as_dtype(dtype).as_datatype_enum
  node.attr["value"].tensor.CopyFrom(tf1.make_tensor_proto(value))
  _, (one,) = held.apart(graph_def)
  np.testing.assert_array_equal(array_of(one.tensor), value)
  with ImportedGraph(graph_def, ["c"]) as run:
    np.testing.assert_array_equal(run.run({})[0], value)


def test_what_is_large_is_assigned_in_parts(monkeypatch):
  monkeypatch.setattr(held, "_AT_ONCE", 1)
  monkeypatch.setattr(held, "_LEAST", 1 << 9)
  graph_def = graph_of()
  assert len(held.apart(graph_def)[1]) == 2
  with ImportedGraph(graph_def, ["w", "few"]) as run:
    w, few = run.run({})
  assert few.tolist() == [3] * 128
  (node,) = [node for node in graph_def.node if node.name == "w"]
  np.testing.assert_array_equal(w, array_of(node.attr["value"].tensor))
