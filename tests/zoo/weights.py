# SPDX-License-Identifier: Apache-2.0
"""How weights are kept: savers, checkpoint formats, averages of weights."""

import tensorflow as tf

from tests.zoo import backbones
from tests.zoo.script import recipe


def _layers(script):
  def norm(h, name):
    return tf.layers.batch_normalization(h, training=script.training, name=name)

  return norm


def _logits(script):
  return backbones.conv_net(script.input([None, 6, 6, 3]), _layers(script))


def sharded(script):
  """Saver(sharded=True) over two devices: two data files."""
  x = script.input([None, 6, 6, 3])
  with tf.device("/cpu:1" if script.training else None):
    h = tf.layers.conv2d(x, 4, 3, name="conv1")
    h = tf.nn.relu(_layers(script)(h, "bn1"))
  with tf.device("/cpu:0" if script.training else None):
    h = tf.layers.conv2d(h, 4, 3, name="conv2")
    h = tf.nn.relu(_layers(script)(h, "bn2"))
    logits = tf.layers.dense(tf.reduce_mean(h, [1, 2]), 5, name="logits")
  if script.training:
    _save_after_step(script, logits, sharded=True)
  return logits


def format_v1(script):
  """The checkpoint format of TF 0.x: one file, no index."""
  logits = _logits(script)
  if script.training:
    _save_after_step(script, logits, write_version=tf.train.SaverDef.V1)
  return logits


def two_savers(script):
  """One Saver over everything, another over trainable variables."""
  logits = _logits(script)
  if script.training:
    tf.train.Saver(tf.trainable_variables(), name="pretrained")
    _save_after_step(script, logits, max_to_keep=3)
    tf.train.Saver(tf.global_variables(), name="best")
  return logits


def _save_after_step(script, output, **options):
  """Adds the training step now, so that a Saver sees its variables."""
  loss = script.default_loss(output)
  script.losses = [loss]
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    script.train_op = tf.train.MomentumOptimizer(0.01, 0.9).minimize(
      loss, tf.train.get_or_create_global_step()
    )
  script.saver = tf.train.Saver(**options)


def renamed(script):
  """Saver with a dict: names in the checkpoint are not the variables'."""
  logits = _logits(script)
  names = {
    "old/" + v.op.name.replace("bn", "BatchNorm_"): v
    for v in tf.global_variables()
  }
  if script.training:
    script.saver = tf.train.Saver(names)
  else:
    script.restore = names
  return logits


def moved_scope(script):
  """The network is in a scope that the checkpoint does not know."""
  x = script.input([None, 9])
  with tf.variable_scope("student"):
    logits = backbones.dense_net(x, _layers(script))
  names = {v.op.name[len("student/") :]: v for v in tf.global_variables()}
  if script.training:
    script.saver = tf.train.Saver(names)
  else:
    script.restore = names
  return logits


def average_trainable(script):
  """Shadows of all trainable variables; moving averages have none."""
  return _averaged(script, tf.trainable_variables)


def average_kernels(script):
  """Only kernels have shadows."""
  return _averaged(
    script,
    lambda: [v for v in tf.trainable_variables() if "kernel" in v.op.name],
  )


def average_everything(script):
  """Shadows of moving_mean and moving_variance as well."""
  return _averaged(
    script,
    lambda: (
      tf.trainable_variables()
      + [v for v in tf.global_variables() if "moving_" in v.op.name]
    ),
  )


def average_phase(script):
  """The same behind a phase placeholder, with contrib's in-place norms."""
  x = script.input([None, 6, 6, 3])
  phase = script.phase("phase_train")
  logits = backbones.conv_net(
    x,
    lambda h, name: tf.contrib.layers.batch_norm(
      h, is_training=phase, scale=True, updates_collections=None, scope=name
    ),
  )
  return _averaged(script, tf.trainable_variables, logits)


def _averaged(script, of, logits=None):
  """Adds an average of weights to the training step."""
  logits = logits if logits is not None else _logits(script)
  step = tf.train.get_or_create_global_step()
  average = tf.train.ExponentialMovingAverage(0.99, step)
  chosen = of()
  if not script.training:
    # What tf.train.ExponentialMovingAverage documents for evaluation.
    names = {v.op.name: v for v in tf.global_variables() if v is not step}
    for variable in chosen:
      del names[variable.op.name]
      names[average.average_name(variable)] = variable
    script.restore = names
    return logits
  loss = script.default_loss(logits)
  script.losses = [loss]
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    applied = tf.train.AdamOptimizer(0.01).minimize(loss, step)
  with tf.control_dependencies([applied]):
    script.train_op = average.apply(chosen)
  return logits


def average_ignored(script):
  """Shadows exist and nobody asks for them: raw weights are the answer."""
  logits = _logits(script)
  if script.training:
    return _averaged(script, tf.trainable_variables, logits)
  return logits


def quantize_nodes(script):
  """Fake quantization of weights and activations beside the norms."""
  x = script.input([None, 6, 6, 3])

  def quantized(t, low, high):
    return tf.quantization.fake_quant_with_min_max_args(t, low, high)

  k = tf.get_variable("k", [3, 3, 3, 4])
  h = tf.nn.conv2d(x, quantized(k, -2.0, 2.0), 1, "SAME")
  h = quantized(tf.nn.relu6(_layers(script)(h, "bn1")), 0.0, 6.0)
  h = tf.layers.conv2d(h, 4, 3, name="conv2")
  h = tf.nn.relu6(_layers(script)(h, "bn2"))
  return tf.layers.dense(tf.reduce_mean(h, [1, 2]), 5, name="logits")


def shared_kernel(script):
  """One kernel under two norms, one of the convolutions also an output."""
  x = script.input([None, 6, 6, 3])
  k = tf.get_variable("k", [3, 3, 3, 4])
  a = tf.nn.conv2d(x, k, 1, "VALID", name="features")
  b = tf.nn.conv2d(-x, k, 1, "VALID")
  a_out = tf.nn.relu(_layers(script)(a, "bn_a"))
  b_out = tf.nn.relu(_layers(script)(b, "bn_b"))
  h = tf.reduce_mean(tf.concat([a_out, b_out], 3), [1, 2])
  return [tf.layers.dense(h, 5, name="logits"), a]


RECIPES = (
  recipe("weights_sharded", sharded),
  recipe("weights_format_v1", format_v1),
  recipe("weights_two_savers", two_savers),
  recipe("weights_renamed", renamed),
  recipe("weights_moved_scope", moved_scope),
  recipe("weights_average_trainable", average_trainable, ema=True),
  recipe("weights_average_kernels", average_kernels, ema=True),
  recipe("weights_average_everything", average_everything, ema=True),
  recipe("weights_average_phase", average_phase, ema=True, undecided=True),
  recipe("weights_average_ignored", average_ignored),
  recipe("weights_quantize_nodes", quantize_nodes),
  recipe("weights_shared_kernel", shared_kernel),
)
