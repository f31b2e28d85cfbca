# SPDX-License-Identifier: Apache-2.0
"""The models of make.py's TF 1.15 checkpoints, written for any TensorFlow.

Where the original has layers of slim, tf.layers or tf.keras, these have
bnexport.layers and plain ops, with variables of the same names.
"""

import tensorflow.compat.v1 as tf

from bnexport import layers


def _conv(x, name, channels, stride=1, bias=False, kernel="weights"):
  with tf.variable_scope(name):
    shape = [3, 3, int(x.shape[3]), channels]
    x = tf.nn.conv2d(
      x, tf.get_variable(kernel, shape), [1, stride, stride, 1], "SAME"
    )
    return x + tf.get_variable("bias", [channels]) if bias else x


def _dense(x, name, units, names):
  with tf.variable_scope(name):
    kernel = tf.get_variable(names[0], [int(x.shape[1]), units])
    return tf.matmul(x, kernel) + tf.get_variable(names[1], [units])


def slim_net(x, is_training):
  for scope, channels, stride in (("conv1", 4, 1), ("conv2", 6, 2)):
    x = _conv(x, "net/" + scope, channels, stride)
    x = layers.batch_norm(
      x,
      decay=0.8,
      scale=scope == "conv1",
      is_training=is_training,
      activation_fn=tf.nn.relu,
      scope="net/%s/BatchNorm" % scope,
    )
  x = tf.reduce_mean(x, [1, 2])
  x = _dense(x, "net/logits", 3, ("weights", "biases"))
  tf.nn.softmax(x, name="answer")


def layers_net(x, is_training):
  x = _conv(x, "conv2d", 4, bias=True, kernel="kernel")
  x = tf.nn.relu(
    layers.batch_normalization(
      x, momentum=0.7, training=is_training, name="batch_normalization"
    )
  )
  x = _conv(x, "conv2d_1", 5, stride=2, kernel="kernel")
  x = tf.nn.relu(
    layers.batch_normalization(
      x,
      momentum=0.7,
      center=False,
      epsilon=1e-2,
      training=is_training,
      name="batch_normalization_1",
    )
  )
  x = _dense(tf.reduce_max(x, [1, 2]), "dense", 3, ("kernel", "bias"))
  tf.identity(x, name="answer")


def keras_net(image, is_training):
  x = _conv(image, "conv", 4, bias=True, kernel="kernel")
  x = tf.nn.relu(
    layers.batch_normalization(
      x, momentum=0.7, training=is_training, name="norm"
    )
  )
  x = tf.reduce_mean(x, [1, 2])
  x = layers.batch_normalization(
    x, momentum=0.7, training=is_training, name="head_norm"
  )
  tf.identity(_dense(x, "head", 3, ("kernel", "bias")), name="answer")
