# SPDX-License-Identifier: Apache-2.0
"""tf.contrib.layers.batch_norm and tf.contrib.slim, literal and by phase."""

import tensorflow as tf
from tensorflow.contrib import slim

from tests.zoo import backbones
from tests.zoo.script import recipe

contrib_batch_norm = tf.contrib.layers.batch_norm


def _norm(is_training, **options):
  def norm(h, name):
    return contrib_batch_norm(h, is_training=is_training, scope=name, **options)

  return norm


def _images(script):
  return script.input([None, 6, 6, 3], "images")


def fused_literal(script):
  return backbones.conv_net(
    _images(script), _norm(script.training, scale=True, fused=True)
  )


def fused_phase(script):
  x = _images(script)
  return backbones.residual_net(x, _norm(script.phase(), scale=True))


def fused_inplace_literal(script):
  return backbones.branch_net(
    _images(script),
    _norm(script.training, scale=True, updates_collections=None),
  )


def fused_inplace_phase(script):
  x = _images(script)
  return backbones.conv_net(
    x, _norm(script.phase("phase_train"), scale=True, updates_collections=None)
  )


def unfused_literal(script):
  return backbones.residual_net(
    _images(script), _norm(script.training, scale=True, fused=False, decay=0.95)
  )


def unfused_phase(script):
  x = _images(script)
  return backbones.branch_net(
    x, _norm(script.phase("train_flag"), scale=True, fused=False)
  )


def unfused_inplace_literal(script):
  return backbones.conv_net(
    _images(script),
    _norm(script.training, fused=False, updates_collections=None, epsilon=1e-5),
  )


def unfused_inplace_phase(script):
  x = _images(script)
  return backbones.residual_net(
    x,
    _norm(
      script.phase("phase_train"),
      scale=True,
      fused=False,
      updates_collections=None,
    ),
  )


def own_collection(script):
  norm = _norm(script.training, scale=True, updates_collections="bn_updates")
  logits = backbones.conv_net(_images(script), norm)
  script.updates += tf.get_collection("bn_updates")
  return logits


def zero_debias_literal(script):
  return backbones.conv_net(
    _images(script),
    _norm(script.training, scale=True, zero_debias_moving_mean=True),
  )


def zero_debias_phase(script):
  x = _images(script)
  return backbones.branch_net(
    x,
    _norm(
      script.phase(), scale=True, zero_debias_moving_mean=True, fused=False
    ),
  )


def zero_debias_inplace_phase(script):
  x = _images(script)
  return backbones.conv_net(
    x,
    _norm(
      script.phase(), zero_debias_moving_mean=True, updates_collections=None
    ),
  )


def zero_debias_inplace_literal(script):
  return backbones.dense_net(
    script.input([None, 9]),
    _norm(
      script.training,
      zero_debias_moving_mean=True,
      fused=False,
      updates_collections=None,
    ),
  )


def renorm_literal(script):
  return backbones.conv_net(
    _images(script), _norm(script.training, scale=True, renorm=True)
  )


def renorm_phase(script):
  x = _images(script)
  clipping = {"rmin": 0.5, "rmax": 2.0, "dmax": 1.0}
  return backbones.residual_net(
    x,
    _norm(
      script.phase(),
      scale=True,
      renorm=True,
      renorm_clipping=clipping,
      renorm_decay=0.9,
    ),
  )


def neither_literal(script):
  return backbones.conv_net(
    _images(script), _norm(script.training, center=False, scale=False)
  )


def scale_only_phase(script):
  x = _images(script)
  return backbones.conv_net(x, _norm(script.phase(), center=False, scale=True))


def scale_only_unfused_literal(script):
  return backbones.branch_net(
    _images(script),
    _norm(script.training, center=False, scale=True, fused=False),
  )


def neither_unfused_phase(script):
  x = _images(script)
  return backbones.branch_net(
    x, _norm(script.phase(), center=False, scale=False, fused=False)
  )


def dense_literal(script):
  """After fully_connected, where the fused op runs on a reshaped tensor."""
  x = script.input([None, 9])
  with slim.arg_scope(
    [slim.fully_connected],
    normalizer_fn=slim.batch_norm,
    normalizer_params={"is_training": script.training},
  ):
    h = slim.fully_connected(x, 7, scope="fc1")
    h = slim.fully_connected(h, 6, scope="fc2")
  return slim.fully_connected(h, 4, activation_fn=None, scope="logits")


def dense_phase(script):
  x = script.input([None, 9])
  phase = script.phase()
  h = slim.stack(
    x,
    slim.fully_connected,
    [7, 6],
    scope="fc",
    normalizer_fn=slim.batch_norm,
    normalizer_params={"is_training": phase, "scale": True, "fused": False},
  )
  return slim.fully_connected(h, 4, activation_fn=None, scope="logits")


