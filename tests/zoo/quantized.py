# SPDX-License-Identifier: Apache-2.0
"""Quantization-aware training, and what fused norms hand out."""

import tensorflow as tf
from tensorflow.contrib import quantize
from tensorflow.contrib.quantize.python import fold_batch_norms

from tests.zoo.script import recipe

_BEGUN = {"fake_quantization_step": 5000}
# What a step of training leaves in the ranges; weights are drawn anew later.
_RANGES = {
  "weights_quant/min": -0.75,
  "weights_quant/max": 0.875,
  "act_quant/min": -1.75,
  "act_quant/max": 4.25,
  "/biased": None,
  "/local_step": None,
}


def _slim(script, fused=True, **options):
  """Options of the contrib layers: a norm after each, for quantizing."""
  norm = dict(is_training=script.training, fused=fused, scale=True, decay=0.9)
  norm.update(options)
  return dict(
    normalizer_fn=tf.contrib.layers.batch_norm,
    normalizer_params=norm,
    activation_fn=tf.nn.relu6,
  )


def _images(script, batch=None):
  return script.input([batch, 6, 6, 3])


def _net(script, h, **options):
  layers = tf.contrib.layers
  with tf.contrib.framework.arg_scope(
    [layers.conv2d], **_slim(script, **options)
  ):
    h = layers.conv2d(h, 4, 3, scope="c1")
    h = layers.conv2d(h, 6, 3, 2, scope="c2")
  return _logits(tf.reshape(h, [-1, 54]))


def _logits(h):
  return tf.contrib.layers.fully_connected(h, 5, None, scope="fc")


def _quantized(script, output, **options):
  """Rewrites the graph as the script's phase has it; returns the output.

  Its reader is what the rewriter hands the quantized values to.
  """
  output = tf.identity(output, name="quantized")
  if script.training:
    quantize.experimental_create_training_graph(
      tf.get_default_graph(), **options
    )
  else:
    for of_training in ("quant_delay", "freeze_bn_delay"):
      options.pop(of_training, None)
    quantize.experimental_create_eval_graph(tf.get_default_graph(), **options)
    script.restore = tf.global_variables()
  return output


def default(script):
  """tf.contrib.quantize.create_training_graph as most call it."""
  output = tf.identity(_net(script, _images(script)), name="quantized")
  if script.training:
    quantize.create_training_graph(quant_delay=0)
  else:
    quantize.create_eval_graph()
  return output


def delay_over(script):
  return _quantized(script, _net(script, _images(script)), quant_delay=100)


def norms_frozen(script):
  """The norms already use their averages while training."""
  output = _net(script, _images(script))
  return _quantized(script, output, quant_delay=10, freeze_bn_delay=100)


def norms_not_frozen(script):
  output = _net(script, _images(script))
  return _quantized(script, output, quant_delay=10, freeze_bn_delay=100000)


def symmetric(script):
  output = _net(script, _images(script))
  return _quantized(
    script, output, symmetric=True, weight_bits=7, activation_bits=6
  )


def unfused(script):
  output = _net(script, _images(script), fused=False)
  return _quantized(script, output)


def fixed_batch(script):
  """Bessel's correction is taken back by constants."""
  return _quantized(script, _net(script, _images(script, 6)))


def depthwise(script):
  layers = tf.contrib.layers
  h = layers.conv2d(_images(script), 4, 3, scope="c1", **_slim(script))
  h = layers.separable_conv2d(h, None, 3, 1, scope="d1", **_slim(script))
  h = layers.conv2d(h, 6, 1, scope="p1", **_slim(script))
  return _quantized(script, _logits(tf.reduce_mean(h, [1, 2])))


def dense(script):
  layers = tf.contrib.layers
  h = script.input([None, 10])
  h = layers.fully_connected(h, 8, scope="f1", **_slim(script))
  h = layers.fully_connected(h, 6, scope="f2", **_slim(script))
  return _quantized(script, _logits(h))


def mobile(script):
  """Ends in quantized values, as converters to TFLite ask."""
  layers = tf.contrib.layers
  h = layers.conv2d(_images(script), 4, 3, scope="c1", **_slim(script))
  h = layers.separable_conv2d(h, None, 3, 1, scope="d1", **_slim(script))
  h = layers.conv2d(h, 5, 1, scope="p1", **_slim(script))
  _quantized(script, h, quant_delay=10)
  (output,) = [
    op.outputs[0]
    for op in h.consumers()
    if op.type == "FakeQuantWithMinMaxVars"
  ]
  return output


