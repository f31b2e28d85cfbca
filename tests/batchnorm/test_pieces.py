# SPDX-License-Identifier: Apache-2.0
"""Statistics that share a variable are read piece by piece."""

import pytest
from judges.norms import graph_of

from bnexport.batchnorm.averages import Averages
from bnexport.graph import TensorRef
from bnexport.graph.writes import PIECE, ROWS

GRAPH = """
x = Placeholder() {shape=[?,2]}
axes = Const() {value=<int32 [1] 0>}
rate = Const() {value=<float 0.1>}
rest = Const() {value=<float 0.9>}
m = Mean(x, axes)
d = SquaredDifference(x, m)
v = Mean(d, axes)
both = VariableV2() {shape=[2,2]}
long = VariableV2() {shape=[4]}
zero = Const() {value=<int32 0>}
one = Const() {value=<int32 1>}
"""
STACK = "s = Pack(m, v) {axis=0, _output_shapes=([2,2])}"
BLEND = """
new = Mul(s, rate)   old = Mul(both, rest)   b = Add(old, new)
u = Assign(both, b)
"""


def averages_of(statements):
  graph = graph_of(GRAPH + statements)
  return Averages.read(graph, graph.ancestors(["m", "v"]))


def parts(averages):
  """The variable and the part of it by statistic."""
  found = {}
  for ref in ("m", "v"):
    for one in averages.stored(averages.of(TensorRef(ref))):
      assert ref not in found and not one.steps
      found[ref] = one.variable, one.part.kind, one.part.masks
  return found


@pytest.mark.parametrize("axis", [0, 1])
def test_operands_of_a_stack(axis):
  averages = averages_of(STACK.replace("axis=0", f"axis={axis}") + BLEND)
  assert parts(averages) == {
    "m": ("both", PIECE, (axis, 0, 0)),
    "v": ("both", PIECE, (axis, 1, 0)),
  }
  assert averages.unexplained() == {}


def test_operands_that_are_joined():
  averages = averages_of(
    """m2 = Identity(m) {_output_shapes=([2])}
    v2 = Identity(v) {_output_shapes=([2])}
    s = ConcatV2(m2, v2, zero) {_output_shapes=([4])}
    less = Sub(long, s)   part = Mul(less, rate)   u = AssignSub(long, part)"""
  )
  assert parts(averages) == {
    "m": ("long", PIECE, (0, 0, 2)),
    "v": ("long", PIECE, (0, 2, 2)),
  }


@pytest.mark.parametrize(
  ["first", "second", "is_told"],
  [("r", "r:1", True), ("r:1", "r", False), ("r", "r", False)],
)
def test_a_piece_comes_of_itself_alone(first, second, is_told):
  """What moves from row to row is no average."""
  averages = averages_of(
    f"""read = Identity(both) {{_output_shapes=([2,2])}}
    r = Unpack(read) {{num=2, axis=0}}
    a = Mul({first}, rest)   b = Mul(m, rate)   c = Add(a, b)
    e = Mul({second}, rest)   f = Mul(v, rate)   g = Add(e, f)
    s = Pack(c, g) {{axis=0, _output_shapes=([2,2])}}   u = Assign(both, s)"""
  )
  assert bool(parts(averages)) == is_told
  assert bool(averages.unexplained()) != is_told


MASKED = """
on = Const() {value=<float 1>}   off = Const() {value=<float 0>}
depth = Const() {value=<int32 2>}
h = OneHot(one, depth, on, off) {_output_shapes=([2])}
k = ExpandDims(h, one) {_output_shapes=([2,1])}
less = Sub(m, both)   part = Mul(less, rate)
"""


def test_a_mask_keeps_an_update_to_a_row():
  averages = averages_of(MASKED + "q = Mul(k, part)   u = AssignAdd(both, q)")
  (stored,) = averages.stored(averages.of(TensorRef("m")))
  assert (stored.variable, stored.part.kind) == ("both", ROWS)
  assert stored.part.operands == (TensorRef("one"),)


def test_a_mask_that_changes_other_rows_is_none():
  averages = averages_of(MASKED + "q = Add(k, part)   u = AssignAdd(both, q)")
  assert not any(a.stored.part for a in averages.all)
