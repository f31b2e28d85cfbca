# SPDX-License-Identifier: Apache-2.0
"""The Graph Transform Tool as the judge."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from judges.exporting import export
from judges.graph_transform_tool import old_tool
from judges.transforming import (
  answers,
  assert_same_answers,
  model_of,
  transformed,
)

from bnexport import text
from bnexport.graph import Graph

X = np.arange(12, dtype="f").reshape(2, 2, 3) - 5

NET = """
  x = Placeholder() {shape=[?,2,3]}
  w = Const() {value=<float [3] 1 -2 3>} @"/device:CPU:0"
  w/read = Identity(w) {_class=("loc:@w")}
  m = Mul(x, w/read)
  n = Relu(m, ^x)   n2 = Relu(m, ^x)
  axis = Const() {value=<int32 -1>}
  c = ConcatV2(n, n2, axis)
  i = Identity(c) {_output_shapes=([?,2,6],)}
  unused = Neg(i)
  y = Neg(i)
"""
FOLDED = """
  x = Placeholder() {shape=[4,?]}
  a = Const() {value=<float [2] 1 2>}   b = Const() {value=<float 3>}
  p = Mul(a, b)   q = Neg(p)   r = Identity(q)
  s = Const() {value=<float [4] 1 2 3 4>}
  d = Const() {value=<int32 0>}
  parts = Split(d, s) {num_split=2}
  t = Mul(parts:1, r)
  z = Mul(x, t)
  y = Add(z, q)
"""
CUT = """
  image = Placeholder() {shape=[?]}
  decoded = ExpandDims(image, zero)   zero = Const() {value=<int32 0>}
  h = Neg(decoded)
  y = Relu(h)
"""
ARRAYS = """
  x = Placeholder() {shape=[2,3]}
  n = Const() {value=<int32 2>}   i = Const() {value=<int32 0>}
  j = Const() {value=<int32 1>}   r = Const() {value=<int32 [2] 0 1>}
  t = TensorArrayV3(n) {dtype=float}
  u = TensorArrayWriteV3(t, i, x, t:1)   v = TensorArrayWriteV3(t, j, x, u)
  y = TensorArrayGatherV3(t, r, v) {dtype=float, element_shape=[2,3]}
