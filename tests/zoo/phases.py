# SPDX-License-Identifier: Apache-2.0
"""How a graph is told its phase, around norms of one ordinary kind."""

import tensorflow as tf

from tests.zoo import backbones
from tests.zoo.script import recipe


def _net(script, training, backbone=backbones.conv_net, fused=None):
  """A backbone normed by tf.layers; every file here is about `training`."""
  if script.x is None:
    script.input([None, 6, 6, 3])

  def norm(h, name):
    return tf.layers.batch_normalization(
      h, training=training, fused=fused, name=name
    )

  return backbone(script.x, norm)


def default_true(script):
  return _net(script, script.phase_with_default(True))


def default_true_unfused(script):
  return _net(script, script.phase_with_default(True), fused=False)


def default_false(script):
  """Left alone, the graph already answers for inference."""
  return _net(
    script, script.phase_with_default(False, "training"), backbones.branch_net
  )


def is_test(script):
  """The other polarity: inference is True."""
  test = script.phase("is_test", train=False, infer=True)
  return _net(script, tf.logical_not(test), backbones.residual_net)


def is_test_cond(script):
  """is_test picks by hand: the first branch is inference."""
  x = script.input([None, 9])
  test = script.phase("testing", train=False, infer=True)

  def norm(h, name):
    with tf.variable_scope(name):
      size = h.shape[-1]
      beta = tf.get_variable("offset", size)
      stored = [
        tf.get_variable("%s" % n, size, trainable=False)
        for n in ("running_mean", "running_var")
      ]
      batch = tf.nn.moments(h, [0])
      for old, new in zip(stored, batch):
        tf.add_to_collection(
          tf.GraphKeys.UPDATE_OPS,
          tf.cond(
            test,
            lambda o=old: tf.identity(o),
            lambda o=old, n=new: tf.assign(o, 0.9 * o + 0.1 * n),
          ),
        )
      mean, variance = tf.cond(
        test,
        lambda: tuple(tf.identity(s) for s in stored),
        lambda: tuple(batch),
      )
      return tf.nn.batch_normalization(h, mean, variance, beta, None, 1e-3)

  return backbones.dense_net(x, norm)


def variable(script):
  """A variable flag that the script assigns before it evaluates."""
  return _variable(script, use_resource=False)


def resource_variable(script):
  return _variable(script, use_resource=True)


def _variable(script, use_resource):
  script.switch = "mode/is_training"
  with tf.variable_scope("mode"):
    flag = tf.get_variable(
      "is_training",
      dtype=tf.bool,
      trainable=False,
      initializer=script.training,
      use_resource=use_resource,
    )
  tf.assign(flag, True, name="set_training")
  tf.assign(flag, False, name="set_testing")
  logits = _net(script, flag)
  if not script.training:
    script.restore = [v for v in tf.global_variables() if v is not flag]
  return logits


def collection_variable(script):
  """tflearn's way: a getter that keeps the flag in a collection."""
  x = script.input([None, 9])
  script.switch = "is_training"

  def training_mode():
    if not tf.get_collection("is_training"):
      flag = tf.get_variable(
        "is_training",
        dtype=tf.bool,
        trainable=False,
        initializer=tf.constant_initializer(script.training),
        shape=[],
      )
      tf.add_to_collection("is_training", flag)
      tf.add_to_collection("is_training_ops", tf.assign(flag, True))
      tf.add_to_collection("is_training_ops", tf.assign(flag, False))
    return tf.get_collection("is_training")[0]

  def norm(h, name):
    with tf.variable_scope(name):
      size = h.shape[-1:]
      beta = tf.get_variable("beta", size)
      gamma = tf.get_variable("gamma", size)
      moving = [
        tf.get_variable("moving_" + n, size, trainable=False)
        for n in ("mean", "variance")
      ]

      def update():
        mean, variance = tf.nn.moments(h, [0])
        keep = [
          tf.assign(m, 0.9 * m + 0.1 * new)
          for m, new in zip(moving, (mean, variance))
        ]
        with tf.control_dependencies(keep):
          return tf.identity(mean), tf.identity(variance)

      mean, variance = tf.cond(training_mode(), update, lambda: tuple(moving))
      return tf.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-5)

  scores = backbones.dense_net(x, norm)
  if not script.training:
    flag = training_mode()
    script.restore = [v for v in tf.global_variables() if v is not flag]
  return scores


def int_equal_zero(script):
  """A mode number; 0 is training."""
  mode = script.phase("mode", train=0, infer=2, dtype=tf.int32)
  return _net(script, tf.equal(mode, 0))


def int_greater(script):
  mode = script.phase("mode", train=1, infer=0, dtype=tf.int32)
  return _net(script, tf.greater(mode, 0), backbones.branch_net)


def int_cast(script):
  flag = script.phase("train_int", train=1, infer=0, dtype=tf.int32)
  return _net(script, tf.cast(flag, tf.bool), backbones.residual_net)


def float_less(script):
  progress = script.phase(
    "eval_fraction", train=0.0, infer=1.0, dtype=tf.float32
  )
  return _net(script, tf.less(progress, 0.5))


def string_equal(script):
  mode = script.phase("mode", train="train", infer="eval", dtype=tf.string)
  return _net(script, tf.equal(mode, "train"))


