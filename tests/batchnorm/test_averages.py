# SPDX-License-Identifier: Apache-2.0
"""Moving averages that no layer of TensorFlow writes, built here."""

import numpy as np
import pytest
from judges import opening
from judges.exporting import assert_close
from judges.norms import graph_of

from bnexport.batchnorm.averages import Averages
from bnexport.batchnorm.settling import _are_bessels
from bnexport.exporting.export import Options
from bnexport.exporting.export import export as export_model
from bnexport.graph import TensorRef
from bnexport.proof.runs import ImportedGraph
from bnexport.tf1 import session, tf1

EPSILON = 1e-3


def norm(x, training, axes, shape, name, moments=None):
  """A norm over any axes, with averages of any shape, updated beside it."""
  with tf1.variable_scope(name):
    mean, variance = (
      tf1.get_variable(n, shape, trainable=False, use_resource=False)
      for n in ("a", "b")
    )
    used = mean, variance
    if training:
      used = (moments or keeping_moments)(x, axes)
      for average, value in zip((mean, variance), used):
        tf1.assign_sub(average, (average - value) * 0.1)
    return (x - used[0]) / tf1.sqrt(used[1] + EPSILON)


def keeping_moments(x, axes):
  return tf1.nn.moments(x, axes, keep_dims=True)


def moments_of_columns(x, _):
  """Channels first: the batch is the second axis, and the mean of squares."""
  columns = tf1.transpose(tf1.reshape(x, [-1, 6]))
  mean = tf1.reduce_mean(columns, 1)
  return mean, tf1.reduce_mean(tf1.square(columns), 1) - tf1.square(mean)


def in_a_row(x, training):
  """Norms with nothing between them have statistics of their own."""
  for i in range(3):
    x = norm(x, training, [0, 1], [1, 1, 6], "norm%d" % i)
  return x


def time_major(x, training):
  """Statistics for each step: the batch is the second axis."""
  h = tf1.transpose(x, [1, 0, 2])
  h = norm(h, training, [1], [5, 1, 6], "steps")
  return tf1.transpose(tf1.nn.relu(h), [1, 0, 2])


def columns(x, training):
  return norm(x, training, None, [6], "columns", moments_of_columns)


@pytest.mark.parametrize("net", [in_a_row, time_major, columns])
def test_export(net, tmp_path):
  random = np.random.RandomState(4)
  x = random.randn(4, 5, 6).astype(np.float32) + 0.5
  values = {}
  prefix = str(tmp_path / "model.ckpt")
  answers = {}
  for training in (True, False):
    graph = tf1.Graph()
    with graph.as_default():
      y = net(tf1.placeholder(tf1.float32, [None, 5, 6], name="x"), training)
      tf1.identity(y, name="y")
      with session(graph) as run:
        for variable in tf1.global_variables():
          value = values.setdefault(
            variable.op.name, random.uniform(0.5, 2.0, variable.shape)
          )
          run.run(tf1.assign(variable, value.astype(np.float32)))
        if training:
          tf1.train.Saver().save(run, prefix)
        answers[training] = run.run("y:0", {"x:0": x})
  with pytest.raises(AssertionError):
    assert_close(answers[True], answers[False], 1e-4)
  model = opening.trained(prefix, ["y"])
  exported = export_model(model, Options())
  runner = ImportedGraph(exported.to_graph_def(), exported.model.outputs)
  assert_close(runner.run({"x": x})[0], answers[False], 1e-4)


def test_mean_over_time_is_no_statistic(tmp_path):
  """Time is the first axis, and the norm's mean is a mean of that mean."""
  x = np.random.RandomState(5).randn(7, 4, 3).astype(np.float32)
  with tf1.Graph().as_default() as graph, session(graph) as running:
    held = tf1.placeholder(tf1.float32, [7, None, 3], "x")
    y = norm(tf1.reduce_mean(held, 0), True, [0], [3], "norm", tf1.nn.moments)
    tf1.identity(y, "y")
    for variable, value in zip(tf1.global_variables(), ([0.5] * 3, [2.0] * 3)):
      running.run(tf1.assign(variable, value))
    prefix = tf1.train.Saver().save(running, str(tmp_path / "model.ckpt"))
  model = opening.trained(prefix, ["y"])
  exported = export_model(model, Options())
  runner = ImportedGraph(exported.to_graph_def(), exported.model.outputs)
  right = (x.mean(0) - 0.5) / np.sqrt(2 + EPSILON)
  assert_close(runner.run({"x": x})[0], right.astype(np.float32), 1e-5)
  runner.close()


# Single updates, in the project's notation.

GRAPH = """
x = Placeholder() {shape=[?,2]}
z = Placeholder() {shape=[?,2]}
axes = Const() {value=<int32 [1] 0>}
rate = Const() {value=<float 0.1>}
m = Mean(x, axes)
d = SquaredDifference(x, m)
v = Mean(d, axes)
mm = VariableV2() {shape=[2]}
mv = VariableV2() {shape=[2]}
"""
KEEP_MEAN = "a = Sub(mm, m) b = Mul(a, rate) u = AssignSub(mm, b)\n"


