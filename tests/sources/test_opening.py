# SPDX-License-Identifier: Apache-2.0
"""What a caller hands over is recognised by what it is."""

import pytest
from judges.transforming import checkpoint

from bnexport import sources, text
from bnexport.errors import SourceError
from bnexport.tf1 import tf1

GRAPH = text.loads("x = Placeholder() {shape=[2]}   y = Relu(x)")


@pytest.fixture
def folder(tmp_path):
  """A directory with a checkpoint, its .meta, and files by their names."""
  prefix = checkpoint(tmp_path, {"v": [1, 2]}).prefix
  meta = tf1.MetaGraphDef(graph_def=GRAPH)
  for name in (prefix + ".meta", str(tmp_path / "other.meta")):
    with open(name, "wb") as f:
      f.write(meta.SerializeToString())
  (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"')
  (tmp_path / "net.pb").write_bytes(GRAPH.SerializeToString())
  for kind, name in (("saved", "saved_model.pb"), ("hub", "tfhub_module.pb")):
    (tmp_path / kind).mkdir()
    (tmp_path / kind / name).write_bytes(b"")
  return tmp_path


@pytest.mark.parametrize(
  "path, kind, source, prefix",
  [
    ("net.pb", "graph_def", "net.pb", None),
    ("net.pbtxt", "graph_def", "net.pbtxt", None),
    ("model.ckpt", "meta_graph", "model.ckpt.meta", "model.ckpt"),
    ("model.ckpt.index", "meta_graph", "model.ckpt.meta", "model.ckpt"),
    ("model.ckpt.meta", "meta_graph", "model.ckpt.meta", "model.ckpt"),
    (".", "meta_graph", "model.ckpt.meta", "model.ckpt"),
    ("other.meta", "meta_graph", "other.meta", None),
    ("saved", "saved_model", "saved", None),
    ("saved/saved_model.pb", "saved_model", "saved/saved_model.pb", None),
    ("hub", "hub_module", "hub", None),
    ("net.keras", "keras", "net.keras", None),
    ("net.h5", "keras", "net.h5", None),
  ],
)
def test_paths(folder, monkeypatch, path, kind, source, prefix):
  monkeypatch.chdir(folder)
  found = sources.recognise(path)
  there = [found.source, found.checkpoint]
  there = [name and name.replace("./", "", 1) for name in there]
  assert (found.kind, *there) == (kind, source, prefix)


def test_checkpoint_that_is_named_goes_before_the_one_beside(folder):
  (folder / "apart").mkdir()
  other = checkpoint(folder / "apart", {"v": [3, 4]}).prefix
  for path in ("model.ckpt.meta", "model.ckpt", "net.pb", "saved"):
    found = sources.recognise(str(folder / path), other)
    assert found.checkpoint == other, path


@pytest.mark.parametrize(
  "source, kind",
  [
    (GRAPH, "graph_def"),
    (tf1.MetaGraphDef(graph_def=GRAPH), "meta_graph"),
    (tf1.Graph(), "tf_graph"),
  ],
)
def test_objects(source, kind):
  found = sources.recognise(source)
  assert found.kind == kind and found.source is source


def test_what_holds_no_graph_is_refused():
  with pytest.raises(SourceError, match="cannot load a dict"):
    sources.recognise({})


def test_training_graph_alone_opens(folder):
  model = sources.open(sources.recognise(str(folder / "other.meta")))
  assert model.graph.names() == ["x", "y"]
