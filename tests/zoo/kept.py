# SPDX-License-Identifier: Apache-2.0
"""Norms that mean to use the statistics of what they see."""

import tensorflow as tf

from tests.zoo.script import recipe


def _affine(h, shape=None):
  size = shape or h.shape[-1:]
  return tf.get_variable("offset", size), tf.get_variable("scale", size)


def _instance(h, name):
  """Instance norm by moments over the picture."""
  with tf.variable_scope(name):
    offset, scale = _affine(h)
    mean, variance = tf.nn.moments(h, [1, 2], keep_dims=True)
    return scale * (h - mean) * tf.rsqrt(variance + 1e-5) + offset


def _instance_fused(h, name):
  """Instance norm through the fused op: [1, H, W, N*C]."""
  with tf.variable_scope(name):
    offset, scale = _affine(h)
    height, width, channels = h.shape.as_list()[1:]
    rows = tf.shape(h)[0]
    packed = tf.reshape(
      tf.transpose(h, [1, 2, 0, 3]),
      tf.stack([1, height, width, rows * channels]),
    )
    ones = tf.ones([rows * channels])
    out = tf.nn.fused_batch_norm(
      packed, ones, tf.zeros_like(ones), epsilon=1e-3
    )[0]
    out = tf.reshape(out, tf.stack([height, width, rows, channels]))
    out = tf.transpose(out, [2, 0, 1, 3])
    out.set_shape(h.shape)
    return out * scale + offset


def _layer_fused(h, name):
  """Layer norm as Keras lowers it: fused op on [1, N, D, 1]."""
  with tf.variable_scope(name):
    offset, scale = _affine(h)
    width = int(h.shape[-1])
    rows = tf.shape(h)[0]
    packed = tf.reshape(h, tf.stack([1, rows, width, 1]))
    packed = tf.transpose(packed, [0, 2, 3, 1])
    ones = tf.ones(tf.reshape(rows, [1]))
    out = tf.nn.fused_batch_norm(
      packed, ones, tf.zeros_like(ones), epsilon=1e-3
    )[0]
    out = tf.reshape(tf.transpose(out, [0, 3, 1, 2]), [-1, width])
    return out * scale + offset


def _layer(h, name):
  with tf.variable_scope(name):
    offset, scale = _affine(h)
    mean = tf.reduce_mean(h, [-1], keepdims=True)
    variance = tf.reduce_mean(tf.square(h - mean), [-1], keepdims=True)
    return (h - mean) * tf.rsqrt(variance + 1e-6) * scale + offset


