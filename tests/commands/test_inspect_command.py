# SPDX-License-Identifier: Apache-2.0
"""The inspect command: what it says, and what it refuses."""

import json
import os
import shutil

import pytest
from google.protobuf import text_format
from judges.commands import (
  ROOT,
  assert_refused,
  contents,
  on_one_line,
  run_forked,
  run_process,
)
from judges.commands import run as run_command
from judges.exporting import export
from judges.opening import asked

from bnexport import checks, text
from bnexport.report import examination
from bnexport.sources.files import read_proto
from bnexport.tf1 import session, tf1

FACTS = ["inputs", "outputs", "variables", "ops", "batch_norms", "findings"]
NORM_FACTS = {
  "name",
  "form",
  "statistics",
  "epsilon",
  "channels",
  "moving_mean",
  "moving_variance",
  "health",
}
FINDING_FACTS = {"code", "severity", "node", "message", "fix"}
DATA_FILE = "model.ckpt.data-00000-of-00001"
BROKEN = """
x = Placeholder() {shape=[?,2,2,3]}
one = Const() {value=<float [3] 1 1 1>}
none = Const() {value=<float [0]>}
net/norm = FusedBatchNorm(x, one, one, none, none) {is_training=true}
net/relu = Relu(net/norm)
y = Identity(net/relu)
"""


def run(capsys, *arguments):
  return run_command(capsys, *arguments, command="inspect")


@pytest.fixture
def case(cases):
  return cases("layers_fused_phase")


@pytest.fixture
def frozen(case, tmp_path):
  """A right export: the path of its file."""
  path = str(tmp_path / "frozen.pb")
  with open(path, "wb") as f:
    f.write(export(case, folds=False).to_graph_def().SerializeToString())
  return path


@pytest.fixture
def broken(tmp_path):
  path = str(tmp_path / "broken.pb")
  with open(path, "wb") as f:
    f.write(text.loads(BROKEN).SerializeToString())
  return path


@pytest.fixture
def saved_model(tmp_path):
  """A SavedModel with one norm in inference mode."""
  path = str(tmp_path / "saved")
  builder = tf1.saved_model.builder.SavedModelBuilder(path)
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 2, 2, 3], "x")
    stored = [
      tf1.get_variable(name, initializer=[value] * 3)
      for name, value in [
        ("gamma", 1.5),
        ("beta", 0.5),
        ("moving_mean", 0.2),
        ("moving_variance", 0.7),
      ]
    ]
    y = tf1.nn.fused_batch_norm(x, *stored, is_training=False)[0]
    y = tf1.nn.relu(y, name="y")
    signature = tf1.saved_model.signature_def_utils.predict_signature_def
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      builder.add_meta_graph_and_variables(
        running, ["serve"], {"serving_default": signature({"a": x}, {"b": y})}
      )
  builder.save()
  return path


def facts(capsys, *arguments):
  """The object that --format=json prints; status 0 or 2."""
  result = run(capsys, "--format=json", *arguments)
  found = json.loads(result.out)
  stands_against = any(f["severity"] != "note" for f in found["findings"])
  assert result.status == (2 if stands_against else 0)
  assert result.err == ""
  assert set(FACTS) <= set(found)
  assert all(set(norm) == NORM_FACTS for norm in found["batch_norms"])
  assert all(set(finding) == FINDING_FACTS for finding in found["findings"])
  return found


# What it says.


def test_frozen_graph(capsys, case, frozen):
  result = run(capsys, "--graph_def=" + frozen)
  assert result.status == 0, result.err
  assert result.err == ""
  assert result.out.startswith(frozen + ": frozen graph, ")
  for word in (
    "likely inputs",
    "likely outputs",
    case.input,
    case.output,
    "batch norms: 3",
    "fused",
    "stored",
    "ok",
    "findings: none",
  ):
    assert word in result.out
  whole = run(capsys, "--graph_def=" + frozen, "--verbose")
  assert whole.out.count("epsilon 0.001") == 3


def test_frozen_graph_as_json(capsys, case, frozen):
  found = facts(capsys, "--graph_def=" + frozen)
  assert [e["name"] for e in found["inputs"]] == [case.input]
  assert found["inputs"][0]["dtype"] == "float32"
  assert found["inputs"][0]["shape"][0] is None
  assert found["outputs"][0]["name"] == case.output
  assert found["variables"] == []
  assert found["ops"]["Conv2D"] == 3
  assert found["findings"] == []
  for norm in found["batch_norms"]:
    assert norm["form"] == "fused"
    assert norm["statistics"] == "stored"
    assert norm["epsilon"] == 0.001
    assert norm["channels"] > 0
    assert norm["moving_mean"].endswith("/moving_mean")
    assert norm["moving_variance"].endswith("/moving_variance")
    assert norm["health"] == "ok"


