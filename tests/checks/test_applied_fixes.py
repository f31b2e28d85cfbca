# SPDX-License-Identifier: Apache-2.0
"""Check, apply, check: fixes as values, and what a repair did about findings."""

import dataclasses
import json
import shlex

import numpy as np
import pytest
from judges.commands import assert_refused, on_one_line, run
from judges.examples import dump, write

from bnexport import checks, text
from bnexport.checks.fix import BROKEN, REPAIR, Fix
from bnexport.exporting.export import Options
from bnexport.model.request import Request

FOLDED = """
  x = Placeholder() {shape=[?,2,2,3]}
  w = Const() {value=<float [1,1,3,2] 0.5 -0.3 0.7 0.4 -0.6 0.2>}
  c = Conv2D(x, w) {strides=(1, 1, 1, 1), padding=SAME}
  gamma = Const() {value=<float [2] 1.5 0.5>}
  beta = Const() {value=<float [2] 0.1 0.2>}
  mean = Const() {value=<float [2] 0 0>}
  variance = Const() {value=<float [2] 1 1>}
  n = FusedBatchNorm(c, gamma, beta, mean, variance) {is_training=false}
  y = Relu(n) @"/device:GPU:0"
  """


def fix(outputs=("y",), **changes):
  return Fix(REPAIR, Request("graph_def", "net.pb"), outputs, **changes)


def repair(capsys, folder, example, *flags):
  """Repairs an example's graph; returns the Result, and its findings."""
  named = write(example, folder)
  given = [
    "--graph_def=" + named["graph_def"],
    "--output_node=" + ",".join(named["outputs"]),
    f"--output_graph={folder}/fixed.pb",
    f"--report={folder}/report.json",
    "--overwrite",
  ]
  result = run(capsys, *given, *flags, command="repair")
  if result.status == 3:
    return result, None
  return result, json.loads((folder / "report.json").read_text())["findings"]


def codes(found):
  return [one["code"] for one in found]


@pytest.mark.parametrize(
  "changes, flags, is_choice",
  [
    ({}, "", False),
    ({"target_tf": "1.4"}, " --target_tf=1.4", False),
    ({"recalibrate": BROKEN}, " --calibration_data=calibration.npz", False),
    (
      {"recalibrate": ("a", "b")},
      " --recalibrate=a,b --calibration_data=calibration.npz",
      False,
    ),
    ({"inputs": ("a:1", "b")}, " --input_node=a:1,b", True),
    ({"settings": {"phase": "False"}}, " --set=phase=False", True),
    ({"denylist": ("a", "b")}, " --variable_names_denylist=a,b", True),
  ],
)
def test_fix_is_the_command_that_it_prints(changes, flags, is_choice):
  command = "python -m bnexport.repair --graph_def=net.pb --output_node=y"
  assert fix(**changes).command() == command + flags
  assert fix(**changes).is_choice(("y",)) == is_choice


def test_other_outputs_are_a_choice():
  assert fix(("h",)).is_choice(("y",))
  assert "--output_node=OUTPUT" in fix(()).command()


def test_norms_are_added_to_those_that_are_broken():
  data = object()
  asked = Options(calibration_data=data)
  both = fix(recalibrate=("b",)).changed(fix(recalibrate=("a",)).changed(asked))
  assert both == dataclasses.replace(asked, recalibrate=("broken", "a", "b"))
  assert fix(recalibrate=BROKEN).changed(asked) == asked


def test_norms_that_the_user_names_stay_the_only_ones():
  asked = Options(calibration_data=object(), recalibrate="a")
  assert fix(recalibrate=("b",)).changed(asked).recalibrate == ("a",)


def test_no_norm_is_recalibrated_without_data():
  assert fix(recalibrate=("a",)).changed(Options()) == Options()


@pytest.mark.parametrize(
  "code", ["BN101", "BN102", "BN103", "BN104", "BN302", "BN304", "BN307"]
)
def test_cleared_by_what_every_export_does(capsys, tmp_path, code):
  example = checks.BY_CODE[code].bad
  checkpoint = example.checkpoint is not None
  flags = [f"--checkpoint={tmp_path}/model.ckpt"] if checkpoint else []
  result, found = repair(capsys, tmp_path, example, *flags)
  assert result.status == 0, result
  assert set(codes(found["cleared"])) == {code} and found["left"] == []
  assert f"  cleared {code} '" in result.out
  assert "cleared, 0 left\n" in result.out


