# SPDX-License-Identifier: Apache-2.0
"""Training graphs with norms by hand, in ways that no layer writes them."""

import numpy as np
import pytest
from judges.opening import trained

from bnexport.errors import TransformError
from bnexport.exporting.export import export
from bnexport.proof.runs import ImportedGraph
from bnexport.tf1 import session, tf1

ROWS = np.random.RandomState(5).normal(3, 2, (16, 4)).astype(np.float32)
EPSILON = 1e-3


def statistics(prefix="", use_resource=False):
  """The variables of a mean and a variance."""
  return [
    tf1.get_variable(
      prefix + name,
      [4],
      initializer=tf1.constant_initializer(begin),
      trainable=False,
      use_resource=use_resource,
    )
    for name, begin in (("mean", 0.0), ("variance", 1.0))
  ]


def normed(x, mean, variance):
  return (x - mean) * tf1.rsqrt(variance + EPSILON)


def averaged(x, variables):
  """Updates that keep averages; returns what they keep of the batch."""
  batch = tf1.nn.moments(x, [0])
  updates = [
    tf1.assign_sub(v, (v - one) * 0.2) for v, one in zip(variables, batch)
  ]
  return batch, updates


def saved(tmp_path, build, runs):
  """The Model of a training graph, and the values of its variables.

  Args:
    tmp_path: where the checkpoint goes.
    build: builds the graph from `x` to `y`; returns tensors to feed.
    runs: names of ops, or lists of them, to run one after the other.
  """
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 4], "x")
    fed = {x: ROWS, **(build(x) or {})}
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      for names in runs:
        running.run(names, fed)
      prefix = tf1.train.Saver().save(running, str(tmp_path / "model.ckpt"))
      values = {v.op.name: running.run(v) for v in tf1.global_variables()}
  return trained(prefix, ["y"]), values


def answer_of(exported):
  with ImportedGraph(exported.to_graph_def(), exported.model.outputs) as run:
    return run.run({"x": ROWS})[0]


def assert_right(model, values):
  """The Export of a norm alone, which is right and proven."""
  exported = export(model)
  right = (ROWS - values["mean"]) / np.sqrt(values["variance"] + EPSILON)
  np.testing.assert_allclose(answer_of(exported), right, 1e-4, 1e-4)
  assert exported.prove().holds
  return exported


@pytest.mark.parametrize("is_all", [False, True])
def test_a_phase_for_each_device(tmp_path, is_all):
  def build(x):
    phases = tf1.placeholder(tf1.bool, [None], "phases")
    phase = tf1.reduce_all(phases) if is_all else phases[0]
    kept = statistics()
    batch, updates = averaged(x, kept)

    def training():
      with tf1.control_dependencies(updates):
        return [tf1.identity(one) for one in batch]

    used = tf1.cond(phase, training, lambda: [tf1.identity(v) for v in kept])
    tf1.identity(normed(x, *used), "y")
    tf1.group(*updates, name="train")
    return {phases: [True, True]}

  model, values = saved(tmp_path, build, ["train"] * 3)
  exported = assert_right(model, values)
  assert exported.model.placeholders() == ["x"]


def test_what_waits_for_a_choice(tmp_path):
  def build(x):
    phase = tf1.placeholder(tf1.bool, [], "phase")
    kept = statistics()
    batch, updates = averaged(x, kept)
    used = [
      tf1.where(tf1.fill([4], phase), one, v) for one, v in zip(batch, kept)
    ]
    with tf1.control_dependencies(used):
      tf1.identity(normed(x, *used), "y")
    tf1.group(*updates, name="train")
    return {phase: True}

  model, values = saved(tmp_path, build, ["train"] * 3)
  exported = assert_right(model, values)
  assert exported.model.placeholders() == ["x"]


def build_epochs(x, variance_of):
  """Sums and a count, from which an epoch's end makes the statistics."""
  kept, sums = statistics(), statistics("sum_")
  count = tf1.get_variable(
    "count", [], initializer=tf1.zeros_initializer(), trainable=False
  )
  batch = tf1.nn.moments(x, [0])
  added = [tf1.assign_add(s, one) for s, one in zip(sums, batch)]
  tf1.group(*added, tf1.assign_add(count, 1.0), name="train")
  ends = [
    tf1.assign(kept[0], sums[0] / count),
    tf1.assign(kept[1], variance_of(sums, count)),
  ]
  tf1.group(*ends, name="end")
  zeros = [tf1.assign(v, tf1.zeros([4])) for v in sums]
  tf1.group(*zeros, tf1.assign(count, 0.0), name="anew")
  tf1.identity(normed(x, *batch), "y")


def test_statistics_that_an_epoch_leaves(tmp_path):
  def build(x):
    build_epochs(x, lambda sums, count: sums[1] / count * (16 / 15))

  runs = ["train", "train", "end", "anew", "train"]
  model, values = saved(tmp_path, build, runs)
  assert_right(model, values)


def test_sums_of_which_more_is_made_are_no_statistics(tmp_path):
  def build(x):
    build_epochs(
      x, lambda sums, count: sums[1] / count - tf1.square(sums[0] / count)
    )

  model, _ = saved(tmp_path, build, ["train", "train", "end", "anew", "train"])
  with pytest.raises(TransformError, match="--keep_batch_statistics"):
    export(model)


def test_one_of_the_devices_that_share_the_rows(tmp_path):
  def build(x):
    kept = statistics()
    part, _ = tf1.split(x, 2)
    batch, updates = averaged(part, kept)
    tf1.identity(normed(part, *batch), "y")
    tf1.group(*updates, name="train")

  model, _ = saved(tmp_path, build, ["train"])
  proof = export(model).prove()
  assert not proof.holds and "'split' splits the rows of 'x'" in proof.missing


@pytest.mark.parametrize("is_run", [False, True])
def test_updates_that_training_never_runs(tmp_path, is_run):
  def build(x):
    batch, updates = averaged(x, statistics())
    weights = tf1.get_variable("weights", [4, 2])
    y = tf1.matmul(normed(x, *batch), weights, name="y")
    with tf1.control_dependencies(updates if is_run else []):
      optimizer = tf1.train.GradientDescentOptimizer(0.01)
      optimizer.minimize(tf1.reduce_mean(tf1.square(y)), name="train")

  model, _ = saved(tmp_path, build, ["train"] * 2)
  proof = export(model).prove()
  assert proof.holds == is_run
  assert is_run or "no step of training runs their updates" in proof.missing


def test_a_norm_in_a_loop_that_waits_for_its_updates(tmp_path):
  def build(x):
    kept = statistics(use_resource=True)

    def step(i, h):
      batch, updates = averaged(h, kept)
      with tf1.control_dependencies(updates):
        return i + 1, tf1.tanh(normed(h, *batch)) + x

    _, h = tf1.while_loop(lambda i, _: i < 2, step, [0, x])
    tf1.identity(h, "y")

  model, values = saved(tmp_path, build, ["y"] * 3)
  exported = export(model)
  h = ROWS
  for _ in range(2):
    scale = np.sqrt(values["variance"] + EPSILON)
    h = np.tanh((h - values["mean"]) / scale) + ROWS
  np.testing.assert_allclose(answer_of(exported), h, 1e-4, 1e-4)
  assert exported.prove().holds
