# SPDX-License-Identifier: Apache-2.0
"""inline_functions, against what TensorFlow makes of the functions itself."""

from __future__ import annotations

import numpy as np
import pytest
from judges.transforming import (
  answers,
  assert_same_answers,
  clone,
  model_of,
)

from bnexport.transforms import table

# Each branch gives another multiple of its argument, and the number itself.
BRANCH = """
  function branch_{0}(a float, n int32) -> (y float = m:z:0, k int32 = n) {{
    c = Const() {{value=<float {0}.5>}}   m = Mul(a, c:output:0)
  }}
"""
# A branch that chooses anew, and branches that wait for something.
NESTED = """
  function nested(a float, n int32) -> (y float = case:output:0, k int32 = n) {
    one = Const() {value=<int32 1>}
    less = Sub(n, one:output:0)
    case = Case(less:z:0, a, n) {Tin=(float, int32), Tout=(float, int32),
      branches=(branch_0{}, branch_1{}, branch_2{}), output_shapes=()}
  }
"""


def case_of(functions, count):
  branches = ", ".join("branch_%d{}" % i for i in range(count - 1))
  last = (
    "nested{}"
    if "function nested" in functions
    else "branch_%d{}" % (count - 1)
  )
  branches = ", ".join(filter(None, (branches, last)))
  return model_of(
    functions
    + """
    x = Placeholder() {shape=[2]}   i = Placeholder() {dtype=int32, shape=[]}
    s = Square(x)
    c = Case(i, s, i, ^s) {Tin=(float, int32), Tout=(float, int32),
      branches=(%s), output_shapes=()}
    y = Add(c, s)   k = Identity(c:1)
    """
    % branches,
    outputs=["y", "k", "c"],
    inputs=["x", "i"],
  )


def inlined(model):
  after = clone(model)
  table.apply_specs(after, "inline_functions")
  ops = {node.op for node in after.graph}
  assert not ops & {"Case", "If", "While", "PartitionedCall"}
  return after


@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_case(count, is_nested):
  functions = "".join(BRANCH.format(i) for i in range(max(count, 3)))
  before = case_of(functions + NESTED * is_nested, count)
  after = inlined(before)
  seen = []
  for index in range(-2, count + 3):
    feeds = {"x": np.float32([1, 3]), "i": np.int32(index)}
    expected = answers(before, feeds)
    assert_same_answers(answers(after, feeds), expected)
    seen.append(tuple(expected[0]))
  if not is_nested:
    assert len(set(seen)) == count


def test_case_of_three_branches_runs_only_the_one_that_is_asked_for():
  checked = """
    function checked(a float) -> (y float = c:output:0) {
      c = CheckNumerics(a) {message="it ran"}
    }
    function plain(a float) -> (y float = z:y:0) { z = ZerosLike(a) }
    x = Placeholder() {shape=[]}   i = Placeholder() {dtype=int32, shape=[]}
    y = Case(i, x) {Tin=(float), Tout=(float), output_shapes=(),
      branches=(checked{}, plain{}, checked{})}
  """
  model = inlined(model_of(checked, inputs=["x", "i"]))
  feeds = {"x": np.float32(np.inf), "i": np.int32(1)}
  assert answers(model, feeds) == [0]
  for index in (0, 2, 7):
    with pytest.raises(Exception, match="it ran"):
      answers(model, dict(feeds, i=np.int32(index)))


CONDITIONAL_IN_A_LOOP = """
  function double(a float) -> (y float = n:z:0) { n = Add(a, a) }
  function same(a float) -> (y float = a) { }
  function more(i int32, a float) -> (t bool = l:z:0) {
    five = Const() {value=<int32 5>}   l = Less(i, five:output:0)
  }
  function turn(i int32, a float) -> (j int32 = n:z:0, b float = c:output:0) {
    one = Const() {value=<int32 1>}   two = Const() {value=<int32 2>}
    n = Add(i, one:output:0)   odd = FloorMod(i, two:output:0)
    c = If(odd:z:0, a) {Tcond=int32, Tin=(float), Tout=(float),
      then_branch=double{}, else_branch=same{}, output_shapes=()}
  }
  x = Placeholder() {shape=[2]}   zero = Const() {value=<int32 0>}
  w = While(zero, x) {T=(int32, float), cond=more{}, body=turn{},
    output_shapes=(), parallel_iterations=10}
  y = Identity(w:1)
"""


def test_conditional_in_a_loop_by_a_number():
  before = model_of(CONDITIONAL_IN_A_LOOP, inputs=["x"])
  feeds = {"x": np.float32([1, 3])}
  expected = answers(before, feeds)
  assert expected[0].tolist() == [4, 12]
  assert_same_answers(answers(inlined(before), feeds), expected)
