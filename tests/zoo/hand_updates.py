# SPDX-License-Identifier: Apache-2.0
"""Batch norm by hand whose averages are updated with assign and its kin."""

import tensorflow as tf
from tensorflow.python.training import moving_averages

from tests.zoo import backbones
from tests.zoo.script import recipe


def _images(script):
  return script.input([None, 6, 6, 3])


def _axes(h):
  return list(range(h.shape.ndims - 1))


def _pair(h, first, second, **options):
  """Two untrained vectors, of zeros and of ones."""
  size = h.shape[-1:]
  return (
    tf.get_variable(
      first,
      size,
      trainable=False,
      initializer=tf.zeros_initializer(),
      **options,
    ),
    tf.get_variable(
      second,
      size,
      trainable=False,
      initializer=tf.ones_initializer(),
      **options,
    ),
  )


def _affine(h):
  size = h.shape[-1:]
  return (
    tf.get_variable("beta", size),
    tf.get_variable("gamma", size, initializer=tf.ones_initializer()),
  )


def _blend(old, new, decay=0.9):
  return tf.assign(old, old * decay + new * (1 - decay))


def assign_literal(script):
  """pop_mean assigned under control dependencies: the blog post's norm."""
  x = _images(script)

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      pop_mean, pop_var = _pair(h, "pop_mean", "pop_var")
      if not script.training:
        return tf.nn.batch_normalization(
          h, pop_mean, pop_var, beta, gamma, 1e-3
        )
      mean, var = tf.nn.moments(h, _axes(h))
      with tf.control_dependencies(
        [_blend(pop_mean, mean), _blend(pop_var, var)]
      ):
        return tf.nn.batch_normalization(h, mean, var, beta, gamma, 1e-3)

  return backbones.conv_net(x, norm)


def assign_cond(script):
  """The same, both outputs computed in the branches of a cond."""
  x = _images(script)
  phase = script.phase()

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      pop_mean, pop_var = _pair(h, "pop_mean", "pop_var")

      def training():
        mean, var = tf.nn.moments(h, _axes(h))
        with tf.control_dependencies(
          [_blend(pop_mean, mean), _blend(pop_var, var)]
        ):
          return tf.nn.batch_normalization(h, mean, var, beta, gamma, 1e-3)

      return tf.cond(
        phase,
        training,
        lambda: tf.nn.batch_normalization(
          h, pop_mean, pop_var, beta, gamma, 1e-3
        ),
      )

  return backbones.residual_net(x, norm)


def assign_sub(script):
  """moving -= (moving - batch) * (1 - decay), into UPDATE_OPS."""
  x = _images(script)

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      stored = _pair(h, "mu", "sigma2")
      used = stored
      if script.training:
        used = tf.nn.moments(h, _axes(h))
        for old, new in zip(stored, used):
          tf.add_to_collection(
            tf.GraphKeys.UPDATE_OPS, tf.assign_sub(old, (old - new) * 0.05)
          )
      return gamma * (h - used[0]) / tf.sqrt(used[1] + 1e-4) + beta

  return backbones.branch_net(x, norm)


def assign_add(script):
  """moving += rate * (batch - moving), in place in a cond."""
  x = script.input([None, 9])
  phase = script.phase("train")

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      stored = _pair(h, "running_mean", "running_var")

      def training():
        batch = tf.nn.moments(h, [0])
        steps = [
          tf.assign_add(old, 0.1 * (new - old))
          for old, new in zip(stored, batch)
        ]
        with tf.control_dependencies(steps):
          return [tf.identity(b) for b in batch]

      mean, var = tf.cond(
        phase, training, lambda: [tf.identity(s) for s in stored]
      )
      return (h - mean) * tf.rsqrt(var + 1e-5) * gamma + beta

  return backbones.dense_net(x, norm)


def just_updated(script):
  """Training normalises with the average it has just updated."""
  x = _images(script)

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      stored = _pair(h, "mean_avg", "var_avg")
      used = stored
      if script.training:
        batch = tf.nn.moments(h, _axes(h))
        used = [_blend(old, new, 0.5) for old, new in zip(stored, batch)]
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)

  return backbones.conv_net(x, norm)


