# SPDX-License-Identifier: Apache-2.0
"""Phases in every place and form, beside switches that are about data."""

import tensorflow as tf

from tests.zoo import backbones
from tests.zoo.script import recipe


def _norm(training, fused=None):
  def norm(h, name):
    return tf.layers.batch_normalization(
      h, training=training, fused=fused, name=name
    )

  return norm


def _statistics(h):
  """The batch's mean and variance of rows, and the averages of both."""
  size = h.shape[-1:]
  stored = [
    tf.get_variable(n, size, trainable=False) for n in ("mean", "variance")
  ]
  batch = tf.nn.moments(h, [0])
  for old, new in zip(stored, batch):
    tf.add_to_collection(
      tf.GraphKeys.UPDATE_OPS, tf.assign(old, 0.9 * old + 0.1 * new)
    )
  return batch, stored


def _by_hand(h, name, choose):
  """A norm over rows whose statistics `choose(batch, stored)` chooses."""
  with tf.variable_scope(name):
    mean, variance = choose(*_statistics(h))
    offset = tf.get_variable("offset", h.shape[-1:])
    return tf.nn.batch_normalization(h, mean, variance, offset, None, 1e-3)


# Switches about data.


def domain(script):
  """Either side of the switch trains, and has averages of its own."""
  x = script.input([None, 5])
  night = script.value("is_night", True, True, tf.bool)
  norm = _norm(script.training)
  h = tf.cond(
    night,
    lambda: norm(tf.nn.relu(norm(tf.layers.dense(x, 4, name="n"), "n1")), "n2"),
    lambda: norm(tf.layers.dense(x, 4, name="d"), "d1"),
  )
  return tf.layers.dense(tf.nn.relu(h), 3, name="logits")


def domain_phase(script):
  """The same, and a phase inside of it."""
  x = script.input([None, 5])
  night = script.value("is_night", True, True, tf.bool)
  phase = script.phase()
  norm = _norm(phase)
  h = tf.cond(
    night,
    lambda: norm(tf.layers.dense(x, 4, name="n"), "n1"),
    lambda: norm(tf.nn.relu(norm(tf.layers.dense(x, 4, name="d"), "d1")), "d2"),
  )
  return tf.layers.dense(tf.nn.relu(h), 3, name="logits")


def domain_norms(script):
  """Shared weights; only the norms know the domain, by number."""
  x = script.input([None, 5])
  which = script.value("source", 0, 1, tf.int32)
  phase = script.phase("p")

  def norm(h, name):
    return tf.cond(
      tf.equal(which, 1),
      lambda: _norm(phase)(h, name + "_web"),
      lambda: _norm(phase)(h, name + "_scan"),
    )

  return backbones.dense_net(x, norm)


def domain_none(script):
  """One domain is normed and the other is taken as it is."""
  x = script.input([None, 5])
  normed = script.value("normed", True, True, tf.bool)
  h = tf.layers.dense(x, 4, name="fc")
  h = tf.cond(normed, lambda: _norm(script.training)(h, "bn"), lambda: h * 1.0)
  return tf.layers.dense(tf.nn.relu(h), 3, name="logits")


def pooling(script):
  """A number says how features are pooled, and nothing else."""
  x = script.input([None, 6, 6, 3])
  mode = script.value("pooling", 1, 2, tf.int32)
  h = tf.layers.conv2d(x, 4, 3, name="conv")
  h = tf.nn.relu(_norm(script.training)(h, "bn"))
  h = tf.case(
    [
      (tf.equal(mode, 0), lambda: tf.reduce_mean(h, [1, 2])),
      (tf.equal(mode, 1), lambda: tf.reduce_max(h, [1, 2])),
    ],
    default=lambda: tf.reduce_sum(h, [1, 2]) * 0.1,
  )
  return tf.layers.dense(h, 3, name="logits")


def pooling_phase(script):
  """A string says how features are pooled, beside a phase."""
  x = script.input([None, 6, 6, 3])
  mode = script.value("pool", "max", "avg", tf.string)
  h = tf.layers.conv2d(x, 4, 3, name="conv")
  h = tf.nn.relu(_norm(script.phase())(h, "bn"))
  h = tf.cond(
    tf.equal(mode, "max"),
    lambda: tf.reduce_max(h, [1, 2]),
    lambda: tf.reduce_mean(h, [1, 2]),
  )
  return tf.layers.dense(h, 3, name="logits")


