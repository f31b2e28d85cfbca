# SPDX-License-Identifier: Apache-2.0
"""Averages of something that is computed of a mean or a variance.

Inference gets the statistics back from what is stored.
"""

import tensorflow as tf
from tensorflow.python.training import moving_averages

from tests.zoo import backbones
from tests.zoo.script import recipe

EPSILON = 1e-3


def _vector(name, size, value, **options):
  return tf.get_variable(
    name,
    [size],
    trainable=False,
    initializer=tf.constant_initializer(value),
    **options,
  )


def _norm(h, mean, variance):
  size = h.shape[-1:]
  beta = tf.get_variable("beta", size)
  gamma = tf.get_variable("gamma", size, initializer=tf.ones_initializer())
  return tf.nn.batch_normalization(h, mean, variance, beta, gamma, EPSILON)


def _blend(old, new):
  return tf.assign_sub(old, (old - new) * 0.1)


def tracking(tracked, restored, update=_blend, resource=False, images=False):
  """A model whose averages are of what `tracked` makes of the moments.

  Args:
    tracked: function of h, its mean and variance; gives two vectors.
    restored: function of the two averages; gives mean and variance.
    update: function of a variable and a vector, gives the update.
    resource: whether the averages are resource variables.
    images: whether the input is images.
  """

  def model(script):
    x = script.input([None, 6, 6, 3] if images else [None, 5])

    def norm(h, name):
      with tf.variable_scope(name):
        size, axes = int(h.shape[-1]), list(range(h.shape.ndims - 1))
        stored = [
          _vector(n, size, v, use_resource=resource)
          for n, v in (("avg_a", 0.0), ("avg_b", 1.0))
        ]
        if not script.training:
          return _norm(h, *restored(*stored))
        mean, variance = tf.nn.moments(h, axes)
        for old, new in zip(stored, tracked(h, mean, variance)):
          script.updates.append(update(old, new))
        return _norm(h, mean, variance)

    net = backbones.conv_net if images else backbones.dense_net
    return net(x, norm)

  return model


def _std(h):
  return tf.math.reduce_std(h, list(range(h.shape.ndims - 1)))


def _squares(h):
  return tf.reduce_mean(tf.square(h), list(range(h.shape.ndims - 1)))


def _debiased(old, new):
  return moving_averages.assign_moving_average(old, new, 0.9)


def _halved(old, new):
  return tf.assign(old, 0.5 * old + 0.5 * new)


def _third(old, new):
  return tf.assign(old, old / 3.0 + new * (2.0 / 3.0))


def _counted(old, new):
  """The average of all batches so far."""
  count = tf.get_variable(
    "count_" + old.op.name.split("/")[-1],
    [],
    trainable=False,
    initializer=tf.zeros_initializer(),
  )
  with tf.control_dependencies([tf.assign_add(count, 1.0)]):
    seen = count.read_value()
  return tf.assign_add(old, (new - old) / seen)


def deviation_used(script):
  """The norm divides by the deviation, and that is averaged."""
  x = script.input([None, 5])

  def norm(h, name):
    with tf.variable_scope(name):
      size = int(h.shape[-1])
      stored = _vector("m", size, 0.0), _vector("s", size, 1.0)
      used = stored
      if script.training:
        mean, variance = tf.nn.moments(h, [0])
        used = mean, tf.sqrt(variance + EPSILON)
        script.updates += [_blend(o, n) for o, n in zip(stored, used)]
      beta = tf.get_variable("beta", [size])
      return (h - used[0]) / used[1] + beta

  return backbones.dense_net(x, norm)


def second_moment_used(script):
  """The forward pass has E[x^2], the averages are of mean and variance."""
  x = script.input([None, 5])

  def norm(h, name):
    with tf.variable_scope(name):
      size = int(h.shape[-1])
      stored = _vector("m", size, 0.0), _vector("v", size, 1.0)
      used = stored
      if script.training:
        mean = tf.reduce_mean(h, 0)
        squares = tf.reduce_mean(h * h, 0)
        used = mean, squares - mean * mean
        script.updates += [
          _blend(o, n) for o, n in zip(stored, tf.nn.moments(h, [0]))
        ]
      return _norm(h, *used)

  return backbones.dense_net(x, norm)


def fused_tracking(tracked, restored):
  """fused_batch_norm, whose outputs are averaged after some arithmetic."""

  def model(script):
    x = script.input([None, 6, 6, 3])

    def norm(h, name):
      with tf.variable_scope(name):
        size = int(h.shape[-1])
        stored = _vector("avg_a", size, 0.0), _vector("avg_b", size, 1.0)
        beta = tf.get_variable("beta", [size])
        gamma = tf.get_variable(
          "gamma", [size], initializer=tf.ones_initializer()
        )
        if not script.training:
          return tf.nn.fused_batch_norm(
            h, gamma, beta, *restored(*stored), EPSILON, is_training=False
          )[0]
        y, mean, variance = tf.nn.fused_batch_norm(
          h, gamma, beta, epsilon=EPSILON
        )
        for old, new in zip(stored, tracked(h, mean, variance)):
          script.updates.append(_blend(old, new))
        return y

    return backbones.conv_net(x, norm)

  return model


_VARIANCE = {"roles": {"avg_a": "mean", "avg_b": "variance"}}
_FREE = {"roles": {"avg_a": "mean", "avg_b": "mean"}}
# E[x^2] is above the square of any mean that is drawn.
_SQUARES = {"values": {"avg_b": 5.0}, "roles": {"avg_a": "mean"}}

