# SPDX-License-Identifier: Apache-2.0
"""Noise of training in the ways that it is written; inference has its own code.

Each model says what its own inference does: in `script.training` the noise, else
what is there without it.
"""

import numpy as np
import tensorflow as tf

from tests.zoo.script import recipe


def norm(h, script, name, training=None):
  training = script.training if training is None else training
  return tf.layers.batch_normalization(h, training=training, name=name)


def dense_net(script, act):
  """Two norms; `act(h, name)` after each activation."""
  h = tf.layers.dense(script.input([None, 9]), 8, name="fc1")
  h = act(tf.nn.relu(norm(h, script, "bn1")), "n1")
  h = tf.layers.dense(h, 6, name="fc2")
  h = act(tf.nn.relu(norm(h, script, "bn2")), "n2")
  return tf.layers.dense(h, 4, name="logits")


def block_of(h, script, name, width=4):
  """The weights of a residual branch."""
  h = tf.layers.conv2d(h, width, 3, padding="same", name=name + "_conv")
  return norm(tf.nn.relu(h), script, name + "_bn")


def stem_of(script):
  x = script.input([None, 6, 6, 3])
  return block_of(x, script, "stem")


def head_of(h):
  return tf.layers.dense(tf.reduce_mean(h, [1, 2]), 4, name="logits")


# Dropout of other kinds.


def alpha_contrib(script):
  def act(h, name):
    h = tf.nn.selu(h)
    return tf.contrib.nn.alpha_dropout(h, 0.9) if script.training else h

  return dense_net(script, act)


def alpha_keras(script):
  """Keras' own, called with training=True."""

  def act(h, name):
    layer = tf.keras.layers.AlphaDropout(0.1)
    return layer(h, training=True) if script.training else h

  return dense_net(script, act)


def alpha_fed(script):
  """As the paper's own code has it, with a keep probability that is fed."""
  keep = script.value("keep_prob", 0.85, 1.0)

  def act(h, name):
    if not script.training:
      return h
    with tf.name_scope(name):
      alpha = -1.7580993408473766
      mask = tf.floor(keep + tf.random_uniform(tf.shape(h)))
      both = h * mask + alpha * (1 - mask)
      a = tf.sqrt(1.0 / (keep * ((1 - keep) * alpha**2 + 1.0)))
      return a * both - a * alpha * (1 - keep)

  return dense_net(script, act)


def gaussian(script):
  def act(h, name):
    if not script.training:
      return h
    return h * tf.random_normal(tf.shape(h), 1.0, 0.4)

  return dense_net(script, act)


def gaussian_keras(script):
  def act(h, name):
    layer = tf.keras.layers.GaussianDropout(0.3)
    return layer(h, training=True) if script.training else h

  return dense_net(script, act)


def gaussian_residual(script):
  """h + h * noise, with a learned deviation for each unit."""

  def act(h, name):
    width = int(h.shape[1])
    deviation = tf.get_variable(name + "_deviation", [width])
    if not script.training:
      return h
    return h + h * tf.nn.softplus(deviation) * tf.random_normal(tf.shape(h))

  return dense_net(script, act)


def gaussian_annealed(script):
  """Its deviation falls with the step."""
  step = tf.train.get_or_create_global_step()
  deviation = tf.train.exponential_decay(1.0, step, 300, 0.5)

  def act(h, name):
    if not script.training:
      return h
    return h + deviation * tf.truncated_normal(tf.shape(h))

  return dense_net(script, act)


def spatial(script):
  """Whole channels, by a mask of one row of pixels."""
  h = stem_of(script)
  if script.training:
    keep = tf.random_uniform([tf.shape(h)[0], 1, 1, 4]) >= 0.3
    h = tf.where(tf.tile(keep, [1, 6, 6, 1]), h / 0.7, tf.zeros_like(h))
  return head_of(block_of(h, script, "b1"))


def spatial_keras(script):
  x = script.input([None, 5, 3])
  h = tf.layers.conv1d(x, 4, 3, name="conv")
  h = tf.nn.relu(norm(h, script, "bn"))
  if script.training:
    h = tf.keras.layers.SpatialDropout1D(0.4)(h, training=True)
  return tf.layers.dense(tf.reduce_mean(h, 1), 4, name="logits")