def option(script):
  """Either side is clean, and they differ."""
  x = script.input([None, 6, 6, 3])
  logits = backbones.conv_net(x, _norm(script.training))
  flag = script.value("option", True, False, tf.bool)
  return tf.cond(flag, lambda: logits * 2.0, lambda: tf.square(logits))


def task(script):
  """Heads by the name of a task; each has weights, a norm and dropout."""
  x = script.input([None, 5])
  name = script.value("task", "detect", "count", tf.string)
  h = tf.nn.relu(_norm(script.training)(tf.layers.dense(x, 6), "trunk"))

  def head(scope, units):
    with tf.variable_scope(scope):
      g = _norm(script.training)(tf.layers.dense(h, units, name="fc"), "bn")
      if script.training and scope == "detect":
        g = tf.nn.dropout(g, 0.5)
      return tf.layers.dense(g, 3, name="out")

  return tf.identity(
    tf.case(
      [(tf.equal(name, "detect"), lambda: head("detect", 4))],
      default=lambda: head("count", 5),
    ),
    name="answer",
  )


def about_data(script):
  """The phase inside a conditional about the batch."""
  x = script.input([None, 5])
  phase = script.phase("flag")
  norm = _norm(phase)
  h = tf.cond(
    tf.greater(tf.reduce_max(x), -100.0),
    lambda: norm(tf.layers.dense(x, 4, name="a"), "bn_a"),
    lambda: norm(tf.layers.dense(x, 4, name="b"), "bn_b"),
  )
  return tf.layers.dense(tf.nn.relu(h), 3, name="logits")


def about_data_outside(script):
  """A conditional about the batch inside the sides of the phase."""
  x = script.input([None, 5])
  phase = script.phase("flag")
  h = tf.layers.dense(x, 4, name="fc")

  def side(training):
    normed = tf.layers.batch_normalization(
      h, training=training, name="bn", reuse=tf.AUTO_REUSE
    )
    return tf.cond(
      tf.greater(tf.reduce_max(x), -100.0),
      lambda: tf.nn.relu(normed),
      lambda: tf.nn.tanh(normed),
    )

  h = tf.cond(phase, lambda: side(True), lambda: side(False))
  return tf.layers.dense(h, 3, name="logits")


def in_loop(script):
  """The phase inside a loop over steps, in a conditional about the step."""
  x = script.input([None, 4])
  phase = script.phase("flag")
  kernel = tf.get_variable("kernel", [4, 4])

  def choose(batch, stored):
    return tf.cond(
      phase, lambda: tuple(batch), lambda: tuple(map(tf.identity, stored))
    )

  h = _by_hand(x, "first", choose)

  def body(i, h):
    h = tf.cond(
      tf.less(i, 2),
      lambda: tf.cond(
        phase, lambda: tf.nn.dropout(h, 0.7), lambda: tf.identity(h)
      ),
      lambda: tf.nn.relu(h),
    )
    return i + 1, tf.matmul(h, kernel)

  _, h = tf.while_loop(lambda i, h: i < 3, body, [0, h])
  return tf.layers.dense(h, 3, name="logits")


# Behind variables.


def frozen_norms(script):
  """Norms train until a step that the checkpoint is behind."""
  step = tf.train.get_or_create_global_step()
  x = script.input([None, 5])
  training = tf.less(step, 1000) if script.training else False
  return backbones.dense_net(x, _norm(training))


def not_frozen_yet(script):
  """Norms train until a step that the checkpoint is before."""
  return frozen_norms(script)


def delayed(script):
  """A branch joins the network after some steps: a value, and no phase."""
  step = tf.train.get_or_create_global_step()
  x = script.input([None, 5])
  h = tf.nn.relu(_norm(script.training)(tf.layers.dense(x, 4, name="a"), "bn"))
  g = tf.layers.dense(x, 4, name="b")
  late = tf.greater_equal(step, 1000)
  h = tf.cond(late, lambda: h + tf.nn.relu(g), lambda: tf.identity(h))
  return tf.layers.dense(h, 3, name="logits")


