# SPDX-License-Identifier: Apache-2.0
"""Keras files: exported, proven by Keras, refused in one line."""

import json
import os
import re
import zipfile

import pytest
import saved
from judges.commands import Result, assert_refused, run_forked
from judges.exporting import assert_close

from bnexport.proof.runs import ImportedGraph
from bnexport.sources.files import read_graph_def
from bnexport.tf1 import tf1

_TOLERANCE = 1e-5
_IS_TF1 = tf1.VERSION.startswith("1.")
# A Keras of TF 2 wants eager execution, which other tests have turned off; so
# all commands run in one process of their own.
_RUN = """
import contextlib, io, json, sys
from absl import flags
from absl.testing import flagsaver
from bnexport import freeze, inspect, validate
from bnexport.cli import process

commands = {"freeze": freeze, "inspect": inspect, "validate": validate}
results = []
for command, *arguments in json.load(open(sys.argv[1])):
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    with flagsaver.flagsaver():
      argv = flags.FLAGS([command] + arguments)
      status = process.status_of(commands[command].main, argv)
  results.append([status, out.getvalue(), err.getvalue()])
import bnexport
model = bnexport.load(sys.argv[2])
results.append([model.input_keys, list(map(str, model.outputs)),
                sorted(f.code for f in bnexport.check(model))])
json.dump(results, open(sys.argv[1], "w"))
"""


def _broken_files(folder, keras):
  """Files that are refused, by what the message says."""
  folder.mkdir()
  with open(os.path.join(keras, "model.h5"), "rb") as f:
    whole = f.read()
  (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])
  (folder / "text.keras").write_text("no model\n")
  (folder / "notes.h5").write_text("")
  with zipfile.ZipFile(str(folder / "other.keras"), "w") as archive:
    archive.writestr("readme.txt", "no model")
  code = {"class_name": "Lambda", "config": {"name": "mine"}}
  with zipfile.ZipFile(str(folder / "code.keras"), "w") as archive:
    archive.writestr("metadata.json", '{"keras_version": "3.0.0"}')
    archive.writestr("config.json", json.dumps({"layers": [code]}))
  return [
    (str(folder / "cut.h5"), ["cannot read", "whole"]),
    (str(folder / "text.keras"), ["cannot read", "whole"]),
    (str(folder / "notes.h5"), ["cannot read", "whole"]),
    (str(folder / "other.keras"), ["cannot read", "whole"]),
    (str(folder / "code.keras"), ["'mine'", "Python", "--saved_model"]),
    (str(folder / "none.keras"), ["no such file"]),
    (str(folder), ["directory", "--saved_model"]),
    (os.path.join(keras, "weights.h5"), ["weights", "--checkpoint"]),
  ]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
  """Results by (command, file), truths by file, refusals, the API's answer."""
  base = tmp_path_factory.mktemp("keras")
  folders, truths = {}, {}
  for name in ("keras", "keras3", "tf_keras"):
    folders[name], truths[name] = saved.load(name, base)
  broken = _broken_files(base / "broken", folders["keras"])
  calls = []
  for name, files in _FILES.items():
    for file in files:
      path = os.path.join(folders[name], file)
      calls.append(["freeze", "--keras=" + path])
      if (name, file) == (_LOOKED_AT, "model.h5"):
        calls.append(
          ["validate", "--graph=%s.frozen.pb" % path, "--reference=" + path]
        )
        calls.append(["inspect", "--keras=" + path])
  model = os.path.join(folders["keras"], "model.h5")
  calls += [["freeze", "--keras=" + path] for path, _ in broken]
  calls += [
    ["freeze", "--keras=" + model, "--checkpoint=x"],
    ["freeze", "--keras=" + model, "--saved_model=x"],
    ["inspect", "--keras=" + model, "--saved_model=x"],
    ["validate", "--graph=" + model],
    [
      "freeze",
      "--keras=" + model,
      "--output_node=head",
      "--output_graph=%s/named.pb" % base,
    ],
    [
      "freeze",
      "--keras=" + os.path.join(folders["tf_keras"], "model.keras"),
      "--keep_batch_statistics=StatefulPartitionedCall/StatefulPartitionedCall/"
      "model/hot",
      "--output_graph=%s/kept.pb" % base,
    ],
  ]
  # Beside the script, directories called keras would be taken for packages.
  (base / "script").mkdir()
  asked_for, script = base / "calls.json", base / "script" / "run.py"
  asked_for.write_text(json.dumps(calls))
  script.write_text(_RUN)
  done = run_forked(str(script), str(asked_for), model)
  assert done.status == 0, done.err
  *results, api = json.loads(asked_for.read_text())
  found = {}
  for call, result in zip(calls, results):
    file = os.path.relpath(call[1].partition("=")[2], str(base))
    found.setdefault((call[0], file, len(call)), []).append(Result(*result))
  return str(base), found, truths, broken, api


