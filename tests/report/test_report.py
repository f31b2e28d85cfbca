# SPDX-License-Identifier: Apache-2.0
"""The report: its facts, the page, the other kinds, and where graphs part."""

import copy
import dataclasses
import json
import re

import numpy as np
import pytest
from judges.exporting import assert_close, export
from judges.markup import Page

from bnexport import report
from bnexport.batchnorm.forms import find
from bnexport.batchnorm.norm import SWITCHED
from bnexport.errors import ComparisonError, SourceError
from bnexport.exporting.export import Export
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import constant_value, tensor_attr
from bnexport.proof import comparison, differences, divergence
from bnexport.proof.runs import ImportedGraph
from bnexport.proof.training_graph import TrainingGraph
from bnexport.report import sentences
from bnexport.report.evidence import gather
from bnexport.report.norm_statistics import CONSTANTS
from bnexport.sources.model_code import RebuiltModel
from bnexport.tf1 import tf1

PATH = "/models/model.frozen.pb"


@pytest.fixture(scope="module")
def proven(cases):
  """Exports and proves zoo cases by name, each once."""
  done = {}

  def make(name):
    if name not in done:
      case = cases(name)
      exported = export(case)
      proof = comparison.prove(
        exported.to_graph_def(),
        exported.model.outputs,
        exported.reference,
        {case.input: case.x},
        keeps_batch=exported.keeps_batch,
      )
      evidence = gather(exported, proof)
      said = report.export_facts(exported, proof, PATH, evidence)
      done[name] = case, exported, proof, evidence, said
    return done[name]

  return make


def page(exported, said, evidence):
  return report.writer("x.html")(exported, said, evidence)


# Facts.


@pytest.mark.parametrize(
  "name, before",
  [
    ("layers_fused_literal", "batch"),
    ("layers_unfused_phase", SWITCHED),
    ("hand_fused_cond", SWITCHED),
    ("ema_literal", "batch"),
  ],
)
def test_facts_of_a_right_export(proven, name, before):
  _, _, _, _, said = proven(name)
  assert said["verdict"]["state"] == "proven"
  assert {norm["before"] for norm in said["batch_norms"]} == {before}
  for norm in said["batch_norms"]:
    assert norm["changed"] and norm["statistics"] == "stored"
    values = norm["values"]
    assert values["before_is"] == "the batch's own, in the training graph"
    for key in ("mean", "variance", "mean_before", "variance_before"):
      one = values[key]
      assert one["smallest"] <= one["median"] <= one["largest"]
    assert values["variance"] != values["variance_before"]
  layers = said["layers"]
  assert layers["tensors"] and not layers["note"]
  assert layers["first_real_difference"] is None
  assert all(tensor["holds"] for tensor in layers["tensors"])


@pytest.mark.parametrize(
  "name, first",
  [
    ("layers_fused_literal", "preact/FusedBatchNormV3"),
    ("hand_tensorpack", "preact/FusedBatchNormV3"),
    ("net_residual_v2", "pre0/FusedBatchNormV3"),
  ],
)
def test_training_parts_at_the_first_norm(proven, name, first):
  _, _, _, _, said = proven(name)
  training = said["training_and_inference"]
  assert training["first_real_difference"] == training["norm"] == first
  holds = {t["name"]: t["holds"] for t in training["tensors"]}
  assert not holds[said["outputs"][0]]
  assert "'%s'" % first in sentences.parting(training, said["outputs"])


def test_norm_in_a_conditional_is_named_by_what_lies_behind_it(proven):
  _, exported, _, _, said = proven("layers_fused_phase")
  training = said["training_and_inference"]
  assert training["norm"] in [norm.name for norm in exported.norms]
  behind = exported.model.graph.ancestors([training["first_real_difference"]])
  assert training["norm"] in behind
  assert "training = True" in training["compared_with"]


