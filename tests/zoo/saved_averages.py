# SPDX-License-Identifier: Apache-2.0
"""Averages of weights, networks that follow others, and Savers that rename."""

import tensorflow as tf

from tests.zoo import backbones
from tests.zoo.phases_anywhere import average_getter, getter_net
from tests.zoo.script import recipe


def _norm(script):
  def norm(h, name):
    return tf.layers.batch_normalization(h, training=script.training, name=name)

  return norm


def _net(script):
  return backbones.dense_net(script.input([None, 5]), _norm(script))


def _minimize(script, output, optimizer=None):
  """The op of a training step, behind the updates of the norms."""
  loss = script.default_loss(output)
  script.losses = [loss]
  step = tf.train.get_or_create_global_step()
  optimizer = optimizer or tf.train.MomentumOptimizer(0.01, 0.9)
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    script.train_op = optimizer.minimize(loss, step)


def _after_step(script, make):
  """Adds to the training step what has to follow it."""
  with tf.control_dependencies([script.train_op]):
    script.train_op = tf.group(make())


def _restore_averages(script, name):
  """The rebuild takes weights from their averages; `name` gives the key."""
  step = tf.train.get_or_create_global_step()
  names = {v.op.name: v for v in tf.global_variables() if v is not step}
  for variable in tf.trainable_variables():
    del names[variable.op.name]
    names[name(variable)] = variable
  script.restore = names


# Savers that swap, or know averages.


def swapped(script):
  """MovingAverageOptimizer's Saver: averages under the names of weights."""
  logits, optimizer = _averaging(script)
  if script.training:
    script.saver = optimizer.swapping_saver()
  return logits


def not_swapped(script):
  """The same optimizer with an ordinary Saver: the weights are meant."""
  logits, _ = _averaging(script)
  return logits


def _averaging(script):
  logits = _net(script)
  if not script.training:
    return logits, None
  optimizer = tf.contrib.opt.MovingAverageOptimizer(
    tf.train.GradientDescentOptimizer(0.01), 0.9
  )
  _minimize(script, logits, optimizer)
  return logits, optimizer


def swapped_resource(script):
  with tf.variable_scope("net", use_resource=True):
    return swapped(script)


def swapped_by_hand(script):
  """The same with a dict, of a part of the weights."""
  logits = _net(script)
  if not script.training:
    return logits
  _minimize(script, logits)
  kernels = [v for v in tf.trainable_variables() if "kernel" in v.op.name]
  average = tf.train.ExponentialMovingAverage(0.9, name="smooth")
  _after_step(script, lambda: average.apply(kernels))
  names = {v.op.name: v for v in tf.global_variables()}
  for variable in kernels:
    shadow = average.average(variable)
    names[variable.op.name], names[shadow.op.name] = shadow, variable
  script.saver = tf.train.Saver(names)
  return logits


def to_restore(script):
  """The Saver of an evaluation: weights under the names of averages."""
  logits = _net(script)
  average = tf.train.ExponentialMovingAverage(0.9)
  if not script.training:
    _restore_averages(script, average.average_name)
    return logits
  _minimize(script, logits)
  _after_step(script, lambda: average.apply(tf.trainable_variables()))
  shadows = [average.average(v) for v in tf.trainable_variables()]
  names = average.variables_to_restore()
  script.saver = tf.train.Saver(
    {name: v for name, v in names.items() if v not in shadows}
  )
  return logits


def crossed_elsewhere(script):
  """Another Saver, made first, has the names of two weights crossed."""
  x = script.input([None, 5])
  h = tf.layers.dense(x, 6, use_bias=False, name="fc0")
  h = tf.nn.relu(_norm(script)(h, "bn"))
  h = tf.layers.dense(h, 6, use_bias=False, name="fc1")
  h = tf.layers.dense(tf.nn.tanh(h), 6, use_bias=False, name="fc2")
  logits = tf.layers.dense(h, 4, name="scores")
  if script.training:
    one, two = (
      v
      for v in tf.trainable_variables()
      if v.op.name in ("fc1/kernel", "fc2/kernel")
    )
    tf.train.Saver({"fc2/kernel": one, "fc1/kernel": two}, name="crossed")
    _minimize(script, logits)
    script.saver = tf.train.Saver(name="zz_own")
  return logits


# Averages.


def _average(script, decays, meant, conditional=False, num_updates=None):
  """A network with an ExponentialMovingAverage for each decay, by name."""
  logits = _net(script)
  averages = [
    tf.train.ExponentialMovingAverage(decay, num_updates, name=name)
    for name, decay in decays
  ]
  if not script.training:
    _restore_averages(script, averages[meant].average_name)
    return logits
  _minimize(script, logits)
  step = tf.train.get_global_step()

  def apply():
    return tf.group(*[a.apply(tf.trainable_variables()) for a in averages])

  if conditional:
    _after_step(script, lambda: tf.cond(tf.greater(step, 100), apply, tf.no_op))
  else:
    _after_step(script, apply)
  return logits