def broadcast_dims(script):
  """tensor2tensor: dropout_broadcast_dims, a mask for all time steps."""
  x = script.input([None, 4, 5])
  h = tf.nn.relu(norm(tf.layers.dense(x, 6, name="fc"), script, "bn"))
  if script.training:
    h = tf.nn.dropout(h, 0.8, noise_shape=[tf.shape(h)[0], 1, 6])
  h = tf.layers.dense(h, 6, name="fc2") + h
  return tf.layers.dense(tf.reduce_mean(h, 1), 3, name="logits")


def words(script):
  """Words of a sentence dropped: a mask times ones times the embedding."""
  ids = script.input([None, 5], "ids", tf.int32, high=10)
  h = tf.nn.embedding_lookup(tf.get_variable("table", [10, 4]), ids)
  if script.training:
    h *= tf.nn.dropout(tf.ones([tf.shape(ids)[0], 5, 1]), 0.8)
  h = norm(tf.layers.dense(h, 6, name="fc"), script, "bn")
  return tf.layers.dense(tf.reduce_max(h, 1), 3, name="logits")


def unscaled(script):
  """The first kind of dropout: inference multiplies by the probability."""

  def act(h, name):
    if not script.training:
      return h * 0.8
    return h * tf.to_float(tf.random_uniform(tf.shape(h)) < 0.8)

  return dense_net(script, act)


def scaled_later(script):
  """The mask before a convolution, its factor behind it."""
  h = stem_of(script)
  kernel = tf.get_variable("kernel", [3, 3, 4, 4])
  if script.training:
    mask = tf.floor(0.75 + tf.random_uniform(tf.shape(h)))
    h = tf.nn.conv2d(h * mask, kernel, 1, "SAME") / 0.75
  else:
    h = tf.nn.conv2d(h, kernel, 1, "SAME")
  return head_of(tf.nn.relu(norm(h, script, "bn1")))


def stored_chance(script):
  """A keep probability that is a variable behind a sigmoid."""
  chance = tf.nn.sigmoid(tf.get_variable("chance", []))

  def act(h, name):
    if not script.training:
      return h
    return tf.nn.dropout(h, rate=chance)

  return dense_net(script, act)


def stored_chance_unscaled(script):
  chance = tf.nn.sigmoid(tf.get_variable("chance", []))

  def act(h, name):
    if not script.training:
      return h * chance
    with tf.name_scope(name):
      return h * tf.to_float(tf.random_uniform(tf.shape(h)) < chance)

  return dense_net(script, act)


def vector(script):
  """One fed keep probability for each layer."""
  keep = script.value("dropout_keep", [0.7, 0.9], [1.0, 1.0], shape=[2])
  chances = tf.unstack(keep)

  def act(h, name):
    if not script.training:
      return h
    return tf.nn.dropout(h, keep_prob=chances[int(name[1]) - 1])

  return dense_net(script, act)


def vector_sliced(script):
  """The same, sliced where it is used, once for the mask, once to scale."""
  keep = script.value("rates", [0.7, 0.9, 0.5], [1.0] * 3, shape=[3])

  def act(h, name):
    if not script.training:
      return h
    i = int(name[1])
    mask = tf.floor(keep[i] + tf.random_uniform(tf.shape(h)))
    return h / keep[i] * mask

  return dense_net(script, act)


def scheduled(script):
  """A keep probability that grows with the step."""
  step = tf.to_float(tf.train.get_or_create_global_step())
  keep = tf.minimum(1.0, 0.5 + step / 2000)

  def act(h, name):
    return tf.nn.dropout(h, keep) if script.training else h

  return dense_net(script, act)


def by_phase(script):
  """1 - 0.4 * phase."""
  phase = script.phase()
  keep = 1.0 - 0.4 * tf.to_float(phase)
  h = tf.layers.dense(script.input([None, 9]), 8, name="fc1")
  h = tf.nn.relu(norm(h, script, "bn1", phase))
  h = tf.nn.dropout(h, keep)
  return tf.layers.dense(h, 4, name="logits")


