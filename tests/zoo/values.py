# SPDX-License-Identifier: Apache-2.0
"""Values for variables: random, far from 0 and 1, and all different.

A mix-up between two variables, or a statistic that was made up, must show in
the answer.
"""

import re

import numpy as np

_SLOT = re.compile(r"/(Momentum|Adam(_1)?|RMSProp(_1)?)(_\d+)?$")
# Squeeze_1 is the variance of tf.nn.moments, which names its average.
_VARIANCE = re.compile(
  r"(var|sigma|std|dev|Squeeze_1/|moments_1/|avg_sq)", re.IGNORECASE
)
_MEAN = re.compile(r"(mean|mu\b|Squeeze/Exp)", re.IGNORECASE)
_COUNTER = re.compile(r"(_step|_power)(_\d+)?$")
_SCALE = re.compile(r"(gamma|scale|/g$)", re.IGNORECASE)


def draw(name, value, rng, role=None):
  """A random value for a variable.

  Args:
    name: of the variable, without `:0`.
    value: numpy array, what initialising gave.
    rng: numpy RandomState.
    role: 'mean' or 'variance' where the name does not tell.

  Returns:
    An array like `value`.  Means are around 0.3, variances in 0.3..3, scales
    in 0.6..1.5, kernels keep the size of what they multiply.
  """
  shape = value.shape
  if value.dtype.kind in "iu":
    return rng.randint(20, 900, shape).astype(value.dtype)
  if value.dtype.kind not in "f":
    return value
  if _SLOT.search(name):
    drawn = rng.uniform(0.1, 1.0, shape)
  elif role == "mean":
    drawn = rng.normal(0.3, 0.6, shape)
  elif role == "variance":
    drawn = rng.uniform(0.3, 3.0, shape)
  elif _COUNTER.search(name):
    drawn = rng.uniform(5.0, 50.0, shape)
  elif _VARIANCE.search(name):
    drawn = rng.uniform(0.3, 3.0, shape)
  elif _MEAN.search(name):
    drawn = rng.normal(0.3, 0.6, shape)
  elif _SCALE.search(name):
    drawn = rng.uniform(0.6, 1.5, shape)
  elif len(shape) >= 2:
    drawn = rng.normal(0.0, 1.4 / np.sqrt(np.prod(shape[:-1])), shape)
  elif not shape:
    drawn = rng.uniform(0.5, 1.5)
  else:
    drawn = rng.normal(0.2, 0.5, shape)
  return coarse(drawn).astype(value.dtype)


def coarse(drawn):
  """Rounds to 1/128: few bits, so that the zip of a case stays small."""
  return np.round(np.asarray(drawn) * 128) / 128
