# SPDX-License-Identifier: Apache-2.0
"""BN2xx: the stored averages are not what the norm needs."""

from __future__ import annotations

import numpy as np

from bnexport.checks.examples import AFFINE, NORM
from bnexport.checks.rule import Example
from bnexport.graph import ops


def norms_in_state(subject, *states):
  """Norms of the forward pass with such a state of health."""
  return [
    norm
    for norm in subject.norms_at_inference
    if subject.health[norm.name] in states
  ]


def stored_averages(subject, norm):
  """The stored mean and variance as flat arrays of float64."""
  return [
    subject.array(name).astype(np.float64).reshape(-1)
    for name in (norm.moving_mean, norm.moving_variance)
  ]


def average_variables(subject, norm):
  """Names of the norm's averages that a checkpoint is to hold."""
  if subject.is_frozen or subject.values is None:
    return []
  return [
    name
    for name in (norm.moving_mean, norm.moving_variance)
    if name is not None and subject.graph.op(name) in ops.VARIABLES
  ]


# Examples.

INPUT = {"x": (16, 2, 2, 3)}
_TRAINED_GRAPH = """\
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


def frozen(mean, variance):
  """A frozen norm with these statistics, and data to compute them anew."""
  return Example(AFFINE + mean + variance + NORM, data=INPUT)


def trained(**values):
  """A training graph and its checkpoint; None leaves a variable out."""
  saved = dict(_TRAINED_VALUES, **values)
  saved = {name: value for name, value in saved.items() if value is not None}
  listed = ", ".join(f"{name} [{len(value)}]" for name, value in saved.items())
  return Example(
    f"{_TRAINED_GRAPH}# the checkpoint: {listed}",
    checkpoint=saved,
    is_training=True,
    data=INPUT,
  )
