# SPDX-License-Identifier: Apache-2.0
"""Networks of plain tf.compat.v1 ops, with batch norm and without.

No tf.layers, no contrib: TF 1.15 and TF 2 build the same graph.
"""

from __future__ import annotations

from bnexport.tf1 import tf1

# What a bias can take the place of a norm behind.
_LINEAR = ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul")
_RATE = 0.01
_CLASSES = 100
_STAGES = ((1, 3), (2, 4), (4, 6), (8, 3))


class Layers:
  """Layers with norms of one kind.

  Attributes:
    training: whether norms are in training mode: True, False or a bool tensor;
      None is no norms, but biases behind convolutions.
    updates: ops that move the averages.
  """

  def __init__(self, training):
    self.training = training
    self.updates = []

  def conv(self, x, channels, size, stride, name, padding="SAME"):
    """A convolution without bias; `size` may be (height, width)."""
    with tf1.variable_scope(name):
      height, width = (size, size) if isinstance(size, int) else size
      shape = [height, width, int(x.shape[-1]), channels]
      kernel = _weights(shape, fan_in=shape[0] * shape[1] * shape[2])
      return tf1.nn.conv2d(x, kernel, [1, stride, stride, 1], padding)

  def depthwise(self, x, stride, name):
    """A 3x3 depthwise convolution without bias."""
    with tf1.variable_scope(name):
      kernel = _weights([3, 3, int(x.shape[-1]), 1], fan_in=9)
      return tf1.nn.depthwise_conv2d_native(
        x, kernel, [1, stride, stride, 1], "SAME"
      )

  def conv_transpose(self, x, channels, size, stride, name):
    """A transposed convolution without bias, which makes images larger."""
    with tf1.variable_scope(name):
      depth = int(x.shape[-1])
      fan_in = depth * size * size // stride**2
      kernel = _weights([size, size, channels, depth], fan_in)
      rows = tf1.shape(x)[0]
      height, width = (int(side) * stride for side in x.shape[1:3])
      return tf1.nn.conv2d_transpose(
        x, kernel, [rows, height, width, channels], [1, stride, stride, 1]
      )

  def matmul(self, x, units, name):
    """A dense layer without bias."""
    with tf1.variable_scope(name):
      size = int(x.shape[-1])
      return tf1.matmul(x, _weights([size, units], size))

  def dense(self, x, units, name):
    y = self.matmul(x, units, name)
    with tf1.variable_scope(name):
      return tf1.nn.bias_add(y, _vector("bias", units, tf1.zeros_initializer()))

  def norm(self, x, name):
    """Batch norm; statistics and weights are random but tame."""
    size = int(x.shape[-1])
    near_one = tf1.random_uniform_initializer(0.8, 1.2)
    near_zero = tf1.random_normal_initializer(stddev=0.1)
    with tf1.variable_scope(name):
      beta = _vector("beta", size, near_zero)
      if self.training is None:
        return tf1.nn.bias_add(x, beta) if x.op.type in _LINEAR else x
      gamma = _vector("gamma", size, near_one)
      mean = _vector("moving_mean", size, near_zero, trainable=False)
      variance = _vector("moving_variance", size, near_one, trainable=False)
      return self._norm(x, gamma, beta, mean, variance)

  def _norm(self, x, gamma, beta, mean, variance):
    def by_batch():
      return _normalized(x, gamma, beta)

    def by_averages():
      y = _normalized(x, gamma, beta, mean, variance)[0]
      return y, tf1.identity(mean), tf1.identity(variance)

    if isinstance(self.training, bool):
      y, *statistics = by_batch() if self.training else by_averages()
    else:
      y, *statistics = tf1.cond(self.training, by_batch, by_averages)
    if self.training is not False:
      self.updates += [
        tf1.assign_sub(average, _RATE * (average - value))
        for average, value in zip((mean, variance), statistics)
      ]
    return y


def _normalized(x, gamma, beta, mean=None, variance=None):
  """The norm of x by given statistics or the batch's, and the statistics."""
  if len(x.shape) == 4:
    return tf1.nn.fused_batch_norm(
      x, gamma, beta, mean, variance, is_training=mean is None
    )
  if mean is None:
    mean, variance = tf1.nn.moments(x, list(range(len(x.shape) - 1)))
  y = tf1.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)
  return y, mean, variance


def _weights(shape, fan_in):
  """Weights under which a network with ReLU neither grows nor fades."""
  return tf1.get_variable(
    "weights",
    shape,
    initializer=tf1.random_normal_initializer(stddev=(2.0 / fan_in) ** 0.5),
  )


def _vector(name, size, initializer, trainable=True):
  return tf1.get_variable(
    name, [size], initializer=initializer, trainable=trainable
  )


def _head(layers, x):
  return layers.dense(tf1.reduce_mean(x, [1, 2]), _CLASSES, "classifier")


