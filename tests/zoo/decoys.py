# SPDX-License-Identifier: Apache-2.0
"""Names and shapes that mislead: only the flow of data tells who is who."""

import tensorflow as tf

from tests.zoo import backbones
from tests.zoo.script import recipe


def _axes(h):
  return list(range(h.shape.ndims - 1))


def _affine(h):
  size = h.shape[-1:]
  return tf.get_variable("beta", size), tf.get_variable("gamma", size)


def _hold(name, size, start=1.0):
  return tf.get_variable(
    name, size, trainable=False, initializer=tf.constant_initializer(start)
  )


def _tracking(script, h, mean, variance, epsilon=1e-3):
  """A literal norm over two given variables."""
  beta, gamma = _affine(h)
  used = mean, variance
  if script.training:
    used = tf.nn.moments(h, _axes(h))
    script.updates += [
      tf.assign_sub(old, 0.1 * (old - new))
      for old, new in zip((mean, variance), used)
    ]
  return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, epsilon)


def crossed_names(script):
  """The variable called variance holds the mean, and the other way round."""
  x = script.input([None, 6, 6, 3])

  def norm(h, name):
    with tf.variable_scope(name):
      mean = _hold("moving_variance", h.shape[-1:], 0.0)
      variance = _hold("moving_mean", h.shape[-1:])
      return _tracking(script, h, mean, variance)

  return backbones.conv_net(x, norm)


def moving_mean_of_nobody(script):
  """Each norm's scope has a moving_mean of the right shape that is unused."""
  x = script.input([None, 6, 6, 3])

  def norm(h, name):
    with tf.variable_scope(name):
      size = h.shape[-1:]
      _hold("moving_mean", size, 0.0)
      _hold("moving_variance", size)
      return _tracking(script, h, _hold("s1", size, 0.0), _hold("s2", size))

  return backbones.conv_net(x, norm)


def decoy_in_use(script):
  """A variable called moving_mean that the forward adds on purpose."""
  x = script.input([None, 6, 6, 3])

  def norm(h, name):
    with tf.variable_scope(name):
      h += tf.get_variable("moving_mean", h.shape[-1:])
      h = tf.layers.batch_normalization(h, training=script.training, name="bn")
      return h * tf.get_variable("moving_variance", h.shape[-1:])

  return backbones.branch_net(x, norm)


def swapped_scopes(script):
  """The statistics of each norm live in the other norm's scope."""
  x = script.input([None, 6, 6, 3])
  other = {"bn1": "bn2", "bn2": "bn1"}

  def norm(h, name):
    with tf.variable_scope(other[name]):
      mean = _hold("moving_mean", h.shape[-1:], 0.0)
      variance = _hold("moving_variance", h.shape[-1:])
    with tf.variable_scope(name):
      return _tracking(script, h, mean, variance)

  h = tf.layers.conv2d(x, 4, 3, name="conv1")
  h = tf.nn.relu(norm(h, "bn1"))
  h = tf.layers.conv2d(h, 4, 3, name="conv2")
  h = tf.nn.relu(norm(h, "bn2"))
  return tf.layers.dense(tf.reduce_mean(h, [1, 2]), 5, name="logits")


def meaningless_names(script):
  """Variable, Variable_1, ...: names say nothing."""
  x = script.input([None, 9])

  def norm(h, name):
    del name
    size = [int(h.shape[-1])]
    beta, mean = (
      tf.Variable(tf.zeros(size)),
      tf.Variable(tf.zeros(size), trainable=False),
    )
    variance, gamma = (
      tf.Variable(tf.ones(size), trainable=False),
      tf.Variable(tf.ones(size)),
    )
    used = mean, variance
    if script.training:
      used = tf.nn.moments(h, [0])
      script.updates += [
        tf.assign(old, 0.9 * old + 0.1 * new)
        for old, new in zip((mean, variance), used)
      ]
    return gamma * (h - used[0]) / tf.sqrt(used[1] + 1e-3) + beta

  h = tf.nn.relu(norm(tf.layers.dense(x, 5, use_bias=False), 1))
  h = tf.nn.relu(norm(tf.layers.dense(h, 5, use_bias=False), 2))
  return tf.layers.dense(h, 5)


