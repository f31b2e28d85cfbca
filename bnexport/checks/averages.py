# SPDX-License-Identifier: Apache-2.0
"""BN2xx: the stored averages are not what the norm needs."""

from __future__ import annotations

import numpy as np

from bnexport.batchnorm.health import NEGATIVE, NEVER_UPDATED, NOT_FINITE, ZERO
from bnexport.batchnorm.norm import BATCH
from bnexport.checks.magnitudes import Magnitudes, product_of
from bnexport.checks.rule import ERROR, WARNING, Example, Rule
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import static_shape
from bnexport.graph.origins import stored_name

_DATA = "--calibration_data=calibration.npz"
# So many times larger than it can be, a variance is wrong: averages lag
# behind, and a network may be used on other data than its first layers were
# trained on. Ten times the range of the data is a hundred times the variance.
_SLACK = 1000
# Below it, a mean is what is left of one that was 0 for a long time.
_NOTHING = 1e-20

_HEAD = """
x = Placeholder() {shape=[?,2,2,3]}
gamma = Const() {value=<float [3] 1.5 0.5 2>}
beta = Const() {value=<float [3] 0.1 0.2 0.3>}
"""
_TAIL = """
n = FusedBatchNorm(x, gamma, beta, mean, variance) {is_training=false}
y = Relu(n)
"""
_MEAN = "mean = Const() {value=<float [3] 0.4 -0.2 0.1>}"
_VARIANCE = "variance = Const() {value=<float [3] 1.3 0.7 2.1>}"
_GOOD = Example(_HEAD + _MEAN + "\n" + _VARIANCE + _TAIL)
_INPUT = {"x": (16, 2, 2, 3)}


def _frozen(mean, variance):
  """A norm with these statistics, and data to compute them anew."""
  return Example(_HEAD + mean + "\n" + variance + _TAIL, data=_INPUT)


_TRAINED_GRAPH = """
x = Placeholder() {shape=[?,2,2,3]}
gamma = VariableV2() {shape=[3]}
beta = VariableV2() {shape=[3]}
moving_mean = VariableV2() {shape=[3]}
moving_variance = VariableV2() {shape=[3]}
g = Identity(gamma)
b = Identity(beta)
m = Identity(moving_mean)
v = Identity(moving_variance)
n = FusedBatchNorm(x, g, b, m, v) {is_training=false}
y = Relu(n)
"""
_TRAINED_VALUES = {
  "gamma": [1.5, 0.5, 2],
  "beta": [0.1, 0.2, 0.3],
  "moving_mean": [0.4, -0.2, 0.1],
  "moving_variance": [1.3, 0.7, 2.1],
}


def _trained(**values):
  """A training graph and its checkpoint; None leaves a variable out."""
  saved = dict(_TRAINED_VALUES, **values)
  saved = {name: value for name, value in saved.items() if value is not None}
  told = [f"{name} [{len(value)}]" for name, value in saved.items()]
  return Example(
    _TRAINED_GRAPH + "# the checkpoint: " + ", ".join(told),
    checkpoint=saved,
    is_training=True,
    data=_INPUT,
  )


# What the rules look for.


def _needed(subject):
  return [norm for norm in subject.norms if subject.is_needed(norm.name)]


def _missing(subject):
  for norm in _needed(subject):
    if norm.statistics == BATCH and not subject.has_averages(norm):
      yield (
        norm.name,
        "normalises with the mean and variance of the batch it gets, and no "
        "average of them is in the %s: an answer depends on the rest of the "
        "batch" % ("file" if subject.is_frozen else "graph"),
        subject.fix(_DATA),
      )


def _in_state(subject, states):
  for norm in _needed(subject):
    if subject.health[norm.name] in states:
      yield norm


def _never_updated(subject):
  for norm in _in_state(subject, (NEVER_UPDATED,)):
    yield (
      norm.name,
      (
        f"has mean 0 and variance 1 in every channel ('{norm.moving_mean}' "
        f"and '{norm.moving_variance}'), as they are before the first update: "
        "it does not normalise at all"
      ),
      subject.fix(_DATA),
    )


