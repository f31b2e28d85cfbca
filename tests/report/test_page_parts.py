# SPDX-License-Identifier: Apache-2.0
"""Parts of the page by themselves: its answer, doubts, changes, plots."""

import re

import numpy as np
import pytest
from judges.counting import assert_linear
from judges.markup import Page

from bnexport.model.changes import Change
from bnexport.report import plots
from bnexport.report.answer import answer
from bnexport.report.changed import changed
from bnexport.report.doubts import doubt, ranked
from bnexport.report.norm_statistics import NormStatistics

# The answer.

PROOF = {
  "compared_with": "the training graph",
  "compared_with_as_well": "",
  "not_proven_because": "",
  "first_difference": None,
  "fixed_point": None,
  "fed_is_made_up": False,
  "outputs": [
    {"name": "y", "largest_difference": 1e-6, "limit": 1e-4, "holds": True}
  ],
  "one_row_answers_alone": True,
  "second_run_answers_the_same": True,
  "statistics_moved": 0,
  "blind_to": [],
  "further_feeds": 0,
  "decisions": [],
  "notes": [],
}


def answer_to(state="proven", is_doubtful=False, **proof):
  verdict = {"state": state, "says": "says"}
  return answer(
    {"verdict": verdict, "proof": dict(PROOF, **proof)}, is_doubtful
  )


def test_answer_tells_how_far_off():
  found = answer_to()
  assert found.short == "Yes: it is proven" and not found.left
  assert "1e-06 apart, 1.00% of what rounding explains (0.0001)" in found.far
  far = {"name": "y", "largest_difference": 0.5, "limit": 0.1, "holds": False}
  found = answer_to("differs", outputs=[*PROOF["outputs"], far])
  assert found.short == "No: it differs" and "0.5 apart, 5 times" in found.far
  assert ("against", "compared with the training graph") in found.grounds
  nan = dict(far, largest_difference=float("nan"))
  assert "nan apart, inf times" in answer_to("differs", outputs=[nan, far]).far
  same = dict(PROOF["outputs"][0], largest_difference=0.0)
  assert "equal to the last bit" in answer_to(outputs=[same]).far


def test_doubtful_norms_are_in_the_answer():
  assert answer_to(is_doubtful=True).tone == "doubtful"
  assert answer_to("differs", is_doubtful=True).tone == "differs"
  assert answer_to("unproven", is_doubtful=True).tone == "unproven"


def test_what_was_not_compared_is_left_open():
  untried = {
    "decided": "'p' is False",
    "other": "True",
    "apart": None,
    "matters": None,
    "not_tried_because": "no time",
  }
  found = answer_to(
    "unproven",
    not_proven_because="every row has the same answer",
    blind_to=["mean of 'bn'"],
    statistics_moved=4,
    decisions=[untried, dict(untried, apart=0.5, matters=True)],
    notes=["a note"],
    one_row_answers_alone=False,
  )
  assert found.left == [
    "every row has the same answer",
    "no answer changes with the mean of 'bn'",
    "decided: 'p' is False; with True: not known, no time",
  ]
  assert found.notes == ["a note"]
  kinds = dict((line, kind) for kind, line in found.grounds)
  assert kinds["one row alone answers DIFFERENTLY than within its batch"] == (
    "against"
  )
  assert kinds["decided: 'p' is False; with True: answers 0.5 apart"] == "holds"
  nothing = answer(
    {"verdict": {"state": "unproven", "says": ""}, "proof": None}
  )
  assert nothing.left == ["nothing was compared: --novalidate"]


# Doubts.


def norm(name="bn", health="ok", statistics="stored", **distance):
  far = dict(
    samples=100,
    shift=0.1,
    ratio=1.0,
    largest_shift=0.2,
    extreme_ratio=1.1,
    is_far=False,
  )
  far.update(distance)
  return dict(name=name, health=health, statistics=statistics, distance=far)


def test_norms_are_sorted_by_how_bad_they_are():
  norms = [
    norm("fine"),
    norm("far", is_far=True, ratio=0.01),
    norm("nearer", is_far=True, ratio=10.0),
    norm("batch", statistics="batch"),
    norm("sick", health="variance 0"),
    norm("unknown", health=None),
  ]
  norms[-1]["distance"] = None
  found = [(one["name"], bool(words)) for one, words in ranked(norms)]
  assert found == [
    ("sick", True),
    ("batch", True),
    ("far", True),
    ("nearer", True),
    ("fine", False),
    ("unknown", False),
  ]