def several_samples(script):
  """The mean of several dropouts of one tensor."""
  x = script.input([None, 9])
  h = tf.nn.relu(norm(tf.layers.dense(x, 8, name="fc"), script, "bn"))

  def logits(h):
    return tf.layers.dense(h, 4, name="out", reuse=tf.AUTO_REUSE)

  if script.training:
    return tf.add_n([logits(tf.nn.dropout(h, 0.6)) for _ in range(3)]) / 3
  return tf.identity(logits(h))


def block(script):
  """DropBlock: squares of pixels, and what is left scaled by its share."""
  h = stem_of(script)
  if script.training:
    seeds = tf.to_float(tf.random_uniform(tf.shape(h)) < 0.1)
    mask = tf.subtract(
      1.0, tf.nn.max_pool(seeds, 3, 1, "SAME"), name="block_mask"
    )
    h = h * mask * tf.to_float(tf.size(mask)) / tf.reduce_sum(mask)
  return head_of(block_of(h, script, "b1"))


# Weights.


def connect(script):
  """DropConnect, scaled, as tf.nn.dropout of a kernel."""
  x = script.input([None, 9])
  kernel = tf.get_variable("kernel", [9, 7])
  if script.training:
    kernel = tf.nn.dropout(kernel, 0.7)
  h = tf.nn.relu(norm(tf.matmul(x, kernel), script, "bn"))
  return tf.layers.dense(h, 4, name="logits")


def connect_unscaled(script):
  x = script.input([None, 9])
  kernel = tf.get_variable("kernel", [9, 7])
  keep = (
    tf.to_float(tf.random_uniform([9, 7]) > 0.2) if script.training else 0.8
  )
  h = tf.nn.relu(norm(tf.matmul(x, kernel * keep), script, "bn"))
  return tf.layers.dense(h, 4, name="logits")


def weight_noise(script):
  """Noise on a convolution's kernel and on a bias."""
  x = script.input([None, 6, 6, 3])
  kernel = tf.get_variable("kernel", [3, 3, 3, 4])
  bias = tf.get_variable("bias", [4])
  if script.training:
    kernel += tf.random_normal([3, 3, 3, 4], stddev=0.1)
    bias *= tf.random_normal([4], 1.0, 0.2)
  h = tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "SAME"), bias)
  return head_of(tf.nn.relu(norm(h, script, "bn")))


def noisy_layer(script):
  """NoisyNet: factorized noise through sign(x) sqrt(|x|)."""
  x = script.input([None, 9])
  mean = tf.get_variable("w_mu", [9, 6])
  spread = tf.get_variable("w_sigma", [9, 6])
  if script.training:
    p, q = (tf.random_normal([n, 1]) for n in (9, 6))
    p, q = (tf.sign(e) * tf.sqrt(tf.abs(e)) for e in (p, q))
    mean += spread * tf.matmul(p, q, transpose_b=True)
  h = tf.nn.relu(norm(tf.matmul(x, mean), script, "bn"))
  return tf.layers.dense(h, 4, name="logits")


# Branches.


def depth_cond(script):
  """Stochastic depth by tf.cond; inference scales by the probability."""
  h = stem_of(script)
  for i, chance in enumerate((0.9, 0.6)):
    name = "b%d" % i

    def branch(h=h, name=name):
      return h + block_of(h, script, name)

    if script.training:
      h = tf.cond(tf.random_uniform([]) < chance, branch, lambda h=h: h)
    else:
      h = h + chance * block_of(h, script, name)
  return head_of(h)


def depth_cond_scaled(script):
  """The branch is scaled while it trains; it may be zeros."""
  h = stem_of(script)
  if script.training:
    more = tf.cond(
      tf.less(tf.random_uniform([]), 0.8),
      lambda: block_of(h, script, "b") / 0.8,
      lambda: tf.zeros_like(h),
    )
  else:
    more = block_of(h, script, "b")
  return head_of(h + more)


