# SPDX-License-Identifier: Apache-2.0
"""The fixed point of the updates: right exports pass it, wrong ones do not."""

import dataclasses

import numpy as np
import pytest
import zoo

from bnexport.proof import fixed_point
from bnexport.proof.fixed_point import FixedPoint, examine
from bnexport.proof.settling import is_settled, solved
from bnexport.text import Emitter

CASES = [
  "contrib_dense_phase",
  "contrib_fused_inplace_phase",
  "layers_fused_literal",
]


def feeds_of(case):
  return {case.input: case.x}


def planted(export, right, wrong):
  """The export with one tensor in the place of another."""
  graph = export.unfolded.clone()
  graph.substitute({right: wrong}, graph.readers_of(right))
  return dataclasses.replace(export, unfolded=graph)


def is_found(export, feeds):
  found = examine(export, feeds)
  assert not found.why_not
  return not found.holds


@pytest.mark.parametrize("name", CASES)
def test_right_exports_answer_as_training_does(cases, exports, name):
  export = exports(name)
  found = examine(export, feeds_of(cases(name)))
  assert found.holds and not found.why_not
  # Behind probabilities their logits are compared, too.
  assert len(found.differences) >= len(export.model.outputs)
  assert len(found.averages) == 2 * len(export.norms)


@pytest.mark.parametrize("name", CASES)
def test_an_average_in_another_ones_place_is_found(cases, exports, name):
  """Whatever is stored in them: what tells is what they settle at."""
  export, feeds = exports(name), feeds_of(cases(name))
  for norm in export.norms:
    assert is_found(planted(export, norm.mean, norm.variance), feeds)
  array = export.before_folding().model.array
  for one, other in zip(export.norms, export.norms[1:]):
    if array(one.moving_mean).shape == array(other.moving_mean).shape:
      assert is_found(planted(export, one.variance, other.variance), feeds)


@pytest.mark.parametrize("op", ["Neg", "Sqrt", "Square"])
def test_a_statistic_that_is_computed_wrongly_is_found(cases, exports, op):
  export, feeds = exports(CASES[0]), feeds_of(cases(CASES[0]))
  graph, right = export.unfolded.clone(), export.norms[0].mean
  readers = graph.readers_of(right)
  made = Emitter(graph).emit("fault", f"wrong = {op}(right)", right=right)
  graph.substitute({right: made["wrong"]}, readers)
  assert is_found(dataclasses.replace(export, unfolded=graph), feeds)


@pytest.mark.parametrize(
  "update, slope, value",
  [
    (lambda v: 0.9 * v + 0.1 * 2.5, 0.9, 2.5),
    (lambda v: 0 * v + 2.5, 0.0, 2.5),  # replaced at once
    (lambda v: v, 1.0, 7.0),  # stays
    (lambda v: v + 1, 1.0, 1000.0),  # counts
    (lambda v: v + 0.25, 1.0, 250.0),  # adds up
  ],
)
def test_two_runs_tell_where_an_update_settles(update, slope, value):
  low, high = np.float32([7, 7]), np.float32([14, 14])
  found, value_there = solved(low, update(low), high, update(high), 1000)
  np.testing.assert_allclose(found, slope, atol=1e-6)
  np.testing.assert_allclose(value_there, value, rtol=1e-5)
  assert is_settled(np.float32(update(value_there)), value_there, found)


def test_what_goes_on_is_not_settled():
  slope = np.float64([0.999])
  assert not is_settled(np.float32([1.0]), np.float32([1.001]), slope)


def test_floats_behind_class_numbers_are_compared(cases, exports):
  """The class of a few rows is the same for many a wrong network."""
  name = "answer_argmax_literal"
  export, feeds = exports(name), feeds_of(cases(name))
  right = examine(export, feeds)
  assert right.holds and not right.why_not
  assert [one.output for one in right.differences][0] == "label"
  assert len(right.differences) == 2
  for norm in export.norms:
    assert is_found(planted(export, norm.mean, norm.variance), feeds)


def test_channels_first_graphs_are_run(cases, exports):
  name = "contrib_nchw_literal"
  found = examine(exports(name), feeds_of(cases(name)))
  assert found.holds and not found.why_not


# Why a model has no fixed point: its averages do not settle at one statistic,
# training and inference are one, or training is not run.
_REASONS = (
  "is updated several times in a run",
  "leaves",
  "no update depends on the batch",
  "does not settle",
  "the training graph does not run so",
  "the export does not run on that batch",
)


def test_models_of_the_zoo_that_were_built_for_training(cases, exports, part):
  """Prints a table: each answers as training does, or it is said why not."""
  told, wrong, names = 0, [], part(zoo.names(), 1, oldest=8)
  for name in names:
    if name.startswith("refuse_"):
      continue
    export = exports(name)
    if export.original is None or not export.model.decisions.stored:
      continue
    found = examine(export, feeds_of(cases(name)))
    apart = max((one.largest for one in found.differences), default=0.0)
    print(f"{name:40} {found.why_not or f'{apart:.2g} apart'}")
    told += not found.why_not
    is_known = any(reason in found.why_not for reason in _REASONS)
    if not found.holds or (found.why_not and not is_known):
      wrong.append(name)
  assert told > len(names) // 5
  assert not wrong


_IDLE = FixedPoint(why_not="no update depends on the batch", is_idle=True)
_MOVING = FixedPoint(why_not="'v' does not settle")


@pytest.mark.parametrize(
  "modes", [{False: _IDLE, True: _MOVING}, {False: _MOVING, True: _IDLE}]
)
def test_the_mode_in_which_updates_run_says_why_there_is_none(
  exports, monkeypatch, modes
):
  export = exports("layers_fused_phase")
  assert export.model.decisions.values
  monkeypatch.setattr(
    fixed_point, "_in_mode", lambda export, feeds, trains: modes[trains]
  )
  assert examine(export, {}) is _MOVING


def test_an_export_that_does_not_run_is_said_to_be_the_export(cases, exports):
  export, feeds = exports(CASES[0]), feeds_of(cases(CASES[0]))
  graph = export.unfolded.clone()
  graph.remove([export.model.outputs[0].node])
  broken = dataclasses.replace(export, unfolded=graph)
  found = examine(broken, feeds)
  assert found.why_not.startswith("the export does not run on that batch")
  assert found.runs and not found.differences