def _group(h, name, groups=2):
  """Group norm over a rank 5 reshape."""
  with tf.variable_scope(name):
    offset, scale = _affine(h)
    _, height, width, channels = h.shape.as_list()
    parts = tf.reshape(h, [-1, height, width, groups, channels // groups])
    mean, variance = tf.nn.moments(parts, [1, 2, 4], keep_dims=True)
    parts = (parts - mean) / tf.sqrt(variance + 1e-5)
    return tf.reshape(parts, [-1, height, width, channels]) * scale + offset


def _style_net(x, norm):
  """Convolutions down and up again; a picture comes out."""
  h = tf.nn.relu(
    norm(tf.layers.conv2d(x, 4, 3, padding="same", name="c1"), "n1")
  )
  h = tf.nn.relu(norm(tf.layers.conv2d(h, 4, 3, 2, "same", name="c2"), "n2"))
  h = tf.layers.conv2d_transpose(h, 4, 3, 2, "same", name="up")
  h = tf.nn.relu(norm(h, "n3"))
  return tf.tanh(tf.layers.conv2d(h, 2, 1, name="c3"), name="styled")


def _dense_net(x, norm):
  h = tf.nn.relu(norm(tf.layers.dense(x, 8, name="fc1"), "ln1"))
  h = tf.nn.relu(norm(tf.layers.dense(h, 6, name="fc2"), "ln2"))
  return tf.layers.dense(h, 4, name="out")


def instance_hand(script):
  return _style_net(script.input([None, 6, 6, 3]), _instance)


def instance_contrib(script):
  return _style_net(
    script.input([None, 6, 6, 3]),
    lambda h, name: tf.contrib.layers.instance_norm(h, scope=name),
  )


def instance_fused(script):
  return _style_net(script.input([None, 6, 6, 3]), _instance_fused)


def group_hand(script):
  return _style_net(script.input([None, 6, 6, 3]), _group)


def group_contrib(script):
  return _style_net(
    script.input([None, 6, 6, 3]),
    lambda h, name: tf.contrib.layers.group_norm(h, groups=2, scope=name),
  )


def layer_hand(script):
  return _dense_net(script.input([None, 9]), _layer)


def layer_contrib(script):
  return _dense_net(
    script.input([None, 9]),
    lambda h, name: tf.contrib.layers.layer_norm(h, scope=name),
  )


def layer_fused(script):
  return _dense_net(script.input([None, 9]), _layer_fused)


def layer_keras(script):
  x = script.input([None, 5, 4])
  h = tf.layers.conv1d(x, 6, 3, name="conv")
  h = tf.keras.layers.LayerNormalization(name="ln")(h)
  return tf.layers.dense(tf.nn.relu(h)[:, 0], 4, name="out")


def gan_generator(script):
  """pix2pix: a generator whose batch statistics are part of the model.

  Batch statistics, no averages anywhere, in training and in use.
  """
  x = script.input([None, 6, 6, 3])

  def norm(h, name):
    with tf.variable_scope(name):
      offset, scale = _affine(h)
      mean, variance = tf.nn.moments(h, [0, 1, 2])
      return tf.nn.batch_normalization(h, mean, variance, offset, scale, 1e-5)

  return _style_net(x, norm)


def gan_generator_fused(script):
  """The same by the fused op, its statistics read by nobody."""
  x = script.input([None, 6, 6, 3])

  def norm(h, name):
    with tf.variable_scope(name):
      offset, scale = _affine(h)
      return tf.nn.fused_batch_norm(h, scale, offset, epsilon=1e-5)[0]

  return _style_net(x, norm)


def standardized_input(script):
  """per_image_standardization and l2_normalize: norms by other names."""
  x = script.input([None, 6, 6, 3])
  h = tf.map_fn(tf.image.per_image_standardization, x)
  h = tf.layers.conv2d(h, 4, 3, name="conv")
  h = tf.nn.relu(_tracked(script, h, "bn"))
  h = tf.layers.dense(
    tf.layers.flatten(tf.layers.max_pooling2d(h, 2, 2)), 4, name="embed"
  )
  return tf.nn.l2_normalize(h, 1, name="embeddings")


def _tracked(script, h, name):
  return tf.layers.batch_normalization(h, training=script.training, name=name)


def mixed_literal(script):
  """Batch, instance, group and layer norm in one network."""
  x = script.input([None, 6, 6, 3])
  h = tf.layers.conv2d(x, 4, 3, padding="same", name="c1")
  h = tf.nn.relu(_tracked(script, h, "bn1"))
  h = tf.layers.conv2d(h, 4, 3, padding="same", name="c2")
  h = tf.nn.relu(_instance(h, "in1"))
  h = tf.nn.relu(_tracked(script, tf.layers.conv2d(h, 4, 3, name="c3"), "bn2"))
  h = tf.nn.relu(_group(h, "gn1"))
  h = _layer(
    tf.layers.dense(tf.layers.flatten(h[:, ::2, ::2]), 5, name="fc"), "ln1"
  )
  return tf.layers.dense(tf.nn.relu(h), 4, name="out")


def mixed_fused(script):
  """The same where all of them are the fused op, by a phase placeholder."""
  x = script.input([None, 6, 6, 3])
  phase = script.phase()

  def norm(h, name):
    return tf.layers.batch_normalization(h, training=phase, name=name)

  h = tf.nn.relu(norm(tf.layers.conv2d(x, 4, 3, name="c1"), "bn1"))
  h = tf.nn.relu(_instance_fused(h, "in1"))
  h = tf.nn.relu(norm(tf.layers.conv2d(h, 4, 3, name="c2"), "bn2"))
  h = tf.layers.dense(tf.reduce_mean(h, [1, 2]), 5, name="fc")
  h = tf.nn.relu(_layer_fused(h, "ln1"))
  return tf.layers.dense(h, 4, name="out")


def named_scopes(script):
  """pix2pix as people run it: tracked norms, the decoder on batch statistics.

  Averages exist; the user asks to keep the batch for the decoder.
  """
  x = script.input([None, 6, 6, 3])
  h = tf.layers.conv2d(x, 4, 3, padding="same", name="enc")
  h = tf.nn.relu(
    tf.layers.batch_normalization(
      h, training=script.training, name="encoder/bn"
    )
  )
  h = tf.layers.conv2d(h, 4, 3, padding="same", name="dec")
  h = tf.nn.relu(
    tf.layers.batch_normalization(h, training=True, name="decoder/bn")
  )
  return tf.tanh(tf.layers.conv2d(h, 2, 1, name="rgb"), name="picture")


def named_scopes_unfused(script):
  """Two scopes of batch norms to keep, one to convert, none fused."""
  x = script.input([None, 9])

  def norm(h, name, training):
    return tf.layers.batch_normalization(h, training=training, name=name)

  h = tf.nn.relu(norm(tf.layers.dense(x, 6, name="fc1"), "gen/bn1", True))
  h = tf.nn.relu(
    norm(tf.layers.dense(h, 6, name="fc2"), "mid/bn", script.training)
  )
  h = tf.nn.relu(norm(tf.layers.dense(h, 6, name="fc3"), "gen/bn2", True))
  return tf.layers.dense(h, 4, name="out")


def all_tracked_kept(script):
  """Every norm is tracked and every one is to keep the batch."""
  x = script.input([None, 6, 6, 3])
  with tf.variable_scope("generator"):
    return _style_net(
      x,
      lambda h, name: tf.contrib.layers.batch_norm(
        h, is_training=True, scale=True, scope=name, updates_collections=None
      ),
    )


RECIPES = (
  recipe("keep_instance_hand", instance_hand, keep=True),
  recipe("keep_instance_contrib", instance_contrib, keep=True),
  recipe("keep_instance_fused", instance_fused, keep=True),
  recipe("keep_group_hand", group_hand, keep=True),
  recipe("keep_group_contrib", group_contrib, keep=True),
  recipe("keep_layer_hand", layer_hand, keep=True),
  recipe("keep_layer_contrib", layer_contrib, keep=True),
  recipe("keep_layer_fused", layer_fused, keep=True),
  recipe("keep_layer_keras", layer_keras, keep=True),
  recipe("keep_gan_generator", gan_generator, keep=True),
  recipe("keep_gan_generator_fused", gan_generator_fused, keep=True),
  recipe("keep_standardized_input", standardized_input),
  recipe("keep_mixed_literal", mixed_literal),
  recipe("keep_mixed_fused", mixed_fused),
  recipe("keep_named_scope", named_scopes, keep_scopes=["decoder"]),
  recipe(
    "keep_named_scopes_unfused",
    named_scopes_unfused,
    keep_scopes=["gen/bn1", "gen/bn2"],
  ),
  recipe(
    "keep_all_tracked", all_tracked_kept, same=True, keep_scopes=["generator"]
  ),
)
