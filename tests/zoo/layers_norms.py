# SPDX-License-Identifier: Apache-2.0
"""tf.layers.batch_normalization: axes, ranks, variables, and its options."""

import tensorflow as tf

from tests.zoo import backbones
from tests.zoo.script import recipe


def _norm(training, **options):
  def norm(h, name):
    return tf.layers.batch_normalization(
      h, training=training, name=name, **options
    )

  return norm


def _images(script):
  return script.input([None, 6, 6, 3], "images")


def fused_literal(script):
  return backbones.residual_net(_images(script), _norm(script.training))


def fused_phase(script):
  x = _images(script)
  return backbones.branch_net(x, _norm(script.phase("training")))


def unfused_literal(script):
  return backbones.branch_net(
    _images(script), _norm(script.training, fused=False, epsilon=0.01)
  )


def unfused_phase(script):
  x = _images(script)
  return backbones.residual_net(x, _norm(script.phase(), fused=False))


def default_names(script):
  """Nobody names the layers: batch_normalization, batch_normalization_1."""
  x = script.input([None, 6, 6, 3])
  phase = script.phase("train_mode")
  h = tf.layers.conv2d(x, 4, 3)
  h = tf.nn.relu(tf.layers.batch_normalization(h, training=phase))
  h = tf.layers.conv2d(h, 4, 3)
  h = tf.nn.relu(tf.layers.batch_normalization(h, training=phase))
  return tf.nn.softmax(tf.layers.dense(tf.layers.flatten(h), 4))


def layer_objects(script):
  """The layer classes, called through apply."""
  x = script.input([None, 6, 6, 3])
  first = tf.layers.BatchNormalization(momentum=0.9, name="first")
  last = tf.layers.BatchNormalization(fused=False, name="last")
  h = tf.layers.Conv2D(4, 3, name="c").apply(x)
  h = tf.nn.relu(first.apply(h, training=script.training))
  h = tf.layers.Dense(5, name="d").apply(tf.reduce_mean(h, [1, 2]))
  h = tf.nn.relu(last.apply(h, training=script.training))
  script.updates += first.updates + last.updates
  return tf.layers.Dense(3, name="e").apply(h)


def center_scale_off(script):
  x = _images(script)
  phase = script.phase()
  kinds = iter([(False, False), (True, False), (False, True)])

  def norm(h, name):
    center, scale = next(kinds)
    return tf.layers.batch_normalization(
      h, training=phase, center=center, scale=scale, name=name
    )

  return backbones.residual_net(x, norm)


def axis_1_unfused(script):
  """Normalises rows of an image: statistics of shape [1, H, 1, 1]."""
  x = script.input([None, 6, 6, 3])
  return backbones.conv_net(x, _norm(script.training, axis=1, fused=False))


def axis_2_phase(script):
  x = script.input([None, 6, 6, 3])
  return backbones.conv_net(x, _norm(script.phase(), axis=2))


def axis_1_3_literal(script):
  """Statistics for each row and channel."""
  x = script.input([None, 6, 6, 3])
  return backbones.conv_net(x, _norm(script.training, axis=[1, 3]))


def axis_1_3_phase(script):
  x = script.input([None, 6, 6, 3])
  return backbones.conv_net(x, _norm(script.phase(), axis=[1, 3]))


def axis_1_of_3(script):
  """Rank 3 with the axis in the middle: time steps of a sequence."""
  x = script.input([None, 8, 3], "frames")
  return backbones.sequence_net(x, _norm(script.training, axis=1))


def sequence_phase(script):
  x = script.input([None, 8, 3], "frames")
  return backbones.sequence_net(x, _norm(script.phase()))


def dense_literal(script):
  x = script.input([None, 9], "features")
  return backbones.dense_net(x, _norm(script.training))


def dense_phase(script):
  x = script.input([None, 9], "features")
  return backbones.dense_net(x, _norm(script.phase(), momentum=0.5))


def volume_literal(script):
  x = script.input([None, 4, 4, 4, 2], "clip")
  return backbones.volume_net(x, _norm(script.training))


def volume_phase(script):
  x = script.input([None, 4, 4, 4, 2], "clip")
  return backbones.volume_net(x, _norm(script.phase(), axis=4))


def renorm_literal(script):
  return backbones.branch_net(
    _images(script), _norm(script.training, renorm=True)
  )


def renorm_clipping_literal(script):
  return backbones.conv_net(
    _images(script),
    _norm(
      script.training,
      renorm=True,
      renorm_momentum=0.9,
      renorm_clipping={"rmax": 1.5, "rmin": 0.7, "dmax": 0.5},
    ),
  )


def renorm_phase(script):
  x = _images(script)
  return backbones.conv_net(
    x,
    _norm(
      script.phase(), renorm=True, renorm_clipping={"rmax": 2.0, "dmax": 1.0}
    ),
  )


def virtual_batch_literal(script):
  """Ghost batches of two rows, reshaped to rank 5."""
  return backbones.conv_net(
    _images(script), _norm(script.training, virtual_batch_size=2)
  )


