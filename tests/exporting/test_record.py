# SPDX-License-Identifier: Apache-2.0
"""What a graph was made from, as digests beside it."""

import json

import pytest

from bnexport.errors import SourceError
from bnexport.exporting import record
from bnexport.version import __version__


@pytest.fixture
def graph(tmp_path):
  """The path of a graph that was made and recorded."""
  path = str(tmp_path / "graph.pb")
  data = b"".join(record.noted(path, {"of": "this"}, [b"one", b"two"]))
  with open(path, "wb") as f:
    f.write(data)
  record.finish(path, True)
  return path


def said(graph):
  with open(record.path(graph)) as f:
    return json.load(f)


def test_digest_is_of_the_whole_file(tmp_path, monkeypatch):
  path = tmp_path / "some"
  path.write_bytes(b"abc")
  whole = record.digest(str(path))
  # FIPS 180-4's example.
  assert whole.startswith("ba7816bf8f01cfea414140de5dae2223")
  monkeypatch.setattr(record, "_PIECE", 1)
  assert record.digest(str(path)) == whole
  with pytest.raises(SourceError, match="cannot read '.*none'"):
    record.digest(str(tmp_path / "none"))


def test_finished_graph_is_done_and_ours(graph):
  assert record.is_own(graph)
  assert record.is_done(graph, {"of": "this"})
  assert not record.is_done(graph, {"of": "that"})
  assert said(graph)["graphs"] == [record.digest(graph)]


def test_graph_that_is_not_finished_is_not_done(graph):
  record.finish(graph, False)
  assert record.is_own(graph) and not record.is_done(graph, {"of": "this"})


def test_graph_of_somebody_else_is_not_ours(graph):
  with open(graph, "ab") as f:
    f.write(b"more")
  assert not record.is_own(graph)
  assert not record.is_done(graph, {"of": "this"})


def test_graph_is_recorded_before_it_has_its_name(tmp_path):
  path = str(tmp_path / "graph.pb")
  pieces = record.noted(path, {}, [b"one", b"two"])
  assert [next(pieces), next(pieces)] == [b"one", b"two"]
  with pytest.raises(StopIteration):
    next(pieces)
  assert said(path)["done"] is False and len(said(path)["graphs"]) == 1
  assert not record.is_own(path)  # it is not there yet


def test_earlier_graph_is_known_until_it_is_replaced(graph):
  list(record.noted(graph, {"of": "that"}, [b"new"]))
  assert len(said(graph)["graphs"]) == 2
  assert record.is_own(graph)
  record.finish(graph, True)
  assert len(said(graph)["graphs"]) == 1
  assert not record.is_own(graph)  # the record is of what was to come


@pytest.mark.parametrize(
  "content", ["", "{", "[1]", '"text"', "{}", "[" * 99999]
)
def test_damaged_record_says_nothing(graph, content):
  with open(record.path(graph), "w") as f:
    f.write(content)
  assert not record.is_own(graph)
  assert not record.is_done(graph, {"of": "this"})


def test_record_without_its_graph_is_cleared(graph, tmp_path):
  record.clear(graph)
  assert (tmp_path / "graph.pb.bnexport.json").exists()
  (tmp_path / "graph.pb").unlink()
  record.clear(graph)
  assert list(tmp_path.iterdir()) == []
  record.clear(graph)  # there is none


@pytest.mark.parametrize(
  "files, read",
  [
    (["m.index", "m.data-00000-of-00001", "m.meta"], ["m.index"]),
    (["m"], ["m"]),  # format V1
    (["m-0000%d-of-00002" % i for i in (0, 1)], None),  # its shards
  ],
)
def test_checkpoint_is_what_tells_its_values(tmp_path, files, read):
  for name in files:
    (tmp_path / name).write_text(name)
  found = record.origin(str(tmp_path / "m"), {"output_node": "y"})
  assert sorted(name for name, _ in found["read"]) == (read or files)
  assert found["bnexport"] == __version__
  assert found["flags"] == {"output_node": "y"}
