# SPDX-License-Identifier: Apache-2.0
"""Nothing waits for what has no part in the answer."""

import pytest
from judges.transforming import answers, model_of, spelled

from bnexport.transforms.inference.remove_side_effects import RemoveSideEffects

X = "x = Placeholder() {shape=[2]}   v = VariableV2() {shape=[2]}   "


def applied(statements):
  model = model_of(statements)
  told = RemoveSideEffects().apply(model)
  model.graph.lint()
  return model, told


@pytest.mark.parametrize(
  "waits",
  [
    "u = AssignAdd(v, x)",
    "c = Const() {value=<bool true>}   u = Assert(c, x) {T=(float)}",
    "a = AssignAdd(v, x)   u = NoOp(^a)",
    "u = Neg(x)",
  ],
)
def test_data_nodes_wait_for_nothing(waits):
  model, told = applied(X + waits + "   y = Relu(x, ^u)")
  assert spelled(model.graph, "y") == "Relu(x)"
  assert told == ["dropped 1 control inputs that only order updates or checks"]


def test_constants_outside_of_branches_wait_for_nothing():
  model, _ = applied(
    X + "u = AssignAdd(v, x)   c = Const(^u) {value=<float 2>}   y = Mul(x, c)"
  )
  assert spelled(model.graph, "c") == "Const()"


def test_whole_way_to_the_outputs_is_freed():
  model, told = applied(
    X + "u = AssignAdd(v, x)   a = Neg(x, ^u)   b = Abs(a, ^u)   y = Relu(b)"
  )
  assert spelled(model.graph, "a") == "Neg(x)"
  assert spelled(model.graph, "b") == "Abs(a)"
  assert told[0].startswith("dropped 2 ")


COND = """
  x = Placeholder() {shape=[2]}   p = Placeholder() {shape=[], dtype=bool}
  s = Switch(p, p)   t = Identity(s:1)   f = Identity(s)
  one = Const(^t) {value=<float 1>}   two = Const(%s) {value=<float 2>}
  sx = Switch(x, p)   a = Mul(sx:1, one)   b = Mul(sx, two)   y = Merge(b, a)
"""


def test_constants_in_branches_keep_their_pivot():
  model, told = applied(COND % "^f")
  assert spelled(model.graph, "one") == "Const(^t)"
  assert spelled(model.graph, "two") == "Const(^f)"
  assert told == []


def test_pivot_is_looked_for_behind_checks_of_a_branch():
  checked = (COND % "^g").replace(
    "sx =", "c = Assert(f, sx) {T=(float)}   g = NoOp(^c, ^f)   sx ="
  )
  model, _ = applied(checked)
  assert "^g" not in model.graph.node("two").input
  assert set(model.graph.node("two").input) <= {"^f", "^sx"}
  for value, expected in ((True, 1), (False, 2)):
    (found,) = answers(model, {"x": [3, 4], "p": value})
    assert list(found) == [3 * expected, 4 * expected]


def test_loops_keep_what_places_their_constants():
  model, told = applied("""
    x = Placeholder() {shape=[]}   e = Enter(x) {frame_name="w"}
    m = Merge(e, n)   ten = Const(^m) {value=<float 10>}   l = Less(m, ten)
    c = LoopCond(l)   s = Switch(m, c)   i = Identity(s:1)
    one = Const(^i) {value=<float 1>}   b = Add(i, one)   n = NextIteration(b)
    y = Exit(s)
  """)
  assert spelled(model.graph, "one") == "Const(^i)"
  assert spelled(model.graph, "ten") == "Const(^m)"
  assert told == []


def test_nothing_to_drop_changes_nothing():
  model, told = applied(X + "u = AssignAdd(v, x)   y = Relu(x)")
  assert told == [] and model.graph.op("u") == "AssignAdd"
