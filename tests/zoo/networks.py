# SPDX-License-Identifier: Apache-2.0
"""Networks for pictures, small, in the manner of well known TF1 projects."""

import tensorflow as tf
from tensorflow.contrib import slim

from tests.zoo.script import recipe


def _images(script, side=6, name="images"):
  return script.input([None, side, side, 3], name)


def _layers(phase, **options):
  def norm(h, name):
    return tf.layers.batch_normalization(
      h, training=phase, name=name, **options
    )

  return norm


def face_embedding(script):
  """Inception-ResNet blocks with scaled residuals; unit length embeddings."""
  x = _images(script, name="input")
  params = {
    "is_training": script.phase("phase_train"),
    "decay": 0.995,
    "epsilon": 0.001,
    "updates_collections": None,
    "variables_collections": [tf.GraphKeys.TRAINABLE_VARIABLES],
  }
  with tf.variable_scope("InceptionResnet"), slim.arg_scope(
    [slim.conv2d, slim.fully_connected],
    normalizer_fn=slim.batch_norm,
    normalizer_params=params,
    weights_regularizer=slim.l2_regularizer(5e-4),
  ):
    h = slim.conv2d(x, 4, 3, scope="Conv2d_1a")
    with tf.variable_scope("Block_1"):
      a = slim.conv2d(h, 3, 1, scope="Branch_0")
      b = slim.conv2d(
        slim.conv2d(h, 3, 1, scope="Branch_1a"), 3, 3, scope="Branch_1b"
      )
      mixed = tf.concat([a, b], 3)
      up = slim.conv2d(
        mixed, 4, 1, normalizer_fn=None, activation_fn=None, scope="Up"
      )
      h = tf.nn.relu(h + 0.17 * up)
    h = slim.flatten(slim.avg_pool2d(h, 3, stride=3))
    h = slim.fully_connected(h, 5, activation_fn=None, scope="Bottleneck")
  return tf.nn.l2_normalize(h, 1, 1e-10, name="embeddings")


def detector(script):
  """Darknet blocks, an upsampled route, two heads (leaky relu, no bias)."""
  x = _images(script, 8)
  phase = script.phase("phase/trainable")

  def conv(h, channels, size, name, stride=1, norm=True):
    with tf.variable_scope(name):
      if stride > 1:
        h = tf.pad(h, [[0, 0], [1, 1], [1, 1], [0, 0]])
      k = tf.get_variable("weight", [size, size, h.shape[-1], channels])
      h = tf.nn.conv2d(h, k, stride, "VALID" if stride > 1 else "SAME")
      if not norm:
        return tf.nn.bias_add(h, tf.get_variable("bias", [channels]))
      h = tf.layers.batch_normalization(
        h, beta_initializer=tf.zeros_initializer(), training=phase
      )
      return tf.nn.leaky_relu(h, alpha=0.1)

  h = conv(x, 3, 3, "conv0")
  route = conv(h, 4, 3, "conv1", stride=2)
  h = route + conv(conv(route, 2, 1, "res1"), 4, 3, "res2")
  h = conv(h, 5, 3, "conv2", stride=2)
  large = conv(h, 4, 1, "large_out", norm=False)
  h = conv(h, 3, 1, "conv3")
  h = tf.image.resize_nearest_neighbor(h, [4, 4], name="upsample")
  h = conv(tf.concat([h, route], 3), 4, 3, "conv4")
  small = conv(h, 4, 1, "small_out", norm=False)
  return [
    tf.sigmoid(small, name="pred_small"),
    tf.identity(large, name="pred_large"),
  ]


def segmenter(script):
  """Atrous pyramid with a global pooling branch, resized to the picture."""
  x = _images(script, 8, "ImageTensor")
  params = {"is_training": script.training, "scale": True, "decay": 0.9997}
  with slim.arg_scope(
    [slim.conv2d, slim.separable_conv2d],
    normalizer_fn=slim.batch_norm,
    normalizer_params=params,
    activation_fn=tf.nn.relu,
  ):
    h = slim.conv2d(x, 4, 3, stride=2, scope="entry")
    pooled = tf.reduce_mean(h, [1, 2], keepdims=True)
    pooled = slim.conv2d(pooled, 3, 1, scope="image_pooling")
    branches = [
      tf.image.resize_bilinear(pooled, [4, 4], align_corners=True),
      slim.conv2d(h, 3, 1, scope="aspp0"),
    ]
    for rate in (2, 3):
      branches.append(
        slim.separable_conv2d(h, 3, 3, 1, rate=rate, scope="aspp%d" % rate)
      )
    h = slim.conv2d(tf.concat(branches, 3), 4, 1, scope="projection")
    h = slim.conv2d(
      h, 2, 1, activation_fn=None, normalizer_fn=None, scope="logits"
    )
  h = tf.image.resize_bilinear(h, [8, 8], align_corners=True)
  return tf.nn.softmax(h, name="SemanticProbabilities")


