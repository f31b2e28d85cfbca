# SPDX-License-Identifier: Apache-2.0
"""A graph's file is what its nodes give one after another."""

import glob
import os

import numpy as np
import pytest
from judges.transforming import checkpoint, model_of

from bnexport.errors import SourceError
from bnexport.exporting import writing
from bnexport.graph import Graph
from bnexport.graph.nodes import DEFERRED, deferred_attrs
from bnexport.model import bundle, stream
from bnexport.model.checkpoint import Values
from bnexport.tf1 import tf1

NET = """
  graph {producer=134, min_consumer=12}
  y = Relu(a) {_output_shapes=([?,2])}   a = AddV2(x, c)
  x = Placeholder() {shape=[?,2]}   c = Const() {value=<float [2] 0 0>}
  f = PartitionedCall(x) {Tin=(float), Tout=(float), f=f{}}
  function f(x float) -> (y float = r:activations:0) { r = Relu(x) }
"""


def deferring(value, count=1):
  """A Model whose constants c, d1, d2... are read when they are written."""
  model, asked = model_of(NET), []
  graph = model.graph
  for i in range(count):
    name, key = (f"d{i}" if i else "c"), f"key{i}"
    attrs = deferred_attrs(value.shape, value.dtype, key)
    if i:
      graph.add("Const", name, (), attrs)
    else:
      graph.become(name, "Const", (), attrs)

    def read(i=i):
      asked.append(i)
      # Sums of bfloat16 have another dtype in old releases.
      return value + value.dtype.type(i) if i else value

    model.deferred[key] = read
  return model, asked


def written(model):
  return tf1.GraphDef.FromString(b"".join(map(bytes, stream.pieces(model))))


def value_of(graph_def, name):
  (node,) = [node for node in graph_def.node if node.name == name]
  return tf1.make_ndarray(node.attr["value"].tensor)


def test_pieces_are_the_graph():
  model = model_of(NET)
  graph_def = written(model)
  assert graph_def == stream.to_graph_def(model)
  assert [n.name for n in graph_def.node] == model.graph.topological()
  assert graph_def.versions.producer == 134
  assert graph_def.versions.min_consumer == 12
  assert len(graph_def.library.function) == 1


def test_same_graph_gives_the_same_bytes():
  one, other = (
    b"".join(map(bytes, stream.pieces(model_of(NET)))) for _ in range(2)
  )
  assert one == other


def test_notes_of_the_rewriting_are_not_written():
  model, _ = deferring(np.float32([1, 2]))
  for graph_def in (written(model), stream.to_graph_def(model)):
    for node in graph_def.node:
      assert DEFERRED not in node.attr and "_output_shapes" not in node.attr
  assert "_output_shapes" in model.graph.node("y").attr


@pytest.mark.parametrize("most", [1 << 27, 8, 0])
def test_deferred_constants_are_read_once_each_and_in_order(monkeypatch, most):
  monkeypatch.setattr(stream, "_MOST_WAITING", most)
  model, asked = deferring(np.float32([1, 2]), count=5)
  graph_def = written(model)
  assert sorted(asked) == list(range(5))
  for i in range(5):
    assert value_of(graph_def, f"d{i}" if i else "c").tolist() == [1 + i, 2 + i]


def test_error_in_reading_is_not_swallowed():
  model, _ = deferring(np.float32([1, 2]))

  def read():
    raise SourceError("read 'c'", "it is gone", "look for it")

  model.deferred["key0"] = read
  with pytest.raises(SourceError, match="it is gone"):
    written(model)


@pytest.mark.parametrize("size", [1, 100, 127, 128, 200, 255, 256, 20000])
def test_lengths_of_all_sizes(size):
  """They are varints: of one byte below 128, and of more from there on."""
  value = np.arange(size).astype(np.uint8)
  assert (value_of(written(deferring(value)[0]), "c") == value).all()


def test_skeleton_has_placeholders_for_what_is_deferred():
  model, asked = deferring(np.zeros((3, 2), np.float32))
  nodes = {node.name: node for node in stream.skeleton(model).node}
  assert asked == []
  assert nodes["c"].op == "Placeholder" and "value" not in nodes["c"].attr
  sizes = [dim.size for dim in nodes["c"].attr["shape"].shape.dim]
  assert sizes == [3, 2]
  assert model.graph.op("c") == "Const"


def test_one_node_with_its_value():
  model, asked = deferring(np.float32([1, 2]))
  node = stream.whole(model, "c")
  assert tf1.make_ndarray(node.attr["value"].tensor).tolist() == [1, 2]
  assert asked == [0]
  assert not model.graph.node("c").attr["value"].tensor.tensor_content


