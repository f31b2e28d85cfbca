# SPDX-License-Identifier: Apache-2.0
"""Batch norm by hand on tf.train.ExponentialMovingAverage."""

import tensorflow as tf
from tensorflow.python.training import moving_averages

from tests.zoo import backbones
from tests.zoo.script import recipe


def _images(script):
  return script.input([None, 6, 6, 3])


def _axes(h):
  return list(range(h.shape.ndims - 1))


def _affine(h):
  size = h.shape[-1:]
  beta = tf.get_variable("beta", size, initializer=tf.zeros_initializer())
  gamma = tf.get_variable("gamma", size, initializer=tf.ones_initializer())
  return beta, gamma


def cond_pointnet(script):
  """apply() in one cond, average() in the next: as PointNet has it."""
  x = _images(script)
  phase = script.phase("phase_train")

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      mean, variance = tf.nn.moments(h, _axes(h), name="moments")
      ema = tf.train.ExponentialMovingAverage(decay=0.9)
      update = tf.cond(
        phase, lambda: ema.apply([mean, variance]), lambda: tf.no_op()
      )

      def training():
        with tf.control_dependencies([update]):
          return tf.identity(mean), tf.identity(variance)

      mean, variance = tf.cond(
        phase, training, lambda: (ema.average(mean), ema.average(variance))
      )
      return tf.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-3)

  return backbones.conv_net(x, norm)


def cond_apply_inside(script):
  """apply() and its control dependency inside the training branch."""
  x = _images(script)
  phase = script.phase("phase_train")

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      mean, variance = tf.nn.moments(h, _axes(h))
      ema = tf.train.ExponentialMovingAverage(decay=0.95)

      def training():
        with tf.control_dependencies([ema.apply([mean, variance])]):
          return tf.identity(mean), tf.identity(variance)

      used = tf.cond(
        phase, training, lambda: (ema.average(mean), ema.average(variance))
      )
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)

  return backbones.residual_net(x, norm)


def cond_read_before(script):
  """apply() in front of the cond, which only hangs on it in one branch.

  A trap of TF1: the update is outside the cond, so it runs in every phase,
  and whether average() sees it is a race.  The rebuild does not have it.
  """
  x = script.input([None, 9])
  phase = script.phase("train")

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      mean, variance = tf.nn.moments(h, [0])
      ema = tf.train.ExponentialMovingAverage(decay=0.9, name="avg")
      apply_op = ema.apply([mean, variance])
      stored = ema.average(mean), ema.average(variance)

      def training():
        with tf.control_dependencies([apply_op]):
          return tf.identity(mean), tf.identity(variance)

      used = tf.cond(phase, training, lambda: stored)
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-5)

  return backbones.dense_net(x, norm)


def literal(script):
  """Python decides; both scripts call apply() so that averages have names."""
  x = _images(script)

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      mean, variance = tf.nn.moments(h, _axes(h))
      ema = tf.train.ExponentialMovingAverage(decay=0.99)
      update = ema.apply([mean, variance])
      if script.training:
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
      else:
        mean, variance = ema.average(mean), ema.average(variance)
      return tf.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-3)

  return backbones.branch_net(x, norm)


def literal_control(script):
  """The update hangs on the output by a control dependency."""
  x = _images(script)

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      mean, variance = tf.nn.moments(h, _axes(h), keep_dims=True)
      ema = tf.train.ExponentialMovingAverage(decay=0.9)
      update = ema.apply([mean, variance])
      used = mean, variance
      if not script.training:
        used = ema.average(mean), ema.average(variance)
      out = tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)
      with tf.control_dependencies([update] if script.training else []):
        return tf.identity(out)

  return backbones.conv_net(x, norm)


def global_step_decay(script):
  """num_updates makes the decay depend on the step."""
  x = _images(script)
  phase = script.phase()
  step = tf.train.get_or_create_global_step()

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      mean, variance = tf.nn.moments(h, _axes(h))
      ema = tf.train.ExponentialMovingAverage(0.998, num_updates=step)
      tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, ema.apply([mean, variance]))
      mean = tf.cond(phase, lambda: mean, lambda m=mean: ema.average(m))
      variance = tf.cond(
        phase, lambda: variance, lambda v=variance: ema.average(v)
      )
      return tf.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-5)

  return backbones.conv_net(x, norm)


