# SPDX-License-Identifier: Apache-2.0
"""Batch norm by hand: the formula and what is tracked, in many spellings.

Every norm here is `_tracked` around a formula: which statistics the batch
has, and what is done with them, are the two things that vary.
"""

import tensorflow as tf
from tensorflow.python.ops import gen_nn_ops

from tests.zoo import backbones
from tests.zoo.script import recipe

EPSILON = 1e-3


def _axes(h):
  return list(range(h.shape.ndims - 1))


def _tracked(script, phase, stored, batch):
  """Batch statistics and their averages, as training and inference use them.

  Args:
    script: the Script.
    phase: a bool tensor, or None where Python decides.
    stored: the variables.
    batch: function without arguments, giving as many tensors.

  Returns:
    The tensors in use.
  """

  def training():
    new = batch()
    updates = [
      tf.assign(s, 0.9 * s + 0.1 * tf.reshape(n, s.shape))
      for s, n in zip(stored, new)
    ]
    with tf.control_dependencies(updates):
      return [tf.identity(n) for n in new]

  if phase is None:
    return training() if script.training else list(stored)
  return tf.cond(phase, training, lambda: [tf.identity(s) for s in stored])


def _variables(h, names=("avg_mean", "avg_var"), shape=None):
  shape = shape or h.shape[-1:]
  return [
    tf.get_variable(
      n, shape, trainable=False, initializer=tf.ones_initializer()
    )
    for n in names
  ]


def _affine(h):
  size = h.shape[-1:]
  return tf.get_variable("b", size), tf.get_variable("g", size)


def _make(
  script,
  formula,
  backbone=backbones.conv_net,
  phase=None,
  batch=None,
  names=("avg_mean", "avg_var"),
):
  """A network whose norms all follow `formula(h, stats, beta, gamma)`."""
  x = script.x
  if x is None:
    x = script.input(
      [None, 9] if backbone is backbones.dense_net else [None, 6, 6, 3]
    )

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      moments = batch or (lambda t: tf.nn.moments(t, _axes(t)))
      stats = _tracked(script, phase, _variables(h, names), lambda: moments(h))
      return formula(h, stats, beta, gamma)

  return backbone(x, norm)


def divide_sqrt(script):
  return _make(
    script,
    lambda h, s, b, g: tf.add(
      tf.multiply(g, tf.divide(h - s[0], tf.sqrt(s[1] + EPSILON))), b
    ),
  )


def divide_sqrt_phase(script):
  script.input([None, 9])
  return _make(
    script,
    lambda h, s, b, g: g * (h - s[0]) / tf.sqrt(EPSILON + s[1]) + b,
    backbones.dense_net,
    script.phase(),
  )


def rsqrt_product(script):
  return _make(
    script,
    lambda h, s, b, g: b + (h - s[0]) * (tf.rsqrt(s[1] + EPSILON) * g),
    backbones.branch_net,
  )


def power(script):
  """tf.pow(var + eps, -0.5)."""
  return _make(
    script,
    lambda h, s, b, g: (h - s[0]) * tf.pow(s[1] + EPSILON, -0.5) * g + b,
    backbones.residual_net,
  )


def scale_and_shift(script):
  """x * inv + (beta - mean * inv), as one multiply-add."""

  def formula(h, s, b, g):
    inverse = g / tf.sqrt(s[1] + EPSILON)
    return h * inverse + (b - s[0] * inverse)

  script.input([None, 6, 6, 3])
  return _make(script, formula, backbones.conv_net, script.phase("train"))


def no_affine_plain(script):
  """Whitening only; scale and shift come in the activation."""
  return _make(
    script,
    lambda h, s, b, g: (
      tf.nn.relu(tf.realdiv(h - s[0], tf.sqrt(s[1] + EPSILON))) * g - b
    ),
  )


def bias_add(script):
  """Shift by BiasAdd, scale by a product in front of the centring."""
  return _make(
    script,
    lambda h, s, b, g: tf.nn.bias_add(
      tf.subtract(h, s[0]) * (g * tf.rsqrt(s[1] + EPSILON)), b
    ),
  )


def stddev_tracked(script):
  """The average is of the standard deviation."""

  def batch(h):
    mean, var = tf.nn.moments(h, _axes(h))
    return mean, tf.sqrt(var + EPSILON)

  return _make(
    script,
    lambda h, s, b, g: (h - s[0]) / s[1] * g + b,
    batch=batch,
    names=("avg_mean", "avg_stddev"),
  )


def second_moment_tracked(script):
  """E[x] and E[x^2] are tracked; the variance is made from them."""

  def batch(h):
    return tf.reduce_mean(h, _axes(h)), tf.reduce_mean(tf.square(h), _axes(h))

  def formula(h, s, b, g):
    var = tf.maximum(s[1] - tf.square(s[0]), 0.05)
    return tf.nn.batch_normalization(h, s[0], var, b, g, EPSILON)

  script.input([None, 6, 6, 3])
  return _make(
    script,
    formula,
    backbones.conv_net,
    script.phase(),
    batch,
    ("mean_ema", "square_ema"),
  )


def by_reduce_mean(script):
  """Moments spelled out: reduce_mean and squared_difference."""

  def batch(h):
    mean = tf.reduce_mean(h, _axes(h))
    return mean, tf.reduce_mean(tf.squared_difference(h, mean), _axes(h))

  return _make(
    script,
    lambda h, s, b, g: (h - s[0]) * tf.rsqrt(s[1] + EPSILON) * g + b,
    backbones.branch_net,
    batch=batch,
  )