def test_plain_nodes_are_not_copied():
  model = model_of(NET)
  assert stream.plain(model.graph.node("a")) is model.graph.node("a")
  assert stream.plain(model.graph.node("y")) is not model.graph.node("y")


def test_size_of_what_is_deferred():
  assert stream.weight_bytes(model_of(NET)) == 0
  model, _ = deferring(np.zeros((10, 3), np.float16), count=2)
  assert stream.weight_bytes(model) == 2 * 60


@pytest.mark.parametrize("name", ["float32", "bfloat16", "bool", "complex64"])
@pytest.mark.parametrize("shape", [(3, 2), (), (0, 2)])
def test_deferred_values_are_written(name, shape):
  dtype = tf1.as_dtype(name)
  count = int(np.prod(shape))
  array = np.arange(1, 1 + count).reshape(shape).astype(dtype.as_numpy_dtype)
  made, _ = deferring(array)
  written = b"".join(map(bytes, stream.pieces(made)))
  node = Graph(tf1.GraphDef.FromString(written)).node("c")
  found = tf1.make_ndarray(node.attr["value"].tensor)
  assert found.dtype == array.dtype
  assert found.shape == shape
  assert (found == array).all()


def storing(values, held, tmp_path):
  """A Model whose constants are variables of a checkpoint.

  Args:
    values: arrays of the checkpoint by the names of constants.
    held: arrays like those that the constants are to have.
    tmp_path: where the checkpoint is.
  """
  pytest.importorskip("google_crc32c")
  model = model_of("\n".join(f"{name} = NoOp()" for name in values))
  model.values = Values(checkpoint(tmp_path, values), model.graph)
  for name, array in held.items():
    attrs = deferred_attrs(array.shape, array.dtype, name)
    model.graph.become(name, "Const", (), attrs)
    model.deferred[name] = stream.StoredValue(model.values, name)
  return model


def test_stored_values_are_written_as_they_are(tmp_path, monkeypatch):
  """Between those that are made, in their order, and never as an array."""
  monkeypatch.setattr(bundle, "_PIECE", 8)
  random = np.random.RandomState(0)
  values = {
    "a": random.normal(size=(3, 5)).astype(np.float32),
    "b": random.normal(size=7).astype(np.float32),
    "c": np.arange(5, dtype=np.float32),
    "d": np.zeros((0, 2), np.float32),
    "e": np.float32(2.5),
  }
  model = storing(values, values, tmp_path)
  model.deferred["b"] = lambda: values["b"]
  monkeypatch.setattr(stream.StoredValue, "__call__", None)
  graph_def = written(model)
  for name, value in values.items():
    found = value_of(graph_def, name)
    assert found.dtype == value.dtype and found.tolist() == value.tolist()


def test_stored_values_of_another_size_are_not(tmp_path):
  """The array is asked, as before."""
  values = {"a": np.arange(4.0)}  # float32 in the checkpoint
  model = storing(values, values, tmp_path)
  assert stream._as_stored(model, "a") is None
  assert model.deferred["a"]().tolist() == [0, 1, 2, 3]


def test_damage_that_is_found_behind_what_was_written(tmp_path):
  """No half file is left, and what was there before stays."""
  values = {"a": np.arange(400, dtype=np.float32)}
  model = storing(values, values, tmp_path)
  path = str(tmp_path / "out.pb")
  with writing.whole_file(path, stream.pieces(model)):
    pass
  before = sorted(os.listdir(str(tmp_path)))
  with open(path, "rb") as f:
    whole = f.read()
  (data,) = glob.glob(str(tmp_path / "*.data-*"))
  with open(data, "rb+") as f:
    f.seek(300)
    f.write(b"\xaa\x55")
  with pytest.raises(SourceError, match="copy all files of the checkpoint"):
    with writing.whole_file(path, stream.pieces(model)):
      raise AssertionError("it was finished")
  assert sorted(os.listdir(str(tmp_path))) == before
  with open(path, "rb") as f:
    assert f.read() == whole


@pytest.mark.parametrize("piece", [4, 12, 28, 1 << 20])
@pytest.mark.parametrize("width", [1, 3, 7, 21])
def test_rows_of_stored_values(tmp_path, monkeypatch, piece, width):
  """Rows are whole, wherever pieces end."""
  monkeypatch.setattr(bundle, "_PIECE", piece)
  values = {"a": np.arange(42, dtype=np.float32)}
  model = storing(values, values, tmp_path)
  rows = list(model.deferred["a"].rows(width, np.dtype(np.float32)))
  assert (
    np.concatenate(rows).tolist() == values["a"].reshape(-1, width).tolist()
  )