def just_updated_cond(script):
  """The same in a cond: the average read after its own update."""
  x = _images(script)
  phase = script.phase()

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      stored = _pair(h, "mean_avg", "var_avg")

      def training():
        batch = tf.nn.moments(h, _axes(h))
        done = [_blend(old, new, 0.5) for old, new in zip(stored, batch)]
        with tf.control_dependencies(done):
          return [s.read_value() for s in stored]

      used = tf.cond(phase, training, lambda: [s.read_value() for s in stored])
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)

  return backbones.conv_net(x, norm)


def tensorpack(script):
  """fused_batch_norm with averages called mean/EMA and variance/EMA."""
  x = _images(script)

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      mean_ema, var_ema = _pair(h, "mean/EMA", "variance/EMA")
      if not script.training:
        return tf.nn.fused_batch_norm(
          h, gamma, beta, mean_ema, var_ema, 1e-5, is_training=False
        )[0]
      out, mean, var = tf.nn.fused_batch_norm(h, gamma, beta, epsilon=1e-5)
      for old, new, kind in ((mean_ema, mean, "mean"), (var_ema, var, "var")):
        tf.add_to_collection(
          tf.GraphKeys.UPDATE_OPS,
          moving_averages.assign_moving_average(
            old, new, 0.9, zero_debias=False, name=kind + "_ema_op"
          ),
        )
      return tf.identity(out, name="output")

  return backbones.residual_net(x, norm)


def fused_own_cond(script):
  """fused_batch_norm in both branches, moments taken a second time."""
  x = _images(script)
  phase = script.phase()

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      stored = _pair(h, "moving_mean", "moving_var")

      def training():
        # The update does not read the fused op's own statistics.
        mean = tf.reduce_mean(h, _axes(h))
        var = tf.reduce_mean(tf.squared_difference(h, mean), _axes(h))
        with tf.control_dependencies(
          [_blend(stored[0], mean), _blend(stored[1], var)]
        ):
          return tf.nn.fused_batch_norm(h, gamma, beta, epsilon=1e-3)[0]

      return tf.cond(
        phase,
        training,
        lambda: tf.nn.fused_batch_norm(
          h, gamma, beta, stored[0], stored[1], 1e-3, is_training=False
        )[0],
      )

  return backbones.conv_net(x, norm)


def fused_separate_moments(script):
  """Literal training; the average follows moments, not the fused outputs."""
  x = _images(script)

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      stored = _pair(h, "ra_mean", "ra_var")
      if not script.training:
        return tf.nn.fused_batch_norm(
          h, gamma, beta, stored[0], stored[1], 1e-3, is_training=False
        )[0]
      for old, new in zip(stored, tf.nn.moments(h, _axes(h))):
        script.updates.append(_blend(old, new))
      return tf.nn.fused_batch_norm(h, gamma, beta, epsilon=1e-3)[0]

  return backbones.branch_net(x, norm)


def tflearn(script):
  """tflearn's: averages through assign_moving_average in a cond."""
  x = _images(script)
  phase = script.phase()

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      stored = _pair(h, "moving_mean", "moving_variance")

      def update():
        batch = tf.nn.moments(h, _axes(h))
        done = [
          moving_averages.assign_moving_average(
            old, new, 0.9, zero_debias=False
          )
          for old, new in zip(stored, batch)
        ]
        with tf.control_dependencies(done):
          return tf.identity(batch[0]), tf.identity(batch[1])

      mean, var = tf.cond(phase, update, lambda: stored)
      out = tf.nn.batch_normalization(h, mean, var, beta, gamma, 1e-5)
      out.set_shape(h.shape)
      return out

  return backbones.conv_net(x, norm)


