# SPDX-License-Identifier: Apache-2.0
"""Runs: steps in a row, each read by the next one alone."""

import numpy as np
import pytest
from judges.transforming import model_of

from bnexport.batchnorm.folding import CannotFold
from bnexport.graph import TensorRef
from bnexport.transforms.folding.runs import Runs, asks_for_shape
from bnexport.transforms.folding.steps import Steps
from bnexport.transforms.folding.values import Constants

BASE = """
  x = Placeholder() {shape=[?,4,4,2]}   c = Const() {value=<float [2] 2 4>}
  d = Const() {value=<float [2] 1 -1>}   s = Const() {value=<float 3>}
"""


def runs_of(statements, protected=("y",)):
  model = model_of(BASE + statements)
  order = model.graph.topological()
  steps = Steps(model.graph, Constants(model, order))
  return model.graph, Runs(model.graph, steps, set(protected))


def test_run_reaches_back_as_far_as_steps_are_read_alone():
  _, runs = runs_of("a = Mul(x, c)   b = Add(a, d)   e = Neg(b)   y = Relu(e)")
  run = runs.ending("e")
  assert run.base == TensorRef("x") and run.names == ("a", "b", "e")
  assert run.end == "e"


@pytest.mark.parametrize(
  "more, protected",
  [("other = Abs(a)", ["y"]), ("", ["y", "a"]), ("w = NoOp(^a)", ["y"])],
)
def test_run_begins_behind_what_others_need(more, protected):
  _, runs = runs_of(
    "a = Mul(x, c)   b = Add(a, d)   y = Relu(b)   " + more, protected
  )
  run = runs.ending("b")
  assert run.base == TensorRef("a") and run.names == ("b",)


def test_questions_for_the_shape_are_no_readers():
  graph, runs = runs_of(
    "a = Mul(x, c)   b = Add(a, d)   y = Relu(b)   q = Shape(a)"
    "  both = Pack(a, a)"
  )
  assert asks_for_shape(graph, "q", "a") and not asks_for_shape(graph, "b", "a")
  assert runs.readers("a") == ["b", "both"]


@pytest.mark.parametrize(
  "statements, ends",
  [
    ("a = Mul(x, c)   b = Add(a, d)   y = Relu(b)", {"b"}),
    ("a = Mul(x, c)   i = Identity(a)   y = Relu(i)", {"a"}),
    ("a = Mul(x, c)   i = Identity(a)   b = Add(i, d)   y = Relu(b)", {"b"}),
    ("i = Identity(x)   y = Relu(i)", set()),
    ("a = Mul(x, c)   b = Neg(a)   q = Abs(a)   y = Add(b, q)", {"a", "b"}),
  ],
)
def test_last_steps(statements, ends):
  graph, runs = runs_of(statements)
  assert {name for name in graph.names() if runs.ends_at(name)} == ends


def test_effect_of_a_run_is_that_of_its_steps_in_a_row():
  _, runs = runs_of(
    "a = Mul(x, c)   b = Sub(d, a)   e = Mul(b, s)   y = Relu(e)"
  )
  scale, shift = runs.affine(runs.ending("e"), 4, 3, 2)[:2]
  np.testing.assert_array_equal(scale, [-6, -12])
  np.testing.assert_array_equal(shift, [3, -3])


@pytest.mark.parametrize(
  "constant", ["<float [4,1,1] 1 2 3 4>", "<float [3] 1 2 3>", "<float inf>"]
)
def test_other_effects_are_refused(constant):
  _, runs = runs_of(
    f"k = Const() {{value={constant}}}   a = Mul(x, k)   y = Relu(a)"
  )
  with pytest.raises(CannotFold):
    runs.affine(runs.ending("a"), 4, 3, 2)


@pytest.mark.parametrize(
  "statements, is_one",
  [
    ("a = Add(x, c)   y = Relu(a)", True),
    ("a = Add(x, c)   i = Identity(a)   b = Neg(i)   y = Relu(b)", False),
    ("a = Sub(x, c)   y = Relu(a)", True),
    ("a = Sub(c, x)   y = Relu(a)", False),
    ("a = Mul(x, c)   y = Relu(a)", False),
  ],
)
def test_lone_shifts(statements, is_one):
  graph, runs = runs_of(statements)
  (end,) = [ref.node for ref in graph.inputs("y")]
  assert runs.is_lone_shift(runs.ending(end)) == is_one


def test_steps_that_do_something():
  _, runs = runs_of(
    "a = Mul(x, c)   i = Identity(a)   b = Add(i, d)   y = Relu(b)"
  )
  assert runs.real(runs.ending("b")) == ["a", "b"]
  assert runs.longest_vector(runs.ending("b"), 4) == 2


@pytest.mark.parametrize(
  "statements, protected, reason",
  [
    ("y = Relu(a)   z = Abs(a)", [], "'a' is read by 'z' too"),
    ("y = Relu(a)", ["a"], "'a' is an input or output"),
    ("y = Mul(a, a)", [], "'a' is read by 'y' more than once"),
    ("y = Relu(a, ^a)", [], "'a' is read by 'y' more than once"),
  ],
)
def test_sole_readers(statements, protected, reason):
  _, runs = runs_of("a = Neg(x)   " + statements, protected)
  assert runs.sole_reader("a") is None
  with pytest.raises(CannotFold, match=reason):
    runs.check_sole(TensorRef("a"), "y")


def test_sole_reader_that_is_one():
  _, runs = runs_of("a = Neg(x)   y = Relu(a)   q = Shape(a)", [])
  assert runs.sole_reader("a") == "y"
  runs.check_sole(TensorRef("a"), "y")
