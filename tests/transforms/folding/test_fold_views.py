# SPDX-License-Identifier: Apache-2.0
"""Constants are written in the shape in which they are read."""

import numpy as np
import pytest
from judges.exporting import assert_answers, export
from judges.transforming import answers, model_of, nodes, transformed

from bnexport.graph import ops

X = np.float32([[1, 2], [3, 4]])
HEAD = """
  x = Placeholder() {shape=[?,2]}   a = Const() {value=<float [2] 4 9>}
  s = Const() {value=<int32 [2] 1 2>}
"""


@pytest.mark.parametrize(
  "graph, left",
  [
    ("r = Reshape(a, s)   y = Mul(x, r)", {"x", "r", "y"}),
    ("i = Identity(a)   r = Reshape(i, s)   y = Mul(x, r)", {"x", "r", "y"}),
    # Back in its own shape, it has its own name.
    (
      "r = Reshape(a, s)   q = Squeeze(r)   m = Mul(x, r)   y = Add(m, q)",
      {"x", "a", "r", "m", "y"},
    ),
    (
      "d = Const() {value=<int32 0>} r = ExpandDims(a, d) y = Mul(x, r)",
      {"x", "r", "y"},
    ),
    (
      "r = Reshape(a, s)   y = Mul(x, r)   z = Neg(a)",
      {
        "x",
        "a",
        "r",
        "y",
        "z",
      },
    ),
  ],
)
def test_views_of_constants(graph, left):
  outputs = ["y", "z"] if "z = " in graph else ["y"]
  model = transformed(HEAD + graph, "fold_views", outputs, ["x"])
  model.graph.keep(model.needed())
  assert set(model.graph.names()) == left
  found = answers(model, {"x": X})
  right = answers(model_of(HEAD + graph, outputs), {"x": X})
  assert all((a == b).all() for a, b in zip(found, right))


@pytest.mark.parametrize(
  "graph, inputs",
  [
    ("r = Reshape(a, s)   y = Mul(x, r)", ["x", "a"]),
    ("r = Reshape(a, s, ^x)   y = Mul(x, r)", ["x"]),
    ("y = Reshape(a, s)", ["x"]),
    ("r = Reshape(x, s)   y = Mul(r, a)", ["x"]),
    (
      "b = Fill(n, v)   n = Const() {value=<int32 [1] 20000>}"
      "   v = Const() {value=<float 1>}   t = Const() {value=<int32 [2] -1 2>}"
      "   r = Reshape(b, t)   y = Mul(x, r)",
      ["x"],
    ),
  ],
)
def test_views_that_stay(graph, inputs):
  model = transformed(HEAD + graph, "fold_views", inputs=inputs)
  assert nodes(model) == nodes(model_of(HEAD + graph))


@pytest.mark.parametrize(
  "name", ["contrib_scale_only_unfused_literal", "layers_unfused_literal"]
)
def test_exports_read_stored_averages_as_they_are(cases, name):
  case = cases(name)
  made = export(case)
  graph = made.model.graph
  for node in graph:
    if node.op in ops.RESHAPES:
      assert graph.op(graph.inputs(node.name)[0].node) != "Const"
  assert "Squeeze" not in {node.op for node in graph}
  assert_answers(case, made)