def depth_cond_phase(script):
  """Under a phase that is fed, and behind it a draw."""
  x = script.input([None, 6, 6, 3])
  phase = script.phase()

  def block(h, name):
    h = tf.layers.conv2d(h, 4, 3, padding="same", name=name)
    return tf.nn.relu(norm(h, script, name + "_bn", phase))

  h = block(x, "stem")
  more = block(h, "b")
  gate = tf.cond(
    phase,
    lambda: tf.floor(tf.random_uniform([]) + 0.7),
    lambda: tf.constant(0.7),
  )
  return head_of(h + gate * more)


def depth_gate(script):
  """The draw chooses a number, and that scales the branch."""
  h = stem_of(script)
  gate = 0.75
  if script.training:
    gate = tf.cond(
      tf.random_uniform([]) > 0.25, lambda: 1.0, lambda: tf.constant(0.0)
    )
  return head_of(h + gate * block_of(h, script, "b"))


def depth_rows(script):
  """For each row of the batch, by tf.where."""
  h = stem_of(script)
  more = h + block_of(h, script, "b")
  if script.training:
    h = tf.where(tf.random_uniform([tf.shape(h)[0]]) < 0.7, more, h)
  else:
    h = 0.7 * more + 0.3 * h
  return head_of(h)


def depth_if(script):
  """Control flow v2, where branches are functions."""
  tf.enable_control_flow_v2()
  tf.enable_resource_variables()
  h = stem_of(script)
  more = block_of(h, script, "b")
  weight = tf.get_variable("mix", [4, 4])
  if script.training:
    h = tf.cond(
      tf.random_uniform([]) < 0.8,
      lambda: h + tf.tensordot(more, weight, 1),
      lambda: tf.identity(h),
    )
  else:
    h = h + 0.8 * tf.tensordot(more, weight, 1)
  return head_of(h)


def path_nasnet(script):
  """drop_path of NASNet: its chance falls with the cell and the step."""
  h = stem_of(script)
  step = tf.to_float(tf.train.get_or_create_global_step())
  progress = tf.minimum(1.0, step / 1000)
  for i in range(2):
    more = block_of(h, script, "cell%d" % i)
    if script.training:
      keep = 1 - (i + 1) / 2.0 * 0.4
      keep = 1 - progress * (1 - keep)
      mask = keep + tf.random_uniform([tf.shape(more)[0], 1, 1, 1])
      more = tf.div(more, keep) * tf.cast(tf.floor(mask), more.dtype)
    h = h + more
  return head_of(h)


def path_unscaled(script):
  h = stem_of(script)
  for i, keep in enumerate((0.9, 0.5)):
    more = block_of(h, script, "b%d" % i)
    if script.training:
      noise = tf.random_uniform([tf.shape(more)[0], 1, 1, 1])
      more *= tf.floor(keep + noise)
    else:
      more *= keep
    h = tf.nn.relu(h + more)
  return head_of(h)


def shake_shake(script):
  """Two branches with weights that sum to 1; other ones backwards."""
  h = stem_of(script)
  a, b = block_of(h, script, "a"), block_of(h, script, "b")
  if script.training:
    rows = [tf.shape(h)[0], 1, 1, 1]
    ahead, back = tf.random_uniform(rows), tf.random_uniform(rows)
    forward = ahead * a + (1 - ahead) * b
    backward = back * a + (1 - back) * b
    h = h + backward + tf.stop_gradient(forward - backward)
  else:
    h = h + 0.5 * (a + b)
  return head_of(h)


def shake_shake_phase(script):
  """Weights chosen by a fed phase."""
  x = script.input([None, 6, 6, 3])
  phase = script.phase()

  def block(h, name):
    h = tf.layers.conv2d(h, 4, 3, padding="same", name=name)
    return tf.nn.relu(norm(h, script, name + "_bn", phase))

  h = block(x, "stem")
  alpha = tf.cond(
    phase, lambda: tf.random_uniform([]), lambda: tf.constant(0.5)
  )
  return head_of(h + alpha * block(h, "a") + (1.0 - alpha) * block(h, "b"))


def shake_even(script):
  """A branch taken by the toss of a coin, the other by what is left."""
  h = stem_of(script)
  coin = 0.5
  if script.training:
    coin = tf.round(tf.random_uniform([tf.shape(h)[0], 1, 1, 1]))
  h = coin * block_of(h, script, "a") + (1 - coin) * block_of(h, script, "b")
  return head_of(h)