def test_text_file(capsys, frozen):
  path = frozen + "txt"
  with open(path, "w") as f:
    graph_def = read_proto(frozen, tf1.GraphDef, "the graph")
    f.write(text_format.MessageToString(graph_def))
  found, binary = (
    facts(capsys, "--graph_def=" + name) for name in (path, frozen)
  )
  for key in FACTS:
    assert found[key] == binary[key]


@pytest.mark.parametrize("end", ["", ".meta", ".index"])
def test_checkpoint_with_its_training_graph(capsys, case, prefix, end):
  found = facts(capsys, "--checkpoint=" + prefix + end)
  assert found["kind"] == "training graph"
  assert case.output in [e["name"] for e in found["outputs"]]
  norms = found["batch_norms"]
  assert [norm["statistics"] for norm in norms] == ["switched"] * 3
  assert [norm["health"] for norm in norms] == ["ok"] * 3
  assert all(v["in_checkpoint"] for v in found["variables"])


@pytest.mark.parametrize("end", ["", "/", "/checkpoint"])
def test_directory(capsys, prefix, end):
  folder = os.path.dirname(prefix)
  with open(os.path.join(folder, "checkpoint"), "w") as f:
    f.write('model_checkpoint_path: "model.ckpt"\n')
  found = facts(capsys, "--checkpoint=" + folder + end)
  assert len(found["batch_norms"]) == 3


def test_training_graph_elsewhere(capsys, prefix, tmp_path):
  moved = str(tmp_path / "elsewhere.meta")
  shutil.move(prefix + ".meta", moved)
  found = facts(capsys, "--checkpoint=" + prefix, "--meta_graph=" + moved)
  assert [n["health"] for n in found["batch_norms"]] == ["ok"] * 3


def test_training_graph_alone(capsys, prefix):
  found = facts(capsys, "--meta_graph=" + prefix + ".meta")
  assert [n["health"] for n in found["batch_norms"]] == [None] * 3


def test_saved_model(capsys, saved_model):
  found = facts(capsys, "--saved_model=" + saved_model)
  assert found["kind"] == "SavedModel"
  assert [e["name"] for e in found["inputs"]] == ["x"]
  assert [e["name"] for e in found["outputs"]] == ["y"]
  assert [n["health"] for n in found["batch_norms"]] == ["ok"]
  assert found["findings"] == []
  result = run(
    capsys,
    "--saved_model=" + saved_model,
    "--tags=serve",
    "--signature=serving_default",
  )
  assert result.status == 0
  assert "%s: SavedModel, " % saved_model in result.out


def test_findings(capsys, broken):
  result = run(capsys, "--graph_def=" + broken)
  assert result.status == 2
  assert "findings: 1" in result.out
  assert "BN201 warning 'net/norm' " in result.out
  assert (
    "python -m bnexport.repair --graph_def=%s --output_node=y "
    "--calibration_data=calibration.npz" % broken
  ) in on_one_line(result.out)
  assert "explained by --explain=BN201" in result.out
  (finding,) = facts(capsys, "--graph_def=" + broken)["findings"]
  assert finding["code"] == "BN201"
  assert finding["node"] == "net/norm"


def test_a_note_does_not_stand_against_it(capsys, tmp_path):
  path = str(tmp_path / "placed.pb")
  with open(path, "wb") as f:
    f.write(
      text.loads(
        'x = Placeholder() {shape=[?,3]}\ny = Relu(x) @"/gpu:0"'
      ).SerializeToString()
    )
  result = run(capsys, "--graph_def=" + path)
  assert result.status == 0
  assert "BN404 note 'y'" in result.out


def test_outputs_that_are_named(capsys, broken):
  found = facts(capsys, "--graph_def=" + broken, "--output_node=x:0")
  assert found["findings"] == []
  found = facts(capsys, "--graph_def=" + broken, "--output_node=net/norm,y")
  assert [e["name"] for e in found["outputs"]] == ["net/norm", "y"]
  assert "--output_node=net/norm,y " in found["findings"][0]["fix"]