def resnet50(layers, x, width, is_v2):
  """ResNet-50: norms behind convolutions, or in v2 before them."""
  x = layers.conv(x, width, 7, 2, "stem")
  if not is_v2:
    x = tf1.nn.relu(layers.norm(x, "stem_norm"))
  x = tf1.nn.max_pool2d(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME")
  block = _block_v2 if is_v2 else _block_v1
  for i, (factor, count) in enumerate(_STAGES):
    for j in range(count):
      with tf1.variable_scope("stage%d/block%d" % (i + 1, j + 1)):
        x = block(layers, x, factor * width, 2 if i and not j else 1)
  if is_v2:
    x = tf1.nn.relu(layers.norm(x, "norm"))
  return _head(layers, x)


def _block_v1(layers, x, width, stride):
  """Three convolutions and a shortcut that is projected where it must be."""
  shortcut = x
  if stride > 1 or int(x.shape[-1]) != 4 * width:
    shortcut = layers.conv(x, 4 * width, 1, stride, "shortcut")
    shortcut = layers.norm(shortcut, "shortcut_norm")
  for name, channels, size, step in (
    ("reduce", width, 1, 1),
    ("spatial", width, 3, stride),
  ):
    x = layers.conv(x, channels, size, step, name)
    x = tf1.nn.relu(layers.norm(x, name + "_norm"))
  x = layers.norm(layers.conv(x, 4 * width, 1, 1, "expand"), "expand_norm")
  return tf1.nn.relu(x + shortcut)


def _block_v2(layers, x, width, stride):
  shortcut = x
  x = tf1.nn.relu(layers.norm(x, "norm"))
  if stride > 1 or int(shortcut.shape[-1]) != 4 * width:
    shortcut = layers.conv(x, 4 * width, 1, stride, "shortcut")
  for name, channels, size, step in (
    ("reduce", width, 1, 1),
    ("spatial", width, 3, stride),
  ):
    x = layers.conv(x, channels, size, step, name)
    x = tf1.nn.relu(layers.norm(x, name + "_norm"))
  return layers.conv(x, 4 * width, 1, 1, "expand") + shortcut


def mobilenet(layers, x, width):
  """A stack of depthwise and pointwise convolutions, as in MobileNet v1."""
  x = tf1.nn.relu6(layers.norm(layers.conv(x, width, 3, 2, "stem"), "norm"))
  plan = [(2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2)] + [(16, 1)] * 5
  for i, (factor, stride) in enumerate(plan + [(32, 2), (32, 1)]):
    with tf1.variable_scope("block%d" % (i + 1)):
      x = layers.depthwise(x, stride, "depthwise")
      x = tf1.nn.relu6(layers.norm(x, "depthwise_norm"))
      x = layers.conv(x, factor * width, 1, 1, "pointwise")
      x = tf1.nn.relu6(layers.norm(x, "pointwise_norm"))
  return _head(layers, x)


_AVERAGE, _MAX = "average", "max"
_ROW, _COLUMN = (1, 7), (7, 1)


def _inception_a(pooled):
  return [
    [(64, 1)],
    [(48, 1), (64, 5)],
    [(64, 1), (96, 3), (96, 3)],
    [_AVERAGE, (pooled, 1)],
  ]


def _inception_c(inner):
  twice = [(inner, _COLUMN), (inner, _ROW)]
  return [
    [(192, 1)],
    [(inner, 1), (inner, _ROW), (192, _COLUMN)],
    [(inner, 1)] + twice + [(inner, _COLUMN), (192, _ROW)],
    [_AVERAGE, (192, 1)],
  ]


_FORK = [[(384, (1, 3))], [(384, (3, 1))]]
_INCEPTION_E = [
  [(320, 1)],
  [(384, 1), _FORK],
  [(448, 1), (384, 3), _FORK],
  [_AVERAGE, (192, 1)],
]
# (channels, size) is a convolution that keeps the image's size, (channels,
# size, stride) one without padding; a list is branches that are concatenated.
_INCEPTION_V3 = [
  *[(32, 3, 2), (32, 3, 1), (64, 3), _MAX, (80, 1, 1), (192, 3, 1), _MAX],
  *[_inception_a(pooled) for pooled in (32, 64, 64)],
  [[(384, 3, 2)], [(64, 1), (96, 3), (96, 3, 2)], [_MAX]],
  *[_inception_c(inner) for inner in (128, 160, 160, 192)],
  [
    [(192, 1), (320, 3, 2)],
    [(192, 1), (192, _ROW), (192, _COLUMN), (192, 3, 2)],
    [_MAX],
  ],
  _INCEPTION_E,
  _INCEPTION_E,
]


def inception_v3(layers, x, width):
  """Inception v3 without its auxiliary head; the published one has width 32.

  Images have to be of 75 x 75 or more.
  """
  return _head(layers, _inception(layers, x, _INCEPTION_V3, width))


def _inception(layers, x, steps, width):
  for i, step in enumerate(steps):
    with tf1.variable_scope("step%d" % (i + 1)):
      x = _inception_step(layers, x, step, width)
  return x


def _inception_step(layers, x, step, width):
  if step == _MAX:
    return tf1.nn.max_pool2d(x, [1, 3, 3, 1], [1, 2, 2, 1], "VALID")
  if step == _AVERAGE:
    return tf1.nn.avg_pool2d(x, [1, 3, 3, 1], [1, 1, 1, 1], "SAME")
  if isinstance(step, list):
    branches = []
    for i, steps in enumerate(step):
      with tf1.variable_scope("branch%d" % (i + 1)):
        branches.append(_inception(layers, x, steps, width))
    return tf1.concat(branches, 3)
  channels, size, *stride = step
  channels = max(1, channels * width // 32)
  if stride:
    x = layers.conv(x, channels, size, stride[0], "conv", "VALID")
  else:
    x = layers.conv(x, channels, size, 1, "conv")
  return tf1.nn.relu(layers.norm(x, "norm"))


def chain(layers, x, count, width):
  """Convolution, norm, ReLU, again and again."""
  for i in range(count):
    with tf1.variable_scope("layer%d" % (i + 1)):
      x = layers.conv(x, width, 3, 1, "conv")
      x = tf1.nn.relu(layers.norm(x, "norm"))
  return _head(layers, x)


def generator(layers, x, width):
  """Images of 32 x 32 from noise by transposed convolutions, as in DCGAN."""
  x = layers.matmul(x, 4 * 4 * 8 * width, "project")
  x = tf1.reshape(x, [-1, 4, 4, 8 * width])
  x = tf1.nn.relu(layers.norm(x, "norm"))
  for i, factor in enumerate((4, 2)):
    with tf1.variable_scope("layer%d" % (i + 1)):
      x = layers.conv_transpose(x, factor * width, 5, 2, "conv")
      x = tf1.nn.relu(layers.norm(x, "norm"))
  return tf1.nn.tanh(layers.conv_transpose(x, 3, 5, 2, "image"))


def dense_stack(layers, x, width):
  """Matrix products, norms and ReLU."""
  for i in range(3):
    with tf1.variable_scope("layer%d" % (i + 1)):
      x = tf1.nn.relu(layers.norm(layers.matmul(x, width, "dense"), "norm"))
  return layers.dense(x, _CLASSES, "classifier")


def unrolled_lstm(layers, x, width):
  """An LSTM as a chain of nodes; each step has a norm of its own."""
  state = _no_state(x, width)
  for i, inputs in enumerate(tf1.unstack(x, axis=1)):
    inputs = layers.norm(inputs, "norm%d" % (i + 1))
    with tf1.variable_scope("cell", reuse=i > 0):
      state = _lstm_cell(layers, inputs, state)
  return layers.dense(layers.norm(state[1], "norm"), _CLASSES, "classifier")


def looped_lstm(layers, x, width):
  """An LSTM as a `while` over tensor arrays, as tf.nn.dynamic_rnn makes it."""
  x = layers.norm(x, "input_norm")
  steps = int(x.shape[1])
  inputs = tf1.TensorArray(tf1.float32, steps)
  inputs = inputs.unstack(tf1.transpose(x, [1, 0, 2]))
  # Variables are made outside of loops.
  size = int(x.shape[-1])
  with tf1.variable_scope("cell"):
    kernel = _weights([size + width, 4 * width], size + width)

  def step(i, memory, output, outputs):
    row = tf1.concat([inputs.read(i), output], 1)
    memory, output = _gates(tf1.matmul(row, kernel), memory)
    return i + 1, memory, output, outputs.write(i, output)

  *_, outputs = tf1.while_loop(
    lambda i, *_: i < steps,
    step,
    (0, *_no_state(x, width), tf1.TensorArray(tf1.float32, steps)),
  )
  y = tf1.reduce_mean(outputs.stack(), 0)
  y.set_shape([None, width])
  return layers.dense(layers.norm(y, "norm"), _CLASSES, "classifier")


def _no_state(x, width):
  nothing = tf1.zeros([tf1.shape(x)[0], width])
  return nothing, nothing


def _lstm_cell(layers, x, state):
  memory, output = state
  width = int(output.shape[-1])
  gates = layers.matmul(tf1.concat([x, output], 1), 4 * width, "gates")
  return _gates(gates, memory)


def _gates(gates, memory):
  forget, write, new, read = tf1.split(gates, 4, 1)
  memory = tf1.sigmoid(forget + 1.0) * memory
  memory += tf1.sigmoid(write) * tf1.tanh(new)
  return memory, tf1.sigmoid(read) * tf1.tanh(memory)
