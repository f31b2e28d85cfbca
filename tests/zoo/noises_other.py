# SPDX-License-Identifier: Apache-2.0
"""Noise that hides: in distributions, loops, whole numbers and formulas."""

import tensorflow as tf

from tests.zoo.noises import (
  block_of,
  dense_net,
  frames_of,
  head_of,
  norm,
  stem_of,
)
from tests.zoo.script import recipe


def _row(script, width=6):
  """A dense layer and a norm of a row of numbers."""
  x = script.input([None, 9])
  return tf.nn.relu(norm(tf.layers.dense(x, width, name="fc"), script, "bn"))


def _logits(h):
  return tf.layers.dense(h, 4, name="logits")


def bernoulli(script):
  """A gate of tf.distributions, whose chance is a stored logit."""
  h = stem_of(script)
  logit = tf.get_variable("gate_logit", [])
  if script.training:
    gate = tf.to_float(tf.distributions.Bernoulli(logits=logit).sample())
  else:
    gate = tf.nn.sigmoid(logit)
  return head_of(h + gate * block_of(h, script, "b"))


def normal(script):
  def act(h, name):
    if not script.training:
      return h
    return h + tf.distributions.Normal(0.0, 0.3).sample(tf.shape(h))

  return dense_net(script, act)


def categories(script):
  """A path drawn by tf.multinomial: a user says what it means."""
  h = stem_of(script)
  gate = 0.3
  if script.training:
    drawn = tf.multinomial(tf.log([[0.7, 0.3]]), 1)
    gate = tf.identity(tf.to_float(drawn)[0, 0], name="gate")
  return head_of(h + gate * block_of(h, script, "b"))


def whole(script):
  """The choice is by a whole number out of four."""
  h = stem_of(script)
  if script.training:
    draw = tf.random_uniform([], 0, 4, tf.int32)
    h = tf.cond(
      tf.equal(draw, 0), lambda: h, lambda: h + block_of(h, script, "b")
    )
  else:
    h = h + 0.75 * block_of(h, script, "b")
  return head_of(h)


def deviation(script):
  """Noise as wide as the data's own deviation."""
  x = h = script.input([None, 9])
  if script.training:
    _, variance = tf.nn.moments(x, [1], keep_dims=True)
    h = x + 0.3 * tf.sqrt(variance) * tf.random_normal(tf.shape(x))
  h = tf.nn.relu(norm(tf.layers.dense(h, 6, name="fc"), script, "bn"))
  return _logits(h)


def direction(script):
  """A random direction of length one, as of virtual adversarial training."""
  x = h = script.input([None, 9])
  if script.training:
    d = tf.random_normal(tf.shape(x))
    d /= 1e-12 + tf.reduce_max(tf.abs(d), 1, keep_dims=True)
    d *= tf.rsqrt(tf.reduce_sum(d**2, 1, keep_dims=True) + 1e-6)
    h = x + 0.5 * d
  h = tf.nn.relu(norm(tf.layers.dense(h, 6, name="fc"), script, "bn"))
  return _logits(h)


def experts(script):
  """A mixture of experts, whose gates are noisy by what they see."""
  h = _row(script)
  gates = tf.matmul(h, tf.get_variable("w_gate", [6, 3]))
  if script.training:
    wide = tf.nn.softplus(tf.matmul(h, tf.get_variable("w_noise", [6, 3])))
    gates += tf.random_normal(tf.shape(gates)) * (wide + 0.01)
  answers = tf.stack([tf.layers.dense(h, 4) for _ in range(3)], 1)
  mixed = tf.nn.softmax(gates)[:, :, None] * answers
  return tf.reduce_sum(mixed, 1, name="logits")


def gumbel(script):
  h = tf.layers.dense(_row(script), 5, name="code")
  if script.training:
    u = tf.random_uniform(tf.shape(h), 1e-6, 1 - 1e-6)
    h += tf.identity(-tf.log(-tf.log(u)), name="gumbel")
  return _logits(tf.nn.softmax(h / 0.7))


def neuron(script):
  """Stochastic binary units; inference cuts at a half."""
  h = _row(script)
  chance = tf.nn.sigmoid(tf.layers.dense(h, 6, name="chance"))
  if script.training:
    fires = tf.random_uniform(tf.shape(chance), name="draw") < chance
  else:
    fires = chance > 0.5
  return tf.layers.dense(tf.to_float(fires), 4, name="out") + _logits(h)


def unknown_word(script):
  """Words give way to a learned vector."""
  ids = script.input([None, 5], "ids", tf.int32, high=10)
  h = tf.nn.embedding_lookup(tf.get_variable("table", [10, 4]), ids)
  if script.training:
    unknown = tf.zeros_like(h) + tf.get_variable("unknown", [4])
    draw = tf.random_uniform([tf.shape(ids)[0], 5, 1])
    lost = tf.less(draw, 0.2, name="lost")
    h = tf.where(tf.tile(lost, [1, 1, 4]), unknown, h)
  h = norm(tf.layers.dense(h, 6, name="fc"), script, "bn")
  return tf.layers.dense(tf.reduce_mean(h, 1), 3, name="logits")


