# SPDX-License-Identifier: Apache-2.0
"""Norms that whiten: they keep the covariance of channels, not variances."""

import tensorflow as tf

from tests.zoo import backbones
from tests.zoo.script import recipe

_EPSILON = 1e-2


def inverse_root(covariance, size):
  """Newton's iterations, as of IterNorm."""
  trace = tf.trace(covariance)
  p = tf.eye(size)
  for _ in range(4):
    cube = tf.matmul(tf.matmul(p, p), p)
    p = 1.5 * p - 0.5 * tf.matmul(cube, covariance / trace)
  return p / tf.sqrt(trace)


def whitening(is_turned=False):
  """Norms whose covariance is a product with one side turned, or transposed."""

  def model(script):
    x = script.input([None, 6, 6, 3])

    def norm(h, name):
      with tf.variable_scope(name):
        size = h.shape[-1].value
        beta = tf.get_variable("beta", [size])
        mean = tf.get_variable(
          "mean", [size], trainable=False, initializer=tf.zeros_initializer()
        )
        covariance = tf.get_variable(
          "covariance",
          trainable=False,
          initializer=tf.eye(size),
        )
        rows = tf.reshape(h, [-1, size])
        used = mean, covariance
        if script.training:
          m = tf.reduce_mean(rows, 0)
          centred = rows - m
          n = tf.cast(tf.shape(rows)[0], tf.float32)
          if is_turned:
            product = tf.matmul(tf.transpose(centred), centred)
          else:
            product = tf.matmul(centred, centred, transpose_a=True)
          used = m, product / n
          script.updates += [
            tf.assign_sub(old, 0.1 * (old - new))
            for old, new in zip((mean, covariance), used)
          ]
        root = inverse_root(used[1] + _EPSILON * tf.eye(size), size)
        white = tf.matmul(rows - used[0], root, transpose_b=True)
        return tf.reshape(white, tf.shape(h)) + beta

    return backbones.conv_net(x, norm)

  return model


RECIPES = (
  recipe("whitening_product", whitening()),
  recipe("whitening_turned", whitening(is_turned=True)),
)