def _not_positive(subject):
  for norm in _in_state(subject, (NEGATIVE, ZERO)):
    mean, variance = _averages(subject, norm)
    below = int(np.sum(variance < 0))
    if below:
      fact = "has a negative variance in %d of %d channels ('%s')"
      fact %= (below, variance.size, norm.moving_variance)
    elif _are_dead_filters(mean, variance):
      continue
    else:
      fact = "has variance 0 in %d of %d channels ('%s')"
      fact %= (int(np.sum(variance == 0)), variance.size, norm.moving_variance)
    yield (
      norm.name,
      fact + ", which no data has: these channels are NaN or blown up",
      subject.fix(_DATA),
    )


def _are_dead_filters(mean, variance):
  """Whether the channels without variance are 0 for all data.

  Weight decay and ReLUs do that to some channels of sound models, and then
  averages of what is 0 are 0. They never do it to all channels.
  """
  dead = variance == 0
  return not dead.all() and bool((np.abs(mean[dead]) < _NOTHING).all())


def _not_finite(subject):
  for norm in _in_state(subject, (NOT_FINITE,)):
    bad = [
      name
      for name, array in zip(
        (norm.moving_mean, norm.moving_variance), _averages(subject, norm)
      )
      if not np.isfinite(array).all()
    ]
    yield (
      norm.name,
      "has a NaN or infinity in '%s': the channel's answers are NaN, and "
      "soon all are" % "' and '".join(bad),
      subject.fix(_DATA),
    )


def _averages(subject, norm):
  """The stored mean and variance as flat arrays of float64."""
  return [
    subject.array(name).astype(np.float64).reshape(-1)
    for name in (norm.moving_mean, norm.moving_variance)
  ]


def _variables_of(subject, norm):
  """Its averages that are variables, where a checkpoint is to hold them."""
  if subject.is_frozen or subject.values is None:
    return []
  return [
    name
    for name in (norm.moving_mean, norm.moving_variance)
    if name is not None and subject.graph.op(name) in ops.VARIABLES
  ]


def _absent(subject):
  for norm in _needed(subject):
    absent = [
      name
      for name in _variables_of(subject, norm)
      if name not in subject.values
    ]
    if absent:
      yield (
        norm.name,
        "normalises with '%s', which the checkpoint lacks, as where only "
        "trainable variables were saved: there is nothing to normalise with"
        % "' and '".join(absent),
        subject.fix(_DATA),
      )


def _misfitting(subject):
  for norm in _needed(subject):
    names, flags = _variables_of(subject, norm), (_DATA,)
    if not names:
      # Nothing tells calibration that a constant is of no use.
      names = _constants_of(subject, norm)
      flags = ("--recalibrate=" + norm.name, _DATA)
    for name in names:
      wanted, there = _shapes(subject, norm, name)
      if wanted is None or there is None or _fits(wanted, there):
        continue
      yield (
        norm.name,
        (
          f"has {_size(wanted)} channels, and its '{name}' is that of a norm "
          f"with {_size(there)}: it is of another model, or of another layer"
        ),
        subject.fix(*flags),
      )
      break


def _constants_of(subject, norm):
  if norm.form != "fused":
    return []  # shapes may broadcast
  return [
    name
    for name in (norm.moving_mean, norm.moving_variance)
    if name is not None and subject.graph.op(name) == "Const"
  ]


def _shapes(subject, norm, name):
  """The shape that an average should have, and the one it has."""
  graph = subject.graph
  if graph.op(name) in ops.VARIABLES:
    return static_shape(graph, TensorRef(name)), subject.values.shape(name)
  scale = stored_name(graph, graph.inputs(norm.name)[1])
  wanted = None if scale is None else static_shape(graph, TensorRef(scale))
  return wanted, static_shape(graph, TensorRef(name))


def _fits(wanted, there):
  return len(wanted) == len(there) and all(
    a == b or a < 0 for a, b in zip(wanted, there)
  )


def _size(shape):
  return "x".join(map(str, shape)) or "1"


def _too_large(subject):
  magnitudes = None
  for norm in _needed(subject):
    if subject.health[norm.name] in (None, NOT_FINITE, NEVER_UPDATED):
      continue
    product = product_of(subject.graph, norm.x) if norm.x else None
    if product is None:
      continue
    magnitudes = magnitudes or Magnitudes(subject)
    variance = _averages(subject, norm)[1]
    largest = magnitudes.largest_variance(product)
    if largest is None or largest.size != variance.size:
      continue
    is_alive = largest > 0
    if not is_alive.any():
      continue
    if np.mean(variance[is_alive] > _SLACK * largest[is_alive]) > 0.5:
      yield (
        norm.name,
        "has variances ('%s') that are %.0e times what the weights of '%s' "
        "can make of its input: it scales its channels down to nothing"
        % (
          norm.moving_variance,
          np.median(variance[is_alive] / largest[is_alive]),
          product,
        ),
        subject.fix("--recalibrate=" + norm.name, _DATA),
      )