def two_norms_one_pair(script):
  """Two places share one pair of averages; updates come from the first."""
  x = script.input([None, 6, 6, 3])
  h = tf.layers.conv2d(x, 4, 3, padding="same", name="conv1")
  mean, variance = _hold("shared_mean", [4], 0.0), _hold("shared_var", [4])

  def norm(h, name, track):
    with tf.variable_scope(name):
      if track or not script.training:
        return _tracking(script, h, mean, variance)
      beta, gamma = _affine(h)
      used = tf.nn.moments(h, _axes(h))
      script.updates += [
        tf.assign_sub(old, 0.01 * (old - new))
        for old, new in zip((mean, variance), used)
      ]
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)

  h = tf.nn.relu(norm(h, "a", True))
  h = tf.layers.conv2d(h, 4, 3, padding="same", name="conv2")
  h = tf.nn.relu(norm(h, "b", False))
  return tf.layers.dense(tf.reduce_mean(h, [1, 2]), 5, name="logits")


def two_pairs_one_norm(script):
  """A slow and a fast average of one norm; inference reads the slow one.

  Which of the two is meant is written nowhere but in the phase's cond.
  """
  x = script.input([None, 6, 6, 3])
  phase = script.phase()

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      size = h.shape[-1:]
      slow = [_hold("slow_mean", size, 0.0), _hold("slow_var", size)]
      fast = [_hold("fast_mean", size, 0.0), _hold("fast_var", size)]
      batch = tf.nn.moments(h, _axes(h))
      for pair, rate in ((fast, 0.5), (slow, 0.01)):
        script.updates += [
          tf.assign_sub(old, rate * (old - new))
          for old, new in zip(pair, batch)
        ]
      mean, variance = tf.cond(
        phase,
        lambda: [tf.identity(b) for b in batch],
        lambda: [tf.identity(s) for s in slow],
      )
      return tf.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-3)

  return backbones.conv_net(x, norm)


def same_shapes(script):
  """Five norms of one width, built in another order than they are applied."""
  x = script.input([None, 9])
  pairs = {}
  for name in ("e", "b", "d", "a", "c"):
    pairs[name] = (_hold("m_" + name, [5], 0.0), _hold("v_" + name, [5]))
  h = x
  for name in "abcde":
    with tf.variable_scope(name):
      h = tf.layers.dense(h, 5, use_bias=False, name="fc")
      h = tf.nn.leaky_relu(_tracking(script, h, *pairs[name]), 0.3)
  return tf.layers.dense(h, 4, name="logits")


def moments_of_another(script):
  """An average of activations is kept for a summary, after the norm."""
  x = script.input([None, 6, 6, 3])

  def norm(h, name):
    with tf.variable_scope(name):
      h = tf.layers.batch_normalization(h, training=script.training, name="bn")
      watched = _hold("moving_mean", h.shape[-1:], 0.0)
      if script.training:
        average = tf.reduce_mean(h, _axes(h))
        script.updates.append(tf.assign_sub(watched, 0.1 * (watched - average)))
        tf.summary.histogram("activation", watched)
      return h

  return backbones.conv_net(x, norm)


def global_pool_looks_like_mean(script):
  """reduce_mean over the picture is no batch statistic; nor is a loss mean."""
  x = script.input([None, 6, 6, 3])
  h = tf.layers.conv2d(x, 4, 3, name="conv")
  h = tf.nn.relu(
    tf.layers.batch_normalization(h, training=script.training, name="bn1")
  )
  context = tf.reduce_mean(h, [1, 2], keepdims=True)
  spread = tf.reduce_mean(
    tf.squared_difference(h, context), [1, 2], keepdims=True
  )
  h = tf.concat([h, h * tf.sigmoid(context), h * 0.0 + spread], 3)
  h = tf.layers.conv2d(h, 4, 3, name="conv2")
  h = tf.nn.relu(
    tf.layers.batch_normalization(h, training=script.training, name="bn2")
  )
  return tf.layers.dense(tf.reduce_max(h, [1, 2]), 5, name="logits")


RECIPES = (
  recipe(
    "decoy_crossed_names",
    crossed_names,
    roles={"moving_mean": "variance", "moving_variance": "mean"},
  ),
  recipe(
    "decoy_unused_moving_mean",
    moving_mean_of_nobody,
    roles={"/s1": "mean", "/s2": "variance"},
  ),
  recipe("decoy_in_use", decoy_in_use),
  recipe("decoy_swapped_scopes", swapped_scopes),
  recipe("decoy_meaningless_names", meaningless_names),
  recipe("decoy_two_norms_one_pair", two_norms_one_pair),
  recipe("decoy_two_pairs_one_norm", two_pairs_one_norm),
  recipe(
    "decoy_same_shapes", same_shapes, roles={"m_": "mean", "v_": "variance"}
  ),
  recipe("decoy_moments_of_another", moments_of_another),
  recipe("decoy_global_pool", global_pool_looks_like_mean),
)
