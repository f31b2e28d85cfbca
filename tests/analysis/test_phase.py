# SPDX-License-Identifier: Apache-2.0
"""What a phase is told by, what it may be, and what a user may say it is."""

import numpy as np
import pytest
from judges.transforming import model_of

from bnexport.analysis import phase
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


@pytest.mark.parametrize(
  "name, value",
  [
    ("is_training", False),
    ("train_phase", False),
    ("keras_learning_phase", False),
    ("is_test", True),
    ("inference_mode", True),
    ("not_training", True),
    ("no_eval", False),
    ("train_or_test", None),
    ("flag", None),
  ],
)
def test_names_of_bools_hint_at_inference(name, value):
  bools = (np.bool_(False), np.bool_(True))
  assert phase.hint(phase.Leaf(name, bools, None, "Placeholder")) == value


def test_names_of_other_scalars_hint_at_nothing():
  leaf = phase.Leaf("is_training", (0, 1), None, "Placeholder")
  assert phase.hint(leaf) is None


@pytest.mark.parametrize(
  "op, is_mark",
  [
    ("Assign(v, c)", True),
    ("AssignSub(v, c)", True),
    ("Identity(v)", False),
    ("Mean(x, batch)", True),
    ("Mean(x, inner)", False),
    ("Sum(x, all)", True),
    ("Max(x, batch)", False),
    ("FusedBatchNorm(x, c, c, c, c) {is_training=true}", True),
    ("FusedBatchNorm(x, c, c, c, c)", True),  # the op's default
    ("FusedBatchNorm(x, c, c, c, c) {is_training=false}", False),
  ],
)
def test_training_is_told_by_what_it_leaves(op, is_mark):
  model = model_of(
    "x = Placeholder() {shape=[?,4,4,2]}   v = VariableV2() {shape=[2]}"
    "  c = Const() {value=<float [2] 1>}   batch = Const() {value=<int32 0>}"
    "  inner = Const() {value=<int32 [2] 1 2>}"
    "  all = Const() {value=<int32 [3] 0 1 2>}   y = " + op
  )
  assert phase.is_training_mark(model.graph, "y") == is_mark


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
  assert phase.value_text(np.int32(-1)) == "-1"
