# SPDX-License-Identifier: Apache-2.0
"""BN101: a norm in training mode."""

from __future__ import annotations

from bnexport.batchnorm.norm import BATCH
from bnexport.checks.examples import AFFINE, SOUND, TRAINING_MODE
from bnexport.checks.rule import ERROR, Example, Rule

# Of a graph that is not frozen: there, names alone would tell the averages.
_UPDATES = """\
rate = Const() {value=<float 0.1>}
moving_mean = VariableV2() {shape=[3]}
off = Sub(moving_mean, n:1)   step = Mul(off, rate)
up = AssignSub(moving_mean, step)
moving_variance = VariableV2() {shape=[3]}
off2 = Sub(moving_variance, n:2)   step2 = Mul(off2, rate)
up2 = AssignSub(moving_variance, step2)
"""


def _look(subject):
  """Norms that use the batch, though averages of them are stored."""
  for norm in subject.norms_at_inference:
    if norm.statistics == BATCH and subject.has_averages(norm):
      yield (
        norm.name,
        "normalises with the mean and variance of the batch it gets: an "
        "answer depends on the rest of the batch, and is not what was trained "
        "for",
        subject.fix(),
      )


RULE = Rule(
  code="BN101",
  severity=ERROR,
  title="a norm in training mode",
  why="""
    In training a batch norm uses the mean and variance of the batch. At
    inference it has to use the moving averages that training collected. A
    graph that was frozen in training mode imports and runs, and answers
    differently for every batch; alone, a row may be normalised away.
  """,
  code_sample="""
    h = tf.layers.batch_normalization(h, training=True)
    tf.graph_util.convert_variables_to_constants(sess, graph_def, ["y"])
  """,
  cure="""
    Have the norm use its moving averages: freeze does that with the
    training graph, repair with a graph that is frozen already. Both find
    the averages by what the updates in the training graph compute.
  """,
  look=_look,
  bad=Example(
    AFFINE + TRAINING_MODE + _UPDATES,
    checkpoint={
      "moving_mean": [0.4, -0.2, 0.1],
      "moving_variance": [1.3, 0.7, 2.1],
    },
  ),
  good=SOUND,
)