def test_exploded_variance_is_computed_anew_where_there_is_data(
  capsys, tmp_path
):
  example = checks.BY_CODE["BN207"].bad
  _, found = repair(capsys, tmp_path, example)
  assert codes(found["left"]) == ["BN207"] and found["cleared"] == []
  data = f"--calibration_data={tmp_path}/calibration.npz"
  result, found = repair(capsys, tmp_path, example, data)
  assert codes(found["cleared"]) == ["BN207"] and found["left"] == []
  assert "recalibrated norm 'n2'" in result.out
  assert "recalibrated norm 'n'" not in result.out
  _, found = repair(capsys, tmp_path, example, data, "--recalibrate=n")
  assert codes(found["left"]) == ["BN207"] and found["cleared"] == []


def test_finding_about_a_norm_is_left_when_the_norm_is_folded(
  capsys, tmp_path, monkeypatch
):
  """Its command, pasted, clears it."""
  monkeypatch.chdir(tmp_path)
  np.savez("calibration.npz", x=np.random.rand(16, 2, 2, 3).astype("float32"))
  dump(text.loads(FOLDED), "graph.pb")
  given = ("--graph_def=graph.pb", "--output_node=y", "--output_graph=fixed.pb")
  result = run(capsys, *given, "--report=report.json", command="repair")
  assert result.status == 0, result
  found = json.loads((tmp_path / "report.json").read_text())["findings"]
  assert codes(found["cleared"]) == ["BN404"]
  (left,) = found["left"]
  assert (left["code"], left["node"]) == ("BN202", "n")
  words = shlex.split(left["fix"])
  assert words[:3] == ["python", "-m", "bnexport.repair"]
  said = on_one_line(result.out)
  assert left["message"] in said and left["fix"] in said
  again = [w.replace("fixed.pb", "graph.pb") for w in words[3:]]
  result = run(capsys, *again, "--output_graph=b.pb", command="repair")
  assert result.status == 0, result
  assert "  cleared BN202 'n'" in result.out


def test_norm_that_is_kept_is_no_finding(capsys, tmp_path):
  example = checks.BY_CODE["BN201"].bad
  _, found = repair(capsys, tmp_path, example, "--keep_batch_statistics=n")
  assert found == {"cleared": [], "left": []}


def test_sound_graph_has_no_findings_to_speak_of(capsys, tmp_path):
  example = checks.BY_CODE["BN101"].good
  result, found = repair(capsys, tmp_path, example)
  assert result.status == 0 and "written as it is" in result.out
  assert found == {"cleared": [], "left": []}
  assert "findings" not in result.out
  fixed, graph = tmp_path / "fixed.pb", tmp_path / "graph.pb"
  assert fixed.read_bytes() == graph.read_bytes()


def test_choice_is_left_to_the_user_and_told(capsys, tmp_path):
  """What the code states is changed by nobody but the user."""
  example = checks.BY_CODE["BN105"].bad
  result, _ = repair(capsys, tmp_path, example)
  assert_refused(result, "norm 't'")
  (said,) = [line for line in result.err.splitlines() if "BN105" in line]
  assert said.startswith("bnexport: warning: BN105 'is_training' ")
  assert said.endswith(" --output_node=y --set=is_training=False")
  result, found = repair(capsys, tmp_path, example, "--set=is_training=False")
  assert result.status == 0, result
  assert codes(found["cleared"]) == ["BN105"] and found["left"] == []


@pytest.mark.parametrize("extension", ["md", "html"])
def test_findings_are_in_the_report_of_every_kind(capsys, tmp_path, extension):
  named = write(checks.BY_CODE["BN202"].bad, tmp_path)
  report = tmp_path / f"report.{extension}"
  result = run(
    capsys,
    "--graph_def=" + named["graph_def"],
    "--output_node=y",
    f"--report={report}",
    command="repair",
  )
  assert result.status == 0, result
  assert "indings: 0 cleared, 1 left" in report.read_text()
  assert "left BN202 warning" in report.read_text()
