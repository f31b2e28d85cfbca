# SPDX-License-Identifier: Apache-2.0
"""BN201: a norm without averages."""

from __future__ import annotations

from bnexport.batchnorm.norm import BATCH
from bnexport.checks.averages import INPUT
from bnexport.checks.examples import AFFINE, SOUND, TRAINING_MODE
from bnexport.checks.fix import BROKEN
from bnexport.checks.rule import WARNING, Example, Rule


def _look(subject):
  """Norms that use the batch, and no file holds averages of them."""
  for norm in subject.norms_at_inference:
    if norm.statistics == BATCH and not subject.has_averages(norm):
      place = "file" if subject.is_frozen else "graph"
      yield (
        norm.name,
        "normalises with the mean and variance of the batch it gets, and no "
        f"average of them is in the {place}: an answer depends on the rest of "
        "the batch",
        subject.fix(recalibrate=BROKEN),
      )


RULE = Rule(
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
  look=_look,
  bad=Example(AFFINE + TRAINING_MODE, data=INPUT),
  good=SOUND,
)