def u_net(script):
  """Down, up by transposed convolution, a skip; a mask as output."""
  x = _images(script, 8)
  norm = _layers(script.phase())

  def block(h, channels, name):
    with tf.variable_scope(name):
      h = tf.layers.conv2d(h, channels, 3, padding="same", name="conv")
      return tf.nn.relu(norm(h, "bn"))

  down = block(x, 3, "down1")
  h = block(tf.layers.max_pooling2d(down, 2, 2), 4, "down2")
  h = tf.layers.conv2d_transpose(h, 3, 2, 2, name="up")
  h = tf.nn.relu(norm(h, "up_bn"))
  h = block(tf.concat([h, down], -1), 3, "merge")
  return tf.sigmoid(tf.layers.conv2d(h, 1, 1, name="mask"), name="probs")


def mobile(script):
  """Depthwise separable blocks, inverted residual, relu6."""
  x = _images(script)
  norm = _layers(script.training, momentum=0.9997)

  def depthwise(h, name):
    with tf.variable_scope(name):
      k = tf.get_variable("depthwise_weights", [3, 3, h.shape[-1], 1])
      h = tf.nn.depthwise_conv2d(h, k, [1, 1, 1, 1], "SAME")
      return tf.nn.relu6(norm(h, "bn"))

  h = tf.layers.conv2d(x, 3, 3, 2, "same", use_bias=False, name="stem")
  h = tf.nn.relu6(norm(h, "stem_bn"))
  shortcut = h
  h = tf.layers.conv2d(h, 6, 1, use_bias=False, name="expand")
  h = depthwise(tf.nn.relu6(norm(h, "expand_bn")), "dw")
  h = (
    norm(
      tf.layers.conv2d(h, 3, 1, use_bias=False, name="project"), "project_bn"
    )
    + shortcut
  )
  h = tf.reduce_mean(h, [1, 2], keepdims=True)
  h = tf.layers.conv2d(h, 5, 1, name="Logits")
  return tf.nn.softmax(tf.reshape(h, [-1, 5]), name="Predictions")


def residual_v1(script):
  """Norm behind every convolution, a projected shortcut with its own norm."""
  x = _images(script)
  norm = _layers(script.phase("training"), momentum=0.997, epsilon=1e-5)
  h = tf.nn.relu(
    norm(
      tf.layers.conv2d(x, 3, 3, padding="same", use_bias=False, name="initial"),
      "b0",
    )
  )
  for i, channels in enumerate((3, 4)):
    shortcut = h
    stride = i + 1
    if stride > 1:
      shortcut = norm(
        tf.layers.conv2d(h, channels, 1, stride, use_bias=False, name="proj"),
        "proj_bn",
      )
    g = tf.layers.conv2d(
      h, channels, 3, stride, "same", use_bias=False, name="c%da" % i
    )
    g = tf.nn.relu(norm(g, "b%da" % i))
    g = norm(
      tf.layers.conv2d(
        g, channels, 3, padding="same", use_bias=False, name="c%db" % i
      ),
      "b%db" % i,
    )
    h = tf.nn.relu(g + shortcut)
  h = tf.identity(tf.reduce_mean(h, [1, 2]), "final_reduce_mean")
  return tf.identity(tf.layers.dense(h, 4, name="readout"), "final_dense")


def residual_v2(script):
  """Pre-activation with an input that is padded by hand."""
  x = _images(script)
  norm = _layers(script.training)
  h = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
  h = tf.layers.conv2d(h, 4, 3, use_bias=False, name="initial")
  for i in range(2):
    g = tf.nn.relu(norm(h, "pre%d" % i))
    shortcut = (
      h if i else tf.layers.conv2d(g, 4, 1, use_bias=False, name="proj")
    )
    g = tf.layers.conv2d(g, 2, 1, use_bias=False, name="a%d" % i)
    g = tf.nn.relu(norm(g, "mid%d" % i))
    h = (
      tf.layers.conv2d(g, 4, 3, padding="same", use_bias=False, name="b%d" % i)
      + shortcut
    )
  h = tf.nn.relu(norm(h, "postnorm"))
  return tf.layers.dense(tf.reduce_mean(h, [1, 2]), 4, name="dense")


def multi_output(script):
  """SSD: boxes and classes from two feature maps, four outputs."""
  x = _images(script, 8)
  norm = _layers(script.phase())
  maps, h = [], x
  for i in range(2):
    h = tf.layers.conv2d(h, 4, 3, 2, "same", use_bias=False, name="f%d" % i)
    h = tf.nn.relu(norm(h, "bn%d" % i))
    maps.append(h)
  outputs = []
  for i, feature in enumerate(maps):
    with tf.name_scope("head%d" % i):
      boxes = tf.layers.conv2d(feature, 4, 3, padding="same", name="loc%d" % i)
      hidden = tf.nn.relu(
        norm(tf.layers.conv2d(feature, 3, 1, name="pre%d" % i), "pre_bn%d" % i)
      )
      classes = tf.layers.conv2d(hidden, 3, 1, name="cls%d" % i)
      outputs += [
        tf.nn.softmax(classes, name="classes"),
        tf.identity(boxes, name="boxes"),
      ]
  return outputs


