# SPDX-License-Identifier: Apache-2.0
"""The training script around a model: inputs, phase, loss, optimizer, saver.

A model function is called twice with a `Script`: once as the training script
(`script.training` is True) and once, in a fresh graph, as the rebuild for
inference.  It says through the script what it reads and how its phase is
given, and returns its output tensor, or a list of them.
"""

import collections

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

BATCH = 6

# name: of the case.  model: the function.  case: fields of case.json.
# make: how make.py treats it (values, optimizer, ...), see `recipe`.
Recipe = collections.namedtuple("Recipe", "name model case make")

_MAKE = (
  "values",
  "roles",
  "optimizer",
  "checkpoint_of",
  "same",
  "undecided",
  "on_tpu",
)


def recipe(name, model, **fields):
  """A row of a family's table.

  Args:
    name: of the case.
    model: function of a `Script`.
    **fields: fields of case.json, and for make.py:
      values: {pattern: value} for variables whose name the pattern is found
        in; a number fills the variable, None leaves what initialising gave.
      roles: {pattern: 'mean' or 'variance'} where names do not tell.
      optimizer: 'momentum', 'adam', 'rmsprop' or 'sgd'.
      checkpoint_of: another model, whose variables go into the checkpoint.
      same: True where training and inference answer alike.
      on_tpu: True for a program that only a TPU runs; what its training answers
        comes from a twin.
      undecided: True where feeding the phase does not make the training graph
        answer like the rebuild.

  Returns:
    A `Recipe`.
  """
  case = {k: v for k, v in fields.items() if k not in _MAKE}
  make = {k: v for k, v in fields.items() if k in _MAKE}
  return Recipe(name, model, case, make)


class Script:
  """One call of a model function.

  Attributes:
    training: True for the training script, False for the rebuild.
    data_format: 'NCHW' or 'NHWC', for the models that ask.
    x: the input tensor.
    high: integer inputs are drawn below it.
    feeds: {tensor: value} of a training step, besides the input.
    decided: the same tensors with what inference feeds.
    switch: name of the first phase node.
    losses: a model's own losses; none means the default one.
    updates: ops to run with the training step besides UPDATE_OPS.
    train_op: a model's own training step.
    saver: a model's own Saver.
    on_tpu: whether the training script is for a TPU.
    devices: function of an op's type, its device in the stored metagraph.
    restore: for the rebuild: {name in the checkpoint: variable} or a list.
  """

  def __init__(self, training, data_format="NHWC"):
    self.training = training
    self.data_format = data_format
    self.x = None
    self.high = 256
    self.feeds = {}
    self.decided = {}
    self.switch = None
    self.losses = []
    self.updates = []
    self.train_op = None
    self.saver = None
    self.on_tpu = False
    self.devices = None
    self.restore = None

  def input(self, shape, name="x", dtype=tf.float32, high=256):
    """A placeholder, remembered as the input."""
    self.x = tf.placeholder(dtype, shape, name=name)
    self.high = high
    return self.x

  def pipeline(self, make, shape, dtype=tf.float32):
    """`make()`, an input pipeline's tensor; for the rebuild a placeholder."""
    if self.training:
      self.x = make()
      return self.x
    return self.input([None] + list(shape[1:]), dtype=dtype)

  def value(self, name, train, infer, dtype=tf.float32, shape=()):
    """A placeholder fed with `train`; a constant `infer` in the rebuild."""
    if not self.training:
      return tf.constant(infer, dtype, name=name)
    tensor = tf.placeholder(dtype, shape, name=name)
    self.feeds[tensor], self.decided[tensor] = train, infer
    return tensor

  def phase(
    self, name="is_training", train=True, infer=False, dtype=tf.bool, shape=()
  ):
    """The phase as a placeholder (a constant in the rebuild)."""
    self.switch = self.switch or name
    return self.value(name, train, infer, dtype, shape)

  def phase_with_default(self, default, name="is_training"):
    """The phase as a bool placeholder with a default."""
    self.switch = name
    if not self.training:
      return tf.constant(False, name=name)
    tensor = tf.placeholder_with_default(default, (), name=name)
    self.feeds[tensor], self.decided[tensor] = True, False
    return tensor

  def hang(self, tensor):
    """The tensor, behind the updates made in this graph and while body."""
    if not self.training:
      return tensor
    with tf.control_dependencies(_reachable_updates()):
      return tf.identity(tensor)

  def default_loss(self, output):
    """Cross entropy for rank 2, squared error for everything else."""
    output = tf.cast(output, tf.float32)
    with tf.name_scope("objective"):
      if output.shape.ndims == 2:
        labels = tf.placeholder(tf.int32, [None], name="labels")
        classes = int(output.shape[1])
        self.feeds[labels] = [i % classes for i in range(BATCH)]
        return tf.losses.sparse_softmax_cross_entropy(labels, output)
      return tf.reduce_mean(tf.square(output - 0.5))

  def training_step(self, output, optimizer):
    """Adds what a training script adds: losses, step, summaries, a Saver."""
    loss = tf.add_n(self.losses) if self.losses else self.default_loss(output)
    loss += sum(tf.losses.get_regularization_losses())
    step = tf.train.get_or_create_global_step()
    if self.train_op is None:
      rate = tf.train.exponential_decay(0.01, step, 100, 0.9)
      updates = _reachable_updates() + self.updates
      with tf.control_dependencies(updates):
        self.train_op = _OPTIMIZERS[optimizer](rate).minimize(loss, step)
    tf.summary.scalar("loss", loss)
    for variable in tf.trainable_variables()[:3]:
      tf.summary.histogram(variable.op.name, variable)
    tf.summary.merge_all()
    if self.saver is None:
      self.saver = tf.train.Saver()


def _reachable_updates():
  """UPDATE_OPS, less those that sit in another function or loop body.

  TF shares the collection with function bodies, but nothing outside of a
  body can depend on an op in it.
  """

  def loop(op):
    return control_flow_util.GetContainingWhileContext(
      op._get_control_flow_context()
    )

  here = tf.no_op()
  ops = [
    getattr(u, "op", u) for u in tf.get_collection(tf.GraphKeys.UPDATE_OPS)
  ]
  return [
    op
    for op in ops
    if op.graph is here.graph and loop(op) in (None, loop(here))
  ]


_OPTIMIZERS = {
  "momentum": lambda rate: tf.train.MomentumOptimizer(rate, 0.9),
  "adam": tf.train.AdamOptimizer,
  "rmsprop": tf.train.RMSPropOptimizer,
  "sgd": tf.train.GradientDescentOptimizer,
}
