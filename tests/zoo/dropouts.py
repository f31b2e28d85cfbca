# SPDX-License-Identifier: Apache-2.0
"""Dropout and noise beside norms."""

import tensorflow as tf

from tests.zoo.script import recipe


def _norm(h, name, training):
  return tf.layers.batch_normalization(h, training=training, name=name)


def _images(script):
  return script.input([None, 6, 6, 3])


def _net(script, training, drop):
  """Two norms; `drop(h, name)` after each activation."""
  x = script.x
  h = tf.layers.conv2d(x, 4, 3, 2, use_bias=False, name="conv1")
  h = drop(tf.nn.relu(_norm(h, "bn1", training)), "drop1")
  h = tf.layers.dense(tf.layers.flatten(h), 6, name="fc1")
  h = drop(tf.nn.relu(_norm(h, "bn2", training)), "drop2")
  return tf.layers.dense(h, 5, name="logits")


def layers_phase(script):
  _images(script)
  phase = script.phase()
  return _net(
    script,
    phase,
    lambda h, name: tf.layers.dropout(h, 0.4, training=phase, name=name),
  )


def layers_literal(script):
  _images(script)
  return _net(
    script,
    script.training,
    lambda h, name: tf.layers.dropout(
      h, 0.3, training=script.training, name=name
    ),
  )


def layers_if(script):
  """Control flow v2: the random op sits in a branch function."""
  tf.enable_control_flow_v2()
  tf.enable_resource_variables()
  return layers_phase(script)


def noise_shape(script):
  """Whole channels dropped, with a noise shape made from tf.shape."""
  _images(script)
  phase = script.phase()

  def drop(h, name):
    if h.shape.ndims != 4:
      return h
    return tf.layers.dropout(
      h, 0.4, name=name, training=phase, noise_shape=[tf.shape(h)[0], 1, 1, 4]
    )

  return _net(script, phase, drop)


def keep_prob(script):
  """tf.nn.dropout(h, keep_prob) with a placeholder that is not the phase."""
  _images(script)
  keep = script.value("keep_prob", 0.7, 1.0)
  return _net(
    script, script.phase(), lambda h, name: tf.nn.dropout(h, keep, name=name)
  )


def keep_prob_literal(script):
  """A literal norm, keep_prob fed: 1 is what inference means."""
  _images(script)
  keep = script.value("dropout/keep_prob", 0.6, 1.0, shape=None)
  return _net(
    script, script.training, lambda h, name: tf.nn.dropout(h, keep, name=name)
  )


def keep_prob_default(script):
  """keep_prob has the training default."""
  _images(script)
  keep = tf.placeholder_with_default(
    0.75 if script.training else 1.0, (), name="keep_probability"
  )
  return _net(
    script, script.training, lambda h, name: tf.nn.dropout(h, keep, name=name)
  )


def rate(script):
  """rate= instead of keep_prob=: 0 is inference."""
  _images(script)
  amount = script.value("dropout_rate", 0.4, 0.0)
  return _net(
    script,
    script.phase("train"),
    lambda h, name: tf.nn.dropout(h, rate=amount, name=name),
  )


def rate_literal(script):
  _images(script)
  amount = script.value("drop_rate", 0.25, 0.0)
  return _net(
    script,
    script.training,
    lambda h, name: tf.nn.dropout(h, rate=amount, name=name),
  )


def cond_keep_prob(script):
  """keep_prob chosen by the phase: tf.where(is_training, 0.5, 1.0)."""
  _images(script)
  phase = script.phase()
  keep = tf.where(phase, 0.5, 1.0, name="keep")
  return _net(script, phase, lambda h, name: tf.nn.dropout(h, keep, name=name))


def by_hand(script):
  """A Bernoulli mask, inverted scaling, in a cond."""
  _images(script)
  phase = script.phase()

  def drop(h, name):
    def mask():
      with tf.name_scope(name):
        draw = tf.random_uniform(tf.shape(h)) + 0.6
        return h * tf.floor(draw) / 0.6

    return tf.cond(phase, mask, lambda: h)

  return _net(script, phase, drop)