def virtual_batch_phase(script):
  x = _images(script)
  return backbones.conv_net(x, _norm(script.phase(), virtual_batch_size=3))


def adjustment_literal(script):
  """Random scale and shift of the batch statistics, training only."""

  def adjust(shape):
    channels = tf.concat([tf.ones_like(shape[:-1]), shape[-1:]], 0)
    return (
      tf.random_uniform(channels, 0.9, 1.1),
      tf.random_uniform(channels, -0.1, 0.1),
    )

  return backbones.conv_net(
    _images(script), _norm(script.training, adjustment=adjust)
  )


def resource_literal(script):
  with tf.variable_scope("net", use_resource=True):
    return backbones.residual_net(_images(script), _norm(script.training))


def resource_phase(script):
  with tf.variable_scope("net", use_resource=True):
    x = _images(script)
    return backbones.branch_net(x, _norm(script.phase()))


def resource_unfused_phase(script):
  with tf.variable_scope("net", use_resource=True):
    x = _images(script)
    return backbones.conv_net(x, _norm(script.phase(), fused=False))


def resource_sequence_literal(script):
  with tf.variable_scope("net", use_resource=True):
    x = script.input([None, 8, 3], "frames")
    return backbones.sequence_net(x, _norm(script.training))


def reference_variables(script):
  with tf.variable_scope("net", use_resource=False):
    return backbones.conv_net(_images(script), _norm(script.training))


def partitioned(script):
  """Kernels in two parts, read through a concat; statistics are whole."""
  by_output = tf.fixed_size_partitioner(2, axis=3)
  x = _images(script)
  norm = _norm(script.training)
  with tf.variable_scope("image", partitioner=by_output):
    h = tf.layers.conv2d(x, 4, 3, use_bias=False, name="conv")
  h = tf.nn.relu(norm(h, "bn1"))
  h = tf.reduce_mean(h, [1, 2])
  with tf.variable_scope("head", partitioner=tf.fixed_size_partitioner(2)):
    h = tf.layers.dense(h, 6, use_bias=False, name="fc1")
  h = tf.nn.relu(norm(h, "bn2"))
  with tf.variable_scope("head", partitioner=tf.fixed_size_partitioner(3)):
    return tf.layers.dense(h, 5, name="fc2")


def partitioned_phase(script):
  """A partitioner over the whole network, statistics and all."""
  x = script.input([None, 9], "features")
  phase = script.phase()
  with tf.variable_scope("net", partitioner=tf.fixed_size_partitioner(2)):
    h = tf.nn.relu(
      tf.layers.batch_normalization(tf.layers.dense(x, 6), training=phase)
    )
    return tf.layers.dense(h, 4, name="out")


def float16_literal(script):
  """Half precision with float32 statistics: the fused op's mixed form."""
  x = script.input([None, 6, 6, 3], "images")
  h = tf.cast(x, tf.float16)
  norm = _norm(script.training, fused=True)
  k1 = tf.get_variable("k1", [3, 3, 3, 4])
  h = tf.nn.conv2d(h, tf.cast(k1, tf.float16), 1, "SAME")
  h = tf.nn.relu(norm(h, "bn1"))
  k2 = tf.get_variable("k2", [3, 3, 4, 4])
  h = tf.nn.conv2d(h, tf.cast(k2, tf.float16), 2, "VALID")
  h = tf.nn.relu(norm(h, "bn2"))
  h = tf.reduce_mean(tf.cast(h, tf.float32), [1, 2])
  return tf.layers.dense(h, 5, name="logits")


def float16_phase(script):
  """Half precision from the input on."""
  x = script.input([None, 6, 6, 3], "images", tf.float16)
  norm = _norm(script.phase(), fused=True)
  k1 = tf.get_variable("k1", [3, 3, 3, 4])
  h = tf.nn.conv2d(x, tf.cast(k1, tf.float16), 1, "VALID")
  h = tf.nn.relu(norm(h, "bn1"))
  h = tf.reduce_mean(tf.cast(h, tf.float32), [1, 2])
  return tf.layers.dense(h, 5, name="logits")


def float64_literal(script):
  x = script.input([None, 9], "features", tf.float64)
  return backbones.dense_net(x, _norm(script.training))


def shared_twice(script):
  """One norm layer over two feature maps: its averages see both."""
  x = _images(script)
  phase = script.phase()
  norm = _norm(phase, reuse=tf.AUTO_REUSE)
  h = tf.layers.conv2d(x, 4, 3, padding="same", name="conv")
  a = tf.nn.relu(norm(h, "shared"))
  b = tf.layers.conv2d(a, 4, 3, padding="same", name="again")
  b = tf.nn.relu(norm(b, "shared"))
  h = tf.reduce_mean(a * 0.5 + b, [1, 2])
  return tf.layers.dense(h, 5, name="logits")


def momentum_tensor(script):
  x = _images(script)
  momentum = script.value("bn_momentum", 0.95, 0.95)
  return backbones.conv_net(x, _norm(script.training, momentum=momentum))


