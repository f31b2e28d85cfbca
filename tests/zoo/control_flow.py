# SPDX-License-Identifier: Apache-2.0
"""Norms in and under control flow: cond, case and functions, old and new."""

import tensorflow as tf
from tensorflow.python.eager import def_function
from tensorflow.python.framework import function

from tests.zoo import backbones
from tests.zoo.script import recipe


def _layers(training, **options):
  def norm(h, name):
    return tf.layers.batch_normalization(
      h, training=training, name=name, **options
    )

  return norm


def _images(script):
  return script.input([None, 6, 6, 3])


def if_fused(script):
  """Control flow v2: If and StatelessIf with functions."""
  tf.enable_control_flow_v2()
  x = _images(script)
  return backbones.conv_net(x, _layers(script.phase()))


def if_unfused_resource(script):
  tf.enable_control_flow_v2()
  tf.enable_resource_variables()
  x = _images(script)
  return backbones.residual_net(x, _layers(script.phase(), fused=False))


def if_contrib_inplace(script):
  """contrib's in-place updates in If branches, on resource variables."""
  tf.enable_control_flow_v2()
  tf.enable_resource_variables()
  x = _images(script)
  phase = script.phase("phase_train")
  return backbones.conv_net(
    x,
    lambda h, name: tf.contrib.layers.batch_norm(
      h, is_training=phase, scale=True, updates_collections=None, scope=name
    ),
  )


def if_default_true(script):
  tf.enable_control_flow_v2()
  tf.enable_resource_variables()
  x = _images(script)
  return backbones.conv_net(x, _layers(script.phase_with_default(True)))


def network_cond(script):
  """The whole network twice, in the branches of one cond."""
  x = _images(script)
  phase = script.phase()

  def net(training):
    with tf.variable_scope("net", reuse=tf.AUTO_REUSE):
      logits = backbones.conv_net(x, _layers(training))
      return script.hang(logits) if training else logits

  return tf.cond(phase, lambda: net(True), lambda: net(False), name="choose")


def network_cond_inplace(script):
  """The same with contrib, whose updates run inside the branch."""
  x = _images(script)
  phase = script.phase()

  def net(training, reuse):
    def norm(h, name):
      return tf.contrib.layers.batch_norm(
        h,
        is_training=training,
        updates_collections=None,
        scope=name,
        reuse=reuse,
      )

    with tf.variable_scope("net", reuse=reuse):
      return tf.sigmoid(backbones.conv_net(x, norm), name="score")

  return tf.cond(phase, lambda: net(True, None), lambda: net(False, True))


def network_cond_v2(script):
  """The whole network in If branches."""
  tf.enable_control_flow_v2()
  tf.enable_resource_variables()
  return network_cond(script)


def nested_conds(script):
  """A cond in a cond: the flag, then which statistics."""
  x = script.input([None, 9])
  phase = script.phase()
  warm = tf.placeholder_with_default(False, (), name="warm_up")

  def norm(h, name):
    with tf.variable_scope(name):
      size = h.shape[-1:]
      beta = tf.get_variable("beta", size)
      gamma = tf.get_variable("gamma", size)
      stored = [
        tf.get_variable("moving_" + n, size, trainable=False)
        for n in ("mean", "variance")
      ]
      batch = tf.nn.moments(h, [0])

      def training():
        def blend():
          return [0.5 * b + 0.5 * s for b, s in zip(batch, stored)]

        updates = [
          tf.assign(s, 0.9 * s + 0.1 * b) for b, s in zip(batch, stored)
        ]
        with tf.control_dependencies(updates):
          return tf.cond(warm, blend, lambda: [tf.identity(b) for b in batch])

      mean, variance = tf.cond(
        phase, training, lambda: [tf.identity(s) for s in stored]
      )
      return tf.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-3)

  return backbones.dense_net(x, norm)


def case_modes(script):
  """tf.case over a mode number, inference being the default."""
  x = _images(script)
  mode = script.phase("mode", train=0, infer=2, dtype=tf.int32)

  def net(training):
    with tf.variable_scope("net", reuse=tf.AUTO_REUSE):
      return backbones.conv_net(x, _layers(training))

  return tf.case(
    [
      (tf.equal(mode, 0), lambda: net(True)),
      (tf.equal(mode, 1), lambda: net(False) * 2.0),
    ],
    default=lambda: net(False),
    exclusive=True,
  )


def switch_case(script):
  """tf.switch_case: a Case node even where control flow is the old one."""
  x = _images(script)
  mode = script.phase("branch", train=0, infer=1, dtype=tf.int32)

  def net(training):
    with tf.variable_scope("net", reuse=tf.AUTO_REUSE):
      logits = backbones.conv_net(x, _layers(training))
      return script.hang(logits) if training else logits

  return tf.switch_case(mode, [lambda: net(True), lambda: net(False)])


def switch_case_v2(script):
  """tf.switch_case among v2 conds and resource variables."""
  tf.enable_control_flow_v2()
  tf.enable_resource_variables()
  return tf.identity(switch_case(script), name="answer")


def data_cond(script):
  """A cond on the data stays: it has nothing to do with the phase."""
  x = _images(script)
  logits = backbones.conv_net(x, _layers(script.phase()))
  bright = tf.greater(tf.reduce_mean(x), 0.2, name="is_bright")
  return tf.cond(
    bright, lambda: logits * 0.5 + 1.0, lambda: -logits, name="by_brightness"
  )