def shake_drop(script):
  """(b + alpha - b alpha) f(x); inference has the mean of that."""
  h = stem_of(script)
  more = block_of(h, script, "b")
  if script.training:
    gate = tf.floor(tf.random_uniform([]) + 0.6)
    alpha = tf.random_uniform([tf.shape(h)[0], 1, 1, 1], -1, 1)
    more *= gate + alpha - gate * alpha
  else:
    more *= 0.6
  return head_of(h + more)


def swapout(script):
  """A mask for the branch, and one for what it is added to."""
  h = stem_of(script)
  more = block_of(h, script, "b")
  if script.training:
    p, q = (tf.to_float(tf.random_uniform(tf.shape(h)) < c) for c in (0.9, 0.6))
    h = p * h + q * more
  else:
    h = 0.9 * h + 0.6 * more
  return head_of(h)


# Recurrent nets.


def _gru(script, x, units, gates=lambda g: g, state=lambda new, old: new):
  """A cell by hand, unrolled over the steps of x."""
  width = int(x.shape[2]) + units
  w = tf.get_variable("gates", [width, 2 * units])
  v = tf.get_variable("candidate", [width, units])
  h = tf.zeros([tf.shape(x)[0], units])
  for t in range(int(x.shape[1])):
    both = tf.concat([x[:, t], h], 1)
    r, u = tf.split(tf.nn.sigmoid(gates(tf.matmul(both, w))), 2, 1)
    c = tf.tanh(tf.matmul(tf.concat([x[:, t], r * h], 1), v))
    h = state(u * h + (1 - u) * c, h)
  return h


def frames_of(script):
  x = script.input([None, 3, 4], "frames")
  return norm(tf.layers.dense(x, 4, name="fc"), script, "bn")


def gates(script):
  """Noise in the gates before their sigmoid."""

  def noisy(g):
    if not script.training:
      return g
    return g + tf.random_normal(tf.shape(g), stddev=0.5)

  h = _gru(script, frames_of(script), 4, gates=noisy)
  return tf.layers.dense(h, 3, name="logits")


def zoneout(script):
  """Units that keep their state: by tf.where; a mean at inference."""

  def keep(new, old):
    if not script.training:
      return 0.3 * old + 0.7 * new
    return tf.where(tf.random_uniform(tf.shape(new)) < 0.3, old, new)

  h = _gru(script, frames_of(script), 4, state=keep)
  return tf.layers.dense(h, 3, name="logits")


def zoneout_dropout(script):
  """The wrapper's way: (1 - z) dropout(new - old) + old, in a loop."""
  x = frames_of(script)

  class Zoneout(tf.nn.rnn_cell.GRUCell):
    def call(self, inputs, state):
      _, new = super(Zoneout, self).call(inputs, state)
      if script.training:
        new = 0.75 * tf.nn.dropout(new - state, 0.75) + state
      else:
        new = 0.75 * (new - state) + state
      return new, new

  _, h = tf.nn.dynamic_rnn(Zoneout(4), x, dtype=tf.float32)
  return tf.layers.dense(h, 3, name="logits")


def gates_loop(script):
  """Noise that multiplies an LSTM's new state, in a loop."""
  x = frames_of(script)

  class Noisy(tf.nn.rnn_cell.BasicLSTMCell):
    def call(self, inputs, state):
      if script.training:
        inputs *= tf.random_normal(tf.shape(inputs), 1.0, 0.3)
      h, new = super(Noisy, self).call(inputs, state)
      if script.training:
        h += tf.random_uniform(tf.shape(h), -0.1, 0.1)
      return h, tf.nn.rnn_cell.LSTMStateTuple(new.c, h)

  h, _ = tf.nn.dynamic_rnn(Noisy(4), x, dtype=tf.float32)
  return tf.layers.dense(h[:, -1], 3, name="logits")