def frozen_middle(script):
  """Training with one norm already frozen: a literal False in the middle."""
  x = _images(script)

  def norm(h, name):
    return tf.layers.batch_normalization(
      h,
      training=script.training and name != "mid",
      trainable=name != "mid",
      name=name,
    )

  return backbones.residual_net(x, norm)


def regularized(script):
  """Regularizers and constraints on gamma and beta."""
  x = _images(script)
  return backbones.conv_net(
    x,
    _norm(
      script.training,
      gamma_regularizer=tf.keras.regularizers.l2(1e-3),
      beta_regularizer=tf.keras.regularizers.l1(1e-3),
      gamma_constraint=lambda g: tf.clip_by_value(g, 0.1, 5.0),
    ),
  )


def nchw_literal(script):
  return _nchw(script, script.training)


def nchw_phase(script):
  return _nchw(script, script.phase())


def nchw_inner(script):
  """NHWC images, transposed inside: the usual data_format switch."""
  x = script.input([None, 6, 6, 3], "images")
  if script.data_format == "NCHW":
    x = tf.transpose(x, [0, 3, 1, 2])
  h = _nchw_features(script, x, script.training)
  axes = [2, 3] if script.data_format == "NCHW" else [1, 2]
  return tf.layers.dense(tf.reduce_mean(h, axes), 5, name="logits")


def _nchw(script, training):
  """A map as output, in the graph's own layout."""
  x = script.input([None, 3, 6, 6], "images")
  nchw = script.data_format == "NCHW"
  h = x if nchw else tf.transpose(x, [0, 2, 3, 1])
  h = _nchw_features(script, h, training)
  layout = "channels_first" if nchw else "channels_last"
  h = tf.layers.conv2d(h, 2, 1, data_format=layout, name="map")
  return tf.sigmoid(h if nchw else tf.transpose(h, [0, 3, 1, 2]), name="mask")


def _nchw_features(script, h, training):
  nchw = script.data_format == "NCHW"
  layout = "channels_first" if nchw else "channels_last"
  norm = _norm(training, axis=1 if nchw else 3, fused=True)
  h = tf.layers.conv2d(h, 4, 3, padding="same", data_format=layout, name="c1")
  shortcut = h = tf.nn.relu(norm(h, "bn1"))
  h = tf.layers.conv2d(h, 4, 3, padding="same", data_format=layout, name="c2")
  h = tf.nn.relu(norm(h, "bn2") + shortcut)
  return tf.layers.max_pooling2d(h, 2, 2, data_format=layout)


RECIPES = (
  recipe("layers_fused_literal", fused_literal),
  recipe("layers_fused_phase", fused_phase),
  recipe("layers_unfused_literal", unfused_literal),
  recipe("layers_unfused_phase", unfused_phase),
  recipe("layers_default_names", default_names),
  recipe("layers_objects", layer_objects),
  recipe("layers_center_scale_off", center_scale_off),
  recipe("layers_axis_1", axis_1_unfused),
  recipe("layers_axis_2_phase", axis_2_phase),
  recipe("layers_axis_1_3", axis_1_3_literal),
  recipe("layers_axis_1_3_phase", axis_1_3_phase),
  recipe("layers_axis_1_of_3", axis_1_of_3),
  recipe("layers_sequence_phase", sequence_phase),
  recipe("layers_dense_literal", dense_literal),
  recipe("layers_dense_phase", dense_phase),
  recipe("layers_volume_literal", volume_literal),
  recipe("layers_volume_phase", volume_phase),
  recipe("layers_renorm_literal", renorm_literal),
  recipe("layers_renorm_clipping", renorm_clipping_literal),
  recipe("layers_renorm_phase", renorm_phase),
  recipe("layers_virtual_batch", virtual_batch_literal, joint=True),
  recipe("layers_virtual_batch_phase", virtual_batch_phase),
  recipe("layers_adjustment", adjustment_literal),
  recipe("layers_resource_literal", resource_literal),
  recipe("layers_resource_phase", resource_phase),
  recipe("layers_resource_unfused_phase", resource_unfused_phase),
  recipe("layers_resource_sequence", resource_sequence_literal),
  recipe("layers_reference_variables", reference_variables),
  recipe("layers_partitioned", partitioned),
  recipe("layers_partitioned_phase", partitioned_phase),
  recipe("layers_float16_literal", float16_literal, tol=0.02),
  recipe("layers_float16_phase", float16_phase, tol=0.02),
  recipe("layers_float64", float64_literal),
  recipe("layers_shared_twice", shared_twice),
  recipe("layers_momentum_tensor", momentum_tensor),
  recipe("layers_frozen_middle", frozen_middle),
  recipe("layers_regularized", regularized),
  recipe("layers_nchw_literal", nchw_literal, no_run_115=True),
  recipe("layers_nchw_phase", nchw_phase, no_run_115=True),
  recipe("layers_nchw_inner", nchw_inner, no_run_115=True),
)