def by_difference_of_squares(script):
  """var = E[x^2] - mean^2 of the batch; the variance is tracked."""

  def batch(h):
    mean = tf.reduce_mean(h, _axes(h))
    return mean, tf.reduce_mean(h * h, _axes(h)) - mean * mean

  script.input([None, 6, 6, 3])
  return _make(
    script,
    lambda h, s, b, g: tf.nn.batch_normalization(h, s[0], s[1], b, g, EPSILON),
    phase=script.phase(),
    batch=batch,
  )


def by_sufficient_statistics(script):
  """sufficient_statistics and normalize_moments."""

  def batch(h):
    count, total, squares, shift = tf.nn.sufficient_statistics(
      h, _axes(h), shift=tf.zeros([])
    )
    return tf.nn.normalize_moments(count, total, squares, shift)

  return _make(
    script,
    lambda h, s, b, g: tf.nn.batch_normalization(h, s[0], s[1], b, g, EPSILON),
    batch=batch,
  )


def by_sums(script):
  """Sums divided by a count that is read off the shape."""

  def batch(h):
    count = tf.cast(tf.size(h[..., :1]), tf.float32)
    mean = tf.reduce_sum(h, _axes(h)) / count
    return mean, tf.reduce_sum(tf.square(h - mean), _axes(h)) / count

  return _make(
    script,
    lambda h, s, b, g: g * (h - s[0]) / tf.sqrt(s[1] + EPSILON) + b,
    backbones.dense_net,
    batch=batch,
  )


def flattened_rows(script):
  """Images are normed as a [N*H*W, C] matrix and shaped back."""
  x = script.input([None, 6, 6, 3])
  phase = script.phase()

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      rows = tf.reshape(h, [-1, int(h.shape[-1])])
      stats = _tracked(
        script, phase, _variables(h), lambda: tf.nn.moments(rows, [0])
      )
      out = tf.nn.batch_normalization(
        rows, stats[0], stats[1], beta, gamma, EPSILON
      )
      return tf.reshape(out, [-1] + h.shape.as_list()[1:])

  return backbones.conv_net(x, norm)


def kept_dimensions(script):
  """keep_dims moments; averages of shape [1, 1, 1, C]."""
  x = script.input([None, 6, 6, 3])

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      stats = _tracked(
        script,
        None,
        _variables(h, shape=[1, 1, 1, int(h.shape[-1])]),
        lambda: tf.nn.moments(h, [0, 1, 2], keep_dims=True),
      )
      return tf.nn.batch_normalization(
        h, stats[0], stats[1], beta, gamma, EPSILON
      )

  return backbones.residual_net(x, norm)


def per_position(script):
  """Moments over the batch only: statistics of shape [H, W, C]."""
  x = script.input([None, 4, 4, 3])
  phase = script.phase()
  h = tf.layers.conv2d(x, 4, 3, padding="same", name="conv")
  with tf.variable_scope("bn"):
    stats = _tracked(
      script,
      phase,
      _variables(h, shape=[4, 4, 4]),
      lambda: tf.nn.moments(h, [0]),
    )
    beta, gamma = _affine(h)
    h = tf.nn.relu(
      tf.nn.batch_normalization(h, stats[0], stats[1], beta, gamma, EPSILON)
    )
  return tf.layers.dense(tf.layers.flatten(h), 4, name="logits")


def global_function(script):
  """tf.nn.batch_norm_with_global_normalization, decomposed since TF 1.0."""
  return _make(
    script,
    lambda h, s, b, g: tf.nn.batch_norm_with_global_normalization(
      h, s[0], s[1], b, g, EPSILON, scale_after_normalization=True
    ),
  )


def global_legacy_op(script):
  """The legacy op itself, as graphs of 2016 hold it."""
  # TF refuses the op in a graph whose producer is 9 or later; a graph takes
  # the producer of what is imported into it first.
  old = tf.GraphDef()
  old.versions.producer = 8
  tf.import_graph_def(old, name="")
  x = script.input([None, 6, 6, 3])

  def norm(h, name):
    with tf.variable_scope(name):
      beta, gamma = _affine(h)
      stats = _tracked(
        script, None, _variables(h), lambda: tf.nn.moments(h, [0, 1, 2])
      )
      return gen_nn_ops._batch_norm_with_global_normalization(
        t=h,
        m=stats[0],
        v=stats[1],
        beta=beta,
        gamma=gamma,
        variance_epsilon=EPSILON,
        scale_after_normalization=name == "bn1",
      )

  return backbones.conv_net(x, norm)


RECIPES = (
  recipe("formula_divide_sqrt", divide_sqrt),
  recipe("formula_divide_sqrt_phase", divide_sqrt_phase),
  recipe("formula_rsqrt", rsqrt_product),
  recipe("formula_power", power),
  recipe("formula_scale_and_shift", scale_and_shift),
  recipe("formula_relu_inside", no_affine_plain),
  recipe("formula_bias_add", bias_add),
  recipe("formula_stddev_tracked", stddev_tracked),
  recipe("formula_second_moment_tracked", second_moment_tracked),
  recipe("formula_reduce_mean", by_reduce_mean),
  recipe("formula_difference_of_squares", by_difference_of_squares),
  recipe("formula_sufficient_statistics", by_sufficient_statistics),
  recipe("formula_sums", by_sums),
  recipe("formula_flattened_rows", flattened_rows),
  recipe("formula_kept_dimensions", kept_dimensions),
  recipe("formula_per_position", per_position),
  recipe("formula_global_function", global_function),
  recipe("formula_global_legacy_op", global_legacy_op),
)
