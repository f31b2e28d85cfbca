# SPDX-License-Identifier: Apache-2.0
"""Averages of weights: found by their updates, chosen, or refused."""

import pytest
from judges.transforming import checkpoint, model_of

from bnexport.batchnorm.weight_averages import (
  is_used,
  weight_averages,
)
from bnexport.errors import TransformError
from bnexport.transforms.inference.use_moving_averages import (
  UseMovingAverages,
  use_swapped,
)

WEIGHT = """
  w = VariableV2() {shape=[2]}   v = Identity(w)
  a = VariableV2() {shape=[2]}   old = Identity(a)
  keep = Const() {value=<float 0.9>}   rest = Const() {value=<float 0.1>}
  x = Placeholder() {shape=[?,2]}   y = Mul(x, v)
"""
# Of `a`, whose update settles at w.
AVERAGES = {
  "subtracted": """d = Sub(old, v)   part = Mul(d, rest)
    u = AssignSub(a, part)""",
  "added": """d = Sub(v, old)   part = Mul(d, rest)   u = AssignAdd(a, part)""",
  "assigned": """p = Mul(old, keep)   q = Mul(v, rest)   s = Add(p, q)
    u = Assign(a, s)""",
  "in a conditional": """
    t = Placeholder() {shape=[], dtype=bool}
    sa = RefSwitch(a, t)   so = Switch(old, t)   sv = Switch(v, t)
    d = Sub(so:1, sv:1)   part = Mul(d, rest)   u = AssignSub(sa:1, part)""",
  "with a fed rate": """
    rate = Placeholder() {shape=[]}   d = Sub(old, v)   part = Mul(d, rate)
    u = AssignSub(a, part)""",
}
# Of other things, or none.
OTHERS = {
  "a copy": "u = Assign(a, v)",
  "twice the weight": """two = Const() {value=<float 2>}   t = Mul(v, two)
    d = Sub(old, t)   part = Mul(d, rest)   u = AssignSub(a, part)""",
  "of data": """axis = Const() {value=<int32 0>}   m = Mean(x, axis)
    d = Sub(old, m)   part = Mul(d, rest)   u = AssignSub(a, part)""",
  "of weight and data": """axis = Const() {value=<int32 0>}   m = Mean(x, axis)
    g = Mul(v, m)   d = Sub(old, g)   part = Mul(d, rest)
    u = AssignSub(a, part)""",
  "a sum": "u = AssignAdd(a, v)",
}
SECOND = """
  b = VariableV2() {shape=[2]}   was = Identity(b)   e = Sub(was, v)
  less = Mul(e, rest)   t = AssignSub(b, less)
"""


@pytest.mark.parametrize("how", AVERAGES)
def test_averages_are_found_by_their_updates(how):
  assert weight_averages(model_of(WEIGHT + AVERAGES[how]).graph) == {"w": ["a"]}


@pytest.mark.parametrize("how", OTHERS)
def test_other_updates_keep_no_average(how):
  assert weight_averages(model_of(WEIGHT + OTHERS[how]).graph) == {}


def applied(tmp_path, statements, average="", **values):
  """The model after, and the value of w then."""
  saved = checkpoint(tmp_path, {k: [n, n] for k, n in values.items()})
  model = model_of(WEIGHT + statements, saved=saved)
  UseMovingAverages(average).apply(model)
  return model.values["w"][0]


TWO = AVERAGES["subtracted"] + SECOND


def test_one_of_several_is_stated(tmp_path):
  values = {"w": 1, "a": 2, "b": 3}
  assert applied(tmp_path, TWO, "b", **values) == 3
  with pytest.raises(TransformError, match="'a' and 'b' both.*--average_name="):
    applied(tmp_path, TWO, **values)
  with pytest.raises(TransformError, match="called 'c'"):
    applied(tmp_path, TWO, "c", **values)


def test_network_that_follows_is_not_meant(tmp_path):
  target = "k = Reshape(old, n)   n = Const() {value=<int32 [2] 2 1>}"
  target += "  out = MatMul(x, k)"
  values = {"w": 1, "a": 2, "b": 3}
  assert applied(tmp_path, TWO + target, **values) == 3
  model = model_of(WEIGHT + TWO + target, outputs=["y", "out"])
  assert is_used(model.graph, "a") and not is_used(model.graph, "b")
  # There is no other.
  alone = AVERAGES["subtracted"] + target
  assert applied(tmp_path, alone, w=1, a=2) == 2


def test_keys_tell_where_there_is_no_update(tmp_path):
  model = model_of(
    WEIGHT,
    saved=checkpoint(tmp_path, {"w": 1, "w/ExponentialMovingAverage": 2}),
  )
  UseMovingAverages().apply(model)
  assert model.values["w"] == 2
  model = model_of(
    WEIGHT, saved=checkpoint(tmp_path, {"w": 1, "w/slow": 3}, "other.ckpt")
  )
  UseMovingAverages("slow").apply(model)
  assert model.values["w"] == 3


SAVER = """
  prefix = Const() {value=<string "model">}
  names = Const() {value=<string [2] %s>}
  slices = Const() {value=<string [2] "" "">}
  save = SaveV2(prefix, names, slices, v, old)
"""


@pytest.mark.parametrize(
  "names, value, is_told",
  [('"a" "w"', 5, True), ('"w" "a"', 5, False), ('"k" "w"', 7, False)],
)
def test_saver_that_swaps(tmp_path, names, value, is_told):
  """Only where both have each other's name."""
  saved = checkpoint(tmp_path, {"w": 5, "a": 6, "k": 7})
  model = model_of(WEIGHT + AVERAGES["assigned"] + SAVER % names, saved=saved)
  assert bool(use_swapped(model)) == is_told
  assert model.values["w"] == value


def test_names_that_cross_are_no_swap_of_averages(tmp_path):
  saved = checkpoint(tmp_path, {"w": 5, "a": 6})
  crossed = WEIGHT + OTHERS["a copy"] + SAVER % '"a" "w"'
  model = model_of(crossed, saved=saved)
  assert not use_swapped(model) and model.values["w"] == 6
