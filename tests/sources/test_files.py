# SPDX-License-Identifier: Apache-2.0
"""Protobuf files that may be missing, truncated or something else."""

import pytest
from google.protobuf import text_format

from bnexport import text
from bnexport.errors import SourceError
from bnexport.graph import Graph
from bnexport.sources import files
from bnexport.tf1 import tf1

GRAPH = text.loads(
  "graph {producer=134}\n"
  "x = Placeholder() {shape=[?,3]}   c = Const() {value=<float [40] 0.5>}\n"
  "y = PartitionedCall(x) {Tin=(float), Tout=(float), f=f{}}\n"
  "function f(x float) -> (y float = r:activations:0) { r = Relu(x) }\n"
)


def refused(work, *words):
  with pytest.raises(SourceError) as found:
    work()
  message = str(found.value)
  assert message.startswith("cannot ") and "\n" not in message
  for word in words:
    assert word in message
  return message


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 20])
def test_binary_is_read_in_pieces(tmp_path, monkeypatch, piece):
  monkeypatch.setattr(files, "_PIECE", piece)
  path = tmp_path / "graph.pb"
  path.write_bytes(GRAPH.SerializeToString())
  assert files.read_proto(str(path), tf1.GraphDef, "the graph") == GRAPH


def test_all_wire_types_are_read_in_pieces(tmp_path, monkeypatch):
  """Numbers, strings and fixed sizes, a number of each."""
  monkeypatch.setattr(files, "_PIECE", 1)
  value = tf1.AttrValue(
    list=tf1.AttrValue.ListValue(f=[0.5, 2], i=[-1, 1 << 40])
  )
  event = tf1.Event(wall_time=1.5, step=7, file_version="v")
  for proto in (value, event):
    path = tmp_path / "some.pb"
    path.write_bytes(proto.SerializeToString())
    assert files.read_proto(str(path), type(proto), "it") == proto


def test_text_is_read(tmp_path):
  path = tmp_path / "graph.pbtxt"
  path.write_text(text_format.MessageToString(GRAPH))
  assert files.read_proto(str(path), tf1.GraphDef, "the graph") == GRAPH


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 20])
def test_graph_in_parts_is_the_graph(tmp_path, monkeypatch, piece):
  """Each node is a message of its own, whatever the order of fields."""
  monkeypatch.setattr(files, "_PIECE", piece)
  path, second = tmp_path / "graph.pb", tf1.GraphDef()
  second.node.add(name="z", op="NoOp")
  whole = tf1.GraphDef()
  whole.CopyFrom(GRAPH)
  whole.MergeFrom(second)
  path.write_bytes(GRAPH.SerializeToString() + second.SerializeToString())
  parts = files.read_parts(str(path), "the graph")
  assert parts.node == list(whole.node) and not parts.rest.node
  assert parts.library == whole.library
  assert parts.rest.versions == whole.versions
  made = Graph(parts)
  assert made.to_graph_def() == Graph(whole).to_graph_def()
  assert made.node("z") is parts.node[-1]


def test_what_is_no_graph_in_parts(tmp_path):
  """`read_proto` tells why, or reads it."""
  path, data = tmp_path / "graph.pb", GRAPH.SerializeToString()
  odd = tf1.GraphDef(node=[tf1.NodeDef(name="a", op="NoOp")])
  for content in (
    *(data[: len(data) - keep] for keep in (1, 10, 60)),
    *(b"", b"\xff" * 40, text_format.MessageToString(GRAPH).encode()),
    # The number of a field in more bytes than it takes.
    data + b"\x8a\x00" + odd.SerializeToString()[1:],
  ):
    path.write_bytes(content)
    assert files.read_parts(str(path), "the graph") is None
  assert files.read_parts(str(tmp_path / "none"), "the graph") is None


@pytest.mark.parametrize("keep", [1, 10, 60])
def test_files_that_are_cut_short_are_refused(tmp_path, keep):
  path = tmp_path / "graph.pb"
  data = GRAPH.SerializeToString()
  path.write_bytes(data[: len(data) - keep])
  refused(
    lambda: files.read_proto(str(path), tf1.GraphDef, "the graph"),
    str(path),
    "GraphDef",
    "cut short",
  )


def test_a_stated_length_asks_for_no_memory(tmp_path):
  path = tmp_path / "graph.pb"
  path.write_bytes(b"\x0a" + b"\xff" * 7 + b"\x7f" + b"few")  # 2 ** 56 - 1
  refused(lambda: files.read_graph_def(str(path)), "cut short")
  assert files.read_parts(str(path), "the graph") is None


@pytest.mark.parametrize(
  "content", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff" * 40, b"node { nme"]
)
def test_other_files_are_refused(tmp_path, content):
  path = tmp_path / "graph.pb"
  path.write_bytes(content)
  refused(lambda: files.read_graph_def(str(path)), "it is no GraphDef")


def test_empty_file_is_refused(tmp_path):
  path = tmp_path / "graph.pb"
  path.write_bytes(b"")
  refused(lambda: files.read_graph_def(str(path)), "the file is empty")


def test_graph_without_nodes_is_refused(tmp_path):
  path = tmp_path / "graph.pb"
  path.write_bytes(text.loads("graph {producer=134}").SerializeToString())
  refused(lambda: files.read_graph_def(str(path)), "the graph is empty")
  assert files.refuse_empty(GRAPH, str(path)) is GRAPH


def test_missing_file_offers_what_is_near(tmp_path):
  (tmp_path / "frozen.pb").write_bytes(b"")
  wrong = str(tmp_path / "frozn.pb")
  refused(
    lambda: files.read(wrong, "the graph"),
    f"cannot read the graph '{wrong}': there is no such file",
    "did you mean 'frozen.pb'?",
  )


def test_directory_is_refused(tmp_path):
  refused(lambda: files.read(str(tmp_path), "the graph"), "directory")


def test_first_bytes_of_a_file(tmp_path):
  path = tmp_path / "some.bin"
  path.write_bytes(b"0123456789")
  assert files.read(str(path), "it", 4) == b"0123"
  assert files.read(str(path), "it") == b"0123456789"
