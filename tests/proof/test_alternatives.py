# SPDX-License-Identifier: Apache-2.0
"""What other decisions would have led to is tried, and said."""

import pytest
from judges.commands import copy_of, run
from judges.transforming import model_of

from bnexport.exporting.export import Export
from bnexport.proof.alternatives import examine
from bnexport.proof.comparison import NOT_PROVEN, PROVEN
from bnexport.proof.training_graph import TrainingGraph

SCALED = """
x = Placeholder() {shape=[?,3]}
t = Placeholder() {shape=[]}
y = Mul(x, t)
"""
UNSCALED = """
x = Placeholder() {shape=[?,3]}
t = Const() {value=<float [] 0.5>}
y = Mul(x, t)
"""


def alternatives(cases, exports, name):
  case = cases(name)
  return examine(exports(name), {case.input: case.x})


def test_the_other_value_of_a_phase_is_tried(cases, exports):
  (one,) = alternatives(cases, exports, "layers_fused_phase")
  assert "is False" in one.decided and one.other == "True"
  assert one.matters and one.apart > 1e-2 and not one.lost


def test_other_values_of_a_number_are_tried(cases, exports):
  found = alternatives(cases, exports, "phase_int_greater")
  assert {one.decided for one in found} == {"'mode' is -1"}
  assert {one.other: one.matters for one in found} == {"0": False, "1": True}


def test_another_word_is_tried(cases, exports):
  (one,) = alternatives(cases, exports, "phase_string_equal")
  assert one.decided == "'mode' is ''" and one.other == "train"
  assert one.matters


def test_what_else_tracks_a_statistic_is_tried(cases, exports):
  name = "layers_renorm_literal"
  found = alternatives(cases, exports, name)
  assert len(found) == 2 * len(exports(name).norms)
  assert all("moving_" in one.decided for one in found)
  assert all("renorm_" in one.other and one.matters for one in found)


def test_noise_that_was_taken_out_is_put_back(cases, exports):
  found = alternatives(cases, exports, "dropout_by_hand_literal")
  (one,) = [one for one in found if one.other == "noise"]
  assert one.matters and one.apart > 1e-2


def test_an_input_that_only_noise_read_does_not_matter(cases, exports):
  found = alternatives(cases, exports, "dropout_keep_prob")
  assert [one.matters for one in found if one.lost] in ([], [False])


def test_a_literal_phase_leaves_nothing_to_try(cases, exports):
  assert alternatives(cases, exports, "layers_fused_literal") == []


def test_the_reference_is_left_as_it_was(cases, exports):
  export, case = exports("layers_fused_phase"), cases("layers_fused_phase")
  before = export.reference.run({case.input: case.x})
  examine(export, {case.input: case.x})
  after = export.reference.run({case.input: case.x})
  assert [a.tolist() for a in after] == [b.tolist() for b in before]


@pytest.mark.parametrize(
  "effort, is_said", [("--proof=quick", False), ("--proof=full", True)]
)
def test_the_report_says_what_hangs_on_a_decision(
  capsys, cases, tmp_path, effort, is_said
):
  case = cases("layers_fused_phase")
  prefix = copy_of(case, tmp_path)
  result = run(
    capsys,
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
    effort,
  )
  assert result.status == 0
  said = f"decided: '{case.switch}' is False; with True: answers "
  assert (said in result.out) == is_said


@pytest.mark.parametrize(
  "training, verdict", [(SCALED, NOT_PROVEN), (UNSCALED, PROVEN)]
)
def test_an_input_that_is_gone_and_counts_keeps_it_from_being_proven(
  training, verdict
):
  model, original = model_of(UNSCALED), model_of(training)
  reference = TrainingGraph(original, model)
  proof = Export(model, [], {}, reference, original=original).prove()
  assert proof.verdict == verdict
  assert ("depend on 't'" in proof.missing) == (verdict == NOT_PROVEN)