def two_decays(script):
  return _average(script, [("fast", 0.5), ("slow", 0.99)], 1)


def two_decays_other(script):
  return _average(script, [("fast", 0.5), ("slow", 0.99)], 0)


def from_a_step_on(script):
  return _average(script, [("late", 0.9)], 0, conditional=True)


def counted(script):
  """The decay grows with the step."""
  step = tf.train.get_or_create_global_step()
  return _average(
    script, [("ExponentialMovingAverage", 0.9)], 0, num_updates=step
  )


def by_hand(script):
  """Averages that are assigned, below a scope of their own."""
  return _by_hand(script, lambda old, new, _: 0.9 * old + new * (1.0 - 0.9))


def running_mean(script):
  """Stochastic weight averaging: the mean of what weights have been."""
  return _by_hand(script, lambda old, new, n: (old * n + new) / (n + 1.0))


def _by_hand(script, rule):
  logits = _net(script)
  if not script.training:
    _restore_averages(script, lambda v: "kept/" + v.op.name)
    return logits
  _minimize(script, logits)
  with tf.variable_scope("kept"):
    count = tf.get_variable("count", (), trainable=False)
    pairs = [
      (
        tf.get_variable(v.op.name, v.shape.as_list(), trainable=False),
        v,
      )
      for v in tf.trainable_variables()
    ]
  _after_step(
    script,
    lambda: (
      [tf.assign(old, rule(old, new, count)) for old, new in pairs]
      + [tf.assign_add(count, 1.0)]
    ),
  )
  return logits


# Networks that follow others.


def _follower(script, tau):
  """An online network, and one whose weights follow it; both are used."""
  x = script.input([None, 5])

  def net(scope, training):
    with tf.variable_scope(scope):
      h = tf.layers.dense(x, 6, name="fc1")
      h = tf.layers.batch_normalization(h, training=training, name="bn")
      return tf.layers.dense(tf.nn.relu(h), 4, name="q")

  online = net("online", script.training)
  target = net("target", False)
  if script.training:
    difference = tf.square(online - tf.stop_gradient(target))
    script.losses = [tf.reduce_mean(difference)]
    pairs = [
      (
        old,
        next(
          v
          for v in tf.global_variables()
          if v.op.name == old.op.name.replace("target", "online")
        ),
      )
      for old in tf.global_variables()
      if old.op.name.startswith("target")
    ]
    script.updates += [
      tf.assign(old, tau * new + (1.0 - tau) * old) for old, new in pairs
    ]
  return online, target


def online_network(script):
  """The one that is trained; no average is asked for."""
  online, _ = _follower(script, 0.05)
  return tf.identity(online, name="values")


def copied_network(script):
  """The target takes the weights over as they are."""
  online, _ = _follower(script, 1.0)
  return tf.identity(online, name="values")


def target_and_average(script):
  """Averages of weights that a target network follows as well."""
  online, _ = _follower(script, 0.05)
  average = tf.train.ExponentialMovingAverage(0.9, name="smooth")
  chosen = tf.trainable_variables("online")
  if script.training:
    script.updates.append(average.apply(chosen))
  else:
    names = {v.op.name: v for v in tf.global_variables()}
    for variable in chosen:
      del names[variable.op.name]
      names[average.average_name(variable)] = variable
    script.restore = names
  return tf.identity(online, name="values")


def teacher(script):
  """The answer is that of the network whose weights are averages."""
  x = script.input([None, 5])
  average = tf.train.ExponentialMovingAverage(0.9)

  if not script.training:
    answer = getter_net(x, None, False)
    _restore_averages(script, average.average_name)
    return tf.identity(answer, name="answer")
  student = getter_net(x, None, True)
  script.updates.append(average.apply(tf.trainable_variables("net")))

  answer = getter_net(x, average_getter(average), True)
  script.losses = [tf.reduce_mean(tf.square(student - answer))]
  return tf.identity(answer, name="answer")


RECIPES = (
  recipe("averages_swapped", swapped),
  recipe("averages_swapped_resource", swapped_resource),
  recipe("averages_swapped_by_hand", swapped_by_hand),
  recipe("averages_not_swapped", not_swapped),
  recipe("averages_to_restore", to_restore),
  recipe("averages_crossed_elsewhere", crossed_elsewhere),
  recipe("averages_two_decays", two_decays, ema=True, average="slow"),
  recipe(
    "averages_two_decays_other", two_decays_other, ema=True, average="fast"
  ),
  recipe("averages_from_a_step_on", from_a_step_on, ema=True),
  recipe("averages_counted", counted, ema=True),
  recipe("averages_by_hand", by_hand, ema=True),
  recipe("averages_running_mean", running_mean, ema=True),
  recipe("averages_online_network", online_network),
  recipe("averages_copied_network", copied_network),
  recipe("averages_target_and_average", target_and_average, ema=True),
  recipe("averages_teacher", teacher),
)