def averages_of(statements, needed=("m", "v")):
  graph = graph_of(GRAPH + statements)
  return Averages.read(graph, graph.ancestors(needed))


def variables_of(averages, ref):
  return averages.variables(averages.of(TensorRef.parse(ref)))


@pytest.mark.parametrize(
  "update",
  [
    KEEP_MEAN,
    "a = Sub(m, mm) b = Mul(a, rate) u = AssignAdd(mm, b)",
    "keep = Const() {value=<float 0.9>} a = Mul(mm, keep) b = Mul(m, rate) "
    "c = Add(a, b) u = Assign(mm, c)",
    "u = Assign(mm, m)",
  ],
)
def test_variable_that_settles_at_a_statistic_is_its_average(update):
  averages = averages_of(update)
  (average,) = averages.all
  assert (average.variable, average.statistic) == ("mm", TensorRef("m"))
  assert average.update == "u" and averages.is_updated("mm")
  assert variables_of(averages, "m") == ["mm"]


def test_bessels_correction_is_no_obstacle():
  averages = averages_of(
    "bessel = Const() {value=<float 1.25>} w = Mul(v, bessel) "
    "a = Sub(mv, w) b = Mul(a, rate) u = AssignSub(mv, b)"
  )
  assert variables_of(averages, "v") == ["mv"]


@pytest.mark.parametrize(
  "update",
  [
    "zero = Const() {value=<float [2] 0 0>} u = Assign(mm, zero)",
    "u = AssignSub(mm, m)",  # a gradient step
    "u = AssignAdd(mm, m)",  # a sum
    "s = Square(m) u = Assign(mm, s)",
  ],
)
def test_variable_that_settles_elsewhere_is_none(update):
  averages = averages_of(update)
  assert averages.of(TensorRef("m")) == []
  assert variables_of(averages, "m") == []


def test_equal_statistic_elsewhere_has_the_same_average():
  averages = averages_of(
    KEEP_MEAN + "i = Identity(x) again = Mean(i, axes) other = Mean(z, axes)",
    ("again", "other", "v"),
  )
  assert variables_of(averages, "again") == ["mm"]
  assert variables_of(averages, "other") == []
  assert variables_of(averages, "v") == []


NORM = """
g = Const() {value=<float [2] 1 1>}
none = Const() {value=<float [0]>}
shape = Const() {value=<int32 [4] -1 1 1 2>}
wide = Reshape(x, shape)
y = FusedBatchNorm(wide, g, g, none, none)
"""


def test_average_of_what_a_norm_hands_out():
  averages = averages_of(
    NORM + "a = Sub(mv, y:2) b = Mul(a, rate) u = AssignSub(mv, b)", ("y",)
  )
  assert variables_of(averages, "y:2") == ["mv"]
  assert variables_of(averages, "y:1") == []


def test_average_beside_a_norm_of_what_it_computes():
  """Spelled out moments, with and without Bessel's correction."""
  averages = averages_of(
    NORM + KEEP_MEAN + "e = Sub(mv, v) f = Mul(e, rate) w = AssignSub(mv, f)",
    ("y",),
  )
  assert variables_of(averages, "y:1") == ["mm"]
  assert variables_of(averages, "y:2") == ["mv"]


def test_two_averages_of_one_statistic():
  shadow = "shadow = VariableV2() {shape=[2]}\n"
  update = "e = Sub(shadow, m) f = Mul(e, rate) w = AssignSub(shadow, f)"
  averages = averages_of(KEEP_MEAN + shadow + update)
  assert variables_of(averages, "m") == ["mm", "shadow"]
  renamed = (KEEP_MEAN + shadow + update).replace("shadow", "moving_mean")
  assert variables_of(averages_of(renamed), "m") == ["mm", "moving_mean"]


@pytest.mark.parametrize("n", [2, 3, 8, 200])
def test_bessels_correction_is_told(n):
  constant = [n / (n - 1)] * 2
  assert _are_bessels(constant, n)
  assert not _are_bessels(constant, n + 1)
  # The rows of a batch are eight or more.
  assert _are_bessels(constant, None) == (n >= 8)
  assert _are_bessels([2 * n / (2 * n - 1), 5 * n / (5 * n - 1)], None)


def test_bessels_correction_of_keras_is_told():
  # n / (n - (1 + epsilon)), as Keras 2.2 writes it.
  assert _are_bessels([2 / (2 - 1.001), 5 / (5 - 1.001)], None)


@pytest.mark.parametrize("factor", [-1.0, 0.5, 1.0, 1.37, 2.5, 10.0])
def test_other_factors_are_no_correction(factor):
  assert not _are_bessels([factor, factor], 4)


def test_a_sum_is_no_correction():
  """Of two rows it is twice the mean, as the correction is."""
  assert not _are_bessels([2.0, 5.0], None)