def residual(script):
  layers = tf.contrib.layers
  h = layers.conv2d(_images(script), 4, 3, scope="c1", **_slim(script))
  options = dict(_slim(script), activation_fn=None)
  other = layers.conv2d(h, 4, 3, scope="c2", **options)
  h = tf.nn.relu6(h + other)
  h = tf.concat([h, tf.nn.relu(other)], 3)
  return _quantized(script, _logits(tf.reduce_mean(h, [1, 2])))


def resource(script):
  tf.enable_resource_variables()
  return _quantized(script, _net(script, _images(script)), quant_delay=10)


def layers(script):
  """tf.layers, whose updates wait in a collection."""

  def norm(h, name):
    h = tf.layers.batch_normalization(
      h, training=script.training, name=name + "_norm", fused=True
    )
    return tf.nn.relu6(h)

  h = tf.layers.conv2d(_images(script), 4, 3, use_bias=False, name="c1")
  h = tf.layers.conv2d(norm(h, "c1"), 6, 3, use_bias=False, name="c2")
  h = tf.layers.flatten(norm(h, "c2"))
  return _quantized(script, tf.layers.dense(h, 5, name="fc"))


def fold_only(script):
  """The first half of the rewriter."""
  output = _net(script, _images(script))
  if script.training:
    fold_batch_norms.FoldBatchNorms(tf.get_default_graph(), is_training=True)
  return output


def fold_frozen(script):
  output = _net(script, _images(script))
  if script.training:
    fold_batch_norms.FoldBatchNorms(
      tf.get_default_graph(), is_training=True, freeze_batch_norm_delay=100
    )
  return output


def _range(name):
  return [
    tf.get_variable(
      f"{name}/{end}", [], trainable=False, initializer=tf.zeros_initializer()
    )
    for end in ("lo", "hi")
  ]


def _by_hand(script, h, name, update):
  """A range kept by `update(variable, value)`, which gives what is stored."""
  lo, hi = _range(name)
  ends = lo, hi
  if script.training:
    ends = [
      update(end, value)
      for end, value in zip(ends, (tf.reduce_min(h), tf.reduce_max(h)))
    ]
  return tf.fake_quant_with_min_max_vars(h, *ends, num_bits=8)


def _hand_net(script, update):
  h = tf.layers.conv2d(_images(script), 4, 3, use_bias=False, name="c1")
  h = tf.nn.relu(
    tf.layers.batch_normalization(h, training=script.training, name="n1")
  )
  h = _by_hand(script, h, "q1", update)
  h = tf.layers.dense(tf.layers.flatten(h), 5, name="fc")
  return _by_hand(script, h, "q2", update)


_HAND_RANGES = {
  "q1/lo": -0.25,
  "q1/hi": 5.0,
  "q2/lo": -3.0,
  "q2/hi": 3.5,
}


def hand_average(script):
  def update(variable, value):
    return variable.assign(0.9 * variable + 0.1 * value)

  return _hand_net(script, update)


def hand_waits(script):
  """A read waits for the update of what it reads."""

  def update(variable, value):
    written = tf.assign_sub(variable, 0.1 * (variable - value))
    with tf.control_dependencies([written]):
      return tf.identity(variable)

  return _hand_net(script, update)


def hand_running(script):
  """The widest range ever met."""

  def update(variable, value):
    widest = tf.minimum if variable.op.name.endswith("lo") else tf.maximum
    return tf.assign(variable, widest(variable, value))

  return _hand_net(script, update)


def hand_phase(script):
  """The range is updated inside of a conditional."""
  phase = script.phase()

  def update(variable, value):
    return tf.cond(
      phase,
      lambda: tf.assign(variable, 0.9 * variable + 0.1 * value),
      lambda: tf.identity(variable),
    )

  h = tf.layers.conv2d(_images(script), 4, 3, use_bias=False, name="c1")
  h = tf.nn.relu(tf.layers.batch_normalization(h, training=phase, name="n1"))
  h = _by_hand(script, h, "q1", update)
  return tf.layers.dense(tf.layers.flatten(h), 5, name="fc")


def per_channel(script):
  """A range for each column of the weights."""
  lo, hi = (
    tf.get_variable(end, [5], trainable=False, initializer=value)
    for end, value in (
      ("q_lo", tf.constant_initializer(-1.0)),
      ("q_hi", tf.constant_initializer(1.0)),
    )
  )
  h = tf.layers.conv2d(_images(script), 4, 3, use_bias=False, name="c1")
  h = tf.layers.batch_normalization(h, training=script.training, name="n1")
  h = tf.layers.flatten(tf.nn.relu(h))
  weights = tf.get_variable("weights", [64, 5])
  ends = lo, hi
  if script.training:
    ends = (
      tf.assign(lo, tf.reduce_min(weights, 0)),
      tf.assign(hi, tf.reduce_max(weights, 0)),
    )
  weights = tf.fake_quant_with_min_max_vars_per_channel(weights, *ends)
  return tf.matmul(h, weights, name="logits")