def variational(script):
  """DropoutWrapper with one mask for all steps, for inputs and states."""
  x = frames_of(script)
  cell = tf.nn.rnn_cell.BasicLSTMCell(4)
  if script.training:
    cell = tf.nn.rnn_cell.DropoutWrapper(
      cell,
      input_keep_prob=0.8,
      state_keep_prob=0.7,
      output_keep_prob=0.9,
      variational_recurrent=True,
      input_size=4,
      dtype=tf.float32,
    )
  h, _ = tf.nn.dynamic_rnn(cell, x, dtype=tf.float32, scope="rnn")
  return tf.layers.dense(h[:, -1], 3, name="logits")


def recurrent_keras(script):
  """Keras' dropout and recurrent_dropout, masks made outside of the loop."""
  x = frames_of(script)
  layer = tf.keras.layers.LSTM(4, dropout=0.2, recurrent_dropout=0.3)
  h = layer(x, training=script.training)
  return tf.layers.dense(h, 3, name="logits")


# Norms and inputs.


def adjustment_fused_shape(script):
  """The norm's adjustment, for each row, under a fed phase."""
  x = script.input([None, 6, 6, 3])
  phase = script.phase()

  def adjust(shape):
    rows = tf.concat([shape[:1], [1, 1], shape[-1:]], 0)
    return (
      tf.random_uniform(rows, 0.93, 1.07),
      tf.random_uniform(rows, -0.1, 0.1),
    )

  h = tf.layers.conv2d(x, 4, 3, name="conv")
  h = tf.layers.batch_normalization(
    h, training=phase, adjustment=adjust, name="bn"
  )
  return head_of(tf.nn.relu(h))


def adjustment_rows(script):
  """The same for each row, with a literal phase."""
  x = script.input([None, 6, 6, 3])

  def adjust(shape):
    rows = tf.concat([shape[:1], [1, 1], shape[-1:]], 0)
    return (
      tf.random_uniform(rows, 0.93, 1.07),
      tf.random_uniform(rows, -0.1, 0.1),
    )

  h = tf.layers.conv2d(x, 4, 3, name="conv")
  h = tf.layers.batch_normalization(
    h, training=script.training, adjustment=adjust, name="bn"
  )
  return head_of(tf.nn.relu(h))


def style(script):
  """StyleGAN: noise on each map, scaled by a learned weight a channel."""
  h = tf.layers.dense(script.input([None, 9], "latents"), 36, name="fc")
  h = tf.reshape(h, [-1, 3, 3, 4])
  for i in range(2):
    h = tf.layers.conv2d(h, 4, 3, padding="same", name="conv%d" % i)
    weight = tf.get_variable("noise_strength%d" % i, [4])
    if script.training:
      noise = tf.random_normal([tf.shape(h)[0], 3, 3, 1])
      h += noise * tf.reshape(weight, [1, 1, 1, 4])
    h = tf.nn.leaky_relu(norm(h, script, "bn%d" % i))
  return tf.layers.conv2d(h, 3, 1, name="to_rgb")


def style_mixing(script):
  """Styles of two latents, cut over at a random layer."""
  z = script.input([None, 9], "latents")

  def mapping(z):
    return tf.layers.dense(z, 4, tf.nn.relu, name="map", reuse=tf.AUTO_REUSE)

  styles = tf.tile(mapping(z)[:, None], [1, 3, 1])
  if script.training:
    other = mapping(tf.random_normal(tf.shape(z)))
    cutoff = tf.cond(
      tf.random_uniform([]) < 0.9,
      lambda: tf.random_uniform([], 1, 3, tf.int32),
      lambda: 3,
    )
    cutoff = tf.identity(cutoff, name="cutoff")
    layers = np.arange(3)[None, :, None]
    keep = tf.broadcast_to(layers < cutoff, tf.shape(styles))
    styles = tf.where(keep, styles, tf.tile(other[:, None], [1, 3, 1]))
  h = tf.get_variable("const", [1, 4]) * styles[:, 0]
  for i in (1, 2):
    h = tf.nn.relu(norm(tf.layers.dense(h, 4), script, "bn%d" % i))
    h *= styles[:, i]
  return tf.layers.dense(h, 3, name="image")


def input_noise(script):
  """Instance noise of a discriminator, annealed by a fed number."""
  x = script.input([None, 6, 6, 3])
  deviation = script.value("noise_stddev", 0.3, 0.0)
  if script.training:
    x = x + deviation * tf.random_normal(tf.shape(x))
  return head_of(block_of(x, script, "b"))