def data_cond_norm(script):
  """A literal norm inside a cond on the data."""
  x = _images(script)
  h = tf.layers.conv2d(x, 4, 3, name="conv")
  h = tf.nn.relu(_layers(script.training)(h, "bn1"))
  busy = tf.greater(tf.reduce_max(tf.abs(x)), 0.5, name="is_busy")

  def refine():
    g = tf.layers.conv2d(h, 4, 3, padding="same", name="refine")
    return tf.nn.relu(_layers(script.training)(g, "bn2")) + h

  h = tf.cond(busy, refine, lambda: h, name="maybe_refine")
  return tf.layers.dense(tf.reduce_mean(h, [1, 2]), 5, name="logits")


def data_cond_v2(script):
  """If nodes: some are decided by the phase, one by the data."""
  tf.enable_control_flow_v2()
  tf.enable_resource_variables()
  return data_cond(script)


def defun_norm(script):
  """The norm's arithmetic in a Defun; its averages outside."""
  x = _images(script)

  @function.Defun(*[tf.float32] * 5)
  def normalize(h, mean, variance, beta, gamma):
    return tf.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-3)

  def norm(h, name):
    with tf.variable_scope(name):
      size = h.shape[-1:]
      stored = [
        tf.get_variable("moving_" + n, size, trainable=False)
        for n in ("mean", "variance")
      ]
      used = stored
      if script.training:
        used = tf.nn.moments(h, [0, 1, 2])
        script.updates += [
          tf.assign(s, 0.9 * s + 0.1 * u) for s, u in zip(stored, used)
        ]
      out = normalize(
        h,
        used[0],
        used[1],
        tf.get_variable("beta", size),
        tf.get_variable("gamma", size),
      )
      out.set_shape(h.shape)
      return out

  return backbones.conv_net(x, norm)


def defun_moments(script):
  """The batch statistics in a Defun, the rest outside."""
  x = _images(script)

  @function.Defun(tf.float32)
  def statistics(h):
    return tf.nn.moments(h, [0, 1, 2])

  def norm(h, name):
    with tf.variable_scope(name):
      size = h.shape[-1:]
      stored = [
        tf.get_variable("moving_" + n, size, trainable=False)
        for n in ("mean", "variance")
      ]
      used = stored
      if script.training:
        used = statistics(h)
        for value in used:
          value.set_shape(size)
        script.updates += [
          tf.assign_sub(s, 0.1 * (s - u)) for s, u in zip(stored, used)
        ]
      return tf.nn.batch_normalization(
        h,
        used[0],
        used[1],
        tf.get_variable("beta", size),
        tf.get_variable("gamma", size),
        1e-3,
      )

  return backbones.conv_net(x, norm)


def function_network(script):
  """tf.function around a fused norm: a PartitionedCall over resources."""
  tf.enable_resource_variables()
  x = _images(script)

  def norm(h, name):
    with tf.variable_scope(name):
      size = h.shape[-1:]
      beta, gamma = (
        tf.get_variable("beta", size),
        tf.get_variable("gamma", size),
      )
      stored = [
        tf.get_variable("moving_" + n, size, trainable=False)
        for n in ("mean", "variance")
      ]

    @def_function.function
    def call(t):
      if not script.training:
        return tf.nn.fused_batch_norm(
          t, gamma, beta, stored[0], stored[1], is_training=False
        )[0]
      out, mean, variance = tf.nn.fused_batch_norm(t, gamma, beta)
      for old, new in zip(stored, (mean, variance)):
        old.assign_sub((old - new) * 0.1)
      return out

    return call(h)

  return backbones.conv_net(x, norm)


def function_with_phase(script):
  """tf.function that takes the phase and has a cond inside."""
  tf.enable_resource_variables()
  x = script.input([None, 9])
  phase = script.phase()

  def norm(h, name):
    with tf.variable_scope(name):
      size = h.shape[-1:]
      beta, gamma = (
        tf.get_variable("beta", size),
        tf.get_variable("gamma", size),
      )
      stored = [
        tf.get_variable("moving_" + n, size, trainable=False)
        for n in ("mean", "variance")
      ]

    @def_function.function
    def call(t, training):
      def by_batch():
        batch = tf.nn.moments(t, [0])
        for old, new in zip(stored, batch):
          old.assign(old * 0.9 + new * 0.1)
        return tf.nn.batch_normalization(
          t, batch[0], batch[1], beta, gamma, 1e-3
        )

      return tf.cond(
        training,
        by_batch,
        lambda: tf.nn.batch_normalization(
          t, stored[0].read_value(), stored[1].read_value(), beta, gamma, 1e-3
        ),
      )

    return call(h, phase)

  return backbones.dense_net(x, norm)


RECIPES = (
  recipe("flow_if_fused", if_fused, optimizer="momentum"),
  recipe("flow_if_unfused_resource", if_unfused_resource),
  recipe("flow_if_contrib_inplace", if_contrib_inplace),
  recipe("flow_if_default_true", if_default_true, kind="default_true"),
  recipe("flow_network_cond", network_cond),
  recipe("flow_network_cond_inplace", network_cond_inplace),
  recipe("flow_network_cond_v2", network_cond_v2),
  recipe("flow_nested_conds", nested_conds),
  recipe("flow_case", case_modes, set={"mode": 2}),
  recipe("flow_switch_case", switch_case),
  recipe("flow_switch_case_v2", switch_case_v2),
  recipe("flow_data_cond", data_cond, joint=True),
  recipe("flow_data_cond_norm", data_cond_norm, joint=True),
  recipe("flow_data_cond_v2", data_cond_v2, joint=True),
  recipe("flow_defun_norm", defun_norm),
  recipe("flow_defun_moments", defun_moments),
  recipe("flow_function_literal", function_network),
  recipe("flow_function_phase", function_with_phase),
)