def test_batch_statistics_are_those_of_the_norms_input(proven):
  case, exported, _, evidence, _ = proven("layers_fused_literal")
  first = evidence.statistics["preact/FusedBatchNormV3"]
  norm = next(n for n in exported.norms if n.name == first.norm)
  runner = ImportedGraph(exported.to_graph_def(), [norm.x])
  x = runner.run({case.input: case.x})[0].astype(np.float64)
  runner.close()
  np.testing.assert_allclose(first.mean_before, x.mean((0, 1, 2)), 1e-4, 1e-5)
  np.testing.assert_allclose(
    first.variance_before, x.var((0, 1, 2)), 1e-4, 1e-5
  )
  stored = constant_value(exported.model.graph, TensorRef(norm.moving_mean))
  np.testing.assert_array_equal(first.mean, stored)


def with_other_constants(exported):
  """An Export whose graph before held other statistics: a repair."""
  before = copy.copy(exported.model)
  before.graph = exported.model.graph.clone()
  for norm in exported.norms[:1]:
    for name, value in ((norm.moving_mean, 0), (norm.moving_variance, 1)):
      node = before.graph.node(name)
      stored = constant_value(before.graph, TensorRef(name))
      node.attr["value"].CopyFrom(tensor_attr(np.full_like(stored, value)))
  return dataclasses.replace(exported, original=before)


def test_constants_that_were_replaced_are_what_was_before(proven):
  _, exported, proof, _, _ = proven("layers_fused_literal")
  repaired = with_other_constants(exported)
  evidence = gather(repaired, proof)
  said = report.export_facts(repaired, proof, PATH, evidence)
  name = repaired.norms[0].name
  assert evidence.statistics[name].before_is == CONSTANTS
  assert not evidence.statistics[name].mean_before.any()
  changed = [n["name"] for n in said["batch_norms"] if n["changed"]]
  assert changed == [name]
  assert (
    page(repaired, said, evidence).count('<svg class="graph" role="img"') == 2
  )
  assert "1 norm: had other stored statistics" in "\n".join(
    sentences.changes(said)
  )


def test_recalibrated_norm_is_said_to_be(proven):
  class Recalibrated:
    name = "mid/FusedBatchNormV3"

    def __str__(self):
      return "recalibrated norm 'mid/FusedBatchNormV3' from 96 samples"

  _, exported, proof, evidence, _ = proven("layers_fused_literal")
  exported = dataclasses.replace(exported, recalibrated=[Recalibrated()])
  said = report.export_facts(exported, proof, PATH, evidence)
  assert "1 norm: got new statistics from the calibration data" in (
    sentences.changes(said)
  )
  words = "".join(Page(page(exported, said, evidence)).words)
  assert "from 96 samples" in words


@pytest.mark.parametrize(
  "name, words",
  [
    ("phase_int_equal_zero", "'mode'"),
    ("keep_instance_fused", "no phase"),
  ],
)
def test_what_cannot_be_run_is_said(proven, name, words):
  _, exported, _, evidence, said = proven(name)
  assert words in said["training_and_inference"]["note"]
  assert words in "".join(Page(page(exported, said, evidence)).words)


def test_a_graph_that_only_folding_let_in_is_not_looked_at(proven):
  """What folding took out may be what TensorFlow does not import."""
  _, exported, proof, _, _ = proven("layers_fused_literal")
  unfolded = exported.unfolded.clone()
  norm = next(n for n in unfolded if n.op.startswith("FusedBatchNorm"))
  norm.attr["T"].type = tf1.bool.as_datatype_enum
  broken = dataclasses.replace(exported, unfolded=unfolded)
  evidence = gather(broken, proof)
  assert evidence.layers.note.startswith("not looked at: ")
  assert evidence.training.note == evidence.layers.note
  assert set(evidence.statistics) == {norm.name for norm in exported.norms}


def test_without_a_proof_nothing_is_run(proven):
  _, exported, _, _, _ = proven("layers_fused_literal")
  evidence = gather(exported, None)
  said = report.export_facts(exported, None, PATH, evidence)
  assert said["verdict"]["state"] == "unproven"
  assert "--novalidate" in said["layers"]["note"]
  assert said["batch_norms"][0]["values"]["before_is"] is None
  assert "--novalidate" in page(exported, said, evidence)


