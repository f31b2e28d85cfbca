# SPDX-License-Identifier: Apache-2.0
"""State that the forward pass updates and reads, besides moving averages."""

import tensorflow as tf

from tests.zoo.script import recipe


def _norm(h, name, training):
  return tf.layers.batch_normalization(h, training=training, name=name)


def _images(script):
  return script.input([None, 6, 6, 3])


def _power_iteration(kernel):
  """The matrix of a kernel, its u, and one step of power iteration."""
  matrix = tf.reshape(kernel, [-1, int(kernel.shape[-1])])
  u = tf.get_variable(
    "u",
    [1, int(kernel.shape[-1])],
    trainable=False,
    initializer=tf.random_normal_initializer(),
  )
  v = tf.nn.l2_normalize(tf.matmul(u, matrix, transpose_b=True))
  new_u = tf.nn.l2_normalize(tf.matmul(v, matrix))
  return matrix, u, tf.stop_gradient(v), tf.stop_gradient(new_u)


def spectral_by_control(script):
  """Spectral norm; u.assign hangs on the kernel by a control dependency.

  The answer is the same with and without the update: sigma is of the new u,
  which the graph computes from the stored one.
  """
  x = _images(script)

  def conv(h, channels, name):
    with tf.variable_scope(name):
      kernel = tf.get_variable("kernel", [3, 3, h.shape[-1], channels])
      matrix, u, v, new_u = _power_iteration(kernel)
      sigma = tf.reduce_sum(
        tf.matmul(tf.matmul(v, matrix), new_u, transpose_b=True)
      )
      with tf.control_dependencies(
        [u.assign(new_u)] if script.training else []
      ):
        kernel = tf.identity(kernel / sigma, name="normalized")
      return tf.nn.conv2d(h, kernel, 1, "SAME")

  h = tf.nn.relu(_norm(conv(x, 4, "c1"), "bn1", script.training))
  h = tf.nn.relu(_norm(conv(h, 4, "c2"), "bn2", script.training))
  return tf.layers.dense(tf.reduce_mean(h, [1, 2]), 5, name="logits")


def spectral_by_value(script):
  """sigma is of what the assign returns."""
  x = _images(script)
  phase = script.phase()

  def conv(h, channels, name):
    with tf.variable_scope(name):
      kernel = tf.get_variable("kernel", [3, 3, h.shape[-1], channels])
      matrix, u, v, new_u = _power_iteration(kernel)
      fresh = tf.assign(u, new_u) if script.training else new_u
      sigma = tf.squeeze(
        tf.matmul(tf.matmul(v, matrix), fresh, transpose_b=True)
      )
      return tf.nn.conv2d(h, kernel / sigma, 1, "SAME")

  h = tf.nn.relu(_norm(conv(x, 4, "c1"), "bn1", phase))
  h = tf.nn.relu(_norm(conv(h, 4, "c2"), "bn2", phase))
  return tf.layers.dense(tf.reduce_mean(h, [1, 2]), 5, name="logits")


def spectral_cond(script):
  """The flag decides whether u moves; both branches answer with a u."""
  x = _images(script)
  phase = script.phase()

  def conv(h, channels, name):
    with tf.variable_scope(name):
      kernel = tf.get_variable("kernel", [3, 3, h.shape[-1], channels])
      matrix, u, _, _ = _power_iteration(kernel)

      def moved():
        v = tf.nn.l2_normalize(tf.matmul(u, matrix, transpose_b=True))
        return tf.assign(u, tf.nn.l2_normalize(tf.matmul(v, matrix)))

      now = tf.stop_gradient(tf.cond(phase, moved, lambda: tf.identity(u)))
      v = tf.nn.l2_normalize(tf.matmul(now, matrix, transpose_b=True))
      sigma = tf.reduce_sum(tf.matmul(v, matrix) * now)
      return tf.nn.conv2d(h, kernel / sigma, 1, "SAME")

  h = tf.nn.relu(_norm(conv(x, 4, "c1"), "bn1", phase))
  h = tf.nn.relu(_norm(conv(h, 4, "c2"), "bn2", phase))
  return tf.layers.dense(tf.reduce_mean(h, [1, 2]), 5, name="logits")


def weight_norm_initialised(script):
  """Weight norm with data dependent init, which a variable has decided.

  The checkpoint says `initialized` = True; the branch that would set scale
  and shift from the batch is never taken again.
  """
  x = script.input([None, 9])
  initialized = tf.get_variable(
    "initialized",
    [],
    tf.bool,
    trainable=False,
    initializer=tf.constant_initializer(True),
  )

  def dense(h, units, name):
    with tf.variable_scope(name):
      v = tf.get_variable("v", [h.shape[-1], units])
      g = tf.get_variable("g", [units], initializer=tf.ones_initializer())
      b = tf.get_variable("b", [units], initializer=tf.zeros_initializer())
      t = tf.matmul(h, tf.nn.l2_normalize(v, 0))

      def first():
        mean, variance = tf.nn.moments(t, [0])
        scale = tf.rsqrt(variance + 1e-8)
        with tf.control_dependencies(
          [tf.assign(g, scale), tf.assign(b, -mean * scale)]
        ):
          return tf.identity(t * scale - mean * scale)

      return tf.cond(initialized, lambda: t * g + b, first)

  h = tf.nn.relu(_norm(dense(x, 6, "fc1"), "bn1", script.training))
  h = tf.nn.relu(dense(h, 6, "fc2"))
  return dense(h, 4, "fc3")


def counter_in_forward(script):
  """A step counter that each training answer advances and that scales it.

  Inference reads the counter as the checkpoint has it.
  """
  x = script.input([None, 9])
  count = tf.get_variable("calls", [], trainable=False)
  phase = script.phase()
  used = tf.cond(
    phase, lambda: tf.assign_add(count, 1.0), lambda: tf.identity(count)
  )
  h = tf.layers.dense(x, 6, name="fc1")
  h = tf.nn.relu(_norm(h, "bn1", phase))
  h = h * (1.0 + tf.minimum(used, 100.0) / 100.0)
  return tf.layers.dense(h, 4, name="logits")


def memory_bank(script):
  """Embeddings are scattered into a bank in training and read in both."""
  x = script.input([None, 9])
  bank = tf.get_variable("bank", [6, 5], trainable=False)
  h = tf.layers.dense(x, 5, name="fc1")
  h = tf.nn.tanh(_norm(h, "bn1", script.training))
  if script.training:
    slots = tf.range(tf.shape(h)[0])
    script.updates.append(
      tf.scatter_update(bank, slots, 0.5 * tf.gather(bank, slots) + 0.5 * h)
    )
  return tf.matmul(h, bank, transpose_b=True, name="similarity")


RECIPES = (
  recipe("state_spectral_control", spectral_by_control),
  recipe("state_spectral_value", spectral_by_value),
  recipe("state_spectral_cond", spectral_cond),
  recipe(
    "state_weight_norm", weight_norm_initialised, values={"initialized": None}
  ),
  recipe("state_counter", counter_in_forward, values={"calls": 37.0}),
  recipe("state_memory_bank", memory_bank),
)
