# SPDX-License-Identifier: Apache-2.0
"""SavedModels in and out of transform: all that nobody asked for stays."""

from __future__ import annotations

import os

import numpy as np
import pytest
import saved
from judges.commands import assert_refused, contents, run, run_process

import bnexport
from bnexport.proof.runs import ImportedGraph
from bnexport.tf1 import SavedModelProto, session, tf1

SIGNATURE = tf1.saved_model.signature_def_utils.predict_signature_def
X = np.float32([[1, -2, 3]])
WORDS = [b"b", b"c", b"?"]


@pytest.fixture
def folder(tmp_path):
  """Variables of both kinds, a norm, a table that a file fills, a function."""
  path = str(tmp_path / "model")
  vocabulary = str(tmp_path / "words.txt")
  with open(vocabulary, "w") as f:
    f.write("a\nb\nc\n")
  builder = tf1.saved_model.builder.SavedModelBuilder(path)
  with tf1.Graph().as_default() as graph, session(graph) as running:
    x = tf1.placeholder(tf1.float32, [None, 3], "x")
    with tf1.device("/device:CPU:0"):
      w = tf1.get_variable(
        "w",
        initializer=np.float32([[1, 2], [3, 4], [5, 6]]),
        use_resource=False,
      )
    b = tf1.get_variable(
      "b", initializer=np.float32([1, -1]), use_resource=True
    )
    y = tf1.identity(tf1.nn.bias_add(tf1.matmul(x, w), b), "deep/y")
    table = tf1.lookup.StaticHashTable(
      tf1.lookup.TextFileInitializer(
        vocabulary,
        tf1.string,
        tf1.lookup.TextFileIndex.WHOLE_LINE,
        tf1.int64,
        tf1.lookup.TextFileIndex.LINE_NUMBER,
      ),
      -1,
    )
    words = tf1.placeholder(tf1.string, [None], "words")
    ids = tf1.identity(table.lookup(words), "ids")
    tf1.identity(y * 2.0, "unused")
    running.run(tf1.global_variables_initializer())
    builder.add_meta_graph_and_variables(
      running,
      ["serve", "cpu"],
      {
        "serving_default": SIGNATURE({"image": x}, {"scores": y, "same": y}),
        "spell": SIGNATURE({"text": words}, {"ids": ids}),
      },
      assets_collection=tf1.get_collection(tf1.GraphKeys.ASSET_FILEPATHS),
      main_op=tf1.tables_initializer(),
    )
  builder.save()
  os.remove(vocabulary)
  return path


def loaded(folder, tags=("serve", "cpu")):
  """Answers of the signatures, and the MetaGraphDef."""
  feeds = {"image": X, "text": WORDS}
  with tf1.Graph().as_default() as graph, session(graph) as running:
    meta = tf1.saved_model.load(running, list(tags), folder)
    found = {}
    for name, signature in meta.signature_def.items():
      if name.startswith("__"):
        continue
      fed = {info.name: feeds[key] for key, info in signature.inputs.items()}
      for key, info in signature.outputs.items():
        found[name, key] = running.run(info.name, fed).tolist()
  return found, meta


def transform(capsys, source, target, transforms, *more):
  return run(
    capsys,
    "--in_graph=" + source,
    "--out_graph=" + target,
    "--transforms=" + transforms,
    *more,
    command="transform",
  )


EXPECTED = {
  ("serving_default", "scores"): [[11, 11]],
  ("serving_default", "same"): [[11, 11]],
  ("spell", "ids"): [1, 2, -1],
}


@pytest.mark.parametrize(
  "transforms",
  [
    "remove_device",
    "strip_unused_nodes fold_constants merge_duplicate_nodes obfuscate_names "
    "sort_by_execution_order",
    "rename_node(old_node_name=deep/y, new_node_name=y)",
  ],
)
def test_a_saved_model_stays_one(capsys, folder, tmp_path, transforms):
  assert loaded(folder)[0] == EXPECTED
  out = str(tmp_path / "out")
  before = contents(folder)
  result = transform(capsys, folder, out, transforms)
  assert result.status == 0, result
  assert contents(folder) == before
  os.rename(folder, folder + ".gone")  # its vocabulary went along
  found, meta = loaded(out)
  assert found == EXPECTED
  assert sorted(os.listdir(out)) == ["assets", "saved_model.pb", "variables"]
  assert os.listdir(os.path.join(out, "assets")) == ["words.txt"]
  assert folder.encode() not in contents(out)["saved_model.pb"]
  devices = [n.device for n in meta.graph_def.node if n.name == "w"]
  assert devices == ["" if transforms == "remove_device" else "/device:CPU:0"]
  reader = tf1.train.NewCheckpointReader(
    os.path.join(out, "variables", "variables")
  )
  assert sorted(reader.get_variable_to_shape_map()) == ["b", "w"]


def test_variables_may_become_constants(capsys, folder, tmp_path):
  out = str(tmp_path / "out")
  result = transform(
    capsys,
    folder,
    out,
    "read_variables freeze_variables fold_constants",
    "--signature=serving_default",
    "--tags=cpu,serve",
  )
  assert result.status == 0, result
  found, meta = loaded(out)
  assert found == {k: v for k, v in EXPECTED.items() if k[0] != "spell"}
  assert not any("Var" in node.op for node in meta.graph_def.node)
  # Loaders say that these are no variables, and start.
  assert os.listdir(os.path.join(out, "variables")) == []


