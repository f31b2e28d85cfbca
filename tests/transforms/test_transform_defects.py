# SPDX-License-Identifier: Apache-2.0
"""What the Graph Transform Tool got wrong, and what is made of it here.

Further defects have their tests where the transforms have theirs.
"""

from __future__ import annotations

import numpy as np
import pytest
from judges.graph_transform_tool import ToolError, by_name, old_tool
from judges.transforming import (
  answers,
  assert_same_answers,
  model_of,
  transformed,
)

from bnexport import text
from bnexport.errors import GraphError, TransformError
from bnexport.graph import Graph

X = np.arange(8, dtype="f").reshape(1, 2, 2, 2) - 3
ROWS = np.float32([[1, -2], [3, 4]])

CONV = """
  x = Placeholder() {shape=[1,2,2,2]}
  w = Const() {value=<float [1,1,2,2] 1 -2 3 4>}
  c = Conv2D(x, w) {strides=(1,1,1,1), padding="SAME"}
"""
STATISTICS = """
  g = Const() {value=<float [2] 2 3>}   o = Const() {value=<float [2] 1 -1>}
  m = Const() {value=<float [2] 1 2>}   v = Const() {value=<float [2] 1 36>}
"""
NORM = STATISTICS + "n = FusedBatchNorm(c, g, o, m, v) {is_training=false}\n"


def both(graph, spec, feeds, inputs=("x",), outputs=("y",)):
  """Answers of the graph, of ours and of the old tool's."""
  graph_def = text.loads(graph)
  old = model_of(old_tool(graph_def, spec, outputs, inputs), outputs)
  ours = transformed(graph_def, spec, outputs, inputs)
  return [
    answers(model, feeds) for model in (model_of(graph_def, outputs), ours, old)
  ]


def is_wrong(found, expected):
  return float(np.max(np.abs(found[0] - expected[0]))) > 0.5


@pytest.mark.parametrize(
  "graph, spec, feed",
  [
    # The convolution has another reader, which gets what was scaled.
    (CONV + NORM + "y = Add(n, c)", "fold_old_batch_norms", X),
    # Another convolution has the same kernel, which is scaled for it too.
    (
      CONV + NORM + "r = Neg(x)   y = Add(n, d)\n"
      'd = Conv2D(r, w) {strides=(1,1,1,1), padding="SAME"}',
      "fold_old_batch_norms",
      X,
    ),
    # The kernel is read transposed, and rows are scaled instead of columns.
    (
      """
    x = Placeholder() {shape=[2,2]}   w = Const() {value=<float [2,2] 1 2 3 4>}
    p = MatMul(x, w) {transpose_b=true}   s = Const() {value=<float [2] 5 -7>}
    y = Mul(p, s)
  """,
      "fold_batch_norms",
      ROWS,
    ),
  ],
)
def test_wrong_numbers(graph, spec, feed):
  expected, ours, old = both(graph, spec, {"x": feed})
  assert is_wrong(old, expected)
  assert_same_answers(ours, expected)


def test_inputs_with_a_port_were_merged():
  graph = """
    x = Placeholder() {shape=[2,2]}   z = Placeholder() {shape=[2,2]}
    y = Sub(x, z)
  """
  old = by_name(
    old_tool(text.loads(graph), "merge_duplicate_nodes", inputs=["x:0", "z:0"])
  )
  assert len(set(old["y"][1])) == 1
  ours = transformed(graph, "merge_duplicate_nodes", inputs=["x:0", "z:0"])
  found = answers(ours, {"x": ROWS, "z": ROWS + 1})
  assert_same_answers(found, [np.full((2, 2), -1, "f")])


def test_a_training_norm_was_folded():
  graph = (CONV + NORM).replace("false", "true") + "y = Identity(n)"
  old = old_tool(text.loads(graph), "fold_old_batch_norms", inputs=["x"])
  assert "FusedBatchNorm" not in [node.op for node in old.node]
  ours = transformed(graph, "fold_old_batch_norms", inputs=["x"])
  assert ours.graph.op("n") == "FusedBatchNorm"


def test_a_default_was_baked_in():
  graph = """
    x = Placeholder() {shape=[2,2]}   d = Const() {value=<float 2>}
    p = PlaceholderWithDefault(d) {shape=[]}   q = Neg(p)   y = Mul(x, q)
  """
  old = old_tool(text.loads(graph), "fold_constants", inputs=["x"])
  assert "p" not in by_name(old)
  ours = transformed(graph, "fold_constants", inputs=["x"])
  found = answers(ours, {"x": ROWS, "p": np.float32(-3)})
  assert_same_answers(found, [3 * ROWS])


