# SPDX-License-Identifier: Apache-2.0
"""What follows in small graphs from a few known scalars."""

import numpy as np
import pytest

from bnexport import text
from bnexport.analysis.partial_evaluation import (
  PartialEvaluation,
  ScopedEvaluation,
)
from bnexport.graph import Graph, TensorRef

PHASE = "p = Placeholder() {dtype=bool, shape=[]}\n"
DATA = "x = Placeholder() {shape=[?,2]}\n"
CONDITIONAL = """
  s = Switch(x, p)   a = Neg(s)   b = Relu(s:1)   m = Merge(a, b)   y = Abs(m)
"""
# A conditional about data: c is never known.
OPEN = """
  c = Placeholder() {dtype=bool, shape=[]}   t = Switch(x, c)
  d = Identity(t)   e = Relu(t:1)   j = Merge(d, e)
"""


def evaluated(statements, scoped=None, **known):
  graph = Graph(text.loads(statements))
  order = graph.topological()
  values = {name: np.asarray(value)[()] for name, value in known.items()}
  if scoped is not None:
    other = {name: np.bool_(not value) for name, value in values.items()}
    scoped = ScopedEvaluation(graph, order, other, scoped)
  return graph, PartialEvaluation(graph, order, values, scoped)


def test_scalars_follow_from_scalars():
  _, evaluation = evaluated(
    """
      mode = Placeholder() {dtype=int32, shape=[]}
      two = Const() {value=<int32 2>}   e = Equal(mode, two)
      n = LogicalNot(e)   f = Cast(n) {SrcT=bool, DstT=float}
      half = Const() {value=<float 0.5>}   h = Mul(f, half)   q = FloorMod(mode, two)
    """,
    mode=np.int32(3),
  )
  values = {ref.node: value for ref, value in evaluation.uniform.items()}
  assert (values["e"], values["n"], values["f"]) == (False, True, 1.0)
  assert values["h"] == 0.5 and values["h"].dtype == np.float32
  assert values["q"] == 1
  assert evaluation.folded_value(TensorRef("h")).shape == ()
  # A constant is known, and nothing was decided about it.
  assert evaluation.folded_value(TensorRef("half")) is None


def test_strings_are_compared():
  _, evaluation = evaluated(
    """
      mode = Placeholder() {dtype=string, shape=[]}
      train = Const() {value=<string "train">}   e = NotEqual(mode, train)
    """,
    mode=np.array(b"eval", object),
  )
  assert evaluation.uniform[TensorRef("e")] is np.True_


@pytest.mark.parametrize(
  "value, live, dead", [(True, "b", "a"), (False, "a", "b")]
)
def test_side_that_is_not_taken_is_dead(value, live, dead):
  _, evaluation = evaluated(PHASE + DATA + CONDITIONAL, p=value)
  assert evaluation.is_dead(TensorRef(dead))
  assert not evaluation.is_dead(TensorRef(live))
  assert evaluation.resolve(TensorRef("m")) == TensorRef(live)
  assert evaluation.inputs(live) == [TensorRef("x")]
  assert evaluation.uniform[TensorRef("m", 1)] == (live == "b")
  assert list(evaluation.needed([TensorRef("y")])) == ["y", live, "x"]


def test_loops_stay_as_they_are():
  _, evaluation = evaluated(
    """
      x = Placeholder() {shape=[]}   e = Enter(x) {frame_name="loop"}
      m = Merge(e, n)   p = Less(m, m)   l = LoopCond(p)   s = Switch(m, l)
      i = Neg(s:1)   n = NextIteration(i)   y = Exit(s)
    """,
    x=np.float32(1),
  )
  assert TensorRef("m") not in evaluation.uniform
  assert evaluation.resolve(TensorRef("m")) == TensorRef("m")
  assert not evaluation.is_dead(TensorRef("y"))
  assert evaluation.contexts.is_inside(TensorRef("i"))
  assert not evaluation.contexts.is_inside(TensorRef("y"))