def open_vector(script):
  """Keep probabilities in a vector whose length is not stated."""
  keep = script.value("keeps", [0.7, 0.9], [1.0, 1.0], shape=[None])

  def act(h, name):
    return tf.nn.dropout(h, keep[int(name[1]) - 1]) if script.training else h

  return dense_net(script, act)


def half(script):
  """In half floats."""
  h = tf.cast(_row(script, 8), tf.float16)
  if script.training:
    h = tf.nn.dropout(h, 0.75)
  return _logits(tf.cast(h, tf.float32))


def state(script):
  """The first state of a recurrent net is drawn."""
  x = frames_of(script)
  first = tf.zeros([tf.shape(x)[0], 4])
  if script.training:
    first = tf.random_normal([tf.shape(x)[0], 4], stddev=0.3)
  cell = tf.nn.rnn_cell.GRUCell(4)
  h, _ = tf.nn.dynamic_rnn(cell, x, initial_state=first)
  return tf.layers.dense(h[:, -1], 3, name="logits")


def scanned(script):
  """tf.scan over inputs and their masks, which lie in arrays."""
  x = tf.transpose(frames_of(script), [1, 0, 2])
  w = tf.get_variable("w", [4, 4])
  first = tf.zeros([tf.shape(x)[1], 4])
  if script.training:
    masks = tf.nn.dropout(tf.ones([3, tf.shape(x)[1], 4]), 0.8)

    def step(h, both):
      return tf.tanh(both[0] + tf.matmul(h * both[1], w))

    h = tf.scan(step, (x, masks), first)
  else:
    h = tf.scan(lambda h, e: tf.tanh(e + tf.matmul(h, w)), x, first)
  return tf.layers.dense(h[-1], 3, name="logits")


def loop(script):
  """Masks and added noise in a loop by hand."""
  x = tf.transpose(frames_of(script), [1, 0, 2])
  w = tf.get_variable("w", [4, 4])
  frames = tf.TensorArray(tf.float32, 3).unstack(x)

  def body(i, h):
    h = tf.tanh(frames.read(i) + tf.matmul(h, w))
    if script.training:
      h *= tf.floor(0.8 + tf.random_uniform(tf.shape(h))) / 0.8
      h += 0.1 * tf.random_normal(tf.shape(h))
    return i + 1, h

  first = tf.zeros([tf.shape(x)[1], 4])
  _, h = tf.while_loop(lambda i, h: i < 3, body, [0, first])
  return tf.layers.dense(h, 3, name="logits")


def layer_norm(script):
  """contrib's LSTM with dropout of the candidate."""
  keep = 0.7 if script.training else 1.0
  cell = tf.contrib.rnn.LayerNormBasicLSTMCell(4, dropout_keep_prob=keep)
  h, _ = tf.nn.dynamic_rnn(cell, frames_of(script), dtype=tf.float32)
  return tf.layers.dense(h[:, -1], 3, name="logits")


def survival(script):
  """A branch whose chance is fed and which nothing scales back."""
  chance = script.value("survival", 0.8, 0.8)
  h = stem_of(script)
  more = block_of(h, script, "b")
  if script.training:
    rows = [tf.shape(more)[0], 1, 1, 1]
    more *= tf.floor(chance + tf.random_uniform(rows))
  else:
    more *= chance
  return head_of(h + more)


def tied(script):
  """One mask for two tensors."""
  h = _row(script)
  other = tf.layers.dense(h, 6, name="other")
  if script.training:
    mask = tf.floor(tf.random_uniform(tf.shape(h)) + 0.8) / 0.8
    h, other = h * mask, other * mask
  return _logits(tf.concat([h, other], 1))


def twice(script):
  """A mask on what it has been a part of: no rule says its mean."""
  h = _row(script)
  if script.training:
    mask = tf.floor(tf.random_uniform(tf.shape(h)) + 0.8)
    h = (h * mask + tf.layers.dense(h, 6, name="other") * mask) * mask
  return _logits(h)


def _named(name, model, **fields):
  return recipe("noise_" + name, model, **fields)


RECIPES = (
  _named("bernoulli", bernoulli),
  _named("normal", normal),
  _named("categories_set", categories, set={"gate": 0.3}),
  _named("whole", whole),
  _named("deviation", deviation),
  _named("direction", direction),
  _named("experts", experts),
  _named("gumbel_set", gumbel, set={"gumbel": 0.0}),
  _named("neuron_set", neuron, set={"draw": 0.5}),
  _named("unknown_word_set", unknown_word, set={"lost": False}),
  _named("open_vector", open_vector),
  _named("half", half),
  _named("state", state),
  _named("scanned", scanned),
  _named("loop", loop),
  _named("layer_norm", layer_norm),
  _named("survival_set", survival, set={"survival": 0.8}),
  _named("tied", tied),
  recipe("refuse_noise_twice", twice, expect="refuse"),
  recipe("refuse_noise_gumbel", gumbel, expect="refuse"),
  recipe("refuse_noise_categories", categories, expect="refuse"),
  recipe("refuse_noise_survival", survival, expect="refuse"),
)
