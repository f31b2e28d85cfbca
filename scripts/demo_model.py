# SPDX-License-Identifier: Apache-2.0
"""A small TF1 network with batch norm, and a training script for it.

  python scripts/demo_model.py DIRECTORY

trains it on made-up pictures and saves DIRECTORY/model.ckpt with its .meta,
in the way that TF1 training code did.
"""

import os
import sys

import numpy as np
import tensorflow.compat.v1 as tf

MOMENTUM = 0.9


def batch_norm(x, is_training, name):
  """Batch norm over all axes but the last, with averages in UPDATE_OPS."""
  with tf.variable_scope(name):
    size = x.shape[-1]
    gamma = tf.get_variable("gamma", [size], initializer=tf.ones_initializer())
    beta = tf.get_variable("beta", [size], initializer=tf.zeros_initializer())
    mean = tf.get_variable(
      "moving_mean", [size], trainable=False, initializer=tf.zeros_initializer()
    )
    variance = tf.get_variable(
      "moving_variance",
      [size],
      trainable=False,
      initializer=tf.ones_initializer(),
    )
    if not is_training:
      return tf.nn.fused_batch_norm(
        x, gamma, beta, mean, variance, is_training=False
      )[0]
    y, batch_mean, batch_variance = tf.nn.fused_batch_norm(x, gamma, beta)
    for average, value in ((mean, batch_mean), (variance, batch_variance)):
      update = tf.assign_sub(average, (average - value) * (1 - MOMENTUM))
      tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
    return y


def build(is_training):
  """Builds the network; input `x`, output `logits`."""
  h = tf.placeholder(tf.float32, [None, 8, 8, 3], name="x")
  for i, channels in enumerate((8, 16)):
    with tf.variable_scope("block%d" % (i + 1)):
      kernel = tf.get_variable("kernel", [3, 3, h.shape[-1], channels])
      h = tf.nn.conv2d(h, kernel, [1, 2, 2, 1], "SAME")
      h = tf.nn.relu(batch_norm(h, is_training, "bn"))
  h = tf.reduce_mean(h, [1, 2])
  weights = tf.get_variable("logits/weights", [h.shape[-1], 4])
  return tf.matmul(h, weights, name="logits")


def pictures(random, count):
  """Noise with a brighter quarter; the quarter is the label."""
  labels = random.randint(0, 4, count)
  images = random.randn(count, 8, 8, 3).astype(np.float32) + 0.5
  for image, label in zip(images, labels):
    row, column = 4 * (label // 2), 4 * (label % 2)
    image[row : row + 4, column : column + 4] += 2.0
  return images, labels


def train(directory, steps=60):
  """Trains the network and saves a checkpoint."""
  tf.disable_v2_behavior()
  tf.set_random_seed(1)
  logits = build(is_training=True)
  labels = tf.placeholder(tf.int32, [None], name="labels")
  loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    step = tf.train.MomentumOptimizer(0.05, 0.9).minimize(loss)
  random = np.random.RandomState(1)
  with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    for i in range(steps):
      images, targets = pictures(random, 32)
      value, _ = session.run([loss, step], {"x:0": images, labels: targets})
      if i % 20 == 0 or i == steps - 1:
        print("step %d: loss %.3f" % (i, value))
    print(
      "saved",
      tf.train.Saver().save(session, os.path.join(directory, "model.ckpt")),
    )


if __name__ == "__main__":
  train(sys.argv[1])