def test_operands_absorb_or_leave_the_other():
  _, evaluation = evaluated(
    PHASE
    + DATA
    + """
      f = Cast(p) {SrcT=bool, DstT=float}   one = Const() {value=<float 1>}
      r = Sub(one, f)   a = Mul(x, f)   b = Mul(x, r)   y = Add(a, b)
      q = Placeholder() {dtype=bool, shape=[]}   o = LogicalOr(q, p)
      d = Sub(f, x)
    """,
    p=True,
  )
  assert evaluation.resolve(TensorRef("a")) == TensorRef("x")
  assert evaluation.uniform[TensorRef("b")] == 0
  # Nothing states the shape of the product, so that it is not written.
  assert evaluation.folded_value(TensorRef("b")) is None
  assert evaluation.resolve(TensorRef("y")) == TensorRef("x")
  assert evaluation.uniform[TensorRef("o")]
  assert evaluation.resolve(TensorRef("d")) == TensorRef("d")


def test_shapes_decide_what_can_be_written():
  _, evaluation = evaluated(
    PHASE
    + """
      n = Placeholder() {dtype=int32}   two = Const() {value=<int32 [1] 2>}
      f = Cast(p) {SrcT=bool, DstT=float}   v = Fill(two, f) {_output_shapes=([2],)}
      w = Fill(n, f)   k = Pack(f, f)   g = Neg(f)
    """,
    p=True,
  )
  for name in "vwkg":
    assert TensorRef(name) in evaluation.uniform
  assert evaluation.folded_value(TensorRef("v")).tolist() == [1, 1]
  assert evaluation.folded_value(TensorRef("w")) is None
  assert evaluation.folded_value(TensorRef("k")) is None
  assert evaluation.folded_value(TensorRef("g")) == -1


def test_what_lies_behind_a_merge_is_outside_again():
  _, evaluation = evaluated(PHASE + DATA + CONDITIONAL + OPEN, p=True)
  inside = [n for n in "abdemj" if evaluation.contexts.is_inside(TensorRef(n))]
  assert inside == ["d", "e"]


def test_decided_values_inside_of_open_conditionals_are_still_needed():
  """What replaces them waits for them, to stay on their side."""
  placed = PHASE + DATA + OPEN + "  f = Cast(p%s) {DstT=float}   y = Pow(x, f)"
  for control, is_needed in (("", False), (", ^j", False), (", ^d", True)):
    _, evaluation = evaluated(placed % control, p=True)
    assert evaluation.folded_value(TensorRef("f")) == 1
    assert ("f" in evaluation.needed([TensorRef("y")])) == is_needed


def test_scopes_have_predicates_of_their_own():
  statements = (
    PHASE
    + DATA
    + """
    kept/s = Switch(x, p)   kept/a = Neg(kept/s)   kept/b = Relu(kept/s:1)
    kept/m = Merge(kept/a, kept/b)
    s = Switch(x, p)   a = Neg(s)   b = Relu(s:1)   m = Merge(a, b)
  """
  )
  _, evaluation = evaluated(statements, scoped=["kept"], p=False)
  assert evaluation.resolve(TensorRef("m")) == TensorRef("a")
  assert evaluation.resolve(TensorRef("kept/m")) == TensorRef("kept/b")
  scoped = ScopedEvaluation(Graph(text.loads("a = NoOp()")), [], {}, ["a/b"])
  assert scoped.covers("a/b/c") and not scoped.covers("a/bc")


def test_variables_count_as_initialized():
  _, evaluation = evaluated(
    """
      v = VariableV2() {shape=[2]}   i = IsVariableInitialized(v)
      s = Switch(v, i)
    """
  )
  assert evaluation.folded_value(TensorRef("i")).shape == ()
  assert evaluation.is_dead(TensorRef("s"))
