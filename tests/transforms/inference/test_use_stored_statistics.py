# SPDX-License-Identifier: Apache-2.0
"""Batch statistics give way to the averages that track them."""

import pytest
from judges.transforming import model_of, spelled, transformed

from bnexport.errors import TransformError
from bnexport.transforms.inference.use_stored_statistics import (
  UseStoredStatistics,
)

BASE = """
  x = Placeholder() {shape=[?,4,4,2]}   none = Const() {value=<float [0]>}
  g = Const() {value=<float [2] 1>}   b = Const() {value=<float [2] 0>}
  mm = VariableV2() {shape=[2]}   mv = VariableV2() {shape=[2]}
"""
FUSED = """
  n = FusedBatchNorm(x, g, b, none, none) {is_training=true}   y = Relu(n)
"""
# mm -= (mm - batch mean) * (1 - decay), and the same of the variance.
UPDATES = """
  rate = Const() {value=<float 0.1>}
  mm/d = Sub(mm, %s)   mm/m = Mul(mm/d, rate)   mm/u = AssignSub(mm, mm/m)
  mv/d = Sub(mv, %s)   mv/m = Mul(mv/d, rate)   mv/u = AssignSub(mv, mv/m)
"""
SPELLED_OUT = """
  axes = Const() {value=<int32 [3] 0 1 2>}   e = Const() {value=<float 0.001>}
  mean = Mean(x, axes)   d = SquaredDifference(x, mean)
  variance = Mean(d, axes)   v = AddV2(variance, e)   s = Rsqrt(v)
  c = Sub(x, mean)   y = Mul(c, s)
"""


def applied(*parts, **options):
  model = model_of("".join(parts), inputs=["x"])
  UseStoredStatistics(**options).apply(model)
  model.graph.lint()
  return model


def is_training(model, name="n"):
  return model.graph.node(name).attr["is_training"].b


def test_fused_norm_reads_its_averages():
  model = applied(BASE, FUSED, UPDATES % ("n:1", "n:2"))
  assert (
    spelled(model.graph, "n") == "FusedBatchNorm(x, g, b, mm/read, mv/read)"
  )
  assert not is_training(model)
  assert model.decisions.averages == {"mm", "mv"}
  assert model.decisions.unaveraged == () and model.warnings == []


def test_averages_are_told_by_what_tracks_them_and_not_by_names():
  model = applied(
    BASE.replace("mm =", "moving_variance =").replace("mv =", "mm ="),
    FUSED,
    (UPDATES % ("n:1", "n:2"))
    .replace("mm", "moving_variance")
    .replace("mv", "mm"),
  )
  assert spelled(model.graph, "n") == (
    "FusedBatchNorm(x, g, b, moving_variance/read, mm/read)"
  )


def test_statistics_that_are_spelled_out_are_replaced_where_they_are_used():
  model = applied(BASE, SPELLED_OUT, UPDATES % ("mean", "variance"))
  assert spelled(model.graph, "c") == "Sub(x, mm/read)"
  assert spelled(model.graph, "v") == "AddV2(mv/read, e)"
  stored = {
    str(ref): value.variable
    for ref, value in model.decisions.stored.items()
    if value.is_whole
  }
  assert stored == {"mean": "mm", "variance": "mv"}


TWICE = (
  UPDATES
  + """
  slow = VariableV2() {shape=[2]}   few = Const() {value=<float 0.01>}
  slow/d = Sub(slow, mean)   slow/m = Mul(slow/d, few)
  slow/u = AssignSub(slow, slow/m)
"""
)


def test_two_averages_of_one_statistic_are_asked_about():
  parts = BASE, SPELLED_OUT, TWICE % ("mean", "variance")
  with pytest.raises(TransformError) as refused:
    applied(*parts)
  assert "'mm', 'slow' all track it" in str(refused.value)
  assert "--averages=mm" in str(refused.value)


@pytest.mark.parametrize("meant, other", [("mm", "slow"), ("slow", "mm")])
def test_of_two_averages_the_stated_one_is_used(meant, other):
  parts = BASE, SPELLED_OUT, TWICE % ("mean", "variance")
  model = applied(*parts, averages=(meant,))
  assert spelled(model.graph, "c") == f"Sub(x, {meant}/read)"
  others = {
    str(ref): [stored.variable for stored in found]
    for ref, found in model.decisions.others.items()
  }
  assert others == {"mean": [other]}


def test_shape_of_a_kept_statistic_is_made():
  kept = SPELLED_OUT.replace("Mean(x, axes)", "Mean(x, axes) {keep_dims=true}")
  squeezed = "flat = Squeeze(mean) {squeeze_dims=(0, 1, 2)}"
  model = applied(BASE, kept, squeezed, UPDATES % ("flat", "variance"))
  assert spelled(model.graph, "c") == "Sub(x, mean/stored)"
  assert spelled(model.graph, "mean/stored") == (
    "Reshape(mm/read, mean/stored/shape)"
  )


