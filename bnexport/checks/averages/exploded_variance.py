# SPDX-License-Identifier: Apache-2.0
"""BN207: a variance far beyond its layer."""

from __future__ import annotations

import numpy as np

from bnexport.batchnorm.health import NEVER_UPDATED, NOT_FINITE
from bnexport.checks.averages import INPUT, stored_averages
from bnexport.checks.averages.magnitudes import Magnitudes, product_of
from bnexport.checks.examples import AFFINE, MEAN, VARIANCE
from bnexport.checks.rule import WARNING, Example, Rule

# Averages lag behind, and a network may be used on other data than its first
# layers were trained on: ten times the range of the data is a hundred times
# the variance. More than this many times the bound is neither.
_SLACK = 1000


def _look(subject):
  """Norms with variances that the layer before them can't make."""
  magnitudes = None
  for norm in subject.norms_at_inference:
    if subject.health[norm.name] in (None, NOT_FINITE, NEVER_UPDATED):
      continue
    product = product_of(subject.graph, norm.x) if norm.x else None
    if product is None:
      continue
    magnitudes = magnitudes or Magnitudes(subject)
    _, variance = stored_averages(subject, norm)
    factor = _excess(variance, magnitudes.largest_variance(product))
    if factor is not None:
      yield (
        norm.name,
        f"has variances ('{norm.moving_variance}') that are {factor:.0e} times "
        f"what the weights of '{product}' can make of its input: it scales its "
        "channels down to nothing",
        subject.fix(recalibrate=(norm.name,)),
      )


def _excess(variance, bound):
  """Median of variance / bound; None where most channels are within slack.

  Args:
    variance: the stored one, flat.
    bound: the largest possible one by channel, or None.
  """
  if bound is None or bound.size != variance.size:
    return None
  is_alive = bound > 0
  if not is_alive.any():
    return None
  variance, bound = variance[is_alive], bound[is_alive]
  if np.mean(variance > _SLACK * bound) <= 0.5:
    return None
  return np.median(variance / bound)


RULE = Rule(
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
  look=_look,
  bad=Example(
    AFFINE
    + MEAN
    + VARIANCE
    + """\
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
    data=INPUT,
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
)