def arg_scope_phase(script):
  """The facenet habit: one dict of parameters for every convolution."""
  x = _images(script)
  params = {
    "is_training": script.phase("phase_train"),
    "decay": 0.995,
    "epsilon": 0.001,
    "updates_collections": None,
    "variables_collections": [tf.GraphKeys.TRAINABLE_VARIABLES],
  }
  with slim.arg_scope(
    [slim.conv2d],
    normalizer_fn=slim.batch_norm,
    normalizer_params=params,
    weights_regularizer=slim.l2_regularizer(1e-4),
  ):
    h = slim.conv2d(x, 4, 3, scope="Conv1")
    h = slim.conv2d(h, 5, 3, stride=2, padding="VALID", scope="Conv2")
    h = slim.conv2d(h, 5, 1, scope="Conv3")
  h = slim.flatten(slim.avg_pool2d(h, 2))
  return slim.fully_connected(h, 4, activation_fn=None, scope="Bottleneck")


def arg_scope_literal(script):
  x = _images(script)
  with slim.arg_scope(
    [slim.batch_norm], is_training=script.training, scale=True, decay=0.9997
  ):
    with slim.arg_scope(
      [slim.conv2d, slim.separable_conv2d],
      normalizer_fn=slim.batch_norm,
      activation_fn=tf.nn.relu6,
    ):
      h = slim.repeat(x, 2, slim.conv2d, 4, 3, scope="conv")
      h = slim.separable_conv2d(h, None, 3, 2, stride=2, scope="dw")
      h = slim.separable_conv2d(h, 6, 3, 1, scope="sep")
  h = tf.reduce_mean(h, [1, 2], keep_dims=True)
  h = slim.conv2d(h, 5, 1, activation_fn=None, scope="logits")
  return slim.softmax(tf.squeeze(h, [1, 2], name="squeeze"))


def activation_inside(script):
  """batch_norm(activation_fn=...) and the moments of a transposed conv."""
  x = _images(script)
  with slim.arg_scope(
    [slim.batch_norm],
    is_training=script.training,
    activation_fn=tf.nn.relu,
    fused=False,
  ):
    h = slim.batch_norm(slim.conv2d(x, 4, 3, activation_fn=None))
    h = slim.conv2d_transpose(h, 3, 4, stride=2, activation_fn=None)
    h = slim.batch_norm(h)
  return tf.tanh(slim.conv2d(h, 2, 3, activation_fn=None), name="picture")


def volume_phase(script):
  x = script.input([None, 4, 4, 4, 2], "clip")
  return backbones.volume_net(x, _norm(script.phase(), scale=True))


def batch_weights(script):
  """Examples weigh differently in the batch statistics."""
  x = _images(script)
  weights = None
  if script.training:
    weights = tf.placeholder(tf.float32, [6], "example_weights")
    script.feeds[weights] = [1.0, 0.5, 2.0, 1.0, 0.1, 0.7]
  return backbones.conv_net(
    x, _norm(script.training, fused=False, scale=True, batch_weights=weights)
  )


def siamese_phase(script):
  """Both halves of a pair through one network; its updates exist twice."""
  x = script.input([None, 6, 6, 2, 3], "pairs")
  phase = script.phase()

  def tower(image, reuse):
    with tf.variable_scope("tower", reuse=reuse):
      h = slim.conv2d(image, 4, 3, activation_fn=None, scope="conv")
      h = tf.nn.relu(
        contrib_batch_norm(
          h, is_training=phase, scale=True, scope="bn", reuse=reuse
        )
      )
      h = slim.flatten(slim.max_pool2d(h, 2))
      return slim.fully_connected(
        h,
        6,
        activation_fn=None,
        scope="code",
        normalizer_fn=contrib_batch_norm,
        normalizer_params={
          "is_training": phase,
          "reuse": reuse,
          "scope": "code_bn",
        },
      )

  left = tower(x[:, :, :, 0], None)
  right = tower(x[:, :, :, 1], True)
  return tf.abs(left - right, name="distance")


def siamese_literal(script):
  x = script.input([None, 2, 9], "pairs")
  norm = _norm(script.training, scale=True, reuse=tf.AUTO_REUSE)

  def tower(h):
    with tf.variable_scope("branch", reuse=tf.AUTO_REUSE):
      return backbones.dense_net(h, norm)

  a, b = tower(x[:, 0]), tower(x[:, 1])
  return tf.reduce_sum(tf.square(a - b), 1, keepdims=True, name="score")


def decay_placeholder(script):
  """The average's decay is fed; inference needs no such feed."""
  x = _images(script)
  decay = script.value("bn_decay", 0.9, 0.9)
  return backbones.conv_net(x, _norm(script.phase(), scale=True, decay=decay))


def decay_schedule_inplace(script):
  """PointNet's decay that follows the global step."""
  x = _images(script)
  step = tf.train.get_or_create_global_step()
  momentum = tf.train.exponential_decay(0.5, step, 20, 0.5, staircase=True)
  decay = tf.minimum(0.99, 1 - momentum)
  return backbones.conv_net(
    x,
    _norm(
      script.phase("is_training_pl"),
      scale=True,
      decay=decay,
      updates_collections=None,
      fused=False,
    ),
  )