def super_resolution(script):
  """Residual block, depth_to_space, a picture twice the size."""
  x = _images(script)
  norm = _layers(script.phase())
  h = tf.layers.conv2d(x, 4, 3, padding="same", name="head")
  g = tf.layers.conv2d(h, 4, 3, padding="same", use_bias=False, name="c1")
  alpha = tf.get_variable("alpha", [4])
  g = norm(g, "bn1")
  g = tf.nn.relu(g) + alpha * (g - tf.abs(g)) * 0.5
  g = tf.layers.conv2d(g, 4, 3, padding="same", use_bias=False, name="c2")
  h += norm(g, "bn2")
  h = tf.layers.conv2d(h, 8, 3, padding="same", name="up")
  h = tf.depth_to_space(h, 2)
  return tf.tanh(
    tf.layers.conv2d(h, 1, 3, padding="same", name="tail"), name="sr"
  )


def squeeze_excite(script):
  """A gate made from the pooled map multiplies what the norm gave."""
  x = _images(script)
  norm = _layers(script.training, fused=False)
  h = tf.layers.conv2d(x, 4, 3, padding="same", use_bias=False, name="c1")
  h = norm(h, "bn1")
  gate = tf.layers.dense(
    tf.reduce_mean(h, [1, 2]), 2, tf.nn.relu, name="squeeze"
  )
  gate = tf.layers.dense(gate, 4, tf.sigmoid, name="excite")
  h = tf.nn.relu(h * gate[:, None, None, :])
  h = h * tf.sigmoid(norm(tf.layers.conv2d(h, 4, 1, name="c2"), "bn2"))
  return tf.layers.dense(tf.reduce_mean(h, [1, 2]), 4, name="logits")


def _discriminator(image, phase, reuse=None):
  with tf.variable_scope("discriminator", reuse=reuse):
    h = tf.nn.leaky_relu(tf.layers.conv2d(image, 3, 3, 2, "same", name="c0"))
    for i in (1, 2):
      h = tf.layers.conv2d(h, 4, 3, padding="same", name="c%d" % i)
      h = tf.contrib.layers.batch_norm(
        h,
        decay=0.9,
        updates_collections=None,
        epsilon=1e-5,
        scale=True,
        is_training=phase,
        scope="d_bn%d" % i,
        reuse=reuse,
      )
      h = tf.nn.leaky_relu(h)
    h = tf.layers.dense(tf.layers.flatten(h), 1, name="score")
    return tf.nn.sigmoid(h)


def _generator(z, phase):
  with tf.variable_scope("generator"):
    h = tf.reshape(tf.layers.dense(z, 36, name="project"), [-1, 3, 3, 4])
    for i, channels in enumerate((4, 3)):
      h = tf.nn.relu(
        tf.contrib.layers.batch_norm(
          h,
          decay=0.9,
          updates_collections=None,
          epsilon=1e-5,
          scale=True,
          is_training=phase,
          scope="g_bn%d" % i,
        )
      )
      h = tf.layers.conv2d_transpose(
        h, channels, 3, 2 - i, "same", name="h%d" % i
      )
    return tf.nn.tanh(h)


def gan_discriminator(script):
  """DCGAN: the discriminator on real pictures; it is built twice."""
  phase = script.training
  x = _images(script, name="real_images")
  real = tf.identity(_discriminator(x, phase), "D_real")
  if script.training:
    z = tf.random_uniform([6, 4], -1, 1)
    fake = _discriminator(_generator(z, phase), phase, True)
    _adversarial(script, real, fake)
  return real


def gan_sampler(script):
  """DCGAN: the generator with averages, behind a placeholder."""
  phase = script.phase()
  z = script.input([None, 4], "z")
  picture = tf.identity(_generator(z, phase), "G_sample")
  if script.training:
    real = _discriminator(tf.random_normal([6, 6, 6, 3]), phase)
    fake = _discriminator(picture, phase, True)
    _adversarial(script, real, fake)
  return picture


def _adversarial(script, real, fake):
  """Two optimizers, one for each player."""
  d_loss = -tf.reduce_mean(tf.log(real + 1e-6) + tf.log(1 - fake + 1e-6))
  g_loss = -tf.reduce_mean(tf.log(fake + 1e-6))
  players = {"discriminator": d_loss, "generator": g_loss}
  steps = [
    tf.train.AdamOptimizer(2e-4, beta1=0.5).minimize(
      loss, var_list=tf.trainable_variables(name)
    )
    for name, loss in sorted(players.items())
  ]
  script.losses = [d_loss, g_loss]
  script.train_op = tf.group(*steps)


RECIPES = (
  recipe("net_face_embedding", face_embedding),
  recipe("net_detector", detector),
  recipe("net_segmenter", segmenter),
  recipe("net_u_net", u_net),
  recipe("net_mobile", mobile),
  recipe("net_residual_v1", residual_v1),
  recipe("net_residual_v2", residual_v2),
  recipe("net_multi_output", multi_output),
  recipe("net_super_resolution", super_resolution),
  recipe("net_squeeze_excite", squeeze_excite),
  recipe("net_gan_discriminator", gan_discriminator),
  recipe("net_gan_sampler", gan_sampler),
)
