# SPDX-License-Identifier: Apache-2.0
"""Long lists: in groups on a screen, whole where all is asked for."""

import dataclasses

import pytest
from judges.commands import on_one_line

from bnexport import report
from bnexport.proof import comparison
from bnexport.proof.differences import Difference
from bnexport.report import screen, terminal
from bnexport.report.markdown import markdown

NAMES = [f"net/block{i}/norm" for i in range(30)]


@pytest.fixture(scope="module")
def said(exports):
  """Facts of an export with many outputs and much that is not seen."""
  exported = exports("layers_fused_literal")
  proof = comparison.Comparison(
    reference="a reference",
    missing="no answer depends on 30 of 36 stored statistics",
    differences=[Difference(f"out{i}", 0.0, 1e-5) for i in range(20)]
    + [Difference("far", 9e-6, 1e-5)],
    blind=[f"mean of norm '{name}'" for name in NAMES],
    statistics=36,
  )
  found = report.export_facts(exported, proof, "/graph.pb")
  nothing = {
    "compared_with": "",
    "note": "not run",
    "first_real_difference": None,
    "norm": None,
    "tensors": [],
  }
  found.update(layers=nothing, training_and_inference=nothing)
  for norm in found["batch_norms"]:
    norm.update(before=None, changed=False, values=None, recalibrated=None)
  return found


def test_a_screen_says_them_once(said):
  lines = screen.export(said)
  text = on_one_line("\n".join(lines))
  assert lines[0] == f"NOT PROVEN: {said['proof']['not_proven_because']}"
  assert text.count("NOT PROVEN") == text.count("no answer depends on") == 1
  assert "no answer changes with the mean of norm 'net/block*/norm'" in text
  assert "(30 alike)" in text
  assert "far: largest difference 9e-06, limit 1e-05" in text
  assert "and 17 outputs that are less far off" in text
  assert len(lines) <= 40 and max(map(len, lines)) <= 100


@pytest.mark.parametrize("make", [terminal.export, markdown])
def test_all_of_them_are_in_what_is_whole(said, make):
  text = make(said)
  for name in NAMES:
    assert f"the mean of norm '{name}'" in text
  for i in range(20):
    assert f"out{i}: largest difference" in text


@pytest.mark.parametrize(
  "change, words",
  [
    ({}, "PROVEN: 'far', the worst of 21, is 9e-06 off, where 1e-05 is"),
    ({"batch": False}, "DIFFERS: one row alone answers DIFFERENTLY"),
    ({"repeats": False}, "DIFFERS: a second run answers DIFFERENTLY"),
    (
      {"differences": [Difference("y", float("inf"), 0.0)]},
      "DIFFERS: 'y' is inf off, where 0 is allowed",
    ),
    (
      {"differences": [Difference("y", 0.0, 0.0)]},
      "PROVEN: 'y' is 0 off, where 0 is allowed",
    ),
  ],
)
def test_verdicts(exports, said, change, words):
  proof = comparison.Comparison(
    reference="a reference",
    differences=[Difference(f"out{i}", 0.0, 1e-5) for i in range(20)]
    + [Difference("far", 9e-6, 1e-5)],
  )
  exported = exports("layers_fused_literal")
  facts = report.export_facts(
    exported, dataclasses.replace(proof, **change), "/graph.pb"
  )
  assert screen.export(facts)[0].startswith(words)
