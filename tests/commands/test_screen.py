# SPDX-License-Identifier: Apache-2.0
"""What each command prints of a small, a large and a sick model: one screen."""

import os
import re
import sys

import pytest
from judges.commands import ROOT, on_one_line, run

sys.path.append(os.path.join(ROOT, "scripts"))

from benchmarks import networks  # noqa: E402

from bnexport.tf1 import session, tf1  # noqa: E402

pytestmark = pytest.mark.newest(
  "a screen is lines of text, whatever TensorFlow is"
)

LINES, COLUMNS = 40, 100
MODELS = ("small", "large", "sick")
NORMS = {"small": 1, "large": 53, "sick": 53}


def _build(name, layers):
  x = tf1.placeholder(tf1.float32, [None, 32, 32, 3], "images")
  if name == "small":
    x = tf1.nn.relu(layers.norm(layers.conv(x, 4, 3, 1, "conv"), "norm"))
    return layers.dense(tf1.reduce_mean(x, [1, 2]), 4, "dense")
  with tf1.variable_scope("resnet50"):
    return networks.resnet50(layers, x, 4, is_v2=False)


def _spoil():
  """Ops that have every second variance vanish, and no average be updated."""
  named = [v for v in tf1.global_variables() if "moving_" in v.op.name]
  for i, variable in enumerate(named):
    is_variance = variable.op.name.endswith("variance")
    value = tf1.ones_like if is_variance and i % 4 == 1 else tf1.zeros_like
    yield tf1.assign(variable, value(variable))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Checkpoints with their training graphs, one for each model."""
  folder = tmp_path_factory.mktemp("models")
  for name in MODELS:
    with tf1.Graph().as_default() as graph:
      tf1.set_random_seed(1)
      phase = tf1.placeholder(tf1.bool, [], "is_training")
      # A conditional for each norm of a large one would take its time.
      layers = networks.Layers(phase if name == "small" else True)
      tf1.identity(_build(name, layers), "logits")
      tf1.group(*layers.updates, name="train_op")
      spoil = list(_spoil()) if name == "sick" else []
      with session(graph) as running:
        running.run(tf1.global_variables_initializer())
        running.run(spoil)
        tf1.train.Saver().save(running, str(folder / name / "model.ckpt"))
  return folder


@pytest.fixture(scope="module", autouse=True)
def inside(folder):
  """Paths are short, as a user's are who is where the model is."""
  before = os.getcwd()
  os.chdir(str(folder))
  yield
  os.chdir(before)


def arguments(command, name, proof="none"):
  prefix, graph = f"{name}/model.ckpt", f"{name}/model.ckpt.frozen.pb"
  return {
    "freeze": [
      f"--checkpoint={prefix}",
      "--output_node=logits",
      f"--proof={proof}",
      "--overwrite",
    ],
    "inspect": [f"--checkpoint={prefix}"],
    "repair": [
      f"--graph_def={prefix}.norms.pb",
      f"--checkpoint={prefix}",
      "--output_node=logits",
      f"--output_graph={name}/fixed.pb",
      "--proof=none",
      "--overwrite",
    ],
    "transform": [
      f"--in_graph={graph}",
      f"--out_graph={name}/small.pb",
      "--inputs=images",
      "--outputs=logits",
      "--transforms=strip_unused_nodes fold_constants sort_by_execution_order "
      "quantize_weights(minimum_size=1)",
      "--overwrite",
    ],
    "validate": [f"--graph={graph}", "--output_node=logits"],
  }[command]


@pytest.fixture(scope="module")
def frozen(folder, inside):
  """The graphs of all models, as freeze writes them without a proof."""
  from bnexport import sources
  from bnexport.exporting.export import Options, export
  from bnexport.model.request import Request

  for name in MODELS:
    prefix = f"{name}/model.ckpt"
    request = Request("meta_graph", prefix + ".meta", prefix, ("logits",))
    for end, folds in ((".frozen.pb", True), (".norms.pb", False)):
      made = export(sources.open(request), Options(fold_batch_norms=folds))
      made.write(prefix + end, proof="none")


