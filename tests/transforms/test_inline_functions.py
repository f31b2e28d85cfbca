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

from bnexport.errors import GraphError
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


def test_loop_that_changes_nothing():
  before = model_of(
    """
    function never(a float, b float) -> (t bool = l:z:0) { l = Less(a, a) }
    function same(a float, b float) -> (y float = a, z float = b) { }
    x = Placeholder() {shape=[]}   n = Neg(x)
    w = While(x, n) {T=(float, float), cond=never{}, body=same{},
      output_shapes=(), parallel_iterations=10}
    y = Sub(w, w:1)
    """,
    inputs=["x"],
  )
  assert answers(inlined(before), {"x": np.float32(3)}) == [6]


# The power of 2 that n says, times a.
RECURSIVE = """
  function power(a float, n int32) -> (y float = if:output:0) {
    zero = Const() {value=<int32 0>}   more = Greater(n, zero:output:0)
    if = If(more:z:0, a, n) {Tcond=bool, Tin=(float, int32), Tout=(float),
      then_branch=again{}, else_branch=done{}, output_shapes=()}
  }
  function again(a float, n int32) -> (y float = call:y:0) {
    one = Const() {value=<int32 1>}   less = Sub(n, one:output:0)
    twice = Add(a, a)   call = power(twice:z:0, less:z:0)
  }
  function done(a float, n int32) -> (y float = a) { }
  x = Placeholder() {shape=[2]}   p = Placeholder() {shape=[], dtype=int32}
"""
# The same with the conditional of TF 1, whose other side is not run.
SWITCHED = """
  function power(a float, n int32) -> (y float = merge:output:0) {
    zero = Const() {value=<int32 0>}   more = Greater(n, zero:output:0)
    sa = Switch(a, more:z:0)   sn = Switch(n, more:z:0)
    one = Const(^sn) {value=<int32 1>}
    less = Sub(sn:output_true:0, one:output:0)
    twice = Add(sa:output_true:0, sa:output_true:0)
    call = power(twice:z:0, less:z:0)
    merge = Merge(sa:output_false:0, call:y:0) {T=float}
  }
  x = Placeholder() {shape=[2]}   p = Placeholder() {shape=[], dtype=int32}
"""


@pytest.mark.parametrize("functions", [RECURSIVE, SWITCHED])
def test_recursion_goes_as_deep_as_constants_say(functions):
  for count in (0, 1, 5):
    model = model_of(
      functions + f"n = Const() {{value=<int32 {count}>}}   y = power(x, n)",
      inputs=["x"],
    )
    table.apply_specs(model, "inline_functions decide")
    assert not model.graph.library.keys() & {
      node.op for node in map(model.graph.node, model.needed())
    }
    model.graph.keep(model.needed())
    (found,) = answers(model, {"x": np.float32([1, 3])})
    assert found.tolist() == [2**count, 3 * 2**count]


@pytest.mark.parametrize("functions", [RECURSIVE, SWITCHED])
def test_recursion_by_data_or_for_ever_is_refused(functions):
  for n, fact in (
    ("n = Identity(p)", "no constant tells how often"),
    ("n = Const() {value=<int32 100000>}", "calls itself more than 500 times"),
  ):
    model = model_of(functions + n + "   y = power(x, n)", inputs=["x"])
    with pytest.raises(GraphError, match=fact) as refused:
      table.apply_specs(model, "inline_functions")
    assert "power" in str(refused.value) or "again" in str(refused.value)


def test_functions_that_double_are_refused_before_they_do():
  functions = ["function f0(a float) -> (y float = n:y:0) { n = Neg(a) }"]
  functions += [
    f"function f{i}(a float) -> (y float = c:y:0) "
    f"{{ b = f{i - 1}(a)   c = f{i - 1}(b:y:0) }}"
    for i in range(1, 41)
  ]
  model = model_of("\n".join(functions) + "x = Placeholder()   y = f40(x)")
  with pytest.raises(GraphError, match="'f40'.*more than 1000000 nodes"):
    table.apply_specs(model, "inline_functions")
  model = model_of("\n".join(functions) + "x = Placeholder()   y = f6(x)")
  table.apply_specs(model, "inline_functions")
  assert sum(node.op == "Neg" for node in model.graph) == 64


def test_a_chain_of_functions_is_inlined_or_refused():
  functions = ["function f0(a float) -> (y float = n:y:0) { n = Neg(a) }"]
  functions += [
    f"function f{i}(a float) -> (y float = b:y:0) {{ b = f{i - 1}(a) }}"
    for i in range(1, 2001)
  ]
  statements = "\n".join(functions) + "x = Placeholder()   y = f%d(x)"
  model = model_of(statements % 400)
  table.apply_specs(model, "inline_functions")
  assert sum(node.op == "Neg" for node in model.graph) == 1
  with pytest.raises(GraphError, match="'f2000'.*nested more than 500 deep"):
    table.apply_specs(model_of(statements % 2000), "inline_functions")


@pytest.mark.parametrize("waits", ["", ", ^s"])
def test_tensors_of_a_custom_gradient_are_the_tensors_themselves(waits):
  model = model_of(
    f"""
    x = Placeholder() {{shape=[2]}}   s = Square(x)   n = Neg(s)
    both = IdentityN(s, n{waits}) {{T=(float, float)}}
    y = Add(both:0, both:1)   z = IdentityN(both:1, y) {{T=(float, float)}}
    """,
    outputs=["y", "z:1"],
    inputs=["x"],
  )
  after = inlined(model)
  assert [n.name for n in after.graph if n.op == "IdentityN"] == ["z"]
  read = after.graph.node("y").input[0]
  assert (read == "s") is (not waits), "what it waited for has to be kept"
  feeds = {"x": np.float32([2, -3])}
  assert_same_answers(answers(model, feeds), answers(after, feeds))