def phase_or_early(script):
  """A phase or a step: statistics are the batch's in the first steps."""
  step = tf.train.get_or_create_global_step()
  x = script.input([None, 5])
  phase = script.phase()
  training = tf.logical_or(phase, step < 10) if script.training else False
  return backbones.dense_net(x, _norm(training))


def mode_variable(script):
  """A variable with the number of a mode; 1 trains, 0 does not."""
  script.switch = "mode"
  mode = tf.get_variable("mode", (), tf.int32, trainable=False)
  x = script.input([None, 5])
  training = tf.equal(mode, 1) if script.training else False
  logits = backbones.dense_net(x, _norm(training))
  if not script.training:
    script.restore = [v for v in tf.global_variables() if v is not mode]
  return logits


# Several at once, inverted, numbers, strings, defaults.


def three_modes(script):
  """tf.case over numbers, of which two are no training."""
  x = script.input([None, 5])
  mode = script.phase("mode", train=0, infer=2, dtype=tf.int32)

  def choose(batch, stored):
    def kept():
      return tuple(map(tf.identity, stored))

    return tf.case(
      [(tf.equal(mode, 1), kept), (tf.equal(mode, 2), kept)],
      default=lambda: tuple(map(tf.identity, batch)),
    )

  return backbones.dense_net(x, lambda h, name: _by_hand(h, name, choose))


def three_modes_differ(script):
  """Evaluation and prediction differ: nothing tells which is meant."""
  x = script.input([None, 5])
  mode = script.phase("mode", train="train", infer="predict", dtype=tf.string)
  training = tf.equal(mode, "train")
  logits = backbones.dense_net(x, _norm(training))
  return tf.cond(
    tf.equal(mode, "predict"),
    lambda: tf.nn.softmax(logits),
    lambda: logits * 1.0,
    name="answer",
  )


def inverted_number(script):
  """Frozen is 1, and what trains is not frozen."""
  frozen = script.phase("frozen", train=0, infer=1, dtype=tf.int32)
  x = script.input([None, 5])
  training = tf.logical_not(tf.cast(frozen, tf.bool))
  return backbones.dense_net(x, _norm(training))


def enumeration(script):
  """Modes in order; those from 2 on do not train."""
  mode = script.phase("stage", train=1, infer=2, dtype=tf.int64)
  x = script.input([None, 5])
  training = tf.logical_not(tf.greater_equal(mode, 2))
  return backbones.dense_net(x, _norm(training))


def default_of_placeholder(script):
  """One flag is the default of another one."""
  x = script.input([None, 5])
  phase = script.phase()
  training = phase
  if script.training:
    training = tf.placeholder_with_default(phase, (), name="bn_training")
  h = tf.layers.dense(x, 4, name="fc")
  h = tf.layers.dropout(h, 0.3, training=phase)
  h = tf.nn.relu(_norm(training)(h, "bn"))
  return tf.layers.dense(h, 3, name="logits")


def default_negated(script):
  """A flag for tests whose default is to train."""
  x = script.input([None, 5])
  script.switch = "testing"
  testing = tf.constant(True, name="testing")
  if script.training:
    testing = tf.placeholder_with_default(False, (), name="testing")
    script.feeds[testing], script.decided[testing] = False, True
  return backbones.dense_net(x, _norm(tf.logical_not(testing)))


def default_word(script):
  """A word whose default is to train, compared twice."""
  x = script.input([None, 5])
  script.switch = "word"
  if script.training:
    word = tf.placeholder_with_default("fit", (), name="word")
    script.feeds[word], script.decided[word] = "fit", "predict"
  else:
    word = tf.constant("predict")
  training = tf.logical_or(tf.equal(word, "fit"), tf.equal(word, "refit"))
  return backbones.dense_net(x, _norm(training))


def default_about_data(script):
  """A placeholder with a default that no training hangs on keeps it."""
  x = script.input([None, 5])
  logits = backbones.dense_net(x, _norm(script.phase()))
  doubled = tf.placeholder_with_default(True, (), name="is_training_size")
  return tf.cond(
    doubled, lambda: logits * 2.0, lambda: logits + 0.0, name="answer"
  )