def param_initializers(script):
  drawn = tf.random_uniform_initializer
  return backbones.residual_net(
    _images(script),
    _norm(
      script.training,
      scale=True,
      param_initializers={
        "gamma": drawn(0.9, 1.1),
        "beta": drawn(-0.1, 0.1),
        "moving_mean": drawn(-1, 1),
        "moving_variance": drawn(0.5, 2.0),
      },
    ),
  )


def true_constant(script):
  """is_training=tf.constant(True): a literal in disguise."""
  x = _images(script)
  flag = tf.constant(script.training, name="train_const")
  return backbones.conv_net(x, _norm(flag, scale=True))


def true_constant_unfused(script):
  x = _images(script)
  flag = tf.constant(script.training, name="train_const")
  return backbones.conv_net(x, _norm(flag, fused=False, scale=True))


def variable_flag(script):
  """The phase is a variable that the training script sets."""
  x = _images(script)
  script.switch = "is_training"
  flag = tf.Variable(script.training, trainable=False, name="is_training")
  logits = backbones.conv_net(x, _norm(flag, scale=True))
  if not script.training:
    script.restore = [v for v in tf.global_variables() if v is not flag]
  return logits


def nchw_literal(script):
  """NCHW throughout, which only GPUs run."""
  return _nchw(script, script.training)


def nchw_phase(script):
  return _nchw(script, script.phase())


def _nchw(script, is_training):
  x = script.input([None, 3, 6, 6])
  nchw = script.data_format == "NCHW"
  h = x if nchw else tf.transpose(x, [0, 2, 3, 1])
  with slim.arg_scope(
    [slim.conv2d, slim.batch_norm, slim.max_pool2d],
    data_format=script.data_format,
  ):
    with slim.arg_scope(
      [slim.conv2d],
      normalizer_fn=slim.batch_norm,
      normalizer_params={
        "is_training": is_training,
        "scale": True,
        "fused": True,
      },
    ):
      h = slim.conv2d(h, 4, 3, scope="conv1")
      h = slim.max_pool2d(h, 2, scope="pool1")
      h = slim.conv2d(h, 6, 3, scope="conv2")
  h = tf.reduce_mean(h, [2, 3] if nchw else [1, 2])
  return slim.fully_connected(h, 5, activation_fn=None, scope="logits")


RECIPES = (
  recipe("contrib_fused_literal", fused_literal),
  recipe("contrib_fused_phase", fused_phase),
  recipe("contrib_fused_inplace_literal", fused_inplace_literal),
  recipe("contrib_fused_inplace_phase", fused_inplace_phase),
  recipe("contrib_unfused_literal", unfused_literal),
  recipe("contrib_unfused_phase", unfused_phase),
  recipe("contrib_unfused_inplace_literal", unfused_inplace_literal),
  recipe("contrib_unfused_inplace_phase", unfused_inplace_phase),
  recipe("contrib_own_collection", own_collection),
  recipe("contrib_zero_debias_literal", zero_debias_literal),
  recipe("contrib_zero_debias_phase", zero_debias_phase),
  recipe("contrib_zero_debias_inplace_phase", zero_debias_inplace_phase),
  recipe("contrib_zero_debias_inplace_literal", zero_debias_inplace_literal),
  recipe("contrib_renorm_literal", renorm_literal),
  recipe("contrib_renorm_phase", renorm_phase),
  recipe("contrib_neither_literal", neither_literal),
  recipe("contrib_scale_only_phase", scale_only_phase),
  recipe("contrib_scale_only_unfused_literal", scale_only_unfused_literal),
  recipe("contrib_neither_unfused_phase", neither_unfused_phase),
  recipe("contrib_dense_literal", dense_literal),
  recipe("contrib_dense_phase", dense_phase),
  recipe("contrib_arg_scope_phase", arg_scope_phase),
  recipe("contrib_arg_scope_literal", arg_scope_literal),
  recipe("contrib_activation_inside", activation_inside),
  recipe("contrib_volume_phase", volume_phase),
  recipe("contrib_batch_weights", batch_weights),
  recipe("contrib_siamese_phase", siamese_phase),
  recipe("contrib_siamese_literal", siamese_literal),
  recipe("contrib_decay_placeholder", decay_placeholder),
  recipe("contrib_decay_schedule_inplace", decay_schedule_inplace),
  recipe("contrib_param_initializers", param_initializers),
  recipe("contrib_true_constant", true_constant),
  recipe("contrib_true_constant_unfused", true_constant_unfused),
  recipe(
    "contrib_variable_flag",
    variable_flag,
    kind="variable",
    values={"is_training": None},
  ),
  recipe("contrib_nchw_literal", nchw_literal, no_run_115=True),
  recipe("contrib_nchw_phase", nchw_phase, no_run_115=True),
)