def input_light(script):
  """Brightness and contrast, of means 0 and 1."""
  x = script.input([None, 6, 6, 3])
  if script.training:
    rows = [tf.shape(x)[0], 1, 1, 1]
    x = x * tf.random_uniform(rows, 0.5, 1.5)
    x = x + tf.random_uniform(rows, -0.3, 0.3)
  return head_of(block_of(x, script, "b"))


def input_contrast(script):
  """A factor of another mean than 1."""
  x = script.input([None, 6, 6, 3])
  if script.training:
    x = x * tf.random_uniform([], 0.5, 2.0, name="contrast")
  return head_of(block_of(x, script, "b"))


def input_flip(script):
  """Half of the pictures are mirrored."""
  x = script.input([None, 6, 6, 3])
  if script.training:
    flip = tf.round(tf.random_uniform([tf.shape(x)[0], 1, 1, 1]), name="flip")
    x = flip * tf.reverse(x, [2]) + (1.0 - flip) * x
  return head_of(block_of(x, script, "b"))


def input_flip_cond(script):
  x = script.input([None, 6, 6, 3])
  if script.training:
    mirrored = tf.less(tf.random_uniform([]), 0.5, name="mirrored")
    x = tf.cond(mirrored, lambda: tf.reverse(x, [2]), lambda: x)
  return head_of(block_of(x, script, "b"))


def input_mask(script):
  """A denoising autoencoder: pixels are hidden while it trains."""
  x = script.input([None, 9])
  h = x
  if script.training:
    mask = tf.to_float(tf.random_uniform(tf.shape(x)) < 0.7, name="corruption")
    h = x * mask
  h = tf.nn.relu(norm(tf.layers.dense(h, 5, name="encode"), script, "bn"))
  return tf.layers.dense(h, 9, name="decode")


def mixup(script):
  """Rows are mixed with others by a weight from a beta distribution."""
  x = script.input([None, 9])
  if script.training:
    weight = tf.distributions.Beta(0.4, 0.4).sample()
    weight = tf.identity(weight, name="mix")
    rows = tf.random_shuffle(tf.range(tf.shape(x)[0]))
    x = weight * x + (1.0 - weight) * tf.gather(x, rows)
  h = tf.nn.relu(norm(tf.layers.dense(x, 6, name="fc"), script, "bn"))
  return tf.layers.dense(h, 4, name="logits")


def mixup_fed(script):
  """The weight is fed, the rows are shuffled in the graph."""
  x = script.input([None, 9])
  weight = script.value("lam", 0.3, 1.0)
  if script.training:
    x = weight * x + (1.0 - weight) * tf.random_shuffle(x)
  h = tf.nn.relu(norm(tf.layers.dense(x, 6, name="fc"), script, "bn"))
  return tf.layers.dense(h, 4, name="logits")


def mixup_hidden(script):
  """Manifold mixup, uniform weights of each row."""
  x = script.input([None, 9])
  h = tf.nn.relu(norm(tf.layers.dense(x, 6, name="fc"), script, "bn"))
  if script.training:
    weight = tf.random_uniform([tf.shape(x)[0], 1], name="mix")
    h = weight * h + (1.0 - weight) * tf.reverse(h, [0])
  return tf.layers.dense(h, 4, name="logits")


def code(script):
  """A variational autoencoder whose own inference takes the mean."""
  x = script.input([None, 9])
  h = tf.nn.relu(norm(tf.layers.dense(x, 7, name="e"), script, "bn1"))
  mean, log_variance = tf.split(tf.layers.dense(h, 6, name="code"), 2, 1)
  if script.training:
    noise = tf.random_normal(tf.shape(mean))
    mean += tf.exp(0.5 * log_variance) * noise
  h = tf.nn.relu(norm(tf.layers.dense(mean, 7, name="d"), script, "bn2"))
  return tf.layers.dense(h, 9, name="decoded")


