# SPDX-License-Identifier: Apache-2.0
"""BN205: averages that the checkpoint lacks."""

from __future__ import annotations

from bnexport.checks.averages import average_variables, trained
from bnexport.checks.fix import BROKEN
from bnexport.checks.rule import ERROR, Rule


def _look(subject):
  """Norms whose averages are variables that the checkpoint lacks."""
  for norm in subject.norms_at_inference:
    names = average_variables(subject, norm)
    absent = [name for name in names if name not in subject.values]
    if absent:
      listed = "' and '".join(absent)
      yield (
        norm.name,
        f"normalises with '{listed}', which the checkpoint lacks, as where "
        "only trainable variables were saved: there is nothing to normalise "
        "with",
        subject.fix(recalibrate=BROKEN),
      )


RULE = Rule(
  code="BN205",
  severity=ERROR,
  title="averages that the checkpoint lacks",
  why="""
    Moving averages are no trainable variables, and a Saver of these alone
    leaves them out. The graph needs them at inference: it can't be frozen,
    and code that goes on with what initializers give answers as a norm that
    was never updated.
  """,
  code_sample="""
    saver = tf.train.Saver(tf.trainable_variables())
    saver.save(sess, "model.ckpt")
  """,
  cure="""
    Give a checkpoint that holds them. Where none was ever saved, compute the
    statistics from a few hundred rows of the training data,
    numpy.savez("calibration.npz", x=rows). In the training code, save
    tf.global_variables().
  """,
  look=_look,
  bad=trained(moving_mean=None, moving_variance=None),
  good=trained(),
)
