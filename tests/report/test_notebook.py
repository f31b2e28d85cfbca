# SPDX-License-Identifier: Apache-2.0
"""Nouns as notebooks show them: well formed, escaped, and small."""

import dataclasses

import pytest
from judges.commands import run_process
from judges.counting import assert_linear
from judges.markup import Page

import bnexport
from bnexport import text
from bnexport.checks.rule import ERROR, NOTE, Findings
from bnexport.graph import Graph
from bnexport.proof.differences import Difference
from bnexport.report import notebook
from bnexport.tf1 import tf1

# Bytes of what is shown of anything, however large it is.
LARGEST = 20_000


def words(shown):
  """The text of what a notebook shows, which is well formed."""
  made = shown._repr_html_()
  parsed = Page(made)
  assert len(made) < LARGEST
  for tag, attrs in parsed.tags:
    assert tag not in ("script", "link", "img", "iframe")
    assert not any(key.startswith("on") or key == "src" for key in attrs)
  return " ".join(" ".join(parsed.words).split())


@pytest.fixture(scope="module")
def trained(cases):
  case = cases("layers_fused_phase")
  return bnexport.load(case.prefix + ".meta", outputs=[case.output])


@pytest.fixture(scope="module")
def made(trained):
  return bnexport.export(trained)


def test_graph_shows_its_kind_and_ends(trained):
  said = words(trained.graph)
  assert "training graph" in said
  assert f"{len(trained.graph):,} nodes" in said
  assert "placeholders images, training" in said and "Switch" in said
  assert "gradients/: " in said


def test_model_shows_where_it_is_from(trained):
  said = words(trained)
  assert trained.origin in said and str(trained.outputs[0]) in said


def test_export_shows_norms_and_changes(made):
  said = words(made)
  assert f"{len(made.norms)} batch norms" in said
  assert "stored" in said and "ok" in said and ".prove()" in said
  assert f"{len(made.model.history)} changes" in said
  assert "decided 'training' = False" in said


def test_comparison_shows_its_verdict(made):
  proof = made.prove()
  said = words(proof)
  assert said.split("} ")[-1].startswith("PROVEN compared with")
  assert f"{proof.differences[0].largest:.2g}" in said and "DIFFERS" not in said
  wrong = dataclasses.replace(proof, differences=[Difference("y", 1.0, 1e-3)])
  assert words(wrong).split("} ")[-1].startswith("DIFFERS compared with")
  lacking = dataclasses.replace(proof, missing="no reference", reference="")
  assert words(lacking).split("} ")[-1].startswith("NOT PROVEN")


def test_findings_show_what_to_do(trained):
  found = bnexport.check(trained)
  assert found and isinstance(found, list)
  said = words(found)
  assert f"{len(found)} finding" in said
  for one in found:
    assert one.code in said and one.fix.command().split()[2] in said
    assert one.code in words(one)
  assert "no findings" in words(Findings())


def test_worst_findings_come_first_and_those_alike_once():
  (one, *_) = bnexport.check(_sick())
  found = [
    dataclasses.replace(one, code=code, severity=NOTE, node=f"net/n{i}/x")
    for code in (f"BN{n}" for n in range(300, 320))
    for i in range(3)
  ]
  worst = dataclasses.replace(one, code="BN999", severity=ERROR, node="late")
  said = words(Findings(found + [worst]))
  assert "61 findings" in said and "and 27 more" in said
  assert 0 < said.index("late") < said.index("3 times BN300")
  assert said.count("net/n*/x") == 11


def _sick():
  """A Model whose phase is a constant that means training."""
  model = bnexport.load(
    Graph(
      text.loads(
        """
        x = Placeholder() {shape=[?,2,2,2]}
        k = Const() {value=<float [2] 1 2>}
        y = FusedBatchNormV3(x, k, k, k, k) {T=float,U=float,is_training=true}
        """
      )
    ).to_graph_def(),
    outputs=["y"],
  )
  return model


def test_names_are_no_markup():
  name = "<script>alert(1)</script>/\u202e&amp;"
  graph_def = tf1.GraphDef()
  graph_def.node.add(name=name, op="<b>")
  made = Graph(graph_def)._repr_html_()
  assert not Page(made).all("script") and not Page(made).all("b", id="")
  assert "&lt;script&gt;" in made and "\u202e" not in made
  assert "&amp;amp;" in made and "<b>" not in made


def _large(count):
  graph_def = tf1.GraphDef()
  for i in range(count):
    graph_def.node.add(
      name=f"scope{i}x{i * 7}/" + "n" * 60 + str(i), op=f"O{i}"
    )
  return Graph(graph_def, copy=False)


def test_large_graph_is_shown_small():
  said = words(_large(100_000))
  assert "100,000 nodes" in said and "more" in said


def test_cost_is_linear():
  assert_linear(lambda n: _large(n)._repr_html_, 1000, 4000)


def test_notebook_takes_no_library():
  code = """
import sys
for name in ("jinja2", "grandalf", "matplotlib", "IPython"):
  sys.modules[name] = None
import bnexport
from bnexport import text
graph = bnexport.Graph(text.loads("x = Placeholder() {shape=[?,2]}"))
assert "Placeholder" in graph._repr_html_()
"""
  result = run_process("-c", code)
  assert result.status == 0, result.err


def test_every_noun_has_a_writer():
  for name in ("Graph", "Model", "Export", "Comparison", "Finding", "Findings"):
    noun = getattr(bnexport, name)
    assert noun._repr_html_ and any(k is noun for k, _ in notebook._WRITERS)
  with pytest.raises(TypeError, match="a str has no HTML"):
    notebook.html("graph")


def test_formatter_of_ipython_takes_the_html(trained):
  formatters = pytest.importorskip("IPython.core.formatters")
  shown, _ = formatters.DisplayFormatter().format(trained.graph)
  assert shown["text/html"] == trained.graph._repr_html_()