def test_older_target(capsys, frozen):
  found = facts(capsys, "--graph_def=" + frozen, "--target_tf=1.4")
  assert {f["code"] for f in found["findings"]} <= {"BN401", "BN402"}
  assert "FusedBatchNormV3" in str(found["findings"])
  assert found["findings"][0]["fix"].endswith(" --target_tf=1.4")


def test_malformed_graph(capsys, tmp_path):
  """What TensorFlow refuses at once is looked at all the same."""
  path = str(tmp_path / "graph.pb")
  with open(path, "wb") as f:
    f.write(text.loads("y = Relu(gone)").SerializeToString())
  found = facts(capsys, "--graph_def=" + path, "--output_node=y")
  assert [f["node"] for f in found["findings"]] == ["y"]


@pytest.mark.parametrize("code", ["BN101", "bn101", " Bn404 "])
def test_explain(capsys, code):
  result = run(capsys, "--explain=" + code)
  assert result.status == 0
  assert result.out.rstrip() == checks.explain(code)
  assert "How to fix it:" in result.out


@pytest.mark.parametrize("code", ["BN999", "", "moving_mean"])
def test_explain_unknown_code(capsys, code):
  assert_refused(
    run(capsys, "--explain=" + code), "cannot explain '%s'" % code, "BN101"
  )


def test_show_node(capsys, broken):
  result = run(capsys, "--graph_def=" + broken, "--show=net/relu")
  assert result.status == 0
  assert result.out.strip() == "net/relu = Relu(net/norm)"


@pytest.mark.parametrize("scope", ["net", "net/"])
def test_show_scope(capsys, broken, scope):
  result = run(capsys, "--graph_def=" + broken, "--show=" + scope)
  lines = result.out.strip().splitlines()
  assert [line.split(" = ")[0] for line in lines] == ["net/norm", "net/relu"]


def test_show_abbreviates_weights(capsys, frozen):
  result = run(capsys, "--graph_def=" + frozen, "--show=branch2")
  assert result.status == 0, result.err
  assert max(map(len, result.out.splitlines())) < 1000


@pytest.mark.parametrize("name", ["net/reul", "other", ""])
def test_show_what_is_not_there(capsys, broken, name):
  result = run(capsys, "--graph_def=" + broken, "--show=" + name)
  assert_refused(result, "cannot show '%s'" % name)


def test_names_of_freeze_graph(capsys, frozen, case):
  found = facts(
    capsys, "--input_graph=" + frozen, "--output_node_names=" + case.output
  )
  assert found["findings"] == []


def test_nothing_is_run(capsys, monkeypatch, frozen, prefix, saved_model):
  """No session is opened, nothing imported, nothing written."""

  def refuse(*args, **kwargs):
    raise AssertionError("the graph is used")

  folder = os.path.dirname(frozen)
  before = contents(folder)
  monkeypatch.setattr(tf1, "Session", refuse)
  monkeypatch.setattr(tf1, "import_graph_def", refuse)
  monkeypatch.setattr(tf1.train, "import_meta_graph", refuse)
  for source in (
    "--graph_def=" + frozen,
    "--checkpoint=" + prefix,
    "--saved_model=" + saved_model,
  ):
    assert run(capsys, source).status in (0, 2)
  assert contents(folder) == before


def test_as_a_process(broken):
  """Nothing but the report is on stdout, and errors are one line."""
  result = run_process(
    "-m", "bnexport.inspect", "--graph_def=" + broken, "--format=json"
  )
  assert result.status == 2
  assert json.loads(result.out)["findings"]
  result = run_forked("-m", "bnexport.inspect", "--graph_def=nowhere.pb")
  assert result.status == 3
  lines = [li for li in result.err.splitlines() if li.startswith("bnexport: ")]
  assert len(lines) == 1
  assert "Traceback" not in result.err


def test_help_is_there_at_once():
  code = (
    "import sys; from bnexport import inspect; "
    "sys.exit('tensorflow' in sys.modules)"
  )
  assert run_process("-c", code, cwd=ROOT).status == 0


# What it refuses.


def test_no_source(capsys):
  assert_refused(run(capsys), "nothing is named", "--graph_def")


@pytest.mark.parametrize(
  "other", ["--graph_def=a.pb", "--checkpoint=a", "--meta_graph=a.meta"]
)
def test_two_sources(capsys, saved_model, other):
  assert_refused(run(capsys, "--saved_model=" + saved_model, other), "two")


