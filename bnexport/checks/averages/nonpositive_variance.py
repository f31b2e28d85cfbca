# SPDX-License-Identifier: Apache-2.0
"""BN203: a variance that is not positive."""

from __future__ import annotations

import numpy as np

from bnexport.batchnorm.health import NEGATIVE, ZERO
from bnexport.checks.averages import frozen, norms_in_state, stored_averages
from bnexport.checks.examples import AFFINE, MEAN, NORM
from bnexport.checks.fix import BROKEN
from bnexport.checks.rule import ERROR, Example, Rule

# A smaller mean is what is left of one that was 0 for a long time.
_NOTHING = 1e-20


def _look(subject):
  """Norms with a variance of 0 or less, unless filters died."""
  for norm in norms_in_state(subject, NEGATIVE, ZERO):
    mean, variance = stored_averages(subject, norm)
    if (variance < 0).any():
      fact, count = "a negative variance", np.sum(variance < 0)
    elif _are_dead_filters(mean, variance):
      continue
    else:
      fact, count = "variance 0", np.sum(variance == 0)
    yield (
      norm.name,
      f"has {fact} in {count} of {variance.size} channels "
      f"('{norm.moving_variance}'), which no data has: these channels are NaN "
      "or blown up",
      subject.fix(recalibrate=BROKEN),
    )


def _are_dead_filters(mean, variance):
  """Whether the channels without variance are 0 for all data.

  Weight decay and ReLUs do that to some channels of sound models, and then
  averages of what is 0 are 0. They never do it to all channels.
  """
  dead = variance == 0
  return not dead.all() and bool((np.abs(mean[dead]) < _NOTHING).all())


RULE = Rule(
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
  look=_look,
  bad=frozen(MEAN, "variance = Const() {value=<float [3] 1.3 -0.7 0>}\n"),
  good=Example(
    AFFINE
    + "mean = Const() {value=<float [3] 0.4 0 0.1>}\n"
    + "variance = Const() {value=<float [3] 1.3 0 2.1>}\n"
    + NORM
  ),
)