def assert_one_screen(text):
  lines = text.splitlines()
  assert len(lines) <= LINES, text
  assert max(map(len, lines)) <= COLUMNS, text
  assert text.isascii()
  assert "\x1b" not in text


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
  "command", ["freeze", "inspect", "repair", "transform", "validate"]
)
def test_one_screen(capsys, frozen, command, name):
  result = run(capsys, *arguments(command, name), command=command)
  assert result.status in (0, 2), result
  assert_one_screen(result.out)
  said = [x for x in result.err.splitlines() if "warning" in x]
  assert len(said) <= 8, result.err
  if command in ("freeze", "inspect", "repair"):
    assert f"batch norms: {NORMS[name]}\n" in result.out
    is_sick = name == "sick"
    assert ("variance 0" in result.out) == is_sick
    assert ("never updated" in result.out) == is_sick


@pytest.mark.parametrize("name", ["small", "large"])
def test_a_proven_graph(capsys, frozen, name):
  """Verdict, file, ends with shapes, norms, what was done."""
  result = run(capsys, *arguments("freeze", name, "quick"))
  assert result.status == 0, result
  assert_one_screen(result.out)
  lines = result.out.splitlines()
  assert re.match(
    r"PROVEN: 'logits' is \S+ off, where \S+ is allowed$", lines[0]
  )
  size = os.path.getsize(f"{name}/model.ckpt.frozen.pb")
  assert lines[1].startswith(f"wrote {name}/model.ckpt.frozen.pb: ")
  said = float(re.search(r": ([\d.]+) [KM]B, [\d,]+ nodes", lines[1]).group(1))
  assert said == pytest.approx(size / (1e6 if size > 1e6 else 1e3), rel=0.01)
  assert re.search(
    r"^  input +images +float32 +\[\?, 32, 32, 3\]$", result.out, re.M
  )
  classes = 4 if name == "small" else 100
  output = rf"^  output +logits +float32 +\[\?, {classes}\]$"
  assert re.search(output, result.out, re.M)
  assert re.search(r"\bfused +stored +ok$", result.out, re.M)
  parts = ["folded '", "cut ", "froze "]
  if name == "small":
    parts.append("decided 'is_training' = False: ")
  for part in parts:
    assert f"\n  {part}" in result.out, part
  assert "more; --verbose shows all" not in result.out


def test_a_sick_model_is_told_once(capsys, frozen):
  """Each doubt stands once, with the norms that it is about."""
  result = run(capsys, *arguments("freeze", "sick"))
  for state in ("variance 0 in ", "never updated: mean 0 "):
    for text in (on_one_line(result.out), result.err):
      counted = re.findall(rf": {state}.*?(?:\((\d+) alike\)|$)", text, re.M)
      assert 1 <= len(counted) <= 2, text
  assert sum(map(int, re.findall(r" (\d+) norms ", result.out))) >= 52


def test_many_findings_with_one_cure_have_one_command(capsys, frozen):
  result = run(capsys, *arguments("inspect", "sick"), command="inspect")
  said = on_one_line(result.out)
  assert "findings: 106" in said
  commands = re.findall(r"python -m bnexport\.freeze[^()]*?(?= BN|$)", said)
  assert len(commands) == len(set(commands)) == 2
  assert sum("calibration_data" in command for command in commands) == 1
  assert said.count("BN203 error") <= 2 and said.count("BN202 warning") <= 2


@pytest.mark.parametrize("command", ["freeze", "inspect", "repair"])
def test_verbose_shows_all(capsys, frozen, command):
  given = [*arguments(command, "sick"), "--verbose"]
  result = run(capsys, *given, command=command)
  for stage, count in enumerate((3, 4, 6, 3), 1):
    for block in range(1, count + 1):
      for part in ("reduce", "spatial", "expand"):
        name = f"resnet50/stage{stage}/block{block}/{part}_norm/"
        assert name in result.out
  assert "--verbose" not in result.out and "alike)" not in result.out
  assert not re.search(r"^\s*and \d+ ", result.out, re.M)


def test_a_report_keeps_all(capsys, frozen):
  given = [*arguments("freeze", "sick"), "--report=sick/report.md"]
  result = run(capsys, *given)
  assert_one_screen(result.out)
  with open("sick/report.md") as f:
    text = f.read()
  assert text.count("| fused |") == 53
  assert text.count("check that training ran") == 53