def test_facts_for_the_terminal_run_nothing(proven, monkeypatch):
  _, exported, proof, _, _ = proven("layers_fused_literal")
  monkeypatch.setattr(tf1, "Session", None)
  assert "layers" not in report.export_facts(exported, proof, PATH)
  assert "batch norms: 3" in report.text(exported, proof, PATH)


def test_report_leaves_the_graphs_as_they_are(proven):
  _, exported, proof, _, _ = proven("layers_unfused_phase")
  graphs = exported.model.graph, exported.original.graph
  before = [graph.to_graph_def() for graph in graphs]
  evidence = gather(exported, proof)
  page(exported, report.export_facts(exported, proof, PATH, evidence), evidence)
  assert [graph.to_graph_def() for graph in graphs] == before
  assert "is_training" in exported.original.graph


def test_a_proof_that_lacks_something_is_no_proof(proven):
  """Equal answers alone prove nothing, such as of rows that are all one."""
  _, exported, proof, evidence, _ = proven("layers_fused_literal")
  why = "every row that was fed has the same answer"
  weak = dataclasses.replace(proof, missing=why)
  assert weak.differences and not weak.stands_against
  said = report.export_facts(exported, weak, PATH, evidence)
  assert said["verdict"] == {
    "state": "unproven",
    "says": f"Written, and not proven: {why}",
  }
  assert said["proof"]["verdict"] == "NOT PROVEN"
  text = report.writer("x.md")(exported, said, evidence)
  assert f"**Written, and not proven: {why}.**" in text


def test_a_wrong_answer_is_the_verdict(proven):
  _, exported, proof, evidence, _ = proven("layers_fused_literal")
  wrong = dataclasses.replace(
    proof, differences=[differences.Difference("prob", float("inf"), 1e-4)]
  )
  said = report.export_facts(exported, wrong, PATH, evidence)
  assert said["verdict"]["state"] == "differs"
  assert "does not answer" in page(exported, said, evidence)
  text = report.writer("x.json")(exported, said, evidence)
  assert json.loads(text)["proof"]["outputs"][0]["largest_difference"] == "inf"


# The page.


@pytest.mark.parametrize(
  "name",
  [
    "layers_fused_literal",
    "layers_unfused_phase",
    "loop_while_phase",
    "layers_adjustment",
    "keep_instance_fused",
    "layers_dense_phase",
  ],
)
def test_page_is_whole_and_needs_nothing_else(proven, name):
  _, exported, _, evidence, said = proven(name)
  text = page(exported, said, evidence)
  parsed = Page(text)
  words = "".join(parsed.words)
  assert said["verdict"]["says"] in words
  for norm in said["batch_norms"]:
    assert norm["name"] in words
  plots = len(parsed.all("svg", **{"class": "plot"}))
  assert plots == 2 * len(evidence.statistics) + bool(
    said["layers"]["tensors"] or said["training_and_inference"]["tensors"]
  )
  changed = [norm for norm in said["batch_norms"] if norm["changed"]]
  drawn = parsed.all("svg", **{"class": "graph", "role": "img"})
  alike = words.count("changed as those around")
  assert len(drawn) == 2 * (len(changed) - alike)
  assert not parsed.all("script") and not parsed.all("link")
  assert not parsed.all("img") and "@import" not in text
  for _, attrs in parsed.tags:
    assert not any(key.startswith("on") for key in attrs)
    for key in ("src", "href", "xlink:href"):
      assert attrs.get(key, "#").startswith("#")
  assert "http" not in text.replace("http-equiv", "")
  assert "url(" not in text.replace("url(#", "")


def test_identities_and_links_of_the_page_are_right(proven):
  _, exported, _, evidence, said = proven("layers_unfused_phase")
  parsed = Page(page(exported, said, evidence))
  names = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
  assert len(names) == len(set(names))
  links = [attrs["href"] for _, attrs in parsed.tags if "href" in attrs]
  assert links and {link[1:] for link in links} <= set(names)