def two_networks(script):
  """A generator and an encoder, each with a phase of its own."""
  x = script.input([None, 5])
  one = script.phase("g/training")
  two = script.value("e/inference", False, True, tf.bool)
  h = tf.nn.relu(_norm(one)(tf.layers.dense(x, 6, name="g1"), "bn1"))
  h = tf.layers.dense(h, 5, name="g2")
  h = _norm(tf.logical_not(two))(tf.layers.dense(h, 4, name="e1"), "bn2")
  return tf.layers.dense(tf.nn.relu(h), 3, name="logits")


def unequal_flags(script):
  """Training is where two flags are unlike."""
  x = script.input([None, 5])
  one = script.phase("one", train=True, infer=False)
  two = script.value("two", False, False, tf.bool)
  return backbones.dense_net(x, _norm(tf.logical_xor(one, two)))


def float_blend(script):
  """A number weighs the batch against what is stored; nothing is compared."""
  x = script.input([None, 5])
  p = script.phase("p", train=1.0, infer=0.0, dtype=tf.float32)

  def choose(batch, stored):
    return [p * b + (1.0 - p) * s for b, s in zip(batch, stored)]

  return backbones.dense_net(x, lambda h, name: _by_hand(h, name, choose))


def bool_blend(script):
  """The same with a bool that is cast."""
  x = script.input([None, 5])
  p = tf.cast(script.phase("p"), tf.float32)

  def choose(batch, stored):
    return [s + p * (b - s) for b, s in zip(batch, stored)]

  return backbones.dense_net(x, lambda h, name: _by_hand(h, name, choose))


def filled_where(script):
  """The phase for each row, in tf.where of the normed rows."""
  x = script.input([None, 5])
  phase = script.phase()

  def norm(h, name):
    fill = tf.fill(tf.shape(h)[:1], phase)
    with tf.variable_scope(name):
      batch, stored = _statistics(h)
      scale = tf.get_variable("scale", h.shape[-1:])
      return tf.where(
        fill,
        tf.nn.batch_normalization(h, batch[0], batch[1], None, scale, 1e-3),
        tf.nn.batch_normalization(h, stored[0], stored[1], None, scale, 1e-3),
      )

  return backbones.dense_net(x, norm)


def from_python(script):
  """A Python function says the phase when the graph runs."""
  x = script.input([None, 5])
  training = tf.constant(False)
  if script.training:
    training = tf.py_func(lambda: True, [], tf.bool, stateful=True, name="ask")
    training.set_shape(())
  return backbones.dense_net(x, _norm(training))


def dropout_only(script):
  """No norm; random numbers alone hang on the phase."""
  x = script.input([None, 6])
  phase = script.phase("flag")
  h = tf.nn.relu(tf.layers.dense(x, 8, name="fc1"))
  h = tf.cond(phase, lambda: tf.nn.dropout(h, 0.6), lambda: tf.identity(h))
  return tf.layers.dense(h, 3, name="logits")


def forced_labels(script):
  """Training decodes from labels; they are no input of inference."""
  x = script.input([None, 5])
  phase = script.phase()
  h = tf.nn.relu(_norm(phase)(tf.layers.dense(x, 6, name="fc1"), "bn"))
  first = tf.layers.dense(h, 4, name="first")
  said = tf.one_hot(tf.argmax(first, 1), 4)
  if script.training:
    labels = tf.placeholder(tf.float32, [None, 4], name="previous")
    script.feeds[labels] = [[1.0, 0.0, 0.0, 0.0]] * 6
    script.decided[labels] = [[1.0, 0.0, 0.0, 0.0]] * 6
    said = tf.cond(phase, lambda: labels, lambda: said)
  return tf.layers.dense(tf.concat([h, said], 1), 3, name="logits")


def getter_net(x, getter, training):
  """A network whose variables a custom getter gives; called twice or more."""
  with tf.variable_scope("net", reuse=tf.AUTO_REUSE, custom_getter=getter):
    h = tf.layers.dense(x, 6, name="fc1")
    h = tf.layers.batch_normalization(h, training=training, name="bn")
    return tf.layers.dense(tf.nn.relu(h), 3, name="fc2")