"""


def old(graph_def, line, inputs=("x",), outputs=("y",)):
  """What the old tool makes of a graph."""
  return Graph(old_tool(graph_def, line, outputs, inputs))


def shown(graph):
  """Nodes as text by name, without what differs for no reader."""
  found = {}
  for node in graph:
    node.input[:] = [t[:-2] if t.endswith(":0") else t for t in node.input]
    found[node.name] = text.dumps(node)
  return found


def histogram(graph):
  return collections.Counter(node.op for node in graph)


# All of it is the same, to the letter.
@pytest.mark.parametrize(
  "line",
  [
    "add_default_attributes",
    "backport_concatv2",
    "insert_logging(op=Relu, show_name=true, show_op=1, message=hi, first_n=3)",
    "insert_logging(prefix=n, summarize=7)",
    "insert_logging(op=Mul, op=Neg, prefix=m, prefix=y)",
    "insert_logging(prefix=w)",
    "insert_logging(op=Const)",
    "merge_duplicate_nodes",
    "remove_attribute(attribute_name=_output_shapes)",
    "remove_attribute(attribute_name=_class, op_name=Identity)",
    "remove_attribute(attribute_name=_class, op_name=Neg)",
    "remove_control_dependencies",
    "remove_device",
    "remove_nodes(op=Identity)",
    "remove_nodes(op=Identity, op=Neg)",
    "rename_attribute(old_attribute_name=_class, new_attribute_name=other)",
    'rename_attribute(old_attribute_name=T, new_attribute_name=U, op_name="Q")',
    "rename_op(old_op_name=Relu, new_op_name=Elu)",
    "rename_op(old_op_name=Relu, new_op_name=MyOwn)",
    'set_device(device="/device:GPU:0")',
    'set_device(device="/device:GPU:0", if_default=true)',
    "sort_by_execution_order",
    "strip_unused_nodes",
  ],
)
def test_nodes_are_what_they_were(line):
  graph_def = text.loads(NET)
  if line == "remove_control_dependencies":
    # With their order, the twins' control inputs go, which both drop.
    assert list(old(graph_def, line).node("n").input) == ["m"]
  new = transformed(graph_def, line, inputs=["x"])
  assert shown(new.graph) == shown(old(graph_def, line))


def test_names_are_obfuscated_alike_up_to_their_order():
  graph_def = text.loads(NET)
  del graph_def.node[2].attr["_class"]  # the old tool leaves it dangling
  new = transformed(graph_def, "obfuscate_names", inputs=["x"]).graph
  before = old(graph_def, "obfuscate_names")
  assert set(new.names()) == set(before.names())
  assert histogram(new) == histogram(before)


@pytest.mark.parametrize(
  "line",
  [
    "fold_constants",
    "fold_constants(clear_output_shapes=false)",
  ],
)
def test_constants_are_folded_alike(line):
  graph_def = text.loads(FOLDED)
  new = transformed(graph_def, line, inputs=["x"])
  before = old(graph_def, line)
  assert histogram(new.graph) == histogram(before)
  feeds = {"x": np.ones((4, 2), "f")}
  model = model_of(before.to_graph_def(), inputs=["x"])
  assert_same_answers(answers(new, feeds), answers(model, feeds))


@pytest.mark.parametrize(
  "line",
  [
    'strip_unused_nodes(type=float, shape="5,1")',
    'strip_unused_nodes(name=decoded, type_for_name=float, shape_for_name="5,1")',
    'strip_unused_nodes(shape="1,1", name=decoded, type_for_name=float, '
    'shape_for_name="5,1")',
  ],
)
def test_inputs_are_cut_alike(line):
  graph_def = text.loads(CUT)
  new = transformed(graph_def, line, inputs=["decoded"]).graph
  before = old(graph_def, line, ["decoded"])
  assert shown(new) == shown(before)


def test_arrays_are_turned_alike():
  graph_def = text.loads(ARRAYS)
  new = transformed(graph_def, "backport_tensor_array_v3", inputs=["x"])
  before = old(graph_def, "backport_tensor_array_v3")
  assert histogram(new.graph) == histogram(before)
  feeds = {"x": np.ones((2, 3), "f")}
  assert_same_answers(
    answers(new, feeds), answers(model_of(text.loads(ARRAYS)), feeds)
  )


@pytest.mark.parametrize(
  "line",
  [
    "strip_unused_nodes fold_constants sort_by_execution_order",
    "remove_nodes(op=Identity) merge_duplicate_nodes",
  ],
)
@pytest.mark.parametrize(
  "name", ["layers_partitioned", "net_mobile", "net_residual_v1"]
)
def test_exports_become_what_they_became(cases, name, line):
  case = cases(name)
  exported = export(case)
  graph_def = exported.to_graph_def()
  ends = [case.output] + list(case.also)
  new = transformed(graph_def, line, ends, [case.input])
  before = graph_def
  for part in line.split(" "):
    part = part.replace(",", ", ")
    before = old(before, part, [case.input], ends).to_graph_def()
  assert histogram(new.graph) == histogram(Graph(before))
  feeds = {case.input: case.x}
  model = model_of(before, ends, [case.input])
  assert_same_answers(answers(new, feeds), answers(model, feeds))


def test_the_judge_sees_differences():
  graph_def = text.loads(NET)
  new = transformed(graph_def, "remove_device", inputs=["x"])
  assert shown(new.graph) != shown(old(graph_def, "remove_nodes(op=Identity)"))
  assert histogram(new.graph) != histogram(
    old(graph_def, "remove_nodes(op=Identity)")
  )