def local(script):
  """Variational dropout, drawn for the activations."""
  x = script.input([None, 9])
  w = tf.get_variable("w", [9, 6])
  spread = tf.get_variable("log_sigma2", [9, 6])
  h = tf.matmul(x, w)
  if script.training:
    deviation = tf.sqrt(tf.matmul(tf.square(x), tf.exp(spread)) + 1e-8)
    h += deviation * tf.random_normal(tf.shape(h))
  h = tf.nn.relu(norm(h, script, "bn"))
  return tf.layers.dense(h, 4, name="logits")


def student(script):
  """Noisy student: drop path and dropout under one fed phase."""
  x = script.input([None, 6, 6, 3])
  phase = script.phase("is_train")

  def block(h, name):
    h = tf.layers.conv2d(h, 4, 3, padding="same", name=name)
    return tf.nn.swish(norm(h, script, name + "_bn", phase))

  h = block(x, "stem")
  for i, keep in enumerate((0.9, 0.8)):
    more = block(h, "b%d" % i)
    rows = [tf.shape(more)[0], 1, 1, 1]
    dropped = more / keep * tf.floor(keep + tf.random_uniform(rows))
    h = h + tf.cond(phase, lambda d=dropped: d, lambda m=more: m)
  h = tf.layers.dropout(tf.reduce_mean(h, [1, 2]), 0.5, training=phase)
  return tf.layers.dense(h, 4, name="logits")


def _named(name, model, **fields):
  return recipe("noise_" + name, model, **fields)


RECIPES = (
  _named("alpha_contrib", alpha_contrib),
  _named("alpha_keras", alpha_keras),
  _named("alpha_fed", alpha_fed),
  _named("gaussian", gaussian),
  _named("gaussian_keras", gaussian_keras),
  _named("gaussian_residual", gaussian_residual),
  _named("gaussian_annealed", gaussian_annealed),
  _named("spatial", spatial),
  _named("spatial_keras", spatial_keras),
  _named("broadcast_dims", broadcast_dims),
  _named("words", words),
  _named("unscaled", unscaled),
  _named("scaled_later", scaled_later),
  _named("stored_chance", stored_chance),
  _named("stored_chance_unscaled", stored_chance_unscaled),
  _named("vector", vector),
  _named("vector_sliced", vector_sliced),
  _named("scheduled", scheduled),
  _named("by_phase", by_phase),
  _named("several_samples", several_samples),
  _named("block_set", block, set={"block_mask": 1.0}),
  _named("connect", connect),
  _named("connect_unscaled", connect_unscaled),
  _named("weights", weight_noise),
  _named("noisy_layer", noisy_layer),
  _named("depth_cond", depth_cond),
  _named("depth_cond_scaled", depth_cond_scaled),
  _named("depth_cond_phase", depth_cond_phase),
  _named("depth_gate", depth_gate),
  _named("depth_rows", depth_rows),
  _named("depth_if", depth_if),
  _named("path_nasnet", path_nasnet),
  _named("path_unscaled", path_unscaled),
  _named("shake_shake", shake_shake),
  _named("shake_shake_phase", shake_shake_phase),
  _named("shake_even", shake_even),
  _named("shake_drop", shake_drop),
  _named("swapout", swapout),
  _named("gates", gates),
  _named("gates_loop", gates_loop),
  _named("zoneout", zoneout),
  _named("zoneout_dropout", zoneout_dropout),
  _named("variational", variational),
  _named("recurrent_keras", recurrent_keras),
  _named("adjustment_phase", adjustment_fused_shape),
  _named("adjustment_rows", adjustment_rows),
  _named("style", style),
  _named("style_mixing_set", style_mixing, set={"cutoff": 3}),
  _named("input", input_noise),
  _named("input_light", input_light),
  _named("input_contrast_set", input_contrast, set={"contrast": 1.0}),
  _named("input_flip_set", input_flip, set={"flip": 0.0}),
  _named("input_flip_cond_set", input_flip_cond, set={"mirrored": False}),
  _named("input_mask_set", input_mask, set={"corruption": 1.0}),
  _named("mixup_set", mixup, set={"mix": 1.0}),
  _named("mixup_fed_set", mixup_fed, set={"lam": 1.0}),
  _named("mixup_hidden_set", mixup_hidden, set={"mix": 1.0}),
  _named("code", code),
  _named("local", local),
  _named("student", student),
)
