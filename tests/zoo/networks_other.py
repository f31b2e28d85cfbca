# SPDX-License-Identifier: Apache-2.0
"""Networks for points, text, speech, video and pairs, small, TF1 style."""

import tensorflow as tf

from tests.zoo.script import recipe


def _layers(phase, **options):
  def norm(h, name):
    return tf.layers.batch_normalization(
      h, training=phase, name=name, **options
    )

  return norm


def _ema_norm(phase, decay):
  """Moments, an average of them in a cond: how PointNet norms."""

  def norm(h, name):
    with tf.variable_scope(name):
      size = h.shape[-1:]
      beta, gamma = (
        tf.get_variable("beta", size),
        tf.get_variable("gamma", size),
      )
      mean, variance = tf.nn.moments(
        h, list(range(h.shape.ndims - 1)), name="moments"
      )
      average = tf.train.ExponentialMovingAverage(decay=decay)
      update = tf.cond(
        phase, lambda: average.apply([mean, variance]), lambda: tf.no_op()
      )

      def training():
        with tf.control_dependencies([update]):
          return tf.identity(mean), tf.identity(variance)

      used = tf.cond(
        phase,
        training,
        lambda: (average.average(mean), average.average(variance)),
      )
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)

  return norm


def point_cloud(script):
  """A learned 3x3 transform, shared layers per point, max over points."""
  x = script.input([None, 5, 3], "pointclouds_pl")
  phase = script.phase("is_training_pl")
  norm = _ema_norm(phase, 0.9)

  def shared(h, units, name):
    with tf.variable_scope(name):
      k = tf.get_variable("weights", [1, 1, h.shape[-1], units])
      return tf.nn.relu(norm(tf.nn.conv2d(h, k, 1, "VALID"), "bn"))

  h = tf.reduce_max(shared(x[:, :, None, :], 4, "tconv1"), [1, 2])
  turn = tf.layers.dense(h, 9, name="transform") + [1.0, 0, 0, 0, 1, 0, 0, 0, 1]
  points = tf.matmul(x, tf.reshape(turn, [-1, 3, 3]))
  h = shared(points[:, :, None, :], 5, "conv1")
  h = tf.reduce_max(h, [1, 2])
  h = tf.nn.relu(norm(tf.layers.dense(h, 4, name="fc1"), "fc1_bn"))
  return tf.layers.dense(h, 3, name="fc3")


def speech_encoder(script):
  """A bank of 1-D convolutions, a highway layer, a GRU."""
  x = script.input([None, 5, 3], "spectrogram")
  norm = _layers(script.phase())
  bank = []
  for width in (1, 2, 3):
    h = tf.layers.conv1d(x, 3, width, padding="same", name="bank%d" % width)
    bank.append(norm(tf.nn.relu(h), "bank_bn%d" % width))
  h = tf.layers.max_pooling1d(tf.concat(bank, -1), 2, 1, "same")
  h = norm(tf.layers.conv1d(h, 3, 3, padding="same", name="proj"), "proj_bn")
  h += x
  with tf.variable_scope("highway"):
    plain = tf.layers.dense(h, 3, tf.nn.relu, name="H")
    gate = tf.layers.dense(h, 3, tf.sigmoid, name="T")
    h = plain * gate + h * (1.0 - gate)
  h, _ = tf.nn.dynamic_rnn(tf.nn.rnn_cell.GRUCell(3), h, dtype=tf.float32)
  return tf.layers.dense(h, 2, name="mel")


def speech_recognizer(script):
  """Convolution, per-step norm between two recurrent layers, a mask."""
  x = script.input([None, 5, 4, 1], "features")
  norm = _layers(script.training)
  h = tf.layers.conv2d(x, 3, (3, 2), (1, 2), "same", name="conv")
  h = tf.nn.relu6(norm(h, "conv_bn"))
  h = tf.reshape(h, [-1, 5, 6])
  energy = tf.reduce_mean(tf.abs(h), 2, keepdims=True)
  h *= tf.cast(energy > 0.2, tf.float32)
  for i in range(2):
    cell = tf.nn.rnn_cell.BasicRNNCell
    with tf.variable_scope("rnn%d" % i):
      if i:
        h = norm(h, "step_bn")
      outputs, _ = tf.nn.bidirectional_dynamic_rnn(
        cell(3, name="fw"), cell(3, name="bw"), h, dtype=tf.float32
      )
      h = tf.concat(outputs, 2)
  return tf.nn.softmax(tf.layers.dense(norm(h, "out_bn"), 4, name="chars"))


def text_classifier(script):
  """Embedding lookup, convolutions of several widths, dropout, norm."""
  x = script.input([None, 7], "input_x", tf.int32, high=12)
  phase = script.phase()
  norm = _layers(phase)
  with tf.device("/cpu:0"):
    table = tf.get_variable("embedding", [12, 4])
    h = tf.nn.embedding_lookup(table, x)[..., None]
  pooled = []
  for width in (2, 3):
    with tf.variable_scope("conv-%d" % width):
      k = tf.get_variable("W", [width, 4, 1, 3])
      c = tf.nn.conv2d(h, k, 1, "VALID")
      c = tf.nn.relu(norm(c, "bn"))
      pooled.append(tf.nn.max_pool(c, [1, 8 - width, 1, 1], 1, "VALID"))
  h = tf.reshape(tf.concat(pooled, 3), [-1, 6])
  h = tf.layers.dropout(norm(h, "bn_flat"), 0.5, training=phase)
  return tf.nn.xw_plus_b(
    h, tf.get_variable("W", [6, 3]), tf.get_variable("b", [3]), name="scores"
  )


