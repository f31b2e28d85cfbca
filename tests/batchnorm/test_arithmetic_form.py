# SPDX-License-Identifier: Apache-2.0
"""What a norm that is spelled out answers as a form."""

import numpy as np
import pytest
from judges.norms import (
  CONSTANTS,
  EPSILON,
  MEAN,
  VARIANCE,
  X,
  graph_of,
  normalised,
  norms_of,
  of_batch,
  only,
  run,
  with_other_statistics,
)

from bnexport.batchnorm.form import Slot
from bnexport.batchnorm.forms import FORMS, op_form
from bnexport.batchnorm.norm import BATCH, STORED
from bnexport.graph import TensorRef

INPUT = "x = Placeholder() {shape=[?,3,2,2]}" + CONSTANTS
MOMENTS = """
axes = Const() {value=<int32 [3] 0 1 2>}
m = Mean(x, axes) {keep_dims=true}
d = SquaredDifference(x, m)
v = Mean(d, axes) {keep_dims=true}
"""
# One way a spelling; MEAN and VARIANCE stand for the statistics.
SPELLINGS = {
  "centred": """
    sum = Add(VARIANCE, epsilon)
    r = Rsqrt(sum)
    c = Sub(x, MEAN)
    n = Mul(c, r)
    s = Mul(n, gamma)
    y = Add(s, beta)
  """,
  "tf.nn": """
    sum = AddV2(VARIANCE, epsilon)
    r = Rsqrt(sum)
    scale = Mul(r, gamma)
    scaled = Mul(x, scale)
    shift = Mul(MEAN, scale)
    rest = Sub(beta, shift)
    y = AddV2(scaled, rest)
  """,
  "negated": """
    sum = Add(VARIANCE, epsilon)
    r = Rsqrt(sum)
    scale = Mul(r, gamma)
    scaled = Mul(scale, x)
    less = Neg(MEAN)
    shift = Mul(less, scale)
    rest = Add(shift, beta)
    y = Add(scaled, rest)
  """,
  "reshaped": """
    sum = Add(VARIANCE, epsilon)
    r = Rsqrt(sum)
    scale = Mul(r, gamma)
    scaled = Mul(x, scale)
    shift = Mul(MEAN, scale)
    shape = Const() {value=<int32 [4] 1 1 1 2>}
    wide = Reshape(shift, shape)
    rest = Sub(beta, wide)
    y = Add(scaled, rest)
  """,
  "divided": """
    sum = Add(VARIANCE, epsilon)
    r = Sqrt(sum)
    c = Sub(x, MEAN)
    g = Mul(c, gamma)
    n = RealDiv(g, r)
    y = Add(n, beta)
  """,
  "power": """
    sum = Add(epsilon, VARIANCE)
    half = Const() {value=<float -0.5>}
    r = Pow(sum, half)
    c = Sub(x, MEAN)
    n = Mul(c, r)
    s = Mul(n, gamma)
    y = Add(s, beta)
  """,
}


def spelled(spelling, mean="mean", variance="variance", more=""):
  text = SPELLINGS.get(spelling, spelling)
  text = text.replace("MEAN", mean).replace("VARIANCE", variance)
  return graph_of(INPUT + more + text)


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
def test_stored_statistics_are_found(spelling):
  found = only(norms_of(spelled(spelling)))
  assert found.form.name == "arithmetic"
  assert (found.name, found.x) == ("r", TensorRef("x"))
  assert (found.mean, found.variance) == (
    TensorRef("mean"),
    TensorRef("variance"),
  )
  assert found.statistics == STORED
  assert (found.moving_mean, found.moving_variance) == ("mean", "variance")
  assert found.epsilon == pytest.approx(EPSILON)


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
def test_other_statistics_are_used_as_by_hand(spelling):
  """Statistics of the batch give way at the place that the form names."""
  graph = spelled(spelling, "m", "v", MOMENTS)
  found = only(norms_of(graph))
  assert found.statistics == BATCH
  batch = normalised(X, *of_batch(X))
  np.testing.assert_allclose(run(graph, {"x": X}), batch, 1e-3, 1e-4)
  with_other_statistics(graph, found, MEAN, VARIANCE)
  right = normalised(X, MEAN, VARIANCE)
  np.testing.assert_allclose(run(graph, {"x": X}), right, 1e-4, 1e-5)
  assert only(norms_of(graph)).statistics == STORED