def test_page_is_readable_without_seeing_it(proven):
  _, exported, _, evidence, said = proven("layers_unfused_phase")
  parsed = Page(page(exported, said, evidence))
  assert parsed.all("html", lang="en") and len(parsed.all("h1")) == 1
  for attrs in parsed.all("svg"):
    assert attrs.get("aria-hidden") == "true" or attrs["aria-label"]
  words = "".join(parsed.words)
  assert "− Switch" in words and "~ Const" in words


@pytest.mark.parametrize(
  "name", ["layers_unfused_phase", "ema_literal", "hand_fused_cond"]
)
def test_boxes_do_not_overlap_and_lines_join_them(proven, name):
  from bnexport.report.neighbourhood import Neighbourhoods  # takes grandalf

  _, exported, _, _, _ = proven(name)
  before = find(exported.original.graph, exported.original.outputs)
  around = Neighbourhoods(
    exported.original, exported.model, exported.norms, before
  )
  for norm in exported.norms:
    for drawing in around.of(norm.name):
      corners = [box.corner for box in drawing.boxes]
      for i, (x, y) in enumerate(corners):
        box = drawing.boxes[i]
        assert 0 <= x <= drawing.width - box.w
        assert 0 <= y <= drawing.height - box.h
        for a, b in corners[:i]:
          assert abs(a - x) >= box.w or abs(b - y) >= box.h
      for line in drawing.lines:
        numbers = [float(text) for text in re.findall(r"\d+", line.path)]
        above, below = numbers[:2], numbers[-2:]
        assert above[1] < below[1]
        assert _touches(drawing.boxes, above, 1)
        assert _touches(drawing.boxes, below, 0)


def _touches(boxes, point, at_bottom):
  """Whether the middle of a box's upper or lower side is at a point."""
  return any(
    abs(box.xy[0] - point[0]) <= 1
    and abs(box.corner[1] + at_bottom * box.h - point[1]) <= 1
    for box in boxes
  )


def test_light_and_dark_colours(proven):
  _, exported, _, evidence, said = proven("layers_fused_literal")
  text = page(exported, said, evidence)
  assert "prefers-color-scheme: dark" in text
  drawn = re.findall(r"<svg.*?</svg>", text, re.S)
  assert drawn and not any(re.search("#[0-9a-f]{6}", one) for one in drawn)


def test_same_export_gives_the_same_page(proven):
  _, exported, _, evidence, said = proven("layers_fused_literal")
  assert page(exported, said, evidence) == page(exported, said, evidence)


def test_page_of_anything_large_stays_small(proven):
  _, exported, _, evidence, said = proven("layers_unfused_phase")
  name, many = "x" * 40 + "/{}", 4000
  norm, tensor = said["batch_norms"][0], said["layers"]["tensors"][0]
  walk = dict(
    said["layers"],
    tensors=[dict(tensor, name=name.format(i)) for i in range(many)],
  )
  large = dict(
    said,
    batch_norms=[dict(norm, name=name.format(i)) for i in range(many)],
    changes_beside_norms=[name.format(i) for i in range(many)],
    warnings=[name.format(i) for i in range(many)],
    output_ends=said["output_ends"] * many,
    layers=walk,
    training_and_inference=walk,
  )
  text = page(exported, large, evidence)
  assert len(text) < 1_000_000
  words = "".join(Page(text).words)
  assert "and 3750 more" in words and "the first 250" in words
  assert "All 4000 in a table" in words and "and 3988 more" in words


def test_odd_names_are_escaped(proven):
  """Names that TensorFlow itself would refuse, as a broken file may hold."""
  _, exported, _, _, _ = proven("layers_fused_literal")
  odd = exported.model.graph.to_graph_def()
  for node in odd.node:
    node.name = node.name.replace("preact", "<script>preact")
    for i, text in enumerate(node.input):
      node.input[i] = text.replace("preact", "<script>preact")
  model = copy.copy(exported.model)
  model.graph = Graph(odd)
  model.history, model.warnings = ["<script>|"], ["</p><script>"]
  named = Export(model, find(model.graph, model.outputs), {})
  named = with_other_constants(named)
  evidence = gather(named, None)
  said = report.export_facts(named, None, "<script>.pb", evidence)
  assert any("<script>" in norm["name"] for norm in said["batch_norms"])
  text = page(named, said, evidence)
  assert not Page(text).all("script")
  assert "&lt;script&gt;preact" in text
  assert "<script" not in report.writer("x.md")(named, said, evidence)


