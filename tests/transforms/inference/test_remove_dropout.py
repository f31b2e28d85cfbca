# SPDX-License-Identifier: Apache-2.0
"""Dropout is told by its expectation, in every spelling."""

import pytest
from judges.transforming import model_of, spelled

from bnexport.transforms.inference.remove_dropout import RemoveDropout

BASE = """
  x = Placeholder() {shape=[?,4]}   keep = Const() {value=<float 0.8>}
  rate = Const() {value=<float 0.2>}   scale = Const() {value=<float 1.25>}
  zero = Const() {value=<float 0>}   one = Const() {value=<float 1>}
  n = Shape(x)   u = RandomUniform(n)
"""
FLOOR = "a = Add(u, keep)   m = Floor(a)   "
ABOVE = "b = GreaterEqual(u, rate)   m = Cast(b) {DstT=float}   "

SPELLINGS = {
  "floor": FLOOR + "s = RealDiv(x, keep)   d = Mul(s, m)",
  "floor, mask first": FLOOR + "s = RealDiv(x, keep)   d = Mul(m, s)",
  "scaled behind": FLOOR + "s = Mul(x, m)   d = RealDiv(s, keep)",
  "by a factor": ABOVE + "s = Mul(x, scale)   d = Mul(s, m)",
  "factor first": ABOVE + "s = Mul(scale, x)   d = Mul(s, m)",
  "below": "b = Less(u, keep)   m = Cast(b) {DstT=float}"
  "  s = Mul(x, scale)   d = Mul(s, m)",
  "rate on the left": "b = LessEqual(rate, u)   m = Cast(b) {DstT=float}"
  "  s = Mul(x, scale)   d = Mul(s, m)",
  "selected": "b = GreaterEqual(u, rate)   z = ZerosLike(x)"
  "  s = Mul(x, scale)   d = SelectV2(b, s, z)",
  "selected, else a constant": "b = GreaterEqual(u, rate)"
  "  s = Mul(x, scale)   d = SelectV2(b, s, zero)",
  "uniform with its range": "w = Mul(u, one)   v = Add(w, zero)"
  "  a = Add(v, keep)   m = Floor(a)   s = RealDiv(x, keep)   d = Mul(s, m)",
  "rate that is fed": "k = Placeholder() {shape=[]}   a = Add(k, u)"
  "  m = Floor(a)   s = RealDiv(x, k)   d = Mul(s, m)",
  "1 / (1 - rate)": "r = Placeholder() {shape=[]}   q = Sub(one, r)"
  "  f = RealDiv(one, q)   b = GreaterEqual(u, r)   m = Cast(b) {DstT=float}"
  "  s = Mul(x, f)   d = Mul(s, m)",
  "a rate for each unit": "k = Placeholder() {shape=[4]}   a = Add(u, k)"
  "  m = Floor(a)   s = RealDiv(x, k)   d = Mul(s, m)",
  "rate that is stored": "k = VariableV2() {shape=[]}   r = Identity(k)"
  "  a = Add(r, u)   m = Floor(a)   s = RealDiv(x, r)   d = Mul(s, m)",
}


def applied(statements, outputs=("y",)):
  model = model_of(BASE + statements, outputs)
  told = RemoveDropout().apply(model)
  model.graph.lint()
  return model.graph, told


@pytest.mark.parametrize("how", SPELLINGS)
def test_dropped_tensor_is_the_tensor(how):
  graph, told = applied(SPELLINGS[how] + "   y = Relu(d)")
  assert spelled(graph, "y") == "Relu(x)"
  assert told == ["removed dropout 'd'"]


NO_DROPOUT = {
  "no factor": FLOOR + "d = Mul(x, m)",
  "another factor": FLOOR + "s = RealDiv(x, rate)   d = Mul(s, m)",
  "factor the wrong way": FLOOR + "s = Mul(x, keep)   d = Mul(s, m)",
  "comparison the wrong way": "b = Less(u, rate)   m = Cast(b) {DstT=float}"
  "  s = Mul(x, scale)   d = Mul(s, m)",
  "not uniform": "g = RandomStandardNormal(n)   a = Add(g, keep)"
  "  m = Floor(a)   s = RealDiv(x, keep)   d = Mul(s, m)",
  "uniform of another range": "w = Mul(u, scale)   a = Add(w, keep)"
  "  m = Floor(a)   s = RealDiv(x, keep)   d = Mul(s, m)",
  "other values than zeros": "b = GreaterEqual(u, rate)"
  "  s = Mul(x, scale)   d = SelectV2(b, s, one)",
  "data that decide": "b = GreaterEqual(x, rate)   m = Cast(b) {DstT=float}"
  "  s = Mul(x, scale)   d = Mul(s, m)",
}


@pytest.mark.parametrize("how", NO_DROPOUT)
def test_what_has_another_expectation_stays(how):
  graph, told = applied(NO_DROPOUT[how] + "   y = Relu(d)")
  assert spelled(graph, "y") == "Relu(d)"
  assert told == []


def test_mask_that_others_read_too_stays_there():
  """x * mask is used without its factor as well."""
  graph, told = applied(
    FLOOR + "s = Mul(x, m)   d = RealDiv(s, keep)   t = Relu(d)   y = Add(s, t)"
  )
  assert spelled(graph, "t") == "Relu(x)" and spelled(graph, "y") == "Add(s, t)"
  assert told == ["removed dropout 'd'"]


def test_output_that_is_dropped_keeps_its_name():
  graph, _ = applied(SPELLINGS["floor"], outputs=["d"])
  assert spelled(graph, "d") == "Identity(x)"


def test_each_of_several_is_removed():
  second = SPELLINGS["floor"].replace("(x,", "(d,")
  for old, new in zip("asdm", "ASDM"):
    second = second.replace(f"{old} =", f"{new} =").replace(
      f"({old})", f"({new})"
    )
  second = second.replace("Mul(s, m)", "Mul(S, M)")
  graph, told = applied(SPELLINGS["floor"] + "   " + second + "   y = Relu(D)")
  assert spelled(graph, "y") == "Relu(x)" and len(told) == 2