def string_default(script):
  """A mode string with the training default."""
  if script.training:
    mode = tf.placeholder_with_default("TRAIN", (), name="run_mode")
    script.feeds[mode], script.decided[mode] = "TRAIN", "PREDICT"
  else:
    mode = tf.constant("PREDICT")
  script.switch = "run_mode"
  return _net(script, tf.equal(mode, "TRAIN"), backbones.branch_net)


def int_not_equal(script):
  """Three modes; only prediction (2) is not training."""
  mode = script.phase("mode_key", train=0, infer=2, dtype=tf.int64)
  return _net(script, tf.not_equal(mode, 2), fused=False)


def and_of_two(script):
  train = script.phase()
  update = script.value("update_bn", True, False, tf.bool)
  return _net(script, tf.logical_and(train, update))


def or_of_two(script):
  train = script.phase()
  adapt = script.value("adapt_statistics", True, False, tf.bool)
  return _net(script, tf.logical_or(train, adapt), backbones.residual_net)


def freeze_flag(script):
  """Training norms are frozen by a second flag that has a default."""
  train = script.phase()
  frozen = tf.placeholder_with_default(False, (), name="freeze_bn")
  return _net(script, tf.logical_and(train, tf.logical_not(frozen)))


def shape_unknown(script):
  """tf.placeholder(tf.bool) without a shape."""
  return _net(script, script.phase("istrain", shape=None))


def shape_one(script):
  """A vector of one flag, reshaped."""
  train = script.phase("flag", train=[True], infer=[False], shape=[1])
  return _net(script, tf.reshape(train, []))


def per_layer(script):
  """Backbone and head have flags of their own."""
  x = script.input([None, 6, 6, 3])
  body = script.phase("train_backbone")
  head = script.value("train_head", True, False, tf.bool)
  phases = {"bn1": body, "bn2": head}

  def norm(h, name):
    return tf.layers.batch_normalization(h, training=phases[name], name=name)

  return backbones.conv_net(x, norm)


def dtype_float_where(script):
  """A float flag and tf.where on the statistics."""
  x = script.input([None, 9])
  flag = script.phase("train_phase", train=1.0, infer=0.0, dtype=tf.float32)

  def norm(h, name):
    with tf.variable_scope(name):
      size = h.shape[-1]
      pop = [
        tf.get_variable("pop_" + n, size, trainable=False)
        for n in ("mean", "var")
      ]
      batch = tf.nn.moments(h, [0])
      for old, new in zip(pop, batch):
        tf.add_to_collection(
          tf.GraphKeys.UPDATE_OPS,
          tf.assign(old, tf.where(flag > 0.5, old * 0.9 + new * 0.1, old)),
        )
      mean, variance = [
        tf.where(flag > 0.5, new, old) for old, new in zip(pop, batch)
      ]
      scale = tf.get_variable("scale", size)
      return tf.nn.batch_normalization(h, mean, variance, None, scale, 1e-4)

  return backbones.dense_net(x, norm)


def stop_flag_elsewhere(script):
  """A second bool placeholder that has nothing to do with the phase."""
  train = script.phase()
  flip = tf.placeholder_with_default(False, (), name="flip_output")
  logits = _net(script, train)
  return tf.cond(flip, lambda: -logits, lambda: logits * 1.0, name="maybe_flip")


def true_constant(script):
  """A constant True where layers want a tensor."""
  return _net(script, tf.constant(script.training), backbones.branch_net)


def identity_chain(script):
  """The flag handed on through identities and name scopes."""
  train = script.phase("inputs/is_train")
  with tf.name_scope("net"):
    train = tf.stop_gradient(tf.identity(train, name="phase"))
  return _net(script, tf.cast(tf.cast(train, tf.int32), tf.bool))


RECIPES = (
  recipe("phase_default_true", default_true, kind="default_true"),
  recipe(
    "phase_default_true_unfused", default_true_unfused, kind="default_true"
  ),
  recipe("phase_default_false", default_false, kind="default_false"),
  recipe("phase_is_test", is_test),
  recipe("phase_is_test_cond", is_test_cond),
  recipe(
    "phase_variable", variable, kind="variable", values={"is_training": None}
  ),
  recipe(
    "phase_resource_variable",
    resource_variable,
    kind="variable",
    values={"is_training": None},
  ),
  recipe(
    "phase_collection_variable",
    collection_variable,
    kind="variable",
    values={"is_training": None},
  ),
  recipe("phase_int_equal_zero", int_equal_zero),
  recipe("phase_int_greater", int_greater),
  recipe("phase_int_cast", int_cast),
  recipe("phase_int_not_equal", int_not_equal),
  recipe("phase_float_less", float_less),
  recipe("phase_string_equal", string_equal),
  recipe("phase_string_default", string_default, kind="default_true"),
  recipe("phase_and_of_two", and_of_two),
  recipe("phase_or_of_two", or_of_two),
  recipe("phase_freeze_flag", freeze_flag),
  recipe("phase_shape_unknown", shape_unknown),
  recipe("phase_shape_one", shape_one),
  recipe("phase_per_layer", per_layer),
  recipe("phase_float_where", dtype_float_where),
  recipe("phase_other_flag", stop_flag_elsewhere),
  recipe("phase_true_constant", true_constant),
  recipe("phase_identity_chain", identity_chain),
)
