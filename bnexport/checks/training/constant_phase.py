# SPDX-License-Identifier: Apache-2.0
"""BN105: a constant phase that means training."""

from __future__ import annotations

from bnexport.checks.examples import SOUND
from bnexport.checks.rule import ERROR, Example, Rule
from bnexport.checks.training import switched_norm
from bnexport.transforms.inference.decide import training_constants


def _look(subject):
  """Leaves of constant predicates that take the side of training."""
  if not subject.outputs:
    return
  for leaf in training_constants(subject.model):
    yield (
      leaf.name,
      f"is the constant {leaf.default}, and with it conditionals take the "
      "side of training",
      subject.fix(settings={leaf.name: str(not leaf.default)}),
    )


RULE = Rule(
  code="BN105",
  severity=ERROR,
  title="a constant phase that means training",
  why="""
    The code states training in a tensor, so the conditionals are built, and
    take the side of training. It looks like a phase that could be fed, and
    answers as a norm in training mode does.
  """,
  code_sample="""
    is_training = tf.constant(True)
    h = tf.contrib.layers.batch_norm(h, is_training=is_training)
  """,
  cure="""
    Say what it is at inference with --set=NAME=False: what the code states
    is changed by nobody but you.
  """,
  look=_look,
  bad=Example(
    switched_norm("is_training = Const() {value=<bool [] true>}"),
  ),
  good=SOUND,
)
