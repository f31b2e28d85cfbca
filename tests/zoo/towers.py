# SPDX-License-Identifier: Apache-2.0
"""Several towers over one set of variables, with devices written down."""

import tensorflow as tf

from tests.zoo import backbones
from tests.zoo.script import recipe


def _layers(training):
  def norm(h, name):
    return tf.layers.batch_normalization(h, training=training, name=name)

  return norm


def _train(script, losses, updates):
  """Averages the towers' gradients, as the CIFAR-10 multi-GPU script does."""
  optimizer = tf.train.MomentumOptimizer(0.01, 0.9)
  tower_gradients = []
  for i, loss in enumerate(losses):
    with tf.device("/gpu:%d" % i):
      tower_gradients.append(optimizer.compute_gradients(loss))
  averaged = []
  for pairs in zip(*tower_gradients):
    averaged.append(
      (tf.add_n([g for g, _ in pairs]) / len(losses), pairs[0][1])
    )
  script.losses = losses
  with tf.control_dependencies(updates):
    script.train_op = optimizer.apply_gradients(
      averaged, tf.train.get_or_create_global_step()
    )


def _towers(
  script, answer, updates_of, network=backbones.conv_net, training=None
):
  """Two towers; the input is that of the tower whose answer is exported.

  Args:
    script: the Script.
    answer: number of the tower that answers.
    updates_of: prefix of the update ops that are run.
    network: a backbone.
    training: phase tensor; None for a literal.
  """
  phase = script.training if training is None else training
  if not script.training:
    x = script.input([None, 6, 6, 3])
    with tf.variable_scope("model"):
      return network(x, _layers(phase))
  outputs, losses = [], []
  for i in range(2):
    with tf.device("/gpu:%d" % i), tf.name_scope("tower_%d" % i) as scope:
      with tf.variable_scope("model", reuse=i > 0):
        if i == answer:
          x = script.input([None, 6, 6, 3], "images")
        else:
          x = tf.random_normal([4, 6, 6, 3], name="other_images")
        outputs.append(network(x, _layers(phase)))
        other = tf.reduce_mean(tf.square(outputs[-1]), name="loss")
        losses.append(
          script.default_loss(outputs[-1]) if i == answer else other
        )
        tf.add_to_collection("scopes", scope)
  updates = [
    u
    for u in tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    if u.name.startswith(updates_of)
  ]
  _train(script, losses, updates)
  return outputs[answer]


def first_of_two(script):
  """Output and updates of tower 0."""
  return _towers(script, 0, "tower_0")


def first_all_updates(script):
  """Updates of all towers: two for each average."""
  return _towers(script, 0, "tower_", backbones.residual_net)


def second_of_two(script):
  """Output of tower 1, though only tower 0's updates are ever run."""
  return _towers(script, 1, "tower_0")


def phase_second(script):
  """The same behind a placeholder."""
  return _towers(script, 1, "tower_0", training=script.phase())


def second_no_updates_built(script):
  """Tower 1 has no update ops at all: tower 0's norms are the trackers."""
  if not script.training:
    x = script.input([None, 6, 6, 3])
    with tf.variable_scope("model"):
      return backbones.conv_net(x, _contrib(False, None))
  outputs = []
  for i in range(2):
    with tf.device("/gpu:%d" % i), tf.name_scope("clone_%d" % i):
      with tf.variable_scope("model", reuse=i > 0):
        x = (
          script.input([None, 6, 6, 3], "images")
          if i
          else tf.random_normal([4, 6, 6, 3])
        )
        collection = "first_updates" if i == 0 else "dropped"
        outputs.append(backbones.conv_net(x, _contrib(True, collection)))
  losses = [
    tf.reduce_mean(tf.square(outputs[0])),
    script.default_loss(outputs[1]),
  ]
  _train(script, losses, tf.get_collection("first_updates"))
  return outputs[1]


def _contrib(training, collection):
  def norm(h, name):
    return tf.contrib.layers.batch_norm(
      h,
      is_training=training,
      scale=True,
      scope=name,
      updates_collections=collection,
    )

  return norm


def first_tower_updates_by_hand(script):
  """Averages are assigned in tower 0 only; tower 1 answers.

  Tower 1's batch statistics lead to no variable.  Its gamma and beta, shared
  with tower 0, tell which norm it is.
  """

  def norm(h, name, track):
    with tf.variable_scope(name):
      size = h.shape[-1:]
      stored = [
        tf.get_variable(n, size, trainable=False)
        for n in ("pop_mean", "pop_var")
      ]
      beta, gamma = (
        tf.get_variable("beta", size),
        tf.get_variable("gamma", size),
      )
      used = stored
      if script.training:
        used = tf.nn.moments(h, [0, 1, 2])
        if track:
          script.updates += [
            tf.assign_sub(s, 0.1 * (s - u)) for s, u in zip(stored, used)
          ]
      return tf.nn.batch_normalization(h, used[0], used[1], beta, gamma, 1e-3)

  if not script.training:
    x = script.input([None, 6, 6, 3])
    return backbones.conv_net(x, lambda h, name: norm(h, name, False))
  with tf.device("/gpu:0"), tf.name_scope("tower_0"):
    other = backbones.conv_net(
      tf.random_normal([4, 6, 6, 3]), lambda h, name: norm(h, name, True)
    )
  with tf.device("/gpu:1"), tf.name_scope("tower_1"):
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
      x = script.input([None, 6, 6, 3], "images")
      logits = backbones.conv_net(x, lambda h, name: norm(h, name, False))
  _train(
    script,
    [tf.reduce_mean(tf.square(other)), script.default_loss(logits)],
    script.updates,
  )
  return logits


def split_batch(script):
  """The placeholder is split over towers, their answers are concatenated.

  Towers norm their own part; averages come from the first.
  """
  x = script.input([None, 6, 6, 3], "images")
  if not script.training:
    with tf.variable_scope("model"):
      return backbones.conv_net(x, _layers(False))
  outputs = []
  for i, part in enumerate(tf.split(x, 2)):
    with tf.device("/gpu:%d" % i), tf.name_scope("tower_%d" % i):
      with tf.variable_scope("model", reuse=i > 0):
        outputs.append(backbones.conv_net(part, _layers(True)))
  logits = tf.concat(outputs, 0, name="all_logits")
  updates = [
    u for u in tf.get_collection(tf.GraphKeys.UPDATE_OPS) if "tower_0" in u.name
  ]
  _train(script, [script.default_loss(logits)], updates)
  return logits


def parameter_server(script):
  """Devices of a cluster: /job:ps for variables, /job:worker for ops."""
  x = script.input([None, 6, 6, 3], "images")
  logits = backbones.conv_net(x, _layers(script.training))
  if script.training:
    # Written after building: a session of this machine has no such jobs, and
    # the metagraph keeps what a cluster's chief would have written.
    script.devices = lambda op: (
      "/job:ps/task:0/device:CPU:0"
      if op.startswith("Variable")
      else "/job:worker/task:0/device:GPU:0"
    )
  return logits


RECIPES = (
  recipe("towers_first", first_of_two),
  recipe("towers_first_all_updates", first_all_updates),
  recipe("towers_second", second_of_two),
  recipe("towers_second_phase", phase_second),
  recipe("towers_second_dropped_updates", second_no_updates_built),
  recipe("towers_second_by_hand", first_tower_updates_by_hand),
  recipe("towers_split_batch", split_batch, joint=True),
  recipe("towers_parameter_server", parameter_server),
)
