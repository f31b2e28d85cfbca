# SPDX-License-Identifier: Apache-2.0
"""Requests: the files they name, and the commands that name them again."""

import pytest

from bnexport.model.request import Request
from bnexport.tf1 import tf1


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The working directory, with a checkpoint's .meta and a SavedModel."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "run.meta").write_bytes(b"12345")
  (tmp_path / "saved").mkdir()
  (tmp_path / "saved" / "saved_model.pb").write_bytes(b"123")
  return tmp_path


@pytest.mark.parametrize(
  "request_, name, flags",
  [
    (Request("graph_def", "a.pb"), "repair", "--graph_def=a.pb"),
    (
      Request("graph_def", "a.pb"),
      "freeze",
      "--graph_def=a.pb --checkpoint=PREFIX",
    ),
    (
      Request("graph_def", "a.pb", "run"),
      "repair",
      "--graph_def=a.pb --checkpoint=run",
    ),
    (
      Request("graph_def", "a.pb", "run", training="b.meta"),
      "repair",
      "--graph_def=a.pb --checkpoint=run --meta_graph=b.meta",
    ),
    # The .meta beside a checkpoint need not be named.
    (Request("meta_graph", "run.meta", "run"), "freeze", "--checkpoint=run"),
    (
      Request("meta_graph", "b.meta"),
      "freeze",
      "--meta_graph=b.meta --checkpoint=PREFIX",
    ),
    # These hold the values of their variables.
    (Request("saved_model", "saved"), "freeze", "--saved_model=saved"),
    (Request("keras", "net.h5"), "freeze", "--keras=net.h5"),
    # What is in memory has to be saved before.
    (Request("tf_graph", tf1.Graph()), "repair", "--graph_def=GRAPH.pb"),
    (Request("graph_def", "a b.pb"), "repair", "'--graph_def=a b.pb'"),
  ],
)
def test_commands(request_, name, flags):
  command = f"python -m bnexport.{name} {flags}"
  assert request_.command(name) == command
  assert request_.command(name, "--x=$y") == f"{command} '--x=$y'"


def test_training_graph_is_named_or_beside_the_checkpoint(folder):
  named = Request("graph_def", "a.pb", "run", training="b.meta")
  assert named.training_graph == "b.meta"
  assert Request("graph_def", "a.pb", "run").training_graph == "run.meta"
  assert Request("graph_def", "a.pb", "walk").training_graph is None
  assert Request("graph_def", "a.pb").training_graph is None
  assert Request("meta_graph", "b.meta").training_graph == "b.meta"
  assert Request("meta_graph", tf1.MetaGraphDef()).training_graph is None


def test_size_is_that_of_the_graphs_file(folder):
  assert Request("meta_graph", "run.meta").size == 5
  assert Request("saved_model", "saved").size == 3
  assert Request("graph_def", "gone.pb").size is None
  assert Request("graph_def", tf1.GraphDef()).size is None


def test_objects_are_left_out():
  held = Request("tf_graph", tf1.Graph(), "run", ("y",), session=object())
  bare = held.without_objects()
  assert (bare.source, bare.session) == (None, None)
  assert (bare.kind, bare.checkpoint, bare.outputs) == (
    "tf_graph",
    "run",
    ("y",),
  )
  named = Request("graph_def", "a.pb")
  assert named.without_objects() is named
