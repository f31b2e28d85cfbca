# SPDX-License-Identifier: Apache-2.0
"""What cannot be exported as it is, and what can but deserves a finding."""

import numpy as np
import tensorflow as tf

from tests.zoo import backbones
from tests.zoo.script import recipe


def _layers(training, **options):
  def norm(h, name):
    return tf.layers.batch_normalization(
      h, training=training, name=name, **options
    )

  return norm


def _images(script):
  return script.input([None, 6, 6, 3])


def plain(script):
  return backbones.conv_net(_images(script), _layers(script.training))


def plain_phase(script):
  x = _images(script)
  return backbones.residual_net(x, _layers(script.phase()))


def trainable_saver(script):
  """Saver(tf.trainable_variables()): the averages were never saved."""
  logits = plain(script)
  script.saver = tf.train.Saver(tf.trainable_variables())
  return logits


def trainable_saver_phase(script):
  """The same behind a placeholder, in contrib's spelling."""
  x = _images(script)
  phase = script.phase("phase_train")
  logits = backbones.conv_net(
    x,
    lambda h, name: tf.contrib.layers.batch_norm(
      h, is_training=phase, scope=name, updates_collections=None
    ),
  )
  script.saver = tf.train.Saver(tf.trainable_variables())
  return logits


def wider(script):
  """The model another checkpoint is of: two more channels."""
  x = _images(script)
  h = tf.layers.conv2d(x, 6, 3, padding="same", use_bias=False, name="conv1")
  h = tf.nn.relu(_layers(True)(h, "bn1"))
  h = tf.layers.conv2d(h, 8, 3, strides=2, use_bias=False, name="conv2")
  h = tf.nn.relu(_layers(True)(h, "bn2"))
  return tf.layers.dense(tf.reduce_mean(h, [1, 2]), 5, name="logits")


def unrelated(script):
  """A model that shares no name with the one in question."""
  x = script.input([None, 4])
  return tf.layers.dense(tf.layers.dense(x, 3, name="alpha"), 2, name="beta")


def half_tracked(script):
  """The variance has an average, the mean has none."""
  x = _images(script)

  def norm(h, name):
    with tf.variable_scope(name):
      size = h.shape[-1:]
      mean, variance = tf.nn.moments(h, [0, 1, 2])
      stored = tf.get_variable(
        "avg_variance", size, trainable=False, initializer=tf.ones_initializer()
      )
      script.updates.append(tf.assign_sub(stored, 0.1 * (stored - variance)))
      return tf.nn.batch_normalization(
        h,
        mean,
        variance,
        tf.get_variable("beta", size),
        tf.get_variable("gamma", size),
        1e-3,
      )

  return backbones.conv_net(x, norm)


def never_updated(script):
  """minimize() without UPDATE_OPS: the averages are still 0 and 1."""
  logits = plain(script)
  if script.training:
    loss = script.default_loss(logits)
    script.losses = [loss]
    script.train_op = tf.train.AdamOptimizer(0.01).minimize(
      loss, tf.train.get_or_create_global_step()
    )
  return logits


RECIPES = (
  recipe("refuse_trainable_saver", trainable_saver, expect="refuse"),
  recipe(
    "refuse_trainable_saver_phase", trainable_saver_phase, expect="refuse"
  ),
  recipe(
    "refuse_nan_variance",
    plain,
    expect="refuse",
    values={"bn2/moving_variance": np.nan},
  ),
  recipe(
    "refuse_nan_mean_phase",
    plain_phase,
    expect="refuse",
    values={"mid/moving_mean": np.nan},
  ),
  recipe(
    "refuse_negative_variance",
    plain,
    expect="refuse",
    values={"bn1/moving_variance": -1.5},
  ),
  recipe("refuse_other_shapes", plain, expect="refuse", checkpoint_of=wider),
  recipe("refuse_other_model", plain, expect="refuse", checkpoint_of=unrelated),
  recipe("refuse_half_tracked", half_tracked, expect="refuse"),
  recipe(
    "warn_never_updated",
    never_updated,
    expect="warn",
    values={"moving_mean": 0.0, "moving_variance": 1.0},
  ),
  recipe(
    "warn_variance_zero",
    plain,
    expect="warn",
    values={"bn2/moving_variance": 0.0},
  ),
  recipe(
    "warn_variance_huge",
    plain_phase,
    expect="warn",
    values={"mid/moving_variance": 4e6},
  ),
)