def zero_debias(script):
  """ExponentialMovingAverage(zero_debias=True) over tensors."""
  x = script.input([None, 9])
  phase = script.phase()

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      mean, variance = tf.nn.moments(h, [0])
      ema = tf.train.ExponentialMovingAverage(0.9, zero_debias=True)

      def training():
        with tf.control_dependencies([ema.apply([mean, variance])]):
          return tf.identity(mean), tf.identity(variance)

      used = tf.cond(
        phase, training, lambda: (ema.average(mean), ema.average(variance))
      )
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-5)

  return backbones.dense_net(x, norm)


def assign_moving_average(script):
  """moving_averages.assign_moving_average on own variables, zero debiased."""
  return _assigned(script, zero_debias=True)


def assign_moving_average_plain(script):
  return _assigned(script, zero_debias=False)


def _assigned(script, zero_debias):
  x = _images(script)
  phase = script.phase()

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      size = h.shape[-1:]
      avg_mean = tf.get_variable("avg_mean", size, trainable=False)
      avg_var = tf.get_variable(
        "avg_var", size, trainable=False, initializer=tf.ones_initializer()
      )
      mean, variance = tf.nn.moments(h, _axes(h))
      assign = moving_averages.assign_moving_average

      def training():
        updates = [
          assign(avg_mean, mean, 0.9, zero_debias=zero_debias),
          assign(avg_var, variance, 0.9, zero_debias=False),
        ]
        with tf.control_dependencies(updates):
          return tf.identity(mean), tf.identity(variance)

      used = tf.cond(
        phase, training, lambda: (avg_mean.read_value(), avg_var.read_value())
      )
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)

  return backbones.conv_net(x, norm)


def shared_object(script):
  """One ExponentialMovingAverage object for the norms of a whole network."""
  x = _images(script)
  ema = tf.train.ExponentialMovingAverage(0.95)

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      mean, variance = tf.nn.moments(h, _axes(h), name="stats")
      script.updates.append(ema.apply([mean, variance]))
      if not script.training:
        mean, variance = ema.average(mean), ema.average(variance)
      inverse = tf.rsqrt(variance + 1e-3) * gamma
      return h * inverse + (beta - mean * inverse)

  return backbones.residual_net(x, norm)


def resource_cond(script):
  """Resource averages behind a cond."""
  tf.enable_resource_variables()
  return cond_read_before(script)


def rank_two_scalar_axes(script):
  """PointNet's dense norm: moments over axis 0, decay from the step."""
  x = script.input([None, 9])
  phase = script.phase("is_training_pl")
  step = tf.train.get_or_create_global_step()
  decay = tf.minimum(
    0.99, 1 - tf.train.exponential_decay(0.5, step, 10, 0.5, staircase=True)
  )

  def norm(h, name):
    with tf.variable_scope(name + "/bn"):
      beta = tf.Variable(tf.constant(0.0, shape=[h.shape[-1]]), name="beta")
      gamma = tf.Variable(tf.constant(1.0, shape=[h.shape[-1]]), name="gamma")
      mean, variance = tf.nn.moments(h, [0], name="moments")
      ema = tf.train.ExponentialMovingAverage(decay=decay)
      with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
        update = tf.cond(
          phase, lambda: ema.apply([mean, variance]), lambda: tf.no_op()
        )

      def training():
        with tf.control_dependencies([update]):
          return tf.identity(mean), tf.identity(variance)

      used = tf.cond(
        phase, training, lambda: (ema.average(mean), ema.average(variance))
      )
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)

  return backbones.dense_net(x, norm)


RECIPES = (
  recipe("ema_cond_pointnet", cond_pointnet),
  recipe("ema_cond_apply_inside", cond_apply_inside),
  recipe("ema_cond_read_before", cond_read_before, undecided=True),
  recipe("ema_literal", literal),
  recipe("ema_literal_control", literal_control),
  recipe("ema_global_step_decay", global_step_decay),
  recipe("ema_zero_debias", zero_debias),
  recipe("ema_assign_zero_debias", assign_moving_average),
  recipe("ema_assign", assign_moving_average_plain),
  recipe("ema_shared_object", shared_object),
  recipe("ema_resource", resource_cond, undecided=True),
  recipe("ema_dense_pointnet", rank_two_scalar_axes),
)
