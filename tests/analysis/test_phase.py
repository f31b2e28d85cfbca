# SPDX-License-Identifier: Apache-2.0
"""What a phase is told by, what it may be, and what a user may say it is."""

import numpy as np
import pytest
from judges.transforming import model_of

from bnexport.analysis import phase
from bnexport.analysis.partial_evaluation import PartialEvaluation
from bnexport.errors import GraphError, TransformError

SCALARS = """
  b = Placeholder() {shape=[], dtype=bool}
  i = Placeholder() {shape=[], dtype=int32}
  f = Placeholder() {shape=[]}
  s = Placeholder() {shape=[], dtype=string}
  y = Placeholder()
"""


@pytest.mark.parametrize(
  "name, text, value",
  [
    ("b", "true", np.bool_(True)),
    ("b", "False", np.bool_(False)),
    ("b", "1", np.bool_(True)),
    ("b", "0", np.bool_(False)),
    ("i", "3", np.int32(3)),
    ("i", "-1", np.int32(-1)),
    ("f", "0.5", np.float32(0.5)),
    ("s", "train", b"train"),
    ("s", "0", b"0"),
  ],
)
def test_stated_values_have_the_dtype_of_the_node(name, text, value):
  found = phase.stated_value(model_of(SCALARS), name, text)
  assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
  "name, text", [("b", "yes"), ("b", "2"), ("i", "0.5"), ("f", "half")]
)
def test_values_that_do_not_fit_are_refused(name, text):
  with pytest.raises(TransformError, match=f"cannot set '{name}' to '{text}'"):
    phase.stated_value(model_of(SCALARS), name, text)


def test_values_for_nodes_that_are_not_there_are_refused():
  with pytest.raises(GraphError, match="find node 'phase'"):
    phase.stated_value(model_of(SCALARS), "phase", "true")


CHOICE = """
  x = Placeholder() {shape=[?,2]}   p = Const() {value=<bool true>}
  s = Switch(x, p)   a = Neg(s)   b = Abs(s:1)   y = Merge(a, b)
"""


def test_constants_that_predicates_are_made_of():
  model = model_of(CHOICE)
  (leaf,) = phase.find_constants(model, model.graph.topological())
  assert (leaf.name, leaf.default, leaf.op) == ("p", True, "Const")
  assert list(leaf.candidates) == [False, True]


def test_constants_are_looked_for_through_arithmetic():
  model = model_of(
    CHOICE.replace("s =", "n = LogicalNot(p)   i = Identity(n)   s =").replace(
      "Switch(x, p)", "Switch(x, i)"
    )
  )
  found = phase.find_constants(model, model.graph.topological())
  assert [leaf.name for leaf in found] == ["p"]


@pytest.mark.parametrize(
  "value", ["<bool [2] true false>", "<int32 1>", "<float 1>"]
)
def test_vectors_and_numbers_are_no_constant_phase(value):
  model = model_of(f"""
    x = Placeholder() {{shape=[2]}}   p = Const() {{value={value}}}
    q = Cast(p) {{DstT=bool}}   y = Select(q, x, x)
  """)
  assert phase.find_constants(model, model.graph.topological()) == []


def test_values_as_users_write_them():
  assert phase.value_text(b"train") == "train"
  assert phase.value_text(b"") == "''"
  assert phase.value_text(np.int32(-1)) == "-1"


def test_leaves_of_a_blend_only_scale():
  model = model_of("""
    x = Placeholder() {shape=[?,2]}   p = Placeholder() {shape=[]}
    q = Placeholder() {shape=[], dtype=bool}   i = Cast(q) {DstT=float}
    a = Mul(x, p)   b = Mul(a, i)   y = Relu(b)
  """)
  order = model.graph.topological()
  evaluation = PartialEvaluation(model.graph, order, {})
  leaves = {f.name: f for f in phase.find_leaves(model, evaluation)}
  assert leaves["p"].is_factor and not leaves["q"].is_factor
  assert set(leaves) == {"p", "q"}


def test_python_without_arguments_may_be_a_phase():
  model = model_of("""
    x = Placeholder() {shape=[?,2]}
    p = PyFunc() {Tin=(), Tout=(bool), token="t"}
    s = Switch(x, p)   a = Neg(s)   b = Abs(s:1)   y = Merge(a, b)
  """)
  evaluation = PartialEvaluation(model.graph, model.graph.topological(), {})
  (leaf,) = phase.find_leaves(model, evaluation)
  assert (leaf.name, leaf.op, leaf.default) == ("p", "PyFunc", None)