# The other kinds.


def test_all_kinds_say_the_same(proven):
  _, exported, _, evidence, said = proven("layers_unfused_phase")
  texts = {
    end: report.writer("x." + end)(exported, said, evidence)
    for end in ("html", "json", "md")
  }
  assert json.loads(texts["json"]) == json.loads(json.dumps(said))
  words = "".join(Page(texts["html"]).words)
  for text in (words, texts["md"]):
    assert said["verdict"]["says"] in text
    assert sentences.agreement(said["layers"]) in text
    assert (
      sentences.parting(said["training_and_inference"], said["outputs"]) in text
    )
    for line in sentences.changes(said) + said["changes"]:
      assert line in text
    for norm in said["batch_norms"]:
      assert norm["name"] in text
      for key in ("mean", "mean_before", "variance", "variance_before"):
        assert sentences.summary(norm["values"][key]) in text
    for tensor in said["layers"]["tensors"]:
      assert tensor["name"] in text


def test_write(proven, tmp_path):
  _, exported, proof, _, _ = proven("layers_fused_literal")
  for end, start in (
    (".html", "<!DOCTYPE html>"),
    (".json", "{"),
    (".md", "# model.frozen.pb"),
  ):
    path = tmp_path / ("report" + end)
    report.write(str(path), exported, proof, PATH)
    assert path.read_bytes().decode("utf-8").lstrip().startswith(start)


@pytest.mark.parametrize("missing", ["jinja2", "grandalf"])
def test_page_without_its_libraries_is_refused(monkeypatch, missing):
  known = report.importlib.util.find_spec
  monkeypatch.setattr(
    report.importlib.util,
    "find_spec",
    lambda name: None if name == missing else known(name),
  )
  with pytest.raises(SourceError) as refused:
    report.writer("r.html")
  assert str(refused.value) == (
    "cannot write report 'r.html': %s is not installed; pip install "
    "'bnexport[report]', or give FILE.json or FILE.md" % missing
  )
  assert report.writer("r.json") and report.writer("r.md")


def test_unknown_kind_is_refused():
  with pytest.raises(SourceError, match="FILE.html, FILE.json or FILE.md"):
    report.writer("report.pdf")


# The training graph as training runs it.


@pytest.mark.parametrize(
  "name",
  [
    "layers_fused_literal",
    "layers_fused_phase",
    "layers_unfused_phase",
    "contrib_fused_inplace_phase",
    "phase_true_constant",
    "phase_variable",
    "ema_cond_pointnet",
    "flow_network_cond",
  ],
)
def test_training_answers_as_training_did(proven, name):
  case, exported, _, _, _ = proven(name)
  trained = TrainingGraph(exported.original, exported.model, trains=True)
  for _ in range(2):
    value = trained.run({case.input: case.x})[0]
    assert_close(value, case.y_train, case.tol)
  trained.close()


# Where two graphs part.


def two_layers(weight, scale=1.0):
  """GraphDef of y = relu(x @ (weight * ones)) + 1, in two dense layers."""
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 3], name="x")
    first = tf1.constant(np.full([3, 4], 0.5 * scale, np.float32), name="w1")
    h = tf1.nn.relu(tf1.matmul(x, first, name="m1"), name="h")
    second = tf1.constant(np.full([4, 2], weight, np.float32), name="w2")
    tf1.add(tf1.matmul(h, second, name="m2"), 1.0, name="y")
  return graph.as_graph_def()


FEEDS = {"x": np.arange(12, dtype=np.float32).reshape(4, 3)}


def part(a, b, names=None):
  names = names or divergence.matched(Graph(a), Graph(b))
  runners = ImportedGraph(a, ["y"]), ImportedGraph(b, ["y"])
  differences = list(divergence.walk(*runners, FEEDS, names))
  for runner in runners:
    runner.close()
  return differences, first_apart(differences)