def test_a_graph_of_a_saved_model(capsys, folder, tmp_path):
  out = str(tmp_path / "out.pb")
  result = transform(
    capsys,
    folder,
    out,
    "strip_unused_nodes read_variables freeze_variables fold_constants",
    "--tags=serve,cpu",
    "--signature=spell",
  )
  assert result.status == 0, result
  os.rename(folder, folder + ".gone")
  with open(out, "rb") as f:
    graph = tf1.GraphDef.FromString(f.read())
  init = [n.name for n in graph.node if n.op.startswith("InitializeTable")]
  runner = ImportedGraph(graph, ["ids"], init)
  assert runner.run({"words": WORDS})[0].tolist() == [1, 2, -1]


def test_named_ends_are_the_signature(capsys, folder, tmp_path):
  out = str(tmp_path / "out")
  result = transform(
    capsys,
    folder,
    out,
    "strip_unused_nodes",
    "--tags=serve,cpu",
    "--outputs=scores,unused:0",
  )
  assert result.status == 3  # one as the signature calls it, one as the graph
  result = transform(
    capsys,
    folder,
    out,
    "strip_unused_nodes",
    "--tags=serve,cpu",
    "--outputs=unused",
  )
  assert result.status == 0, result
  found, meta = loaded(out)
  assert found == {("serving_default", "unused"): [[22, 22]]}
  assert list(meta.signature_def) == ["serving_default"]


def test_in_python(folder, tmp_path):
  model = bnexport.load(folder, tags=["serve", "cpu"])
  small = bnexport.apply(model, "strip_unused_nodes remove_device")
  out = str(tmp_path / "out")
  bnexport.save(small, out)
  assert loaded(out)[0] == {
    k: v for k, v in EXPECTED.items() if k[0] != "spell"
  }
  with pytest.raises(bnexport.SourceError, match="read from it"):
    bnexport.save(small, folder, overwrite=True)
  with pytest.raises(bnexport.SourceError, match="not empty"):
    bnexport.save(small, out)


# In a process of its own: other tests turn off what TF 2 does.
_LOAD = """
import sys
import numpy as np
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1], tags=["serve", "cpu"])
y = served.signatures["serving_default"](image=tf.constant([[1., -2., 3.]]))
assert y["scores"].numpy().tolist() == [[11, 11]], y
y = served.signatures["spell"](text=tf.constant(["b", "c", "?"]))
assert y["ids"].numpy().tolist() == [1, 2, -1], y
"""


@pytest.mark.skipif(tf1.VERSION.startswith("1."), reason="it is TF 2's")
def test_the_newest_loader(capsys, folder, tmp_path):
  out = str(tmp_path / "out")
  assert transform(capsys, folder, out, "fold_constants").status == 0
  done = run_process("-c", _LOAD, out)
  assert done.status == 0, done.err


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
  """A SavedModel of TF 2, and what its signature `named` answers."""
  folder, truth = saved.load("module", tmp_path_factory.mktemp("saved"))
  return os.path.join(folder, "saved"), truth


@pytest.mark.skipif(tf1.VERSION.startswith("1."), reason="it lacks attributes")
@pytest.mark.parametrize(
  "transforms",
  ["remove_device", "inline_functions fold_constants merge_duplicate_nodes"],
)
def test_functions_of_tf_2(capsys, newer, tmp_path, transforms):
  folder, truth = newer
  out = str(tmp_path / "out")
  result = transform(capsys, folder, out, transforms, "--signature=named")
  assert result.status == 0, result
  with tf1.Graph().as_default() as graph, session(graph) as running:
    meta = tf1.saved_model.load(running, ["serve"], out)
    assert list(meta.signature_def) == ["named"]
    ends = meta.signature_def["named"]
    found = running.run(
      {key: info.name for key, info in ends.outputs.items()},
      {ends.inputs["x"].name: truth["x"]},
    )
  assert sorted(found) == ["cost", "logits", "name"]
  np.testing.assert_allclose(found["logits"], truth["logits"], atol=1e-4)
  np.testing.assert_array_equal(found["cost"], truth["cost"])
  assert [n.decode() for n in found["name"]] == list(truth["name"])


def test_entries_that_are_nowhere_else_are_not_lost(capsys, newer, tmp_path):
  result = transform(capsys, newer[0], str(tmp_path / "out"), "remove_device")
  assert_refused(result, "lookup table", "--signature")
  assert os.listdir(str(tmp_path)) == []


def test_a_signature_that_feeds_inner_tensors_is_not_lost_silently(
  capsys, folder, tmp_path
):
  path = os.path.join(folder, "saved_model.pb")
  with open(path, "rb") as f:
    proto = SavedModelProto.FromString(f.read())
  signatures = proto.meta_graphs[0].signature_def
  signatures["inner"].CopyFrom(signatures["serving_default"])
  signatures["inner"].inputs["image"].name = "MatMul:0"
  with open(path, "wb") as f:
    f.write(proto.SerializeToString())
  out = str(tmp_path / "out")
  result = transform(capsys, folder, out, "strip_unused_nodes")
  assert result.status == 0, result
  assert "signature 'inner' is left out" in result.err
  assert loaded(out)[0] == EXPECTED


@pytest.mark.parametrize(
  "more, words",
  [
    (["--tags=gpu"], ["'gpu'"]),
    (["--signature=spel"], ["'spell'"]),
    (["--outputs=nothing"], ["--outputs 'nothing'"]),
  ],
)
def test_refusals_write_nothing(capsys, folder, tmp_path, more, words):
  before = contents(tmp_path)
  result = transform(
    capsys, folder, str(tmp_path / "out"), "remove_device", *more
  )
  assert_refused(result, *words)
  result = transform(capsys, folder, folder, "remove_device", "--overwrite")
  assert_refused(result, "read from it")
  assert contents(tmp_path) == before
