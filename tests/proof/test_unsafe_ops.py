# SPDX-License-Identifier: Apache-2.0
"""Freeze and repair look at graphs; what reaches out of them is not run."""

import os

import numpy as np
import pytest
from judges.commands import assert_refused, on_one_line
from judges.commands import run as run_command

import bnexport
from bnexport import text
from bnexport.errors import ComparisonError
from bnexport.sources.files import read_proto
from bnexport.tf1 import tf1

# The answer waits for what is written.
WRITES = """
x = Placeholder() {shape=[?,3]}
name = Const() {value=<string [] "%s">}
file = WriteFile(name, name)
y = Relu(x, ^file)
"""
# The answer needs what is looked up.
LOOKS = """
x = Placeholder() {shape=[?,3]}
name = Const() {value=<string [] "%s">}
files = MatchingFiles(name)
count = Size(files)
number = Cast(count) {DstT=float}
y = Mul(x, number)
"""
# The same in the bodies of functions, and in those of functions they call.
BODIES = """
function looks(x float) -> (y float = product:z:0) {
  name = Const() {value=<string [] "%s">, dtype=string}
  file = WriteFile(name:output:0, name:output:0)
  product = Mul(x, x, ^file) {T=float}
}
function outer(x float) -> (y float = inner:output:0) {
  inner = StatefulPartitionedCall(x) {Tin=(float), Tout=(float), f=looks{}}
}
function plain(x float) -> (y float = copy:output:0) {
  copy = Identity(x) {T=float}
}
function once(x float) -> (y bool = less:z:0) {
  bound = Const() {value=<float 0.5>, dtype=float}
  less = Less(x, bound:output:0) {T=float}
}
x = Placeholder() {shape=[]}
no = Const() {value=<bool false>}
"""
CALLS = (
  "StatefulPartitionedCall(x) {Tin=(float), Tout=(float), f=looks{}}",
  "PartitionedCall(x) {Tin=(float), Tout=(float), f=outer{}}",
  "If(no, x) {Tcond=bool, Tin=(float), Tout=(float), "
  "then_branch=looks{}, else_branch=plain{}}",
  "While(x) {T=(float), cond=once{}, body=outer{}}",
)


@pytest.fixture
def case(cases):
  return cases("layers_fused_literal")


def repair(capsys, tmp_path, source, *arguments):
  path = str(tmp_path / "graph.pb")
  with open(path, "wb") as f:
    f.write(text.loads(source % (tmp_path / "reached")).SerializeToString())
  return run_command(
    capsys,
    "--graph_def=" + path,
    "--output_node=y",
    *arguments,
    command="repair",
  )


def test_what_an_answer_waits_for_is_not_run(capsys, tmp_path):
  result = repair(capsys, tmp_path, WRITES)
  assert result.status == 2, result
  assert "NOT PROVEN" in result.out
  said = on_one_line(result.out)
  assert "'file' is a WriteFile and reaches files" in said
  assert "pass --allow_unsafe_ops" in on_one_line(result.out)
  assert "the exported graph is not proven" in result.err
  assert not os.path.exists(str(tmp_path / "reached"))
  assert os.path.exists(str(tmp_path / "graph.pb.repaired.pb"))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("command", ["repair", "transform", "inspect"])
def test_bodies_of_functions_are_not_run(capsys, tmp_path, command, call):
  source = tmp_path / "graph.pb"
  graph = text.loads(BODIES % (tmp_path / "reached") + "y = " + call)
  source.write_bytes(graph.SerializeToString())
  arguments = {
    "repair": [f"--graph_def={source}", "--output_node=y"],
    "inspect": [f"--graph_def={source}", "--output_node=y"],
    "transform": [
      f"--in_graph={source}",
      f"--out_graph={tmp_path / 'out.pb'}",
      "--inputs=x",
      "--outputs=y",
      "--transforms=fold_constants",
    ],
  }[command]
  result = run_command(capsys, *arguments, command=command)
  assert result.status in (0, 2), result
  assert not os.path.exists(str(tmp_path / "reached"))
  if command == "repair":
    assert (result.status, "NOT PROVEN" in result.out) == (2, True)
    said = on_one_line(result.out + result.err)
    assert "file' is a WriteFile" in said


def test_what_an_answer_needs_is_not_proven(capsys, tmp_path):
  (tmp_path / "reached").write_text("one file is counted")
  result = repair(capsys, tmp_path, LOOKS)
  assert result.status == 2, result
  assert "NOT PROVEN" in result.out
  said = on_one_line(result.out)
  assert "'files' is a MatchingFiles and reaches files" in said
  assert "the exported graph is not proven" in result.err
  result = repair(capsys, tmp_path, LOOKS, "--allow_unsafe_ops", "--overwrite")
  assert result.status == 0, result


def test_it_is_not_calibrated(capsys, tmp_path):
  data = str(tmp_path / "data.npz")
  np.savez(data, x=np.ones([4, 3], np.float32))
  result = repair(capsys, tmp_path, LOOKS, "--calibration_data=" + data)
  assert_refused(result, "cannot recalibrate", "'files'", "--allow_unsafe_ops")


def test_training_graph_is_not_run(capsys, case, prefix, tmp_path):
  written = str(tmp_path / "reached")
  meta = read_proto(prefix + ".meta", tf1.MetaGraphDef, "the graph")
  meta.graph_def.node.extend(text.loads(WRITES % written).node[1:3])
  for node in meta.graph_def.node:
    if node.name == case.output:
      node.input.append("^file")
  with open(prefix + ".meta", "wb") as f:
    f.write(meta.SerializeToString())
  arguments = ["--checkpoint=" + prefix, "--output_node=" + case.output]
  result = run_command(capsys, *arguments)
  assert result.status == 2, result
  assert "the training graph is not run: 'file' is a WriteFile" in result.err
  assert not os.path.exists(written)
  result = run_command(capsys, *arguments, "--allow_unsafe_ops", "--overwrite")
  assert result.status == 0, result
  assert "compared with the training graph" in result.out
  assert os.path.exists(written)


def test_comparison_of_models(tmp_path):
  written = tmp_path / "reached"
  model = bnexport.load(text.loads(WRITES % written), outputs=["y"])
  other = bnexport.load(
    text.loads("x = Placeholder() {shape=[?,3]}\ny = Relu(x)"), outputs=["y"]
  )
  for pair in ((model, other), (other, model)):
    with pytest.raises(ComparisonError, match="'file' is a WriteFile"):
      bnexport.compare(*pair)
  assert not written.exists()
  model.is_trusted = True
  assert bnexport.compare(other, model).holds