@pytest.mark.parametrize(
  "spelling, mean, variance, scale",
  [
    ("centred", Slot("c", 1), Slot("sum", 0), "r"),
    ("tf.nn", Slot("shift", 0), Slot("sum", 0), "scale"),
    ("reshaped", Slot("shift", 0), Slot("sum", 0), "scale"),
    ("negated", Slot("less", 0), Slot("sum", 0), "scale"),
    ("divided", Slot("c", 1), Slot("sum", 0), "r"),
    ("power", Slot("c", 1), Slot("sum", 1), "r"),
  ],
)
def test_place(spelling, mean, variance, scale):
  graph = spelled(spelling)
  found = only(norms_of(graph))
  place = found.form.place(graph, found)
  assert place == ((mean,), (variance,), TensorRef(scale))
  # Other readers of the mean have no part in the norm.
  graph.add("Neg", "elsewhere", ["mean"], {})
  assert found.form.place(graph, found) == place


@pytest.mark.parametrize(
  "text",
  [
    # The root of a variance, and of one with too much added to it.
    "r = Rsqrt(variance) c = Sub(x, mean) y = Mul(c, r)",
    "much = Const() {value=<float 0.5>} sum = Add(variance, much) "
    "r = Rsqrt(sum) c = Sub(x, mean) y = Mul(c, r)",
    # A cube root.
    "third = Const() {value=<float 0.3>} sum = Add(variance, epsilon) "
    "r = Pow(sum, third) c = Sub(x, mean) y = RealDiv(c, r)",
    # Each row has its own variance, as in a layer norm.
    "axes = Const() {value=<int32 [3] 1 2 3>} "
    "m = Mean(x, axes) {keep_dims=true} d = SquaredDifference(x, m) "
    "v = Mean(d, axes) {keep_dims=true} sum = Add(v, epsilon) "
    "r = Rsqrt(sum) c = Sub(x, m) y = Mul(c, r)",
    # Nothing is centred.
    "sum = Add(variance, epsilon) r = Rsqrt(sum) y = Mul(x, r)",
  ],
)
def test_what_is_no_norm(text):
  assert norms_of(graph_of(INPUT + text)) == []


@pytest.mark.parametrize(
  "shape, statistics, axes",
  [
    ((6, 2), [(2,), (2,), (2,)], (1,)),  # dense
    ((6, 3, 2, 2), [(2,), (2,), (2,)], (3,)),
    ((6, 3, 2, 2), [(1, 1, 1, 2)] * 3, (3,)),
    ((6, 2, 3, 2), [(1, 2, 1, 1)] * 3, (1,)),  # NCHW
    ((6, 2, 3, 2), [(1, 2, 1, 1), (2,), (2,)], (1,)),  # reshaped afterwards
    ((6, 3, 2, 4, 2), [(2,)] * 3, (4,)),
    ((6, 2, 3, 4, 2), [(1, 2, 1, 1, 1)] * 3, (1,)),
    ((6, 3, 2), [(3, 2)] * 3, (1, 2)),  # statistics of each step
    ((6, 3, 2, 2), [(2,), (), ()], ()),  # one for all, and gammas
    ((6, 3, 2, 2), [(5,), (5,), (5,)], None),
    ((6, 3, 2, 2), [(2,), (2,), ()], None),
  ],
)
def test_channel_axes_are_those_along_which_statistics_vary(
  shape, statistics, axes
):
  form = only(norms_of(spelled("centred"))).form
  assert form.channel_axes(None, shape, statistics) == axes


def test_channels_are_told_by_the_scale():
  """x * reshape(scale): the mean's own shape tells the wrong axis."""
  graph = spelled("tf.nn")
  found = only(norms_of(graph))
  place = found.form.place(graph, found)
  refs = found.form.shape_tensors(found, place)
  assert refs == (TensorRef("scale"), found.mean, found.variance)
  refs = found.form.shape_tensors(found, None)
  assert refs == (found.mean, found.mean, found.variance)


def test_parameters_are_what_scales_and_shifts():
  graph = spelled("centred")
  form = only(norms_of(graph)).form
  refs = form.parameters(graph, "r")
  assert {TensorRef("gamma"), TensorRef("beta")} <= set(refs)
  # A vector may broadcast: its length is not the number of channels.
  assert form.scale(graph, "r") is None


def test_inference_is_a_matter_of_what_is_read():
  graph = spelled("centred")
  before = graph.to_graph_def()
  only(norms_of(graph)).form.to_inference(graph.node("r"))
  assert graph.to_graph_def() == before


def test_forms_are_told_apart_by_ops():
  ops = [op for form in FORMS for op in form.ops]
  assert len(ops) == len(set(ops))
  assert op_form("Rsqrt") is None  # one op of many
