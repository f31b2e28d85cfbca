# SPDX-License-Identifier: Apache-2.0
"""SavedModels of TF 2: the model in functions, read by TF 1.15 too."""

import os
import re
import shutil

import numpy as np
import pytest
import saved
from judges.commands import assert_refused, run
from judges.exporting import assert_close

import bnexport
from bnexport import sources
from bnexport.errors import SourceError
from bnexport.exporting.export import Options
from bnexport.exporting.export import export as export_model
from bnexport.model.request import Request
from bnexport.proof.runs import ImportedGraph
from bnexport.sources.files import read_graph_def, read_proto
from bnexport.sources.saved_model_file import read_saved_model
from bnexport.tf1 import SavedModelProto, session, tf1

_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
  """Loads what make.py saved, by name: the directory and the truth."""
  folder, loaded = tmp_path_factory.mktemp("saved"), {}

  def load(name):
    if name not in loaded:
      loaded[name] = saved.load(name, folder)
    return loaded[name]

  return load


@pytest.fixture
def module(unpacked):
  folder, truth = unpacked("module")
  truth = dict(truth, plain=truth["logits"] - truth["shift"])
  return os.path.join(folder, "saved"), truth


def opened(folder, checkpoint=None, **asked):
  return sources.open(Request("saved_model", folder, checkpoint, **asked))


def export(folder, **arguments):
  model = opened(folder, **arguments)
  return export_model(model, Options())


def answers(exported, feeds):
  """What the graph alone gives, by output."""
  model = exported.model
  runner = ImportedGraph(
    exported.to_graph_def(), model.outputs, model.initializers
  )
  given = runner.run(feeds)
  runner.close()
  return dict(zip(map(str, model.outputs), given))


@pytest.mark.parametrize("signature", ["serving_default", "train", "phase"])
def test_variables_and_norms(capsys, module, tmp_path, signature):
  """Four averages are all called `average`: only the Saver tells them apart."""
  folder, truth = module
  path = str(tmp_path / "frozen.pb")
  result = run(
    capsys,
    "--saved_model=" + folder,
    "--signature=" + signature,
    "--output_graph=" + path,
  )
  assert result.status == 0, result
  assert "compared with the training graph" in result.out
  runner = ImportedGraph(read_graph_def(path), ["logits"])
  assert_close(runner.run({"x": truth["x"]})[0], truth["plain"], _TOLERANCE)
  assert_close(
    runner.run({"x": truth["x"][:2]})[0], truth["plain"][:2], _TOLERANCE
  )
  runner.close()


def test_tables_need_no_files(module, tmp_path):
  folder, truth = module
  copy = str(tmp_path / "copy")
  shutil.copytree(folder, copy)
  exported = export(copy, signature="named")
  shutil.rmtree(copy)
  given = answers(exported, {"x": truth["x"]})
  assert sorted(given) == ["cost", "logits", "name"]
  assert_close(given["logits"], truth["logits"], _TOLERANCE)
  np.testing.assert_array_equal(given["cost"], truth["cost"])
  assert [n.decode() for n in given["name"]] == list(truth["name"])
  assert len(set(truth["name"])) > 1
  assert "InitializeTableFromTextFileV2" not in {
    node.op for node in exported.to_graph_def().node
  }


def test_file_of_a_table_is_missing(module, tmp_path):
  copy = str(tmp_path / "copy")
  shutil.copytree(module[0], copy)
  shutil.rmtree(os.path.join(copy, "assets"))
  with pytest.raises(SourceError, match="cannot fill lookup table .*words.txt"):
    opened(copy, signature="named")


def test_table_that_training_fills(capsys, module):
  result = run(
    capsys,
    "--saved_model=" + module[0],
    "--signature=counted",
    "--output_graph=none.pb",
  )
  assert_refused(result, "cannot freeze lookup table", "--input_node")


def test_ends_by_the_names_of_the_graph(module):
  """A script that names them as the graph does gets what it named."""
  folder, truth = module
  read = read_saved_model(folder, signature="named")
  outputs = [read.outputs["logits"], read.outputs["name"]]
  assert re.match(r"StatefulPartitionedCall(_\d+)?:[12]$", outputs[0])
  exported = export(folder, signature="named", outputs=outputs)
  given = answers(exported, {"named_x": truth["x"]})
  assert sorted(given) == sorted(outputs)
  assert_close(given[outputs[0]], truth["logits"], _TOLERANCE)
  assert [n.decode() for n in given[outputs[1]]] == list(truth["name"])


def test_some_of_the_outputs(module):
  folder, truth = module
  given = answers(
    export(folder, signature="named", outputs=["logits"]), {"x": truth["x"]}
  )
  assert list(given) == ["logits"]
  assert_close(given["logits"], truth["logits"], _TOLERANCE)


def test_phase_is_an_input_where_it_is_named(module):
  """Nothing is decided that a user says he feeds."""
  exported = export(module[0], signature="phase", inputs=["x", "training"])
  assert sorted(exported.model.placeholders()) == ["training", "x"]


