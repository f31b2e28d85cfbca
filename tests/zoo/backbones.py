# SPDX-License-Identifier: Apache-2.0
"""Small networks that take the norm as an argument.

`norm(h, name)` is called two or three times in each; every network ends in
something that is not a norm.
"""

import tensorflow as tf


def conv_net(x, norm, activation=tf.nn.relu, use_bias=False):
  """[N, 6, 6, C] to 5 logits; two norms."""
  h = tf.layers.conv2d(x, 4, 3, padding="same", use_bias=use_bias, name="conv1")
  h = activation(norm(h, "bn1"))
  h = tf.layers.conv2d(h, 6, 3, strides=2, use_bias=use_bias, name="conv2")
  h = activation(norm(h, "bn2"))
  h = tf.reduce_mean(h, [1, 2], name="pool")
  return tf.layers.dense(h, 5, name="logits")


def dense_net(x, norm):
  """[N, C] to 4 logits; two norms, the second in front of the activation."""
  h = tf.nn.relu(norm(tf.layers.dense(x, 7, name="fc1"), "bn1"))
  h = tf.tanh(norm(tf.layers.dense(h, 6, use_bias=False, name="fc2"), "bn2"))
  return tf.layers.dense(h, 4, name="scores")


def residual_net(x, norm):
  """Pre-activation unit: a convolution is read by norm and by shortcut."""
  h = tf.layers.conv2d(x, 4, 3, padding="same", use_bias=False, name="stem")
  shortcut = h
  h = tf.nn.relu(norm(h, "preact"))
  h = tf.layers.conv2d(h, 4, 3, padding="same", use_bias=False, name="a")
  h = tf.nn.relu(norm(h, "mid"))
  h = tf.layers.conv2d(h, 4, 3, padding="same", name="b") + shortcut
  h = tf.nn.relu(norm(h, "post"))
  h = tf.layers.flatten(tf.layers.max_pooling2d(h, 2, 2))
  return tf.nn.softmax(tf.layers.dense(h, 5, name="fc"), name="prob")


def branch_net(x, norm):
  """Two branches, concatenated, normed together."""
  a = tf.layers.conv2d(x, 3, 1, name="branch1")
  a = tf.nn.leaky_relu(norm(a, "norm1"), 0.1)
  b = tf.layers.conv2d(x, 3, 3, padding="same", name="branch2")
  b = tf.nn.leaky_relu(norm(b, "norm2"), 0.1)
  h = norm(tf.concat([a, b], 3, name="join"), "norm3")
  h = tf.layers.average_pooling2d(tf.nn.relu6(h), 2, 2)
  h = tf.layers.conv2d(h, 2, 3, name="map")
  return tf.sigmoid(h, name="heatmap")


def sequence_net(x, norm):
  """[N, T, C] through 1-D convolutions."""
  h = tf.nn.relu(norm(tf.layers.conv1d(x, 5, 3, name="conv1"), "bn1"))
  h = tf.layers.conv1d(h, 4, 3, padding="same", use_bias=False, name="conv2")
  h = tf.nn.elu(norm(h, "bn2"))
  return tf.layers.dense(tf.reduce_max(h, 1), 3, name="out")


def volume_net(x, norm):
  """[N, D, H, W, C] through 3-D convolutions."""
  h = tf.layers.conv3d(x, 3, 3, padding="same", name="conv1")
  h = tf.nn.relu(norm(h, "bn1"))
  h = tf.layers.max_pooling3d(h, 2, 2)
  h = tf.layers.conv3d(h, 4, 2, use_bias=False, name="conv2")
  h = tf.nn.relu(norm(h, "bn2"))
  return tf.layers.dense(tf.layers.flatten(h), 4, name="logits")
