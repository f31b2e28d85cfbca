# SPDX-License-Identifier: Apache-2.0
"""`bnexport FILE_OR_DIR`: what it is, and commands that do what they say."""

import os
import re
import shlex
import shutil

import pytest
import saved
from google.protobuf import text_format
from judges.commands import assert_refused, copy_of, run_forked, run_process

from bnexport.sources.files import read_proto
from bnexport.tf1 import tf1

# Left for the user to fill in.
_OPEN = re.compile(r"PREFIX|GRAPH\.pb|FILE\.py|FUNCTION|NAME|calibration\.npz")


def look(path, folder):
  result = run_forked("-m", "bnexport", str(path), cwd=str(folder))
  assert result.status == 0, result.err
  lines = result.out.splitlines()
  assert len(lines) <= 40 and max(map(len, lines)) <= 100, result.out
  return result.out


def commands(said):
  """Commands of an answer that nothing has to be filled into."""
  lines = said.replace(" \\\n   ", "").splitlines()
  found = [line.strip() for line in lines if line.startswith("  python -m ")]
  return [line for line in found if not _OPEN.search(line)]


@pytest.fixture(scope="module")
def folder(cases, tmp_path_factory):
  """A directory with every kind of graph."""
  folder = tmp_path_factory.mktemp("kinds")
  for name in ("run", "lone", "text", "code only"):
    (folder / name).mkdir()
  case = cases("contrib_fused_phase")
  copy_of(case, folder / "run")
  (folder / "run" / "checkpoint").write_text(
    'model_checkpoint_path: "model.ckpt"\n'
  )
  shutil.copy(case.naive, str(folder / "run" / "naive.pb"))
  shutil.copy(case.prefix + ".meta", str(folder / "lone" / "model.ckpt.meta"))
  meta = read_proto(case.prefix + ".meta", tf1.MetaGraphDef, "it")
  graph = text_format.MessageToString(meta.graph_def)
  (folder / "text" / "graph.pbtxt").write_text(graph)
  for end in (".index", ".data-00000-of-00001"):
    shutil.copy(case.prefix + end, str(folder / "text" / ("model" + end)))
    shutil.copy(case.prefix + end, str(folder / "code only" / ("model" + end)))
  for name in ("keras", "keras3", "layers", "module"):
    saved.load(name, folder)
  sibling = folder / "hub"
  shutil.copytree(str(folder / "module" / "saved"), str(sibling))
  (sibling / "tfhub_module.pb").write_bytes(b"\x08\x03")
  return folder


WITH_COMMANDS = {
  "run": "a checkpoint",
  "run/model.ckpt": "a checkpoint",
  "run/model.ckpt.index": "a checkpoint",
  "run/model.ckpt.meta": "a checkpoint",
  "run/naive.pb": "a frozen graph",
  "lone/model.ckpt.meta": "a training graph",
  "text/graph.pbtxt": "a training graph",
  "text": "a checkpoint",
  "keras/saved": "a SavedModel",
  "keras/saved/saved_model.pb": "a SavedModel",
  "module/saved": "a SavedModel",
}


@pytest.mark.part(2, 0)
@pytest.mark.parametrize("path", sorted(WITH_COMMANDS))
def test_commands_work_as_printed(folder, path, tmp_path):
  work = tmp_path / "work"
  shutil.copytree(str(folder), str(work))
  said = look(path, work)
  assert WITH_COMMANDS[path] in said.splitlines()[0]
  found = commands(said)
  assert found
  for command in found:
    result = run_forked(*shlex.split(command)[1:], cwd=str(work))
    assert result.status in (0, 2), (command, result.err)


WITHOUT_COMMANDS = {
  "code only": ("no training graph is beside it", "--model=FILE.py:FUNCTION"),
  "keras/weights.h5": ("the weights of a Keras model", "--checkpoint=PREFIX"),
  "keras/truth.npz": ("NumPy arrays", "--feeds=keras/truth.npz"),
  "layers": ("a checkpoint", "--model=FILE.py:FUNCTION"),
  "keras3/model.keras": ("a Keras model", "--keras=keras3/model.keras"),
  "hub": ("a TF1 Hub module", "--hub_module=hub"),
  ".": ("a directory, with", "python -m bnexport "),
}


@pytest.mark.parametrize("path", sorted(WITHOUT_COMMANDS))
def test_everything_is_said_what_it_is(folder, path):
  said = look(path, folder)
  for words in WITHOUT_COMMANDS[path]:
    assert words in said


def test_code_is_read_and_not_run(tmp_path):
  code = "raise SystemExit(9)\ndef build(x, is_training):\n  return x\n"
  (tmp_path / "my net.py").write_text(code)
  said = look("my net.py", tmp_path)
  assert "--model=my net.py:build" in said


def test_checkpoints_of_one_run(folder, tmp_path):
  for step in (1, 2):
    for end in (".meta", ".index", ".data-00000-of-00001"):
      source = str(folder / "run" / ("model.ckpt" + end))
      shutil.copy(source, str(tmp_path / f"model-{step}{end}"))
  (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model-2"\n')
  said = look(".", tmp_path)
  assert "the latest of 2 there" in said.splitlines()[0]
  every = commands(said)[-1]
  result = run_forked(
    *shlex.split(every)[1:], "--proof=none", cwd=str(tmp_path)
  )
  assert result.status == 0, result.err
  assert sorted(n for n in os.listdir(str(tmp_path)) if n.endswith(".pb")) == [
    *("model-1.frozen.pb", "model-2.frozen.pb")
  ]


def test_tensorflow_is_not_imported(folder):
  pytest.importorskip("google_crc32c")
  if tf1.__version__ < "2":
    pytest.skip("its messages take TensorFlow")
  code = (
    "import sys\nfrom bnexport.report import guide\n"
    "for path in sys.argv[1:]:\n  guide.guide(path)\n"
    "assert 'tensorflow.python' not in sys.modules\n"
  )
  paths = [*WITH_COMMANDS, *WITHOUT_COMMANDS]
  result = run_process("-c", code, *paths, cwd=str(folder))
  assert result.status == 0, result.err


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["notes.txt"], "it is text that states no graph; give a graph"),
    (["nothing"], "there is no such file, directory or checkpoint; "),
    (["notes.txt", "other"], "there is more than one argument; give one file"),
    (["cut.meta"], "cannot "),
    (["empty"], "holds nothing of a model"),
  ],
)
def test_refusals(folder, tmp_path, arguments, words):
  (tmp_path / "notes.txt").write_text("some words")
  (tmp_path / "empty").mkdir()
  data = (folder / "run" / "model.ckpt.meta").read_bytes()
  (tmp_path / "cut.meta").write_bytes(data[: len(data) // 2])
  result = run_forked("-m", "bnexport", *arguments, cwd=str(tmp_path))
  assert_refused(result, words)