_FILES = {
  "keras": ["model.h5"],
  "keras3": ["model.keras", "recurrent.keras"],
  "tf_keras": ["model.keras", "model.h5"],
}
_LOOKED_AT = "keras" if _IS_TF1 else "tf_keras"
_ALL = [(name, file) for name in sorted(_FILES) for file in _FILES[name]]


# TF 1.15 has the Keras of the first alone.
_READ = [pair for pair in _ALL if pair[0] == "keras" or not _IS_TF1]


@pytest.mark.parametrize(
  "file, length",
  [(os.path.join(*pair), 2) for pair in sorted(set(_ALL) - set(_READ))]
  + [("tf_keras/model.keras", 4)] * _IS_TF1,
)
def test_file_of_a_newer_keras(asked, file, length):
  (result,) = asked[1]["freeze", file, length]
  assert_refused(result)
  assert "TensorFlow 1.15" in result.err or "Keras 2.2.4-tf" in result.err


@pytest.mark.parametrize("name, file", _READ)
def test_freeze(asked, name, file):
  (result,) = asked[1]["freeze", os.path.join(name, file), 2]
  assert result.status == 0, result
  # tf_keras uses the batch where it was told to; the averages are meant.
  reference = "the Keras model, which Keras runs with training=False"
  if name == "tf_keras" and file.startswith("model"):
    reference = "the training graph run by TensorFlow"
  assert "compared with " + reference in result.out
  assert all(line.startswith("bnexport: ") for line in result.err.splitlines())


@pytest.mark.parametrize(
  "name, file", [pair for pair in _READ if pair[1] != "recurrent.keras"]
)
def test_frozen_file_answers_the_truth(asked, name, file):
  base, _, truths = asked[:3]
  truth = truths[name]
  graph = os.path.join(base, name, file) + ".frozen.pb"
  names = [key for key in ("head", "score") if key in truth]
  runner = ImportedGraph(read_graph_def(graph), names)
  feeds = {key: truth[key] for key in truth if key not in names}
  for key, y in zip(names, runner.run(feeds)):
    assert_close(y, truth[key], _TOLERANCE)
  runner.close()


def test_validate_and_inspect(asked):
  path, found = os.path.join(_LOOKED_AT, "model.h5"), asked[1]
  (result,) = found["validate", path + ".frozen.pb", 3]
  assert result.status == 0, result
  assert "PROVEN" in result.out
  (result,) = found["inspect", path, 2]
  # The norm of tf_keras that uses the batch is an error of the model.
  assert result.status == (0 if _IS_TF1 else 2), result
  assert ("BN101" in result.out) != _IS_TF1
  assert result.out.count(" ok\n") == 2


def test_refusals(asked):
  base, found, _, broken, _ = asked
  for path, words in broken:
    (result,) = found["freeze", os.path.relpath(path, base), 2]
    assert_refused(result, *words)
  checkpoint, two, _ = found["freeze", "keras/model.h5", 3] + [None]
  assert_refused(checkpoint, "--checkpoint", "leave one out")
  assert_refused(two, "two sources", "--keras")
  (two,) = found["inspect", "keras/model.h5", 3]
  assert_refused(two, "two sources")
  (graph,) = found["validate", "keras/model.h5", 2]
  assert_refused(graph, "is a Keras file", "bnexport.freeze --keras=")
  assert not os.path.exists(os.path.join(base, "broken", "cut.h5.frozen.pb"))


@pytest.mark.skipif(_IS_TF1, reason="its Keras does not read the file")
def test_norm_that_keeps_the_batch(asked):
  """Keras itself says what the answers are then."""
  (result,) = asked[1]["freeze", "tf_keras/model.keras", 4]
  assert result.status == 0, result
  assert "compared with the Keras model" in result.out
  assert re.search("hot/FusedBatchNormV3 +fused +batch", result.out)


def test_named_output_and_api(asked):
  (result,) = asked[1]["freeze", "keras/model.h5", 4]
  assert result.status == 0, result
  inputs, outputs, findings = asked[-1]
  assert inputs == {"image": "image"}
  assert outputs == ["head"]
  assert "BN101" not in findings
