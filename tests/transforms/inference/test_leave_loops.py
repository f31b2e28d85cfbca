# SPDX-License-Identifier: Apache-2.0
"""Outputs in a training loop come from one turn of it."""

import pytest
from judges.transforming import answers, model_of, spelled

from bnexport.errors import TransformError
from bnexport.transforms.inference.leave_loops import LeaveLoops
from bnexport.transforms.inference.replace_inputs import ReplaceInputs

# The turns are counted in m; t adds up what h is; u is carried as it is.
LOOP = """
  x = Placeholder() {shape=[2,3]}   w = Const() {value=<float [3] 1 2 3>}
  i = Const() {value=<int32 0>}   n = Const() {value=<int32 9>}
  zero = Const() {value=<float [2,3] 0>}
  e = Enter(i) {frame_name="f"}   m = Merge(e, next)
  c = Enter(n) {frame_name="f", is_constant=true}
  less = Less(m, c)   loop = LoopCond(less)   s = Switch(m, loop)
  one = Const(^s) {value=<int32 1>}   more = Add(s:1, one)
  next = NextIteration(more)
  ue = Enter(w) {frame_name="f"}   um = Merge(ue, un)   us = Switch(um, loop)
  ui = Identity(us:1)   un = NextIteration(ui)
  te = Enter(zero) {frame_name="f"}   tm = Merge(te, tn)
  ts = Switch(tm, loop)   sum = Add(ts:1, h)   tn = NextIteration(sum)
  total = Exit(ts)   y = Neg(total)
  k = Enter(w) {frame_name="f", is_constant=true}
  data = InfeedDequeue(^s) {dtype=float, shape=[2,3]}
  h = Mul(data, k)   g = Add(h, ui)
"""
FEED = [[1.0, 2, 3], [4, 5, 6]]


def left(output, inputs=("data",), statements=LOOP):
  model = model_of(statements, [output], inputs)
  ReplaceInputs().apply(model)
  told = LeaveLoops().apply(model)
  model.graph.lint()
  return model, told


@pytest.mark.parametrize(
  "output, expected",
  [
    ("h", [[1, 4, 9], [4, 10, 18]]),
    # What the loop hands on as it is has one value in all turns.
    ("g", [[2, 6, 12], [5, 12, 21]]),
  ],
)
def test_one_turn_is_fed_and_fetched(output, expected):
  model, told = left(output)
  (found,) = answers(model, {"data": FEED})
  assert (found == expected).all()
  assert told == ["took one turn of the loop 'f', in which outputs lie"]


def test_results_of_the_loop_are_those_of_one_turn():
  model, _ = left("h")
  assert spelled(model.graph, "total") == "Identity(sum)"


def test_what_changes_from_turn_to_turn_is_refused_and_can_be_fed():
  with pytest.raises(TransformError) as refused:
    left("sum")
  assert "--input_node=tm" in str(refused.value)
  model, _ = left("sum", ["data", "tm"])
  (found,) = answers(model, {"data": FEED, "tm": FEED})
  assert (found == [[2, 6, 12], [8, 15, 24]]).all()


def test_loop_is_not_fed_the_same_in_every_turn():
  with pytest.raises(TransformError) as refused:
    left("y")
  assert "lies in the loop 'f'" in str(refused.value)


def test_loops_beside_the_outputs_stay():
  fed = LOOP.replace("data = InfeedDequeue(^s) {dtype=float, shape=[2,3]}", "")
  fed = fed.replace("Mul(data, k)", "Mul(d, k)")
  fed += 'd = Enter(x) {frame_name="f", is_constant=true}'
  model, told = left("y", ["x"], fed)
  assert told == []
  (found,) = answers(model, {"x": FEED})
  assert (found == [[-9, -36, -81], [-36, -90, -162]]).all()


def test_loops_inside_of_the_turn_stay():
  """d doubles h until it is 100."""
  inner = """
    he = Enter(h) {frame_name="in"}   hm = Merge(he, hn)
    top = Const(^s) {value=<float 100>}
    te2 = Enter(top) {frame_name="in", is_constant=true}
    axes = Const(^s) {value=<int32 [2] 0 1>}
    ae = Enter(axes) {frame_name="in", is_constant=true}
    most = Max(hm, ae)   low = Less(most, te2)   hc = LoopCond(low)
    hs = Switch(hm, hc)   twice = Add(hs:1, hs:1)   hn = NextIteration(twice)
    d = Exit(hs)
  """
  model, _ = left("d", statements=LOOP + inner)
  (found,) = answers(model, {"data": FEED})
  assert (found == [[8, 32, 72], [32, 80, 144]]).all()