def test_signature_is_kept_in_a_saved_model(capsys, module, tmp_path):
  folder, truth = module
  out = str(tmp_path / "out")
  result = run(
    capsys,
    "--saved_model=" + folder,
    "--signature=train",
    "--saved_model_out=" + out,
  )
  assert result.status == 0, result
  with tf1.Graph().as_default() as graph, session(graph) as running:
    meta = tf1.saved_model.load(running, ["serve"], out)
    ends = meta.signature_def["serving_default"]
    feeds = {ends.inputs["x"].name: truth["x"]}
    y = running.run(ends.outputs["logits"].name, feeds)
  assert_close(y, truth["plain"], _TOLERANCE)


def test_signature_of_tf_1_is_kept(capsys, tmp_path):
  folder, out = str(tmp_path / "saved"), str(tmp_path / "out")
  with tf1.Graph().as_default(), tf1.Session() as running:
    x = tf1.placeholder(tf1.float32, [None, 2], "graph_x")
    y = tf1.matmul(x, tf1.get_variable("w", [2, 2]), name="graph_y")
    running.run(tf1.global_variables_initializer())
    tf1.saved_model.simple_save(running, folder, {"in": x}, {"out": y})
  assert (
    run(capsys, "--saved_model=" + folder, "--saved_model_out=" + out).status
    == 0
  )
  ends = read_saved_model(out)
  assert ends.inputs == {"in": "graph_x:0"}
  assert ends.outputs == {"out": "graph_y:0"}


def test_validate_and_inspect(capsys, module, tmp_path):
  folder, path = module[0], str(tmp_path / "frozen.pb")
  assert (
    run(capsys, "--saved_model=" + folder, "--output_graph=" + path).status == 0
  )
  for pair in ((path, folder), (folder, path)):
    result = run(
      capsys,
      "--graph=%s" % pair[0],
      "--reference=%s" % pair[1],
      command="validate",
    )
    assert result.status == 0, result
    assert "logits: largest difference" in result.out
  result = run(
    capsys, "--saved_model=" + folder, "--signature=train", command="inspect"
  )
  assert result.status == 2
  assert re.search(r"logits +Identity", result.out)
  assert "BN101" in result.out
  # The words are in the graph once it is frozen.
  result = run(
    capsys, "--saved_model=" + folder, "--signature=named", command="inspect"
  )
  assert "findings: none" in result.out


def test_python_api(module):
  model = bnexport.load(module[0], signature="train")
  assert [str(ref) for ref in model.outputs] == ["logits"]
  assert [str(ref) for ref in model.inputs] == ["x"]
  assert model.values["average"].shape == (3,)
  assert "BN101" in [finding.code for finding in bnexport.check(model)]


@pytest.mark.parametrize("name", ["keras", "keras3", "tf_keras"])
def test_keras(unpacked, name):
  """`hot` was called with training=True; answers are those of the averages."""
  folder, truth = unpacked(name)
  exported = export(os.path.join(folder, "saved"))
  feeds = {key: truth[key] for key in exported.model.placeholders()}
  given = answers(exported, feeds)
  expected = [truth[key] for key in ("head", "score") if key in truth]
  assert len(given) == len(expected)
  for (_, y), meant in zip(sorted(given.items()), expected):
    assert_close(y, meant, _TOLERANCE)
  # The graph as it was, run by this TensorFlow, has them too.
  for y, again in zip(given.values(), exported.reference.run(feeds)):
    assert_close(y, again, _TOLERANCE)
  # Keras 3 exports no names of outputs.
  if name != "keras3":
    assert sorted(given) == sorted({"head", "score"} & set(truth))


def test_checkpoint_of_training(unpacked, tmp_path):
  """Values of another step, which Keras saved by itself."""
  folder, truth = unpacked("keras")
  copy = str(tmp_path / "copy")
  shutil.copytree(os.path.join(folder, "saved"), copy)
  shutil.rmtree(os.path.join(copy, "variables"))
  with pytest.raises(SourceError, match="no checkpoint is given"):
    export(copy)
  model = opened(copy, os.path.join(folder, "weights"))
  exported = export_model(model, Options())
  given = answers(exported, {"image": truth["image"]})
  assert_close(given["head"], truth["head"], _TOLERANCE)


@pytest.mark.parametrize(
  "left, words",
  [
    ((), ["without signatures", "signatures=FUNCTION"]),
    (("train", "named"), ["several signatures", "--signature=named or train"]),
  ],
)
def test_no_signature_names_the_outputs(capsys, module, tmp_path, left, words):
  copy = str(tmp_path / "copy")
  shutil.copytree(module[0], copy)
  path = os.path.join(copy, "saved_model.pb")
  proto = read_proto(path, SavedModelProto, "it")
  signatures = proto.meta_graphs[0].signature_def
  for name in set(signatures) - set(left):
    del signatures[name]
  with open(path, "wb") as f:
    f.write(proto.SerializeToString())
  assert_refused(run(capsys, "--saved_model=" + copy), *words)