def update_conditional(script):
  """Only the update asks the flag; the forward uses the batch until rebuilt.

  The flag alone cannot turn this into inference.
  """
  x = _images(script)
  phase = script.phase("update_statistics")

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      stored = _pair(h, "pop_mean", "pop_var")
      used = stored
      if script.training:
        used = tf.nn.moments(h, _axes(h))
        for old, new in zip(stored, used):
          script.updates.append(
            tf.cond(
              phase,
              lambda o=old, n=new: _blend(o, n),
              lambda o=old: tf.identity(o),
            )
          )
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)

  return backbones.conv_net(x, norm)


def arithmetic(script):
  """phase * batch + (1 - phase) * moving, no control flow at all."""
  x = _images(script)
  phase = tf.cast(script.phase(), tf.float32, name="phase")

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      stored = _pair(h, "moving_mean", "moving_variance")
      batch = tf.nn.moments(h, _axes(h))
      used = []
      for old, new in zip(stored, batch):
        rate = 0.1 * phase
        script.updates.append(tf.assign_sub(old, rate * (old - new)))
        used.append(phase * new + (1.0 - phase) * old)
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)

  return backbones.conv_net(x, norm)


def resource_assign(script):
  """Resource variables with .assign, .assign_sub and .assign_add."""
  x = _images(script)

  def norm(h, name):
    with tf.variable_scope(name, use_resource=True):
      beta, gamma = _affine(h)
      stored = _pair(h, "pop_mean", "pop_var")
      used = stored
      if script.training:
        used = tf.nn.moments(h, _axes(h))
        script.updates += [
          stored[0].assign(stored[0] * 0.9 + used[0] * 0.1).op,
          (stored[1].assign_sub if name == "bn1" else stored[1].assign_add)(
            (stored[1] - used[1]) * (0.1 if name == "bn1" else -0.1)
          ).op,
        ]
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)

  return backbones.conv_net(x, norm)


def where_select(script):
  """tf.where over whole outputs: both are computed, one is taken."""
  x = script.input([None, 9])
  phase = script.phase()

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      stored = _pair(h, "moving_mean", "moving_var")
      batch = tf.nn.moments(h, [0])
      for old, new in zip(stored, batch):
        script.updates.append(_blend(old, tf.where(phase, new, old)))
      by_batch = tf.nn.batch_normalization(
        h, *batch, offset=beta, scale=gamma, variance_epsilon=1e-3
      )
      by_stored = tf.nn.batch_normalization(
        h, *stored, offset=beta, scale=gamma, variance_epsilon=1e-3
      )
      return tf.where(tf.fill(tf.shape(h), phase), by_batch, by_stored)

  return backbones.dense_net(x, norm)


def bessel(script):
  """The average keeps the unbiased variance, n / (n - 1) times the batch's."""
  x = _images(script)

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      stored = _pair(h, "avg_mean", "avg_var")
      used = stored
      if script.training:
        used = tf.nn.moments(h, _axes(h))
        count = tf.cast(tf.reduce_prod(tf.shape(h)[:3]), tf.float32)
        unbiased = used[1] * count / (count - 1.0)
        script.updates += [
          _blend(stored[0], used[0]),
          _blend(stored[1], unbiased),
        ]
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)

  return backbones.conv_net(x, norm)


RECIPES = (
  recipe("hand_assign_literal", assign_literal),
  recipe("hand_assign_cond", assign_cond),
  recipe("hand_assign_sub", assign_sub),
  recipe("hand_assign_add_cond", assign_add),
  recipe("hand_just_updated", just_updated),
  recipe("hand_just_updated_cond", just_updated_cond),
  recipe("hand_tensorpack", tensorpack),
  recipe("hand_fused_cond", fused_own_cond),
  recipe("hand_fused_separate_moments", fused_separate_moments),
  recipe("hand_tflearn", tflearn),
  recipe("hand_update_conditional", update_conditional, undecided=True),
  recipe("hand_arithmetic", arithmetic),
  recipe("hand_resource_assign", resource_assign),
  recipe("hand_where_select", where_select),
  recipe("hand_bessel", bessel),
)
