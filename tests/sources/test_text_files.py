# SPDX-License-Identifier: Apache-2.0
"""Graphs as text are read wherever binary ones are."""

import os

import pytest
import saved
from judges.commands import assert_refused, run
from judges.exporting import assert_close

import bnexport
from bnexport.proof.runs import ImportedGraph
from bnexport.sources.files import read_graph_def, read_proto
from bnexport.tf1 import SavedModelProto, tf1


@pytest.fixture
def case(cases):
  return cases("layers_fused_phase")


def _rewritten(path, kind, target):
  """Writes the protobuf that a file holds as text."""
  text = str(read_proto(path, kind, "it"))
  with open(target, "w") as f:
    f.write(text)
  return text


def _assert_truth(path, case):
  runner = ImportedGraph(read_graph_def(path), [case.output])
  (y,) = runner.run({case.input: case.x})
  runner.close()
  assert_close(y, case.y, case.tol)


def test_training_graph(capsys, case, prefix):
  """All that looks for a .meta takes one that is text."""
  text = _rewritten(prefix + ".meta", tf1.MetaGraphDef, prefix + ".meta")
  source, output = "--checkpoint=" + prefix, "--output_node=" + case.output
  assert run(capsys, source, output).status == 0
  frozen = prefix + ".frozen.pb"
  _assert_truth(frozen, case)
  result = run(
    capsys, "--graph=" + frozen, "--reference=" + prefix, command="validate"
  )
  assert result.status == 0, result
  result = run(capsys, source, output, command="inspect")
  assert "BN102" in result.out or "BN101" in result.out
  model = bnexport.load(prefix, outputs=[case.output])
  assert model.values.checkpoint.prefix == prefix
  naive = prefix + ".naive.pbtxt"
  _rewritten(case.naive, tf1.GraphDef, naive)
  result = run(capsys, source, output, "--graph_def=" + naive, command="repair")
  assert result.status == 0, result
  _assert_truth(naive + ".repaired.pb", case)
  with open(prefix + ".meta", "w") as f:
    f.write(text[: len(text) // 2])
  assert_refused(run(capsys, source, output, "--overwrite"), "cut short")


def test_meta_graph_beside_nothing(capsys, case, prefix, tmp_path):
  """Its name need not tell what it is."""
  path = str(tmp_path / "trained.pbtxt")
  _rewritten(prefix + ".meta", tf1.MetaGraphDef, path)
  os.remove(prefix + ".meta")
  result = run(
    capsys,
    "--checkpoint=" + prefix,
    "--meta_graph=" + path,
    "--output_node=" + case.output,
  )
  assert result.status == 0, result
  _assert_truth(prefix + ".frozen.pb", case)


def test_graph_def_and_what_was_written(capsys, case, prefix, tmp_path):
  path = str(tmp_path / "trained.pbtxt")
  meta = read_proto(prefix + ".meta", tf1.MetaGraphDef, "it")
  with open(path, "w") as f:
    f.write(str(meta.graph_def))
  os.remove(prefix + ".meta")
  result = run(
    capsys,
    "--checkpoint=" + prefix,
    "--graph_def=" + path,
    "--output_node=" + case.output,
    "--as_text",
  )
  assert result.status == 0, result
  frozen = prefix + ".frozen.pbtxt"
  _assert_truth(frozen, case)
  # What is text is read again, on both sides.
  result = run(
    capsys, "--graph=" + frozen, "--reference=" + frozen, command="validate"
  )
  assert result.status == 0, result
  result = run(
    capsys,
    "--in_graph=" + frozen,
    "--out_graph=%s" % (tmp_path / "small.pb"),
    "--inputs=" + case.input,
    "--outputs=" + case.output,
    "--transforms=strip_unused_nodes",
    command="transform",
  )
  assert result.status == 0, result
  _assert_truth(str(tmp_path / "small.pb"), case)


def test_saved_model(capsys, tmp_path):
  unpacked, truth = saved.load("module", tmp_path)
  folder = os.path.join(unpacked, "saved")
  binary = os.path.join(folder, "saved_model.pb")
  _rewritten(binary, SavedModelProto, binary + "txt")
  os.remove(binary)
  path = str(tmp_path / "frozen.pb")
  result = run(capsys, "--saved_model=" + folder, "--output_graph=" + path)
  assert result.status == 0, result
  runner = ImportedGraph(read_graph_def(path), ["logits"])
  (y,) = runner.run({"x": truth["x"]})
  assert_close(y, truth["logits"] - truth["shift"], 1e-5)
  for command in ("--graph=", "--reference="):
    other = {"--graph=": "--reference=", "--reference=": "--graph="}[command]
    result = run(capsys, command + folder, other + path, command="validate")
    assert result.status == 0, result
  result = run(capsys, "--saved_model=" + folder, command="inspect")
  assert result.status == 0, result
  assert [str(r) for r in bnexport.load(folder).outputs] == ["logits"]
