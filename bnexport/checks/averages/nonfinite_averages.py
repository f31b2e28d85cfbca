# SPDX-License-Identifier: Apache-2.0
"""BN204: averages that are not finite."""

from __future__ import annotations

import numpy as np

from bnexport.batchnorm.health import NOT_FINITE
from bnexport.checks.averages import frozen, norms_in_state, stored_averages
from bnexport.checks.examples import MEAN, SOUND
from bnexport.checks.fix import BROKEN
from bnexport.checks.rule import ERROR, Rule


def _look(subject):
  """Norms with a NaN or infinity in their averages."""
  for norm in norms_in_state(subject, NOT_FINITE):
    names = norm.moving_mean, norm.moving_variance
    averages = zip(names, stored_averages(subject, norm))
    bad = [name for name, array in averages if not np.isfinite(array).all()]
    listed = "' and '".join(bad)
    yield (
      norm.name,
      f"has a NaN or infinity in '{listed}': the channel's answers are NaN, "
      "and soon all are",
      subject.fix(recalibrate=BROKEN),
    )


RULE = Rule(
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
  look=_look,
  bad=frozen(MEAN, "variance = Const() {value=<float [3] 1.3 nan inf>}\n"),
  good=SOUND,
)
