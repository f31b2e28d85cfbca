# SPDX-License-Identifier: Apache-2.0
"""Norms inside tf.while_loop and inside recurrent cells."""

import tensorflow as tf

from tests.zoo.script import recipe


def _norm(h, name, training, **options):
  return tf.layers.batch_normalization(
    h, training=training, name=name, **options
  )


def _stored(h):
  size = h.shape[-1:]
  return (
    tf.get_variable("moving_mean", size, trainable=False),
    tf.get_variable("moving_variance", size, trainable=False),
    tf.get_variable("beta", size),
    tf.get_variable("gamma", size),
  )


def while_literal(script):
  """A loop body that applies one dense layer and one norm repeatedly."""
  return _while(script, script.training)


def while_phase(script):
  return _while(script, script.phase())


def while_v2_literal(script):
  tf.enable_control_flow_v2()
  tf.enable_resource_variables()
  return _while(script, script.training)


def while_v2_phase(script):
  tf.enable_control_flow_v2()
  tf.enable_resource_variables()
  return _while(script, script.phase())


def _while(script, training):
  x = script.input([None, 6]) if script.x is None else script.x
  h = tf.layers.dense(x, 5, name="fc")
  h = tf.nn.relu(_norm(h, "bn_in", training))

  def body(i, h):
    with tf.variable_scope("loop", reuse=tf.AUTO_REUSE):
      g = tf.layers.dense(h, 5, name="fc", use_bias=False)
      return i + 1, script.hang(h + tf.tanh(_norm(g, "bn", training)))

  _, h = tf.while_loop(lambda i, h: i < 3, body, [0, h])
  h.set_shape([None, 5])
  return tf.layers.dense(h, 4, name="logits")


def norm_around_loop(script):
  """The loop itself is clean; norms stand before and after it."""
  x = script.input([None, 6])
  phase = script.phase()
  h = tf.nn.relu(_norm(tf.layers.dense(x, 5, name="fc1"), "bn1", phase))
  w = tf.get_variable("w", [5, 5])
  _, h = tf.while_loop(
    lambda i, h: i < 4,
    lambda i, h: (i + 1, tf.tanh(tf.matmul(h, w)) + h),
    [0, h],
  )
  h = tf.nn.relu(_norm(tf.layers.dense(h, 5, name="fc2"), "bn2", phase))
  return tf.layers.dense(h, 4, name="logits")


class NormedCell(tf.nn.rnn_cell.RNNCell):
  """A tanh cell with hand written batch norm on both products."""

  def __init__(self, units, training, updates):
    super(NormedCell, self).__init__()
    self._units, self._training, self._updates = units, training, updates

  @property
  def state_size(self):
    return self._units

  @property
  def output_size(self):
    return self._units

  def __call__(self, inputs, state, scope=None):
    with tf.variable_scope("cell", reuse=tf.AUTO_REUSE):
      total = tf.get_variable("bias", [self._units])
      for name, value in (("x", inputs), ("h", state)):
        kernel = tf.get_variable("w_" + name, [value.shape[1], self._units])
        total += self._norm(tf.matmul(value, kernel), "norm_" + name)
      state = tf.tanh(total)
    return state, state

  def _norm(self, h, name):
    with tf.variable_scope(name):
      mean, variance, beta, gamma = _stored(h)

      def training():
        batch = tf.nn.moments(h, [0])
        done = [
          tf.assign(mean, 0.9 * mean + 0.1 * batch[0]),
          tf.assign(variance, 0.9 * variance + 0.1 * batch[1]),
        ]
        with tf.control_dependencies(done):
          return tf.identity(batch[0]), tf.identity(batch[1])

      if isinstance(self._training, bool):
        used = training() if self._training else (mean, variance)
      else:
        used = tf.cond(
          self._training,
          training,
          lambda: (tf.identity(mean), tf.identity(variance)),
        )
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)


def rnn_cell_literal(script):
  """A batch normalised cell in dynamic_rnn, updates inside the loop."""
  return _rnn(script, script.training)


def rnn_cell_phase(script):
  script.input([None, 4, 3], "frames")
  return _rnn(script, script.phase())


def _rnn(script, training):
  x = script.input([None, 4, 3], "frames") if script.x is None else script.x
  outputs, _ = tf.nn.dynamic_rnn(
    NormedCell(5, training, script.updates), x, dtype=tf.float32
  )
  return tf.layers.dense(outputs[:, -1], 4, name="logits")


def rnn_then_norm(script):
  """LSTM over time, its outputs normed outside the loop."""
  x = script.input([None, 5, 3], "frames")
  phase = script.phase()
  h = tf.nn.relu(
    _norm(tf.layers.conv1d(x, 4, 3, padding="same", name="c"), "bn_in", phase)
  )
  outputs, _ = tf.nn.dynamic_rnn(
    tf.nn.rnn_cell.LSTMCell(4), h, dtype=tf.float32
  )
  h = tf.tanh(_norm(outputs, "bn_out", phase))
  return tf.layers.dense(tf.reduce_mean(h, 1), 4, name="logits")


def unrolled_steps(script):
  """static_rnn: one cell norm, its ops once for each time step."""
  x = script.input([None, 3, 4], "frames")
  cell = NormedCell(4, script.training, script.updates)
  outputs, _ = tf.nn.static_rnn(cell, tf.unstack(x, axis=1), dtype=tf.float32)
  return tf.layers.dense(outputs[-1], 4, name="logits")


def map_fn_norm(script):
  """tf.map_fn over time around a literal norm on frames.

  Nothing runs the updates: nobody hung them into the loop.
  """
  x = script.input([None, 3, 4, 4, 2], "clip")

  def frame(image):
    with tf.variable_scope("frame", reuse=tf.AUTO_REUSE):
      h = tf.layers.conv2d(image, 3, 3, name="conv")
      h = tf.nn.relu(_norm(h, "bn", script.training, fused=False))
      return tf.reduce_mean(h, [1, 2])

  h = tf.map_fn(frame, tf.transpose(x, [1, 0, 2, 3, 4]))
  h = tf.reduce_max(h, 0)
  h.set_shape([None, 3])
  return tf.layers.dense(h, 4, name="logits")


RECIPES = (
  recipe("loop_while_literal", while_literal),
  recipe("loop_while_phase", while_phase),
  recipe("loop_while_v2_literal", while_v2_literal),
  recipe("loop_while_v2_phase", while_v2_phase),
  recipe("loop_norm_around", norm_around_loop),
  recipe("loop_rnn_cell_literal", rnn_cell_literal),
  recipe("loop_rnn_cell_phase", rnn_cell_phase),
  recipe("loop_rnn_then_norm", rnn_then_norm),
  recipe("loop_unrolled_steps", unrolled_steps),
  recipe("loop_map_fn", map_fn_norm),
)