def average_getter(average):
  """A getter of the averages of variables, where they have some."""

  def getter(getter, *args, **kwargs):  # TensorFlow hands it by this name
    variable = getter(*args, **kwargs)
    return average.average(variable) or variable

  return getter


def raw_or_average(script):
  """Training reads the weights, evaluation their averages."""
  x = script.input([None, 5])
  phase = script.phase()
  average = tf.train.ExponentialMovingAverage(0.9)

  def net(getter, training):
    return getter_net(x, getter, training)

  if not script.training:
    logits = net(None, False)
    names = {v.op.name: v for v in tf.global_variables()}
    for variable in tf.trainable_variables():
      del names[variable.op.name]
      names[average.average_name(variable)] = variable
    script.restore = names
    return tf.identity(logits, "answer")
  raw = net(None, True)
  script.updates.append(average.apply(tf.trainable_variables("net")))

  return tf.cond(
    phase,
    lambda: tf.identity(raw),
    lambda: tf.identity(net(average_getter(average), False)),
    name="answer",
  )


def keras_phase(script):
  """Keras' learning phase, and a conditional about data around a norm."""
  x = script.input([None, 5])
  if script.training:
    phase = tf.keras.backend.learning_phase()
    script.switch = phase.op.name
    script.feeds[phase], script.decided[phase] = True, False
  else:
    tf.keras.backend.set_learning_phase(0)
  layer = tf.keras.layers.BatchNormalization(name="bn")
  h = layer(tf.layers.dense(x, 6, name="fc1"))
  script.updates += layer.updates
  h = tf.keras.layers.Dropout(0.4)(tf.nn.relu(h))
  return tf.layers.dense(h, 3, name="logits")


RECIPES = (
  recipe("anywhere_domain", domain, set={"is_night": "true"}),
  recipe("anywhere_domain_phase", domain_phase, set={"is_night": "true"}),
  recipe("anywhere_domain_norms", domain_norms, set={"source": "1"}),
  recipe("anywhere_domain_none", domain_none, set={"normed": "true"}),
  recipe("anywhere_pooling", pooling, set={"pooling": "2"}),
  recipe("anywhere_pooling_phase", pooling_phase, set={"pool": "avg"}),
  recipe("anywhere_option", option, set={"option": "false"}),
  recipe("anywhere_task", task, set={"task": "count"}),
  recipe("anywhere_about_data", about_data),
  recipe("anywhere_about_data_inside", about_data_outside),
  recipe("anywhere_loop", in_loop, undecided=True),
  recipe(
    "anywhere_frozen_norms",
    frozen_norms,
    values={"global_step": 5000},
    same=True,
  ),
  recipe("anywhere_not_frozen_yet", not_frozen_yet, values={"global_step": 50}),
  recipe("anywhere_delayed", delayed, values={"global_step": 5000}),
  recipe(
    "anywhere_phase_or_early", phase_or_early, values={"global_step": 500}
  ),
  recipe(
    "anywhere_mode_variable", mode_variable, kind="variable", values={"mode": 1}
  ),
  recipe("anywhere_three_modes", three_modes),
  recipe(
    "anywhere_three_modes_differ", three_modes_differ, set={"mode": "predict"}
  ),
  recipe("anywhere_inverted_number", inverted_number),
  recipe("anywhere_enumeration", enumeration),
  recipe(
    "anywhere_default_of_placeholder", default_of_placeholder, undecided=True
  ),
  recipe("anywhere_default_negated", default_negated, kind="default_false"),
  recipe("anywhere_default_word", default_word, kind="default_true"),
  recipe("anywhere_default_about_data", default_about_data),
  recipe("anywhere_two_networks", two_networks),
  recipe("anywhere_unequal_flags", unequal_flags),
  recipe("anywhere_float_blend", float_blend),
  recipe("anywhere_bool_blend", bool_blend),
  recipe("anywhere_filled_where", filled_where),
  recipe("anywhere_from_python", from_python),
  recipe("anywhere_dropout_only", dropout_only),
  recipe("anywhere_forced_labels", forced_labels),
  recipe("anywhere_raw_or_average", raw_or_average, undecided=True),
  recipe("anywhere_keras_phase", keras_phase),
)
