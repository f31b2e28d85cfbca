# SPDX-License-Identifier: Apache-2.0
"""BN104: a learning phase with a default."""

from __future__ import annotations

from bnexport.checks.examples import SOUND
from bnexport.checks.rule import WARNING, Example, Rule
from bnexport.checks.training import switched_norm


def _look(subject):
  """Leaves of undecided predicates that have a default."""
  for leaf in subject.undecided:
    if leaf.op == "PlaceholderWithDefault":
      yield (
        leaf.name,
        f"is a learning phase with default {leaf.default}: training is still "
        "in the graph, and runs as soon as somebody feeds it",
        subject.fix(),
      )


RULE = Rule(
  code="BN104",
  severity=WARNING,
  title="a learning phase with a default",
  why="""
    Keras' learning phase is a placeholder with a default. The graph runs
    without feeding it, so nobody notices that training is still in it: its
    updates, its batch statistics, its control flow, and the one feed that
    turns them on.
  """,
  code_sample="""
    training = tf.placeholder_with_default(False, [])
    h = tf.layers.batch_normalization(h, training=training)
  """,
  cure="Decide it, as any phase: freeze and repair do.",
  look=_look,
  bad=Example(
    switched_norm("""
      false = Const() {value=<bool [] false>}
      learning_phase = PlaceholderWithDefault(false) {dtype=bool, shape=[]}
    """),
  ),
  good=SOUND,
)
