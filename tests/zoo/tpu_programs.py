# SPDX-License-Identifier: Apache-2.0
"""Training steps that are programs for a TPU, in a loop or not.

No CPU runs them: what training answers comes from the same network beside.
"""

import tensorflow as tf
from tensorflow.contrib import tpu
from tensorflow.contrib.tpu.python.ops import tpu_ops

from tests.zoo.script import BATCH, recipe

_IMAGES = (6, 6, 3)


def _net(script, x):
  def norm(h, name):
    return tf.nn.relu(
      tf.layers.batch_normalization(h, training=script.training, name=name)
    )

  h = norm(tf.layers.conv2d(x, 4, 3, use_bias=False, name="conv1"), "bn1")
  h = norm(tf.layers.conv2d(h, 6, 3, 2, use_bias=False, name="conv2"), "bn2")
  return tf.layers.dense(tf.reshape(h, [-1, 6]), 5, name="logits")


def _sync_norm(script, h, name):
  """Moments over all replicas, as public ResNets for TPUs have them."""
  with tf.variable_scope(name):
    size = [h.shape[-1]]
    gamma = tf.get_variable("gamma", size, initializer=tf.ones_initializer())
    beta = tf.get_variable("beta", size, initializer=tf.zeros_initializer())
    stored = [
      tf.get_variable(n, size, trainable=False, initializer=tf.ones_initializer)
      for n in ("moving_mean", "moving_variance")
    ]
    mean, variance = stored
    if script.training:
      axes = list(range(h.shape.ndims - 1))
      mean = _over_replicas(script, tf.reduce_mean(h, axes))
      square = _over_replicas(script, tf.reduce_mean(tf.square(h), axes))
      variance = square - tf.square(mean)
      for variable, value in zip(stored, (mean, variance)):
        tf.add_to_collection(
          tf.GraphKeys.UPDATE_OPS,
          variable.assign_sub(0.1 * (variable - value)),
        )
    return tf.nn.relu(
      tf.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-3)
    )


def _over_replicas(script, value):
  if not script.on_tpu:
    return value
  return tpu_ops.cross_replica_sum(value, [[0, 1]]) / 2.0


def _sync_net(script, x):
  h = tf.layers.conv2d(x, 4, 3, use_bias=False, name="conv1")
  h = tf.reshape(_sync_norm(script, h, "bn1"), [-1, 64])
  h = _sync_norm(script, tf.layers.dense(h, 6, name="fc"), "bn2")
  return tf.layers.dense(h, 5, name="logits")


def _recurrent_net(script, x):
  """A loop of its own inside of the step."""
  h = tf.layers.conv2d(x, 4, 3, use_bias=False, name="conv1")
  h = tf.layers.batch_normalization(h, training=script.training, name="bn1")
  rows = tf.reshape(tf.nn.relu(h), [-1, 4, 16])
  cell = tf.nn.rnn_cell.BasicRNNCell(6)
  _, state = tf.nn.dynamic_rnn(cell, rows, dtype=tf.float32)
  return tf.layers.dense(state, 5, name="logits")


def _update(script, output):
  """Adds the training of a step; returns what to wait for."""
  loss = tf.reduce_mean(tf.square(output - 0.5))
  optimizer = tf.train.GradientDescentOptimizer(0.01)
  if script.on_tpu:
    optimizer = tpu.CrossShardOptimizer(optimizer)
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    return optimizer.minimize(loss, tf.train.get_or_create_global_step()), loss


def _program(script, net, run, shape=_IMAGES):
  """A network as a program for a TPU; without one, the network alone.

  Args:
    script: the Script.
    net: a function of the script and the input.
    run: takes a step, a function of the input that returns a loss, to the TPU
      and sets the script's input.
    shape: of one row.
  """
  tf.enable_resource_variables()
  if not script.on_tpu:
    return net(script, script.input((None,) + shape))
  made = []

  def step(x):
    output = net(script, x)
    made.append(output)
    train, loss = _update(script, output)
    with tf.control_dependencies([train]):
      return tf.identity(loss)

  script.train_op = tf.group(run(step))
  script.losses = [tf.zeros([])]  # nothing outside can read those of the loop
  return made[0]


def _infeed(script):
  queue = tpu.InfeedQueue(
    tuple_types=[tf.float32], tuple_shapes=[(BATCH,) + _IMAGES]
  )
  queue.set_number_of_shards(1)
  script.x = queue.generate_dequeue_op()[0]
  return script.x


def loop_infeed(script):
  """training_loop.repeat over what is fed in."""

  def run(step):
    def body(loss):
      del loss
      return step(_infeed(script))

    return tpu.rewrite(lambda: tpu.repeat(7, body, [0.0]))

  return _program(script, _net, run)


def loop_sync(script):
  def run(step):
    def body(loss):
      del loss
      return step(_infeed(script))

    return tpu.rewrite(lambda: tpu.repeat(7, body, [0.0]))

  return _program(script, _sync_net, run)


def loop_recurrent(script):
  def run(step):
    def body(loss):
      del loss
      return step(_infeed(script))

    return tpu.rewrite(lambda: tpu.repeat(3, body, [0.0]))

  return _program(script, _recurrent_net, run)


def loop_outside(script):
  """What the steps see is the same batch, which comes from outside."""

  def run(step):
    x = script.input((None,) + _IMAGES)

    def program(x):
      return tpu.repeat(7, lambda loss: step(x) + loss, [0.0])

    return tpu.rewrite(program, [x])

  return _program(script, _net, run)


def loop_carried(script):
  """The batch goes around in the loop."""

  def run(step):
    x = script.input((None,) + _IMAGES)

    def program(x):
      def body(i, x, loss):
        return [i + 1, x, loss + step(x)]

      return tf.while_loop(
        lambda i, *_: i < 5, body, [0, x, 0.0], maximum_iterations=5
      )

    return tpu.rewrite(program, [x])

  return _program(script, _net, run)


def step_alone(script):
  def run(step):
    return tpu.rewrite(step, [script.input((None,) + _IMAGES)])

  return _program(script, _net, run)


def step_sync(script):
  def run(step):
    return tpu.rewrite(step, [script.input((None,) + _IMAGES)])

  return _program(script, _sync_net, run)


def step_sharded(script):
  """Each of two replicas is fed a half."""

  def run(step):
    def one(x):
      script.x = x  # what all replicas read their part from
      return step(x)

    halves = tf.split(tf.placeholder(tf.float32, (8,) + _IMAGES), 2)
    return tpu.replicate(one, [[half] for half in halves])

  return _program(script, _sync_net, run)


def _recipe(name, model, **fields):
  return recipe("tpu_" + name, model, on_tpu=True, **fields)


RECIPES = [
  _recipe("loop_infeed", loop_infeed, cut_input=True),
  _recipe("loop_sync", loop_sync, cut_input=True),
  _recipe("loop_recurrent", loop_recurrent, cut_input=True, joint=True),
  _recipe("loop_outside", loop_outside),
  _recipe("loop_carried", loop_carried),
  _recipe("step_alone", step_alone),
  _recipe("step_sync", step_sync),
  _recipe("step_sharded", step_sharded, cut_input=True),
]