def test_a_branch_ran_always():
  graph = """
    x = Placeholder() {shape=[]}   p = Placeholder() {dtype=bool, shape=[]}
    s = Switch(p, p)   t = Identity(s:1)   f = Identity(s)
    a = Const(^t) {value=<float 1>}   b = Const(^f) {value=<float 2>}
    c = Merge(a, b)   y = Add(c, x)
  """
  spec = "remove_nodes(op=Identity)"
  old = by_name(old_tool(text.loads(graph), spec, inputs=["x", "p"]))
  assert old["a"][1] == old["b"][1] == ["^s"]  # whichever value p has
  ours = transformed(graph, spec, inputs=["x", "p"])
  for p, value in ((True, 1), (False, 2)):
    found = answers(ours, {"x": np.float32(0), "p": p})
    assert_same_answers(found, [np.float32(value)])


def test_an_output_lost_its_name():
  graph = CONV + "s = Const() {value=<float [2] 5 -7>}   y = Mul(c, s)"
  old = old_tool(text.loads(graph), "fold_batch_norms", ["c", "y"], ["x"])
  assert "c" not in by_name(old)
  ours = transformed(graph, "fold_batch_norms", ["c", "y"], ["x"])
  assert_same_answers(
    answers(ours, {"x": X}), answers(model_of(graph, ["c", "y"]), {"x": X})
  )


def test_two_branches_of_one_input_were_named_alike():
  graph = (
    CONV
    + STATISTICS.replace("[2]", "[4]")
    .replace("2 3>", "2 3 4 5>")
    .replace("1 -1>", "1 -1 2 3>")
    .replace("1 2>", "1 2 3 4>")
    .replace("1 36>", "1 36 4 9>")
    + """
    u = Const() {value=<float [1,1,2,2] 5 6 -7 8>}
    d = Conv2D(x, u) {strides=(1,1,1,1), padding="SAME"}
    axis = Const() {value=<int32 3>}   k = ConcatV2(c, d, axis)
    n = FusedBatchNorm(k, g, o, m, v) {is_training=false}
    y = Identity(n)
  """
  )
  old = old_tool(text.loads(graph), "fold_old_batch_norms", inputs=["x"])
  names = [node.name for node in old.node]
  assert len(set(names)) < len(names)
  ours = transformed(graph, "fold_old_batch_norms", inputs=["x"])
  assert "FusedBatchNorm" not in [node.op for node in ours.graph]
  assert_same_answers(
    answers(ours, {"x": X}), answers(model_of(graph), {"x": X})
  )


def test_a_scalar_factor_ended_it_all():
  graph = CONV + "s = Const() {value=<float 2>}   y = Mul(c, s)"
  with pytest.raises(ToolError, match="bad shape"):
    old_tool(text.loads(graph), "fold_batch_norms", inputs=["x"])
  ours = transformed(graph, "fold_batch_norms", inputs=["x"])
  assert ours.graph.op("y") != "Mul"
  assert_same_answers(
    answers(ours, {"x": X}), answers(model_of(graph), {"x": X})
  )


def test_an_open_bracket_was_nothing():
  graph = CONV + "y = Identity(c)"
  old = old_tool(text.loads(graph), "set_device(device=a", inputs=["x"])
  assert not any(node.device for node in old.node)
  with pytest.raises(TransformError, match="not closed"):
    transformed(graph, "set_device(device=a")


def test_the_version_was_lost():
  graph = "graph {producer=24}\n" + CONV + "y = Identity(c)"
  assert (
    old_tool(text.loads(graph), "remove_device", inputs=["x"]).versions.producer
    == 0
  )
  ours = transformed(graph, "remove_device", inputs=["x"])
  assert ours.graph.versions.producer == 24


def test_half_read_nodes_were_printed_wrongly():
  graph = """
    x = Placeholder() {shape=[2,2]}   axis = Const() {value=<int32 0>}
    s = Split(axis, x) {num_split=2}   y = Neg(s)
  """
  spec = "insert_logging(op=Split, message=half, summarize=1, first_n=0)"
  old = old_tool(text.loads(graph), spec, inputs=["x"])
  with pytest.raises(GraphError, match="cannot import"):
    Graph(old).to_tf_graph()
  ours = transformed(graph, spec, inputs=["x"])
  assert_same_answers(answers(ours, {"x": ROWS}), [-ROWS[:1]])


@pytest.mark.parametrize(
  "spec", ["remove_training_nodes", "optimize_for_inference"]
)
def test_a_reader_lost_its_input(spec):
  """TensorFlow's remove_training_nodes left the Mul with one input."""
  graph = """
    x = Placeholder() {shape=[2,2]}   k = Const() {value=<float 3>}
    c = CheckNumerics(x) {message="bad"}
    y = Mul(c, k)
  """
  ours = transformed(graph, spec, inputs=["x"])
  assert "CheckNumerics" not in {node.op for node in ours.graph}
  assert_same_answers(answers(ours, {"x": ROWS}), [3 * ROWS])