def first_apart(differences):
  return next((one for one in differences if not one.holds), None)


def test_walk_finds_the_perturbed_constant():
  differences, first = part(two_layers(0.3), two_layers(0.2))
  assert first.output == "w2"
  assert first.largest == pytest.approx(0.1)
  holds = {d.output: d.holds for d in differences}
  assert holds["w1"] and holds["m1"] and holds["h"]
  assert not holds["m2"] and not holds["y"]


def test_walk_over_what_the_input_feeds():
  _, first = part(two_layers(0.3), two_layers(0.2), ["m1", "h", "m2", "y"])
  assert first.output == "m2"


def test_equal_graphs_do_not_part():
  differences, first = part(two_layers(0.3), two_layers(0.3))
  assert first is None
  assert all(d.largest == 0 for d in differences)


def test_rounding_is_no_difference():
  differences, first = part(two_layers(0.3), two_layers(0.3 * (1 + 3e-7)))
  assert first is None
  assert any(0 < d.largest for d in differences)


def test_small_tensor_that_everything_grew_from_is_named():
  """2e-5 is as little as rounding may be elsewhere, and the cause here."""
  a, b = two_layers(1e5, 1e-5), two_layers(1e5, 3e-5)
  differences, first = part(a, b)
  assert {d.output: d.limit for d in differences}["w1"] < 1e-8
  assert first.output == "w1"


def test_other_shapes_part():
  a = two_layers(0.3)
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 3], name="x")
    tf1.identity(x, name="m1")
  _, first = part(a, graph.as_graph_def(), ["m1"])
  assert first.output == "m1" and first.largest == np.inf


def test_stream_takes_few_where_tensors_are_large(monkeypatch):
  asked = []

  class Large:
    def fetch(self, names, feeds):
      asked.append(len(names))
      return [np.zeros(100, np.float32)] * len(names)

  names = ["t%d" % i for i in range(40)]
  got = [name for name, _ in divergence.stream(Large(), names, {})]
  assert got == names and asked == [8, 16, 16]
  del asked[:]
  monkeypatch.setattr(divergence, "_BYTES", 1000)
  list(divergence.stream(Large(), names, {}))
  assert set(asked[1:]) == {2}


def test_only_what_always_runs_is_matched():
  with tf1.Graph().as_default() as graph:
    tf1.disable_control_flow_v2()
    x = tf1.placeholder(tf1.float32, [None, 3], name="x")
    is_large = tf1.greater(tf1.reduce_sum(x), 1.0, name="is_large")
    tf1.cond(is_large, lambda: tf1.exp(x, name="e"), lambda: -x, name="c")
    tf1.while_loop(lambda i: i < 3, lambda i: i + 1, [tf1.constant(0)])
    tf1.no_op(name="nothing")
  found = divergence.always_run(Graph(graph.as_graph_def()))
  assert {"is_large", "c/Merge"} <= found
  assert not {"x", "c/e", "nothing", "c/Switch"} & found
  assert not any(
    name.startswith("while/") and "Exit" not in name for name in found
  )


def test_walk_says_what_does_not_run():
  runner = ImportedGraph(two_layers(0.3), ["y"])
  with pytest.raises(ComparisonError):
    list(divergence.walk(runner, runner, FEEDS, ["nosuch"]))
  runner.close()


def test_rebuilt_model_is_walked_in_its_session():
  graph_def = two_layers(0.3)
  with tf1.Graph().as_default() as graph:
    tf1.import_graph_def(graph_def, name="")
    live = RebuiltModel(lambda: tf1.Session(graph=graph), ["y:0"])
  names = divergence.matched(Graph(graph_def), live.graph)
  assert names[-1] == "y"
  runner = ImportedGraph(two_layers(0.2), ["y"])
  differences = list(divergence.walk(runner, live, FEEDS, names))
  runner.close()
  assert first_apart(differences).output == "w2"
  assert live.run(FEEDS)[0].shape == (4, 2)
