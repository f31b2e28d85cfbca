# SPDX-License-Identifier: Apache-2.0
"""Text of the norm that most examples of rules have, sound and in training."""

from __future__ import annotations

from bnexport.checks.rule import Example

AFFINE = """\
x = Placeholder() {shape=[?,2,2,3]}
gamma = Const() {value=<float [3] 1.5 0.5 2>}
beta = Const() {value=<float [3] 0.1 0.2 0.3>}
"""
MEAN = "mean = Const() {value=<float [3] 0.4 -0.2 0.1>}\n"
VARIANCE = "variance = Const() {value=<float [3] 1.3 0.7 2.1>}\n"
NORM = """\
n = FusedBatchNorm(x, gamma, beta, mean, variance) {is_training=false}
y = Relu(n)
"""
TRAINING_MODE = """\
none = Const() {value=<float [0]>}
n = FusedBatchNorm(x, gamma, beta, none, none) {is_training=true}
y = Relu(n)
"""
SOUND = Example(AFFINE + MEAN + VARIANCE + NORM)
