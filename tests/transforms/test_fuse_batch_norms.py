# SPDX-License-Identifier: Apache-2.0
"""Norms of several nodes become one op."""

import numpy as np
import pytest
from judges.exporting import assert_close
from judges.opening import trained
from judges.transforming import (
  answers,
  assert_same_answers,
  model_of,
  transformed,
)

import bnexport

STATISTICS = """
  m = Const() {value=<float [2] 1 -2>}   v = Const() {value=<float [2] 4 0.25>}
  g = Const() {value=<float [2] 2 3>}   b = Const() {value=<float [2] 0.5 7>}
  e = Const() {value=<float 0.01>}   ve = Add(v, e)   r = Rsqrt(ve)
"""
# As tf.nn.batch_normalization writes it.
FACTORED = STATISTICS + (
  "s = Mul(r, g)   a = Mul(x, s)   ms = Mul(m, s)   o = Sub(b, ms)"
  "   y = AddV2(a, o)"
)
FORMS = {
  "factored": FACTORED,
  "factored, no gamma": STATISTICS
  + "a = Mul(x, r)   ms = Mul(m, r)   o = Sub(b, ms)   y = Add(a, o)",
  "centred": STATISTICS
  + "c = Sub(x, m)   n = Mul(c, r)   h = Mul(n, g)   y = Add(h, b)",
  "centred, no beta": STATISTICS + "c = Sub(x, m)   y = Mul(c, r)",
  "divided": STATISTICS
  + "c = Sub(x, m)   q = Sqrt(ve)   n = RealDiv(c, q)   h = Mul(n, g)"
  "   y = BiasAdd(h, b)",
  "behind a bias": STATISTICS.replace(
    "m = C", "k = Const() {value=<float [2] 3 4>} m = C"
  )
  + "i = BiasAdd(x, k)   c = Sub(i, m)   n = Mul(c, r)   y = Add(n, b)",
  "scaled once more": FACTORED.replace("y = ", "z = ")
  + "   two = Const() {value=<float 2>}   y = Mul(z, two)",
  "four axes": STATISTICS.replace("[2]", "[1,1,1,2]")
  + "c = Sub(x, m)   n = Mul(c, r)   y = Add(n, b)",
}
IMAGES = "x = Placeholder() {shape=[?,3,3,2]}"
X = np.random.RandomState(4).randn(5, 3, 3, 2).astype("f") * 2 + 1


@pytest.mark.parametrize("form", FORMS)
def test_form(form):
  graph = IMAGES + FORMS[form]
  model = transformed(graph, "fuse_batch_norms", inputs=["x"])
  assert model.graph.op("y") == "FusedBatchNorm"
  left = {model.graph.op(name) for name in model.needed()}
  assert left <= {"Placeholder", "Const", "FusedBatchNorm", "BiasAdd"}
  assert ("BiasAdd" in left) == (form == "behind a bias")
  assert model.graph.node("y").attr["epsilon"].f == np.float32(0.01)
  mean, variance = (
    model.array(ref.node) for ref in model.graph.inputs("y")[3:]
  )
  assert mean.tolist() == [1, -2] and variance.tolist() == [4, 0.25]
  right = answers(model_of(graph), {"x": X})
  assert_same_answers(answers(model, {"x": X}), right)


@pytest.mark.parametrize(
  "graph, said",
  [
    ("x = Placeholder() {shape=[?,2]}" + FACTORED, "images of some channels"),
    ("x = Placeholder()" + FACTORED, "images of some channels"),
    (
      "x = Placeholder() {shape=[?,2,2,?]}" + FACTORED,
      "images of some channels",
    ),
    (
      "x = Placeholder() {shape=[?,2,3,3]}"
      + FACTORED.replace("[2]", "[2,1,1]"),
      "is not one number a channel",
    ),
    (
      "x = Placeholder() {dtype=double, shape=[?,3,3,2]}"
      + FACTORED.replace("<float", "<double"),
      "it is not of float",
    ),
  ],
)
def test_what_the_op_does_not_compute_stays(graph, said):
  model = transformed(graph, "fuse_batch_norms", inputs=["x"])
  assert model.graph.op("y") == "AddV2"
  assert said in model.history[-1]


def test_parts_that_others_read_stay():
  graph = IMAGES + FORMS["centred"] + "   z = Abs(n)"
  model = transformed(graph, "fuse_batch_norms", ["y", "z"], ["x"])
  assert model.graph.op("n") == "FusedBatchNorm"
  found = answers(model, {"x": X})
  right = answers(model_of(graph, ["y", "z"]), {"x": X})
  assert_same_answers(found, right)


def test_two_norms_of_one_tensor_have_statistics_of_their_own():
  other = """
    m2 = Const() {value=<float [2] 5 6>}   v2 = Const() {value=<float [2] 9 16>}
    e2 = Add(v2, e)   r2 = Rsqrt(e2)   c2 = Sub(x, m2)   z = Mul(c2, r2)
  """
  graph = IMAGES + FORMS["centred"] + other
  model = transformed(graph, "fuse_batch_norms", ["y", "z"], ["x"])
  for name, mean in (("y", [1, -2]), ("z", [5, 6])):
    assert model.array(model.graph.inputs(name)[3].node).tolist() == mean
  found = answers(model, {"x": X})
  right = answers(model_of(graph, ["y", "z"]), {"x": X})
  assert_same_answers(found, right)


def test_other_arithmetic_stays():
  """A product and a sum by channel, without statistics, are no norm."""
  graph = IMAGES + (
    "s = Const() {value=<float [2] 1 2>}   a = Mul(x, s)   y = Add(a, s)"
  )
  model = transformed(graph, "fuse_batch_norms", inputs=["x"])
  assert model.graph.op("y") == "Add"


def test_an_export_has_its_norms_in_one_op(cases):
  case = cases("contrib_unfused_literal")
  model = trained(case.prefix, [case.output])
  options = bnexport.Options(
    fold_batch_norms=False, transforms="fuse_batch_norms"
  )
  made = bnexport.export(model, options)
  assert made.prove().holds
  fused = [n.name for n in made.model.graph if n.op == "FusedBatchNorm"]
  assert fused
  assert_close(answers(made.model, {case.input: case.x})[0], case.y, case.tol)