def _handed_out(script, use):
  """A fused norm whose statistics are read as well as its result."""
  h = tf.layers.conv2d(_images(script), 4, 3, use_bias=False, name="c1")
  other = tf.layers.conv2d(script.x, 4, 3, name="c2")
  ones = tf.ones_initializer()
  gamma = tf.get_variable("gamma", [4], initializer=ones)
  beta = tf.get_variable("beta", [4], initializer=tf.zeros_initializer())
  stored = [
    tf.get_variable(n, [4], trainable=False, initializer=ones)
    for n in ("avg_mean", "avg_variance")
  ]
  if script.training:
    y, mean, variance = tf.nn.fused_batch_norm(h, gamma, beta, epsilon=1e-3)
    for variable, value in zip(stored, (mean, variance)):
      tf.add_to_collection(
        tf.GraphKeys.UPDATE_OPS,
        tf.assign(variable, 0.9 * variable + 0.1 * value),
      )
    size = tf.cast(tf.size(h) / tf.size(mean), tf.float32)
  else:
    y, _, _ = tf.nn.fused_batch_norm(
      h, gamma, beta, *stored, epsilon=1e-3, is_training=False
    )
    (mean, variance), size = stored, None
  y = use(tf.nn.relu(y), other, mean, variance, size)
  return tf.layers.dense(tf.reduce_mean(y, [1, 2]), 5, name="logits")


def handed_out(script):
  """The statistics of one branch normalise another one."""

  def use(y, other, mean, variance, size):
    del size
    return y + tf.nn.relu((other - mean) * tf.rsqrt(variance + 1e-3))

  return _handed_out(script, use)


def handed_out_corrected(script):
  """With Bessel's correction taken back in three ways."""

  def use(y, other, mean, variance, size):
    biased = [variance] * 3
    if size is not None:
      biased = [
        variance * (size - 1) / size,
        variance * (1 - 1 / size),
        (size - 1) * (variance / size),
      ]
    for i, one in enumerate(biased):
      y += tf.nn.relu((other * (i + 1) - mean) * tf.rsqrt(one + 1e-3))
    return y

  return _handed_out(script, use)


def handed_out_features(script):
  """The deviation itself is a feature."""

  def use(y, other, mean, variance, size):
    del size
    return tf.concat([y * tf.sqrt(variance), tf.nn.relu(other) * mean], 3)

  return _handed_out(script, use)


def _quant(name, model, **fields):
  values = dict(_RANGES, **fields.pop("values", {}))
  return recipe("quant_" + name, model, values=values, **fields)


def _hand(name, model, **fields):
  return recipe("quant_" + name, model, values=_HAND_RANGES, **fields)


RECIPES = [
  _quant("default", default),
  _quant("delay_over", delay_over, values=_BEGUN),
  _quant("norms_frozen", norms_frozen, values=_BEGUN),
  _quant("norms_not_frozen", norms_not_frozen, values=_BEGUN),
  _quant(
    "delay_set",
    delay_over,
    values={"fake_quantization_step": 3},
    set={"fake_quantization_step": 100},
  ),
  _quant("symmetric", symmetric),
  _quant("unfused", unfused),
  _quant("fixed_batch", fixed_batch, joint=True),
  _quant("depthwise", depthwise),
  _quant("mobile", mobile, values=_BEGUN),
  _quant("dense", dense),
  _quant("residual", residual),
  _quant("resource", resource, values=_BEGUN),
  _quant("layers", layers),
  _quant("fold_only", fold_only),
  _quant("fold_frozen", fold_frozen, values=_BEGUN, same=True),
  _hand("hand_average", hand_average),
  _hand("hand_waits", hand_waits),
  _hand("hand_running", hand_running),
  _hand("hand_phase", hand_phase),
  recipe("quant_per_channel", per_channel),
  recipe("handed_out", handed_out),
  recipe("handed_out_corrected", handed_out_corrected),
  recipe("handed_out_features", handed_out_features),
  _quant(
    "refuse_delay",
    delay_over,
    values={"fake_quantization_step": 3},
    expect="refuse",
  )._replace(name="refuse_quant_delay"),
]