@pytest.mark.parametrize(
  "flag, words",
  [
    ("graph_def", "there is no such file"),
    ("meta_graph", "there is no such file"),
    ("checkpoint", "there is no"),
    ("saved_model", "there is no such file"),
  ],
)
def test_missing_file(capsys, tmp_path, flag, words):
  path = str(tmp_path / "nowhere")
  assert_refused(run(capsys, "--%s=%s" % (flag, path)), words, path)


@pytest.mark.parametrize("flag", ["graph_def", "meta_graph", "saved_model"])
@pytest.mark.parametrize(
  "data",
  [
    b"",
    b"\n\xff\xff junk",
    b"hello world {",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"\0" * 100,
  ],
  ids=["empty", "junk", "words", "image", "zeros"],
)
def test_not_a_graph(capsys, tmp_path, flag, data):
  path = str(tmp_path / "file.pb")
  with open(path, "wb") as f:
    f.write(data)
  assert_refused(run(capsys, "--%s=%s" % (flag, path)), str(tmp_path))


def test_truncated_graph(capsys, frozen):
  with open(frozen, "rb") as f:
    data = f.read()
  with open(frozen, "wb") as f:
    f.write(data[:-9])
  assert_refused(run(capsys, "--graph_def=" + frozen), "cut short")


def test_directory_for_a_graph(capsys, tmp_path):
  assert_refused(run(capsys, "--graph_def=%s" % tmp_path), "a directory")


@pytest.mark.parametrize("flag", ["checkpoint", "saved_model"])
def test_directory_without_a_model(capsys, tmp_path, flag):
  assert_refused(run(capsys, "--%s=%s" % (flag, tmp_path)), str(tmp_path))


def test_wrong_tags_and_signature(capsys, saved_model):
  source = "--saved_model=" + saved_model
  assert_refused(run(capsys, source, "--tags=train"), "serve")
  assert_refused(run(capsys, source, "--signature=a"), "serving_default")


@pytest.mark.parametrize(
  "name, words",
  [
    ("net/reul", "did you mean 'net/relu'"),
    ("nothing/of/it", "has no such node"),
    ("y:1", "has 1 outputs"),
    ("^y", "cannot use --output_node"),
  ],
)
def test_wrong_output(capsys, broken, name, words):
  result = run(capsys, "--graph_def=" + broken, "--output_node=" + name)
  assert_refused(result, words)


def test_wrong_target(capsys, frozen):
  for version in ("abc", "0.5"):
    result = run(capsys, "--graph_def=" + frozen, "--target_tf=" + version)
    assert_refused(result, "'%s'" % version)


def test_checkpoint_without_a_graph(capsys, prefix):
  os.remove(prefix + ".meta")
  result = run(capsys, "--checkpoint=" + prefix)
  assert_refused(result, "tensors and no graph", "--meta_graph")


@pytest.mark.parametrize("name", ["model.ckpt.index", DATA_FILE])
@pytest.mark.parametrize("size", [0, 20])
def test_unreadable_checkpoint(capsys, prefix, name, size):
  path = os.path.join(os.path.dirname(prefix), name)
  with open(path, "rb") as f:
    data = f.read()
  with open(path, "wb") as f:
    f.write(data[:size])
  assert_refused(run(capsys, "--checkpoint=" + prefix), prefix)


def test_missing_data(capsys, prefix):
  os.remove(os.path.join(os.path.dirname(prefix), DATA_FILE))
  assert_refused(run(capsys, "--checkpoint=" + prefix), prefix)


def test_cycle(capsys, tmp_path):
  path = str(tmp_path / "graph.pb")
  with open(path, "wb") as f:
    f.write(text.loads("a = Relu(b)\nb = Relu(a)").SerializeToString())
  assert_refused(run(capsys, "--graph_def=" + path), "cycle")


def test_other_arguments(capsys, frozen):
  assert_refused(run(capsys, frozen), "cannot use argument")


def test_huge_constant_is_not_made(broken, tmp_path):
  """A tensor of 4 TB, declared by one value."""
  path = str(tmp_path / "huge.pb")
  with open(path, "wb") as f:
    f.write(
      text.loads(
        "x = Placeholder() {shape=[?,3]}\n"
        "big = Const() {value=<float [1000000,1000000] 0.5>}\n"
        "y = MatMul(x, big)"
      ).SerializeToString()
    )
  looked = examination.look(*asked(graph_def=path, outputs=["y"]))
  assert looked.findings == []
  assert "0.5" in looked.show("big")