def by_hand_literal(script):
  """A mask by comparison, in the literal training graph."""
  _images(script)

  def drop(h, name):
    if not script.training:
      return h
    with tf.name_scope(name):
      keep = tf.cast(tf.random_uniform(tf.shape(h)) < 0.7, h.dtype)
      return tf.multiply(h / 0.7, keep)

  return _net(script, script.training, drop)


def gaussian_noise(script):
  """Additive noise under the flag, at the input and inside."""
  x = _images(script)
  phase = script.phase()

  def noisy(h, stddev):
    return tf.cond(
      phase, lambda: h + tf.random_normal(tf.shape(h), stddev=stddev), lambda: h
    )

  script.x, kept = noisy(x, 0.2), x
  logits = _net(script, phase, lambda h, name: noisy(h, 0.1))
  script.x = kept
  return logits


def in_loop(script):
  """Dropout on the state of a loop."""
  x = script.input([None, 6])
  phase = script.phase()
  h = tf.nn.relu(_norm(tf.layers.dense(x, 5, name="fc"), "bn", phase))
  w = tf.get_variable("w", [5, 5])

  def body(i, h):
    h = tf.layers.dropout(tf.tanh(tf.matmul(h, w)) + h, 0.3, training=phase)
    return i + 1, h

  _, h = tf.while_loop(
    lambda i, h: i < 3,
    body,
    [0, h],
    shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, 5])],
  )
  return tf.layers.dense(h, 4, name="logits")


def in_rnn(script):
  """DropoutWrapper with a keep_prob placeholder around a GRU."""
  x = script.input([None, 4, 3], "frames")
  keep = script.value("keep_prob", 0.8, 1.0)
  cell = tf.nn.rnn_cell.DropoutWrapper(
    tf.nn.rnn_cell.GRUCell(4), input_keep_prob=keep, output_keep_prob=keep
  )
  h = _norm(tf.layers.dense(x, 4, name="fc"), "bn", script.phase())
  outputs, _ = tf.nn.dynamic_rnn(cell, tf.tanh(h), dtype=tf.float32)
  return tf.layers.dense(outputs[:, -1], 4, name="logits")


def slim_dropout(script):
  """contrib.slim's dropout and norm under one arg_scope."""
  x = script.input([None, 9])
  slim = tf.contrib.slim
  phase = script.phase()
  with slim.arg_scope([slim.dropout, slim.batch_norm], is_training=phase):
    h = slim.fully_connected(x, 7, normalizer_fn=slim.batch_norm, scope="f1")
    h = slim.dropout(h, 0.6, scope="dropout")
    h = slim.fully_connected(h, 6, normalizer_fn=slim.batch_norm, scope="f2")
  return slim.fully_connected(h, 4, activation_fn=None, scope="logits")


RECIPES = (
  recipe("dropout_layers_phase", layers_phase),
  recipe("dropout_layers_literal", layers_literal),
  recipe("dropout_layers_if", layers_if),
  recipe("dropout_noise_shape", noise_shape),
  recipe("dropout_keep_prob_set", keep_prob, set={"keep_prob": 1.0}),
  recipe("dropout_keep_prob", keep_prob_literal),
  recipe("dropout_keep_prob_default", keep_prob_default),
  recipe("dropout_rate_set", rate, set={"dropout_rate": 0.0}),
  recipe("dropout_rate", rate_literal),
  recipe("dropout_where_keep_prob", cond_keep_prob),
  recipe("dropout_by_hand", by_hand),
  recipe("dropout_by_hand_literal", by_hand_literal),
  recipe("dropout_gaussian_noise", gaussian_noise),
  recipe("dropout_in_loop", in_loop),
  recipe("dropout_in_rnn", in_rnn),
  recipe("dropout_slim", slim_dropout),
)