def test_norm_without_averages_stays_and_is_said():
  model = applied(BASE, FUSED)
  assert is_training(model)
  assert (
    model.decisions.unaveraged == ("n",)
    and model.decisions.averages == frozenset()
  )


def test_norm_that_is_kept_stays_and_is_no_doubt():
  model = applied(BASE, FUSED, UPDATES % ("n:1", "n:2"), keep=("n",))
  assert is_training(model) and model.decisions.unaveraged == ()
  assert model.warnings == [
    "norm 'n' keeps computing its own statistics: as asked"
  ]


def test_half_of_the_averages_is_refused():
  half = "rate = Const() {value=<float 0.1>}   u = Assign(mm, n:1)"
  with pytest.raises(TransformError, match="'n'.*--keep_batch_statistics=n"):
    applied(BASE, FUSED, half)


def test_two_averages_of_one_statistic_are_refused():
  more = """
    other = VariableV2() {shape=[2]}   o/d = Sub(other, n:1)
    o/m = Mul(o/d, rate)   o/u = AssignSub(other, o/m)
  """
  with pytest.raises(TransformError, match="'n'.*mean.*'mm'.*'other'"):
    applied(BASE, FUSED, UPDATES % ("n:1", "n:2"), more)


def test_two_norms_of_one_input_have_averages_of_their_own():
  """The statistics are equal; the second norm's averages are not its twin's."""
  two = """
    n2 = FusedBatchNorm(n, g, b, none, none) {is_training=true}
    m2 = VariableV2() {shape=[2]}   v2 = VariableV2() {shape=[2]}
    a = Assign(m2, n2:1)   c = Assign(v2, n2:2)   z = Relu(n2)
  """
  model = model_of(BASE + FUSED + UPDATES % ("n:1", "n:2") + two, ["y", "z"])
  UseStoredStatistics().apply(model)
  assert spelled(model.graph, "n2") == (
    "FusedBatchNorm(n, g, b, m2/read, v2/read)"
  )
  assert (
    spelled(model.graph, "n") == "FusedBatchNorm(x, g, b, mm/read, mv/read)"
  )


def test_mean_over_the_batch_that_is_no_norm_stays():
  model = applied(
    "x = Placeholder() {shape=[?,2]}   zero = Const() {value=<int32 0>}"
    "  y = Mean(x, zero)"
  )
  assert spelled(model.graph, "y") == "Mean(x, zero)"
  assert model.decisions.unaveraged == ()


def test_a_constant_of_no_elements_is_no_average():
  """An op in training mode is handed nothing, also through an Identity."""
  graph = """
    x = Placeholder() {shape=[?,2,2,3]}
    g = Const() {value=<float [3] 1 2 3>}   b = Const() {value=<float [3] 0 0 1>}
    none = Const() {value=<float [0]>}   handed = Identity(none)
    y = FusedBatchNorm(x, g, b, handed, handed) {is_training=true}
  """
  model = transformed(graph, "use_stored_statistics", inputs=["x"])
  assert model.graph.node("y").attr["is_training"].b
  assert model.decisions.unaveraged == ("y",)


def test_a_running_maximum_is_no_average():
  graph = """
    x = Placeholder() {shape=[?,3]}   rows = Const() {value=<int32 0>}
    size = Abs(x)   largest = Max(size, rows)
    top = VariableV2() {shape=[3]}   top/read = Identity(top)
    higher = Maximum(top/read, largest)   update = Assign(top, higher)
    y = RealDiv(x, largest)
  """
  with pytest.raises(TransformError, match="'update' writes something of its"):
    transformed(graph, "use_stored_statistics", inputs=["x"])


def test_statistics_whose_place_was_taken_before_may_be_gone():
  graph = """
    x = Placeholder() {shape=[?,3]}   rows = Const() {value=<int32 [1] 0>}
    m = Mean(x, rows) {keep_dims=true}   s = SquaredDifference(x, m)
    v = Mean(s, rows) {keep_dims=true}
    mm = VariableV2() {shape=[1,3]}   rate = Const() {value=<float 0.1>}
    mm/read = Identity(mm)   mm/d = Sub(mm/read, m)   mm/u = Mul(mm/d, rate)
    mm/a = AssignSub(mm, mm/u)
    mv = VariableV2() {shape=[1,3]}
    mv/read = Identity(mv)   mv/d = Sub(mv/read, v)   mv/u = Mul(mv/d, rate)
    mv/a = AssignSub(mv, mv/u)
    e = Const() {value=<float 0.001>}   ve = Add(v, e)   r = Rsqrt(ve)
    c = Sub(x, m)   y = Mul(c, r)
  """
  spec = "use_stored_statistics strip_unused_nodes use_stored_statistics"
  model = transformed(graph, spec, inputs=["x"])
  assert "v" not in model.graph and "mv" in model.graph
