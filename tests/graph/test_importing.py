# SPDX-License-Identifier: Apache-2.0
"""Importing a graph reads no files and makes nothing large."""

from __future__ import annotations

import pytest

from bnexport import text
from bnexport.errors import ComparisonError
from bnexport.graph.importing import import_graph, import_to_run
from bnexport.tf1 import session, tf1


def shape_of(graph, name):
  shape = graph.get_tensor_by_name(name + ":0").shape
  return None if shape.rank is None else shape.as_list()


def from_file(path):
  return text.loads(
    """
    x = Placeholder() {shape=[?]}
    path = Const() {value=<string "PATH">}
    r = ReadFile(path)
    d = DecodeRaw(r) {out_type=int32}
    y = Reshape(x, d)
    """.replace("PATH", path)
  )


def test_a_file_of_a_constant_path_is_not_read(tmp_path):
  path = tmp_path / "sizes"
  path.write_bytes(b"\2\0\0\0\3\0\0\0")
  graph_def = from_file(str(path))
  with tf1.Graph().as_default() as plain:
    tf1.import_graph_def(graph_def, name="")
  assert shape_of(plain, "y") == [2, 3]  # TensorFlow alone does read it
  graph = import_graph(graph_def)
  assert shape_of(graph, "y") is None
  with session(graph) as running:
    y = running.run("y:0", {"x:0": list(range(6))})
  assert y.tolist() == [[0, 1, 2], [3, 4, 5]]
  assert len(graph_def.node) == 5  # what was given is left alone


def filled(sizes):
  return text.loads(
    f"""
    x = Placeholder() {{shape=[?]}}
    one = Const() {{value=<int32 1>}}
    dims = Const() {{value=<int32 [2] {sizes}>}}
    f = Fill(dims, one)
    axes = Const() {{value=<int32 [2] 0 1>}}
    s = Sum(f, axes)
    t = Pack(s, one) {{N=2}}
    y = Reshape(x, t)
    """
  )


@pytest.mark.parametrize(
  "sizes, shape", [("3 4", [12, 1]), ("1048576 1048576", None)]
)
def test_what_is_large_is_not_made(sizes, shape):
  found = shape_of(import_graph(filled(sizes)), "y")
  assert found == shape or (shape is None and found == [None, 1])


_OF_CONSTANTS = """
row = Const() {value=<float32 [1,40000] 1>}
column = Const() {value=<float32 [40000,1] 1>}
y = Mul(row, column)
"""


@pytest.mark.parametrize(
  "graph_def", [_OF_CONSTANTS, filled("32768 32768")], ids=["product", "fill"]
)
def test_what_is_large_of_constants_is_not_run(graph_def):
  if isinstance(graph_def, str):
    graph_def = text.loads(graph_def)
  with pytest.raises(
    ComparisonError, match="makes (6400000000|4294967296) bytes"
  ):
    import_to_run(graph_def)


def test_what_is_large_of_inputs_is_run():
  graph_def = text.loads(
    _OF_CONSTANTS.replace(
      "row = Const() {value=<float32 [1,40000] 1>}",
      "row = Placeholder() {shape=[1,40000]}",
    )
  )
  assert shape_of(import_to_run(graph_def), "y") == [40000, 40000]
