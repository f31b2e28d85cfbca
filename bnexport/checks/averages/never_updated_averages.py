# SPDX-License-Identifier: Apache-2.0
"""BN202: averages that were never updated."""

from __future__ import annotations

from bnexport.batchnorm.health import NEVER_UPDATED
from bnexport.checks.averages import frozen, norms_in_state
from bnexport.checks.examples import SOUND
from bnexport.checks.fix import BROKEN
from bnexport.checks.rule import WARNING, Rule


def _look(subject):
  """Norms whose averages are those of an initializer."""
  for norm in norms_in_state(subject, NEVER_UPDATED):
    yield (
      norm.name,
      f"has mean 0 and variance 1 in every channel ('{norm.moving_mean}' and "
      f"'{norm.moving_variance}'), as they are before the first update: it "
      "does not normalise at all",
      subject.fix(recalibrate=BROKEN),
    )


RULE = Rule(
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
  look=_look,
  bad=frozen(
    "mean = Const() {value=<float [3] 0 0 0>}\n",
    "variance = Const() {value=<float [3] 1 1 1>}\n",
  ),
  good=SOUND,
)
