# SPDX-License-Identifier: Apache-2.0
"""Networks whose answers hide what is wrong behind them."""

import tensorflow as tf

from tests.zoo.script import recipe


def _block(h, channels, name, phase, side=3):
  h = tf.layers.conv2d(h, channels, side, use_bias=False, name=name)
  h = tf.layers.batch_normalization(h, training=phase, name=name + "_bn")
  return tf.nn.relu(h)


def _dense(h, channels, name, phase):
  h = tf.layers.dense(h, channels, use_bias=False, name=name)
  h = tf.layers.batch_normalization(h, training=phase, name=name + "_bn")
  return tf.nn.relu(h)


def _features(script, phase):
  x = script.input([None, 6, 6, 3])
  h = _block(_block(x, 4, "c1", phase), 5, "c2", phase)
  return tf.layers.flatten(h)


def argmax(script):
  """Nothing but class numbers."""
  phase = script.phase()
  logits = tf.layers.dense(_features(script, phase), 9, name="logits")
  script.losses.append(script.default_loss(logits))
  return tf.argmax(logits, 1, name="label")


def argmax_literal(script):
  """The same, as int32, from a graph that is for training only."""
  h = _features(script, script.training)
  logits = tf.layers.dense(h, 5, name="logits")
  script.losses.append(script.default_loss(logits))
  return tf.argmax(logits, 1, name="label", output_type=tf.int32)


def thousand_classes(script):
  """No probability is far from a thousandth."""
  phase = script.phase()
  h = _dense(script.input([None, 6]), 5, "fc1", phase)
  h = _dense(h, 4, "fc2", phase)
  return tf.nn.softmax(tf.layers.dense(h, 1000, name="logits"), name="prob")


def two_heads(script):
  """Each head has a norm of its own."""
  phase = script.phase()
  h = _features(script, phase)
  label = tf.layers.dense(_dense(h, 4, "a", phase), 5, name="label")
  age = tf.layers.dense(_dense(h, 4, "b", phase), 1, name="age")
  return [tf.nn.softmax(label, name="prob"), tf.identity(age, name="years")]


def boxes_and_scores(script):
  """Pixels and probabilities in one tensor."""
  phase = script.phase()
  h = _features(script, phase)
  boxes = tf.layers.dense(_dense(h, 4, "a", phase), 4, name="boxes")
  score = tf.layers.dense(_dense(h, 4, "b", phase), 2, name="score")
  found = tf.concat([300.0 + 100.0 * boxes, tf.sigmoid(score)], 1)
  return tf.identity(found, name="detections")


def embedding(script):
  """Words of which a text names a few."""
  phase = script.phase()
  words = script.input([None, 5], "words", tf.int32, high=40)
  table = tf.get_variable("table", [40, 4])
  h = tf.reduce_sum(tf.nn.embedding_lookup(table, words), 1)
  return tf.layers.dense(_dense(h, 5, "fc", phase), 3, name="scores")


def bytes_relu(script):
  """Pictures of bytes, of which nobody takes a mean before."""
  phase = script.phase()
  x = script.input([None, 6, 6, 3], "raw", tf.uint8)
  h = tf.cast(x, tf.float32) / 255.0
  h = tf.reduce_mean(_block(h, 4, "c1", phase), [1, 2])
  return tf.layers.dense(_dense(h, 5, "fc", phase), 3, name="logits")


def bytes_labels(script):
  """Bytes in, and for each pixel the number of its class."""
  phase = script.phase()
  x = script.input([None, 6, 6, 3], "raw", tf.uint8)
  h = (tf.cast(x, tf.float32) - 127.5) / 127.5
  h = _block(_block(h, 4, "c1", phase), 4, "c2", phase, 1)
  logits = tf.layers.conv2d(h, 3, 1, name="logits")
  script.losses.append(script.default_loss(logits))
  return tf.argmax(logits, 3, name="mask")


def deep_relu(script):
  """Dense layers in a row, each behind a ReLU."""
  phase = script.phase()
  h = script.input([None, 7])
  for i in range(3):
    h = _dense(h, 9, "fc%d" % i, phase)
  return tf.layers.dense(h, 2, name="y")


def relu_last(script):
  """The answer itself is behind a ReLU."""
  phase = script.phase()
  return _dense(_features(script, phase), 6, "features", phase)


RECIPES = (
  recipe("answer_argmax", argmax),
  recipe("answer_argmax_literal", argmax_literal),
  recipe("answer_thousand_classes", thousand_classes),
  recipe("answer_two_heads", two_heads),
  recipe("answer_boxes_and_scores", boxes_and_scores),
  recipe("answer_embedding", embedding),
  recipe("answer_bytes_relu", bytes_relu),
  recipe("answer_bytes_labels", bytes_labels),
  recipe("answer_deep_relu", deep_relu),
  recipe("answer_relu_last", relu_last),
)
