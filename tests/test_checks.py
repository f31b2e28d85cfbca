"""Every code of the catalogue: its bad example, its good one, and its fix."""

import os
import shlex

import numpy as np
import pytest
from commands import run

from bnexport import checks, text
from bnexport.checks.rule import NOTE
from bnexport.inspection import examination
from bnexport.tf1 import session, tf1


def write(example, folder):
  """Writes an example's files; returns what `examination.look` is given."""
  folder = str(folder)
  graph_def = text.loads(example.graph)
  named = {"outputs": example.outputs, "target_tf": example.target_tf}
  if example.checkpoint is not None:
    named["checkpoint"] = os.path.join(folder, "model.ckpt")
    _save(example.checkpoint, named["checkpoint"])
  if example.training is not None:
    meta = tf1.MetaGraphDef(graph_def=text.loads(example.training))
    _dump(meta, named["checkpoint"] + ".meta")
  if example.data is not None:
    random = np.random.RandomState(3)
    np.savez(
      os.path.join(folder, "calibration.npz"),
      **{
        name: random.randn(*shape).astype(np.float32)
        for name, shape in example.data.items()
      }
    )
  if example.is_training:
    meta = tf1.MetaGraphDef(graph_def=graph_def)
    _dump(meta, named["checkpoint"] + ".meta")
  else:
    named["graph_def"] = os.path.join(folder, "graph.pb")
    _dump(graph_def, named["graph_def"])
  return named


def _dump(proto, path):
  with open(path, "wb") as f:
    f.write(proto.SerializeToString())


def _save(values, prefix):
  with tf1.Graph().as_default() as graph:
    variables = [
      tf1.Variable(np.array(value, np.float32), name=key, use_resource=False)
      for key, value in values.items()
    ]
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      tf1.train.Saver(variables).save(running, prefix, write_meta_graph=False)


def codes(named):
  return [f.code for f in examination.look(**named).findings]


@pytest.mark.parametrize("code", sorted(checks.BY_CODE))
def test_bad_example_raises_exactly_the_code(tmp_path, code):
  named = write(checks.BY_CODE[code].bad, tmp_path)
  assert set(codes(named)) == {code}


@pytest.mark.parametrize("code", sorted(checks.BY_CODE))
def test_good_example_raises_nothing(tmp_path, code):
  assert codes(write(checks.BY_CODE[code].good, tmp_path)) == []


@pytest.mark.parametrize("code", sorted(checks.BY_CODE))
def test_fix_clears_the_bad_example(tmp_path, code, capsys, monkeypatch):
  """The fix is pasted: only files of the user's own are named in it."""
  monkeypatch.chdir(tmp_path)
  named = write(checks.BY_CODE[code].bad, tmp_path)
  found = examination.look(**named).findings[0]
  words = shlex.split(found.fix)
  assert words[:2] == ["python", "-m"]
  command = words[2][len("bnexport.") :]
  fixed = str(tmp_path / "fixed.pb")
  result = run(
    capsys, "--output_graph=" + fixed, *words[3:], command=command
  )
  assert result.status == 0, result
  outputs = [w for w in words if w.startswith("--output_node=")]
  again = dict(
    graph_def=fixed,
    outputs=outputs[0].partition("=")[2].split(","),
    target_tf=named["target_tf"],
  )
  assert codes(again) == []


@pytest.mark.parametrize("code", sorted(checks.BY_CODE))
def test_page_says_everything(code):
  page = checks.explain(code.lower())
  rule = checks.BY_CODE[code]
  for part in (code, rule.title, "How it comes about", "How to fix it"):
    assert part in page
  assert text.loads(rule.bad.graph) != text.loads(rule.good.graph)
  assert len(rule.code_sample.strip().splitlines()) >= 2
  assert max(map(len, page.splitlines())) <= 84


def test_severities_are_known():
  assert {rule.severity for rule in checks.RULES} <= {"error", "warning", NOTE}