def video(script):
  """3-D convolutions, one split into space and time, with a shortcut."""
  x = script.input([None, 3, 4, 4, 2], "clips")
  norm = _layers(script.phase())
  h = tf.layers.conv3d(
    x, 3, (1, 3, 3), padding="same", use_bias=False, name="space"
  )
  h = tf.nn.relu(norm(h, "space_bn"))
  h = tf.layers.conv3d(
    h, 3, (3, 1, 1), padding="same", use_bias=False, name="time"
  )
  shortcut = h = tf.nn.relu(norm(h, "time_bn"))
  h = tf.layers.conv3d(h, 3, 1, use_bias=False, name="unit")
  h = tf.nn.relu(norm(h, "unit_bn") + shortcut)
  return tf.layers.dense(tf.reduce_mean(h, [1, 2, 3]), 4, name="logits")


def triplet(script):
  """Anchor, positive and negative in one graph; the anchor's code is out."""
  x = script.input([None, 6, 6, 3], "anchor_input")
  phase = script.phase("is_train")

  def embed(image, reuse):
    with tf.variable_scope("embed", reuse=reuse):
      norm = _layers(phase)
      h = tf.layers.conv2d(image, 3, 3, 2, name="conv")
      h = tf.nn.relu(norm(h, "bn1"))
      h = norm(tf.layers.dense(tf.layers.flatten(h), 4, name="fc"), "bn2")
      return tf.nn.l2_normalize(h, -1)

  anchor = tf.identity(embed(x, None), "anchor_code")
  if script.training:
    near = embed(x + tf.random_normal(tf.shape(x), stddev=0.1), True)
    far = embed(tf.reverse(x, [0]), True)

    def distance(other):
      return tf.reduce_sum(tf.square(anchor - other), 1)

    script.losses = [
      tf.reduce_mean(tf.nn.relu(0.2 + distance(near) - distance(far)))
    ]
  return anchor


def capsules(script):
  """Votes and a routing loop in Python over normed primary capsules."""
  x = script.input([None, 6, 6, 3])
  norm = _layers(script.training)
  h = tf.layers.conv2d(x, 4, 3, 2, name="conv")
  h = tf.nn.relu(norm(h, "bn1"))
  primary = tf.reshape(
    norm(tf.layers.conv2d(h, 4, 1, name="caps"), "bn2"), [-1, 4, 4]
  )
  w = tf.get_variable("w", [4, 4, 6])
  votes = tf.reshape(tf.einsum("nid,ido->nio", primary, w), [-1, 4, 3, 2])
  logits = tf.zeros([tf.shape(x)[0], 4, 3, 1])
  for _ in range(2):
    v = tf.reduce_sum(tf.nn.softmax(logits, 2) * votes, 1, keepdims=True)
    squared = tf.reduce_sum(tf.square(v), -1, keepdims=True)
    v = v * tf.sqrt(squared + 1e-6) / (1.0 + squared)
    logits += tf.reduce_sum(votes * v, -1, keepdims=True)
  return tf.norm(v[:, 0] + 1e-4, axis=-1, name="lengths")


def autoencoder(script):
  """Encoder and decoder with norms; the code is a second output."""
  x = script.input([None, 9])
  norm = _layers(script.training, scale=False)
  h = tf.nn.elu(norm(tf.layers.dense(x, 6, name="e1"), "bn1"))
  mean = tf.layers.dense(h, 3, name="mean")
  code = mean
  if script.training:
    code += tf.random_normal(tf.shape(mean)) * tf.exp(
      tf.layers.dense(h, 3, name="log_scale")
    )
  h = tf.nn.elu(norm(tf.layers.dense(code, 6, name="d1"), "bn2"))
  return [tf.layers.dense(h, 9, name="decoded"), tf.identity(mean, name="code")]


def image_bytes(script):
  """uint8 pictures, normalised and channel-swapped inside the graph."""
  x = script.input([None, 6, 6, 3], "raw", tf.uint8)
  h = tf.cast(x[..., ::-1], tf.float32)
  h = (h - [123.0, 117.0, 104.0]) / 64.0
  norm = _layers(script.phase())
  h = tf.layers.conv2d(h, 4, 3, use_bias=False, name="c1")
  h = tf.nn.relu(norm(h, "bn1"))
  h = tf.layers.dense(tf.reduce_mean(h, [1, 2]), 5, name="fc1")
  h = tf.nn.relu(norm(h, "bn2"))
  h = tf.layers.dense(h, 4, name="fc2")
  return [
    tf.nn.softmax(h, name="probs"),
    tf.argmax(h, 1, name="label", output_type=tf.int32),
  ]


RECIPES = (
  recipe("net_point_cloud", point_cloud),
  recipe("net_speech_encoder", speech_encoder),
  recipe("net_speech_recognizer", speech_recognizer),
  recipe("net_text_classifier", text_classifier),
  recipe("net_video", video),
  recipe("net_triplet", triplet),
  recipe("net_capsules", capsules),
  recipe("net_autoencoder", autoencoder, undecided=True),
  recipe("net_image_bytes", image_bytes),
)