RULES = (
  Rule(
    code="BN201",
    severity=WARNING,
    title="a norm without averages",
    why="""
      The norm uses the mean and variance of the batch it gets, and the moving
      averages that should take their place are in none of the files. Whoever
      froze the graph in training mode left them behind with the updates. Alone,
      a row is normalised by itself, and every answer is another.
    """,
    code_sample="""
      h = tf.layers.batch_normalization(h, training=True)
      tf.graph_util.convert_variables_to_constants(sess, graph_def, ["y"])
    """,
    cure="""
      Give the checkpoint, where there is one: --checkpoint=PREFIX, with its
      .meta beside it. Else compute the statistics from a few hundred rows of
      the training data: numpy.savez("calibration.npz", x=rows), with an array
      for every input. A norm that is meant to use the batch, as in some
      generators, is named in --keep_batch_statistics.
    """,
    look=_missing,
    bad=Example(
      _HEAD
      + """
none = Const() {value=<float [0]>}
n = FusedBatchNorm(x, gamma, beta, none, none) {is_training=true}
y = Relu(n)
""",
      data=_INPUT,
    ),
    good=_GOOD,
  ),
  Rule(
    code="BN202",
    severity=WARNING,
    title="averages that were never updated",
    why="""
      Mean 0 and variance 1 in every channel, to the bit, is what averages are
      before training: the update operations never ran. In training nothing
      shows, since the batch's own statistics are used there. At inference the
      norm does nothing, and what follows gets values that it never saw.
    """,
    code_sample="""
      h = tf.layers.batch_normalization(h, training=is_training)
      train_op = optimizer.minimize(loss)  # without tf.GraphKeys.UPDATE_OPS
    """,
    cure="""
      Compute the statistics from a few hundred rows of the training data, by
      numpy.savez("calibration.npz", x=rows) with an array for every input.
      That takes no training. In the training code, run the operations in
      tf.GraphKeys.UPDATE_OPS with the train_op.
    """,
    look=_never_updated,
    bad=_frozen(
      "mean = Const() {value=<float [3] 0 0 0>}",
      "variance = Const() {value=<float [3] 1 1 1>}",
    ),
    good=_GOOD,
  ),
  Rule(
    code="BN203",
    severity=ERROR,
    title="a variance that is not positive",
    why="""
      A variance below 0 makes the square root NaN. One of exactly 0 makes the
      norm divide by the root of epsilon, and blows up whatever the channel
      holds. Channels with mean 0 and variance 0 beside sound ones are filters
      that died; they are let pass.
    """,
    code_sample="""
      variance = tf.get_variable("var", [c], initializer=tf.zeros_initializer())
      h = tf.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-3)
    """,
    cure="""
      Compute the statistics anew from a few hundred rows of the training data,
      numpy.savez("calibration.npz", x=rows), or export an earlier checkpoint.
    """,
    look=_not_positive,
    bad=_frozen(_MEAN, "variance = Const() {value=<float [3] 1.3 -0.7 0>}"),
    good=Example(
      _HEAD
      + "mean = Const() {value=<float [3] 0.4 0 0.1>}\n"
      + "variance = Const() {value=<float [3] 1.3 0 2.1>}"
      + _TAIL
    ),
  ),
  Rule(
    code="BN204",
    severity=ERROR,
    title="averages that are not finite",
    why="""
      One NaN or infinity in a batch stays in a moving average for good. The
      channel's answers are NaN, and behind the next layer all are. Training
      goes on meanwhile: it uses the batch's statistics.
    """,
    code_sample="""
      h = tf.layers.batch_normalization(tf.log(x), training=is_training)
      with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    """,
    cure="""
      Compute the statistics anew from a few hundred rows of the training data,
      numpy.savez("calibration.npz", x=rows), or export a checkpoint of before
      it happened.
    """,
    look=_not_finite,
    bad=_frozen(_MEAN, "variance = Const() {value=<float [3] 1.3 nan inf>}"),
    good=_GOOD,
  ),
  Rule(
    code="BN205",
    severity=ERROR,
    title="averages that the checkpoint lacks",
    why="""
      Moving averages are no trainable variables, and a Saver of these alone
      leaves them out. The graph needs them at inference: it can't be frozen,
      and code that goes on with what initializers give answers as a norm that
      was never updated.
    """,
    code_sample="""
      saver = tf.train.Saver(tf.trainable_variables())
      saver.save(sess, "model.ckpt")
    """,
    cure="""
      Give a checkpoint that holds them. Where none was ever saved, compute the
      statistics from a few hundred rows of the training data,
      numpy.savez("calibration.npz", x=rows). In the training code, save
      tf.global_variables().
    """,
    look=_absent,
    bad=_trained(moving_mean=None, moving_variance=None),
    good=_trained(),
  ),
  Rule(
    code="BN206",
    severity=ERROR,
    title="averages of another norm's shape",
    why="""
      The stored mean or variance has another number of channels than the norm.
      The checkpoint is of another version of the model, or two norms were
      mixed up when variables were renamed or copied by hand. TensorFlow does
      not restore it; where it broadcasts, the answers are wrong.
    """,
    code_sample="""
      saver = tf.train.Saver({"bn/moving_mean": wider.moving_mean})
      saver.save(sess, "model.ckpt")
    """,
    cure="""
      Give the checkpoint that was saved with this graph. Where there is none,
      compute the statistics from a few hundred rows of the training data,
      numpy.savez("calibration.npz", x=rows).
    """,
    look=_misfitting,
    bad=_trained(
      moving_mean=[0.4, -0.2, 0.1, 0.5], moving_variance=[1.3, 0.7, 2.1, 0.9]
    ),
    good=_trained(),
  ),
  Rule(
    code="BN207",
    severity=WARNING,
    title="a variance far beyond its layer",
    why="""
      The variance of what a convolution or matrix product gives is at most the
      sum of the squares of the channel's weights, times the mean square of what
      they are applied to (by Cauchy and Schwarz). That is known behind another
      norm: beta squared plus gamma squared. Elsewhere values up to a million
      are taken for possible, so images of 0 to 255 are. A stored variance that
      is a thousand times as large in half of the channels belongs to other
      weights, or blew up. There is no lower limit: filters and whole layers
      die in sound models.
    """,
    code_sample="""
      saver = tf.train.Saver(weights)  # of a later step than the averages
      saver.restore(sess, "finetuned.ckpt")
    """,
    cure="""
      Compute the statistics of this norm from a few hundred rows of the
      training data, numpy.savez("calibration.npz", x=rows), or give the
      checkpoint that weights and averages were saved in together.
    """,
    look=_too_large,
    bad=Example(
      _HEAD
      + _MEAN
      + "\n"
      + _VARIANCE
      + """
n = FusedBatchNorm(x, gamma, beta, mean, variance) {is_training=false}
w = Const() {value=<float [1,1,3,2] 0.5 -0.3 0.7 0.4 -0.6 0.2>}
c = Conv2D(n, w) {strides=(1, 1, 1, 1), padding=SAME}
gamma2 = Const() {value=<float [2] 1.5 0.5>}
beta2 = Const() {value=<float [2] 0.1 0.2>}
mean2 = Const() {value=<float [2] 0.4 -0.2>}
variance2 = Const() {value=<float [2] 4e6 7e6>}
n2 = FusedBatchNorm(c, gamma2, beta2, mean2, variance2) {is_training=false}
y = Relu(n2)
""",
      data=_INPUT,
    ),
    good=Example(
      """
      x = Placeholder() {shape=[?,2,2,3]}
      w = Const() {value=<float [1,1,3,2] 0.5 -0.3 0.7 0.4 -0.6 0.2>}
      c = Conv2D(x, w) {strides=(1, 1, 1, 1), padding=SAME}
      gamma = Const() {value=<float [2] 1.5 0.5>}
      beta = Const() {value=<float [2] 0.1 0.2>}
      mean = Const() {value=<float [2] 40 -20>}
      variance = Const() {value=<float [2] 9000 4000>}
      n = FusedBatchNorm(c, gamma, beta, mean, variance) {is_training=false}
      y = Relu(n)
      """
    ),
  ),
)
