# SPDX-License-Identifier: Apache-2.0
"""Moving averages that no layer of TensorFlow writes, built here."""

import numpy as np
import pytest
from judges import opening
from judges.exporting import assert_close

from bnexport.exporting.export import Options
from bnexport.exporting.export import export as export_model
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
