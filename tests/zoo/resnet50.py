# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 as a training graph, for speed tests; nothing of it is stored.

Plain tf.compat.v1: variables, moments or the fused op, assigns, gradients.
No tf.layers, no contrib, so TF 1.15 and TF 2 build the same graph.
"""

import tensorflow as tf

tf1 = tf.compat.v1

# Bottleneck width and number of blocks of each stage.
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


class _Network:
  """Collects the updates of the norms it makes.

  Attributes:
    training: bool tensor, or True or False.
    fused: whether norms are the fused op.
    updates: ops that move the averages; empty where training is False.
  """

  def __init__(self, training, fused):
    self.training = training
    self.fused = fused
    self.updates = []

  def conv(self, x, channels, size, stride, name):
    """A convolution without bias, and the norm that follows it."""
    with tf1.variable_scope(name):
      kernel = tf1.get_variable(
        "kernel",
        [size, size, int(x.shape[-1]), channels],
        initializer=tf1.random_normal_initializer(
          stddev=(2.0 / (size * size * channels)) ** 0.5
        ),
      )
      x = tf1.nn.conv2d(x, kernel, [1, stride, stride, 1], "SAME")
      return self.norm(x)

  def norm(self, x):
    """Batch norm by the phase: a literal, or a cond on a tensor."""
    size = [int(x.shape[-1])]
    ones, zeros = tf1.ones_initializer(), tf1.zeros_initializer()
    gamma = tf1.get_variable("gamma", size, initializer=ones)
    beta = tf1.get_variable("beta", size, initializer=zeros)
    moving = (
      tf1.get_variable("moving_mean", size, initializer=zeros, trainable=False),
      tf1.get_variable(
        "moving_variance", size, initializer=ones, trainable=False
      ),
    )

    def by_batch():
      if self.fused:
        return tf1.nn.fused_batch_norm(x, gamma, beta, epsilon=1e-5)
      mean, variance = tf1.nn.moments(x, [0, 1, 2])
      return (
        tf1.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-5),
        mean,
        variance,
      )

    def by_average():
      if self.fused:
        y = tf1.nn.fused_batch_norm(
          x, gamma, beta, moving[0], moving[1], epsilon=1e-5, is_training=False
        )[0]
      else:
        y = tf1.nn.batch_normalization(
          x, moving[0], moving[1], beta, gamma, 1e-5
        )
      return y, tf1.identity(moving[0]), tf1.identity(moving[1])

    if isinstance(self.training, bool):
      y, mean, variance = by_batch() if self.training else by_average()
    else:
      y, mean, variance = tf1.cond(self.training, by_batch, by_average)
    if self.training is not False:
      self.updates += [
        tf1.assign_sub(old, 0.01 * (old - new))
        for old, new in zip(moving, (mean, variance))
      ]
    return y

  def bottleneck(self, x, width, stride):
    """1x1, 3x3, 1x1, and a shortcut that is projected where it must be."""
    shortcut = x
    if stride > 1 or int(x.shape[-1]) != 4 * width:
      shortcut = self.conv(x, 4 * width, 1, stride, "shortcut")
    x = tf1.nn.relu(self.conv(x, width, 1, 1, "reduce"))
    x = tf1.nn.relu(self.conv(x, width, 3, stride, "spatial"))
    return tf1.nn.relu(self.conv(x, 4 * width, 1, 1, "expand") + shortcut)


def resnet50(
  images=None, training=True, fused=True, classes=1000, gradients=True
):
  """Adds ResNet-50 to the default graph.

  Args:
    images: [N, H, W, 3]; None makes a placeholder `images` of 224x224.
    training: True, False, 'placeholder' (a bool placeholder `is_training`)
      or a bool tensor.
    fused: True for the fused op, False for moments spelled out.
    classes: width of the output.
    gradients: adds a loss and a momentum step that runs the updates.

  Returns:
    The probabilities, named `probabilities`; the step is named `train_step`.
  """
  if images is None:
    images = tf1.placeholder(tf1.float32, [None, 224, 224, 3], "images")
  if training == "placeholder":
    training = tf1.placeholder(tf1.bool, [], "is_training")
  network = _Network(training, fused)
  x = tf1.nn.relu(network.conv(images, 64, 7, 2, "stem"))
  x = tf1.nn.max_pool2d(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME")
  for i, (width, blocks) in enumerate(STAGES):
    for j in range(blocks):
      with tf1.variable_scope("stage%d/block%d" % (i + 1, j + 1)):
        x = network.bottleneck(x, width, 2 if i and not j else 1)
  x = tf1.reduce_mean(x, [1, 2], name="pool")
  kernel = tf1.get_variable("classifier/kernel", [int(x.shape[-1]), classes])
  bias = tf1.get_variable(
    "classifier/bias", [classes], initializer=tf1.zeros_initializer()
  )
  logits = tf1.nn.bias_add(tf1.matmul(x, kernel), bias, name="logits")
  probabilities = tf1.nn.softmax(logits, name="probabilities")
  if gradients and network.updates:
    labels = tf1.placeholder(tf1.int32, [None], "labels")
    loss = tf1.reduce_mean(
      tf1.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits
      )
    )
    with tf1.control_dependencies(network.updates):
      tf1.train.MomentumOptimizer(0.1, 0.9).minimize(
        loss, tf1.train.get_or_create_global_step(), name="train_step"
      )
  return probabilities
