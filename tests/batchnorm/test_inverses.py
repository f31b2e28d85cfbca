# SPDX-License-Identifier: Apache-2.0
"""What was computed of a statistic is undone; what can't be is left."""

import numpy as np
import pytest
from judges.norms import graph_of, run

from bnexport.analysis.dependence import Dependence
from bnexport.batchnorm.inverses import inverses
from bnexport.batchnorm.stored import Stored, StoredValues
from bnexport.graph import TensorRef
from bnexport.graph.contexts import Contexts
from bnexport.graph.nodes import Signatures, tensor_attr

TEXT = """
x = Placeholder() {shape=[?,2]}
fed = PlaceholderWithDefault(c) {shape=[]}
axes = Const() {value=<int32 [1] 0>}
c = Const() {value=<float 0.25>}
half = Const() {value=<float 0.5>}
v = VariableV2() {shape=[2]}
squares = Square(x)
s = Mean(squares, axes)
m = Mean(x, axes)
"""
X = np.float32([[1, -2], [3, 0.5], [0.5, 4]])


def steps_to_s(text):
  graph = graph_of(TEXT + text)
  found = inverses(
    graph, Dependence(graph, graph.topological()), TensorRef("t")
  )
  return graph, dict(found).get(TensorRef("s"))


@pytest.mark.parametrize(
  "text",
  [
    "t = Neg(s)",
    "t = Exp(s)",
    "t = Expm1(s)",
    "t = Log(s)",
    "t = Log1p(s)",
    "t = Reciprocal(s)",
    "t = Inv(s)",
    "t = Sqrt(s)",
    "t = Square(s)",
    "t = Mul(s, s)",
    "t = Rsqrt(s)",
    "t = Pow(s, half)",
    "t = Add(s, c)",
    "t = AddV2(c, s)",
    "t = Sub(s, c)",
    "t = Sub(c, s)",
    "t = Mul(s, c)",
    "t = Mul(c, s)",
    "t = RealDiv(s, c)",
    "t = RealDiv(c, s)",
    "t = Div(c, s)",
    "t = Maximum(s, c)",
    "a = Add(s, c)   r = Sqrt(a)   t = RealDiv(c, r)",
    "i = Identity(s)   l = Log(i)   n = Neg(l)   t = Mul(n, c)",
  ],
)
def test_steps_give_the_statistic(text):
  graph, steps = steps_to_s(text)
  right = run(graph, {"x": X}, "s")
  value = run(graph, {"x": X}, "t")
  # A variable that holds what was averaged.
  graph.become("v", "Const", (), graph.node("c").attr)
  holder = graph.node("v").attr["value"].tensor
  holder.Clear()
  holder.CopyFrom(tensor_attr(value).tensor)
  values = StoredValues(
    graph, Contexts(graph, graph.topological()), Signatures()
  )
  made = values.emit(Stored("v", None, steps), "undone", ())
  assert np.allclose(run(graph, {"x": X}, str(made)), right, rtol=1e-5)


@pytest.mark.parametrize(
  "text",
  [
    "t = Square(m)   t2 = Neg(s)",  # of another statistic
    "t = Add(s, m)",
    "t = Mul(s, fed)",  # another number in training
    "n = Shape(x)   f = Cast(n) {DstT=float}   t = Mul(s, f)",
    "t = Minimum(s, c)",
    "t = Floor(s)",
    "p = Const() {value=<float 3>}   t = Pow(s, p)",
  ],
)
def test_what_is_not_undone(text):
  assert steps_to_s(text)[1] is None


def test_square_of_what_may_be_negative_is_not_undone():
  graph = graph_of(TEXT + "t = Square(m)")
  dependence = Dependence(graph, graph.topological())
  found = dict(inverses(graph, dependence, TensorRef("t")))
  assert found == {TensorRef("t"): ()}