_NEGATIVE = tracking(lambda h, m, v: (-m, v), lambda a, b: (-a, b))
_LOGARITHM = (
  lambda h, m, v: (m, tf.log(v + 0.01)),
  lambda a, b: (a, tf.exp(b) - 0.01),
)
_PRECISION = (
  lambda h, m, v: (m, 1.0 / (v + EPSILON)),
  lambda a, b: (a, 1.0 / b - EPSILON),
)


def _same(h, m, v):
  return m, v


def _as_stored(a, b):
  return a, b


RECIPES = (
  recipe("inverse_negative_mean", _NEGATIVE, **_VARIANCE),
  recipe("inverse_log_variance", tracking(*_LOGARITHM), **_FREE),
  recipe(
    "inverse_log_variance_debiased",
    tracking(*_LOGARITHM, update=_debiased),
    **_FREE,
  ),
  recipe(
    "inverse_log_images_resource",
    tracking(*_LOGARITHM, resource=True, images=True),
    **_FREE,
  ),
  recipe(
    "inverse_negative_log",
    tracking(lambda h, m, v: (m, -tf.log(v)), lambda a, b: (a, tf.exp(-b))),
    **_FREE,
  ),
  recipe(
    "inverse_log1p",
    tracking(lambda h, m, v: (m, tf.log1p(v)), lambda a, b: (a, tf.expm1(b))),
    **_VARIANCE,
  ),
  recipe(
    "inverse_deviation",
    tracking(
      lambda h, m, v: (m, tf.sqrt(v + EPSILON)),
      lambda a, b: (a, b * b - EPSILON),
    ),
    **_VARIANCE,
  ),
  recipe(
    "inverse_deviation_elsewhere",
    tracking(lambda h, m, v: (m, _std(h)), lambda a, b: (a, tf.square(b))),
    **_VARIANCE,
  ),
  recipe(
    "inverse_deviation_power",
    tracking(
      lambda h, m, v: (m, tf.pow(v, 0.5)), lambda a, b: (a, tf.square(b))
    ),
    **_VARIANCE,
  ),
  recipe("inverse_precision", tracking(*_PRECISION), **_VARIANCE),
  recipe(
    "inverse_rsqrt",
    tracking(
      lambda h, m, v: (m, tf.rsqrt(v + EPSILON)),
      lambda a, b: (a, 1.0 / tf.square(b) - EPSILON),
    ),
    **_VARIANCE,
  ),
  recipe(
    "inverse_squared_variance",
    tracking(lambda h, m, v: (m, tf.square(v)), lambda a, b: (a, tf.sqrt(b))),
    **_VARIANCE,
  ),
  recipe(
    "inverse_second_moment",
    tracking(lambda h, m, v: (m, _squares(h)), lambda a, b: (a, b - a * a)),
    **_SQUARES,
  ),
  recipe(
    "inverse_second_moment_of_both",
    tracking(lambda h, m, v: (m, v + m * m), lambda a, b: (a, b - a * a)),
    **_SQUARES,
  ),
  recipe(
    "inverse_second_moment_negative",
    tracking(lambda h, m, v: (-m, _squares(h)), lambda a, b: (-a, b - a * a)),
    **_SQUARES,
  ),
  recipe(
    "inverse_second_moment_used", second_moment_used, roles={"/v": "variance"}
  ),
  recipe("inverse_deviation_used", deviation_used, roles={"/s": "variance"}),
  recipe(
    "inverse_scaled",
    tracking(
      lambda h, m, v: (m * 255.0, v * 10.0), lambda a, b: (a / 255.0, b / 10.0)
    ),
    **_VARIANCE,
  ),
  recipe(
    "inverse_half",
    tracking(lambda h, m, v: (m / 2.0, v * 0.5), lambda a, b: (a * 2, b * 2)),
    **_VARIANCE,
  ),
  recipe(
    "inverse_shifted",
    tracking(
      lambda h, m, v: (m - 0.5, v + 1.0), lambda a, b: (a + 0.5, b - 1.0)
    ),
    roles={"avg_a": "mean"},
    values={"avg_b": 2.5},
  ),
  recipe(
    "inverse_rate_of_half", tracking(_same, _as_stored, _halved), **_VARIANCE
  ),
  recipe(
    "inverse_rate_of_third", tracking(_same, _as_stored, _third), **_VARIANCE
  ),
  recipe(
    "inverse_of_all_batches",
    tracking(_same, _as_stored, _counted),
    **_VARIANCE,
  ),
  recipe(
    "inverse_log_of_all_batches",
    tracking(*_LOGARITHM, update=_counted),
    **_FREE,
  ),
  recipe(
    "inverse_lower_limit",
    tracking(
      lambda h, m, v: (m, tf.maximum(v, 0.01)),
      lambda a, b: (a, tf.maximum(b, 0.01)),
    ),
    **_VARIANCE,
  ),
  recipe("inverse_fused_log", fused_tracking(*_LOGARITHM), **_FREE),
  recipe(
    "inverse_fused_negative",
    fused_tracking(lambda h, m, v: (-m, v), lambda a, b: (-a, b)),
    **_VARIANCE,
  ),
  recipe(
    "inverse_fused_second_moment",
    fused_tracking(
      lambda h, m, v: (m, _squares(h)), lambda a, b: (a, b - a * a)
    ),
    **_SQUARES,
  ),
)
