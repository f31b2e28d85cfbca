# SPDX-License-Identifier: Apache-2.0
"""Small training jobs, healthy ones and those with one fault each."""

import contextlib

import numpy as np

from bnexport.tf1 import session, tf1

ROWS, FEATURES = 512, 6


def data():
  """A set of rows with two classes, and what they are."""
  random = np.random.RandomState(3)
  labels = random.randint(0, 2, ROWS)
  centres = random.normal(size=(2, FEATURES)) * 2
  rows = centres[labels] + random.normal(size=(ROWS, FEATURES)) + 3
  return rows.astype(np.float32), labels.astype(np.int32)


class Job:
  """A training graph.

  Attributes:
    graph: the tf.Graph.
    x, labels: its inputs; rows come from NumPy.
    train_op: what each step runs.
    saver: the Saver of its checkpoints, or None for a hook's own.
  """

  def __init__(self, graph, x, labels, train_op, saver=None):
    self.graph, self.x, self.labels = graph, x, labels
    self.train_op, self.saver = train_op, saver
    self._rows = data()
    self._random = np.random.RandomState(4)

  def feeds(self):
    rows, labels = self._rows
    chosen = self._random.randint(0, ROWS, 32)
    return {self.x: rows[chosen], self.labels: labels[chosen]}


def norm(h, name, momentum=0.9, training=True, of=lambda h: h):
  """A norm by hand, whose updates are in UPDATE_OPS.

  Args:
    h: what it normalises.
    name: its scope.
    momentum: of its averages.
    training: whether it uses the batch.
    of: what its averages are taken of.
  """
  with tf1.variable_scope(name):
    size = h.shape[-1]
    gamma = tf1.get_variable(
      "gamma", [size], initializer=tf1.ones_initializer()
    )
    beta = tf1.get_variable("beta", [size], initializer=tf1.zeros_initializer())
    mean = tf1.get_variable(
      "moving_mean",
      [size],
      initializer=tf1.zeros_initializer(),
      trainable=False,
    )
    variance = tf1.get_variable(
      "moving_variance",
      [size],
      initializer=tf1.ones_initializer(),
      trainable=False,
    )
    if not training:
      return tf1.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-3)
    batch = tf1.nn.moments(h, [0])
    for average, statistic in zip((mean, variance), tf1.nn.moments(of(h), [0])):
      update = tf1.assign_sub(average, (average - statistic) * (1 - momentum))
      tf1.add_to_collection(tf1.GraphKeys.UPDATE_OPS, update)
    return tf1.nn.batch_normalization(h, *batch, beta, gamma, 1e-3)


def dense(h, size, name):
  kernel = tf1.get_variable(f"{name}/kernel", [h.shape[-1], size])
  return tf1.matmul(h, kernel)


def build(
  layer=norm,
  before=lambda x: x,
  updates=True,
  rate=0.05,
  saver=None,
  resource=False,
):
  """A Job of two layers with a norm each.

  Args:
    layer: makes a norm, of a tensor and a name.
    before: what becomes of the input first.
    updates: whether the train op waits for UPDATE_OPS; or the names of those
      it waits for.
    rate: of learning.
    saver: makes the Saver; None for none.
    resource: whether variables are resources.
  """
  graph = tf1.Graph()
  with graph.as_default(), tf1.variable_scope("", use_resource=resource):
    tf1.set_random_seed(1)
    tf1.train.get_or_create_global_step()
    x = tf1.placeholder(tf1.float32, [None, FEATURES], name="x")
    labels = tf1.placeholder(tf1.int32, [None], name="labels")
    h = before(x)
    for i in (1, 2):
      h = tf1.nn.relu(layer(dense(h, 8, f"dense{i}"), f"norm{i}"))
    logits = tf1.identity(dense(h, 2, "last"), name="logits")
    loss = tf1.reduce_mean(
      tf1.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits
      )
    )
    waits = tf1.get_collection(tf1.GraphKeys.UPDATE_OPS) if updates else []
    if not isinstance(updates, bool):
      waits = [one for one in waits if updates in one.name]
    optimizer = tf1.train.GradientDescentOptimizer(rate)
    with tf1.control_dependencies(waits):
      train_op = optimizer.minimize(
        loss, global_step=tf1.train.get_global_step()
      )
    made = saver() if saver is not None else None
  return Job(graph, x, labels, train_op, made)


def train(job, hooks, steps=60, checkpoint_dir=None, **options):
  """Trains in a MonitoredTrainingSession."""
  with job.graph.as_default():
    hooks = [*hooks, tf1.train.StopAtStepHook(last_step=steps)]
    with tf1.train.MonitoredTrainingSession(
      checkpoint_dir=checkpoint_dir,
      hooks=hooks,
      log_step_count_steps=None,
      save_summaries_steps=None,
      save_summaries_secs=None,
      **options,
    ) as running:
      while not running.should_stop():
        running.run(job.train_op, job.feeds())


@contextlib.contextmanager
def started(job):
  """A bare session with the job's variables initialized."""
  with job.graph.as_default(), session(job.graph) as running:
    running.run(tf1.global_variables_initializer())
    yield running