def test_made_up_and_few_rows_make_no_doubt():
  far = norm(is_far=True, shift=9.0)
  assert "9 standard deviations" in doubt(far)
  assert not doubt(far, is_made_up=True)
  assert not doubt(norm(is_far=True, samples=8))
  assert doubt(norm(health="variance 0"), is_made_up=True) == "variance 0"


# Changes.


def test_changes_are_grouped_by_kind_and_scope():
  norms = [
    {
      "name": f"net/b{i}/{part}/bn",
      "recalibrated": None,
      "changed": True,
      "before": "batch",
      "statistics": "stored",
    }
    for i in range(20)
    for part in "xy"
  ]
  steps = [
    Change(f"folded {i}", "fold_batch_norms", f"c{i}") for i in range(300)
  ]
  found = changed(
    {"batch_norms": norms, "changes_beside_norms": [*steps, "by hand"]}
  )
  assert [(kind.of_norms, kind.count) for kind in found] == [
    (True, 40),
    (False, 300),
    (False, 1),
  ]
  assert found[0].scopes() == [("net/b*/x/bn", 20), ("net/b*/y/bn", 20)]
  assert found[1].title == "fold batch norms" and len(found[1].lines) == 200
  assert found[2].title == "other steps" and found[2].lines == ["by hand"]


# Plots.


def dots(svg):
  return [(int(x), int(y)) for x, y in re.findall(r"M(-?\d+) (-?\d+)h0", svg)]


def statistics(mean, variance, mean_before=None, variance_before=None):
  arrays = (mean, variance, mean_before, variance_before)
  arrays = [a if a is None else np.asarray(a, np.float64) for a in arrays]
  return NormStatistics("bn", *arrays[:2], "the batch", *arrays[2:])


def test_equal_values_lie_on_the_diagonal():
  values = np.linspace(1, 9, 17)
  svg = plots.statistics_plot(statistics(values, values, values, values + 3))
  mean, variance = svg.split("</svg>")[:2]
  assert len({x + y for x, y in dots(mean)}) <= 2  # rounded to pixels
  line = sum(dots(mean)[0])
  assert all(x + y < line - 20 for x, y in dots(variance))  # above it
  assert mean.count("aria-label") == 1 and "17 channels" in mean


@pytest.mark.parametrize("count", [1, 2, 5000])
def test_plots_of_any_values_are_well_formed_and_small(count):
  random = np.random.RandomState(1)
  many = random.lognormal(0, 5, count)
  odd = np.where(np.arange(count) % 2, np.nan, np.inf)
  for one in (
    statistics(many, many, many[::-1], many * 2),
    statistics(many, many),
    statistics(many * 0, many * 0, many * 0, many * 0),
    statistics(odd, odd, odd, odd),
    statistics(odd, odd),
    statistics(many * 1e30, many * 1e-30, -many, -many),
  ):
    svg = plots.statistics_plot(one)
    assert not re.search("nan|inf[^i]", svg.replace("finite", ""))
    assert len(Page(svg).all("svg")) == 2 and len(svg) < 12_000
    for x, y in dots(svg):
      assert 0 <= x <= 222 and 0 <= y <= 210


def test_furthest_channel_is_never_thinned_out():
  values = np.linspace(0, 1, 3000)
  before = values.copy()
  before[1234] = 0.9
  svg = plots.statistics_plot(statistics(values, values, before, values))
  assert min(x + y for x, y in dots(svg.split("</svg>")[0])) < 150


def test_plot_of_all_norms_marks_the_doubtful():
  def far(shift, ratio, is_marked=False):
    return {"shift": shift, "ratio": ratio, "is_marked": is_marked}

  svg = plots.norms_plot([far(0.1, 1.0), None, far(9.0, 0.01, True)])
  shifts, ratios = svg.split("</svg>")[:2]
  assert len(dots(shifts)) == len(dots(ratios)) == 2
  assert shifts.count("dots doubt") == 1
  assert plots.norms_plot([None, far(float("nan"), float("inf"))]) == ""
  Page(svg)


def test_plot_of_walks_takes_what_no_number_is():
  def walk(*pairs):
    keys = ("largest_difference", "limit")
    return {"tensors": [dict(zip(keys, pair)) for pair in pairs]}

  nan = float("nan")
  svg = plots.walks_plot(walk((0, 1), (1, 0), (nan, 1)), walk((nan, nan)))
  assert "nan" not in svg and len(dots(svg)) == 4
  Page(svg)


def test_cost_of_plots_is_linear():
  def prepare(count):
    tensors = [{"largest_difference": 1.0, "limit": 2.0}] * count
    walk = {"tensors": tensors}
    return lambda: plots.walks_plot(walk, walk)

  assert_linear(prepare, 1000, 4000)
