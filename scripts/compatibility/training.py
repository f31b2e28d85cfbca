# SPDX-License-Identifier: Apache-2.0
"""Networks as their training leaves them: `.meta` and checkpoint.

python -m compatibility.training NAME PREFIX
"""

from __future__ import annotations

import functools
import sys

import numpy as np
from benchmarks import networks

from bnexport.tf1 import session, tf1

_IMAGES = (64, 64, 3)
_SEQUENCES = (12, 16)
# The shape of the input without its batch, and the network.
NETWORKS = {
  "ResNet-50 v1": (
    _IMAGES,
    functools.partial(networks.resnet50, width=16, is_v2=False),
  ),
  "ResNet-50 v2": (
    _IMAGES,
    functools.partial(networks.resnet50, width=16, is_v2=True),
  ),
  "Inception v3": (
    (96, 96, 3),
    functools.partial(networks.inception_v3, width=8),
  ),
  "MobileNet": (_IMAGES, functools.partial(networks.mobilenet, width=16)),
  "DCGAN generator": (
    (32,),
    functools.partial(networks.generator, width=8),
  ),
  "dense": ((64,), functools.partial(networks.dense_stack, width=64)),
  "unrolled LSTM": (
    _SEQUENCES,
    functools.partial(networks.unrolled_lstm, width=32),
  ),
  "looped LSTM": (
    _SEQUENCES,
    functools.partial(networks.looped_lstm, width=32),
  ),
}
INPUT, OUTPUT = "x", "answers"
_ROWS, _STEPS = 8, 3


def save(name, prefix):
  """Trains a network for some steps and saves it as tf.train.Saver does."""
  tf1.disable_v2_behavior()
  tf1.set_random_seed(1)
  shape, build = NETWORKS[name]
  x = tf1.placeholder(tf1.float32, (None, *shape), INPUT)
  phase = tf1.placeholder(tf1.bool, [], "is_training")
  layers = networks.Layers(phase)
  y = tf1.identity(build(layers, x), OUTPUT)
  with tf1.control_dependencies(layers.updates):
    train = tf1.train.AdamOptimizer(1e-4).minimize(tf1.reduce_mean(y**2))
  random = np.random.RandomState(1)
  with session(tf1.get_default_graph()) as running:
    running.run(tf1.global_variables_initializer())
    for _ in range(_STEPS):
      batch = random.randn(_ROWS, *shape)
      running.run(train, {x: batch, phase: True})
    tf1.train.Saver().save(running, prefix)


if __name__ == "__main__":
  save(*sys.argv[1:])
