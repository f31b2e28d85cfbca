# SPDX-License-Identifier: Apache-2.0
"""BN102: a phase that is left open."""

from __future__ import annotations

from bnexport.analysis.phase import value_text
from bnexport.checks.examples import SOUND
from bnexport.checks.rule import ERROR, Example, Rule
from bnexport.checks.training import switched_norm


def _look(subject):
  """Leaves of undecided predicates that have no default."""
  for leaf in subject.undecided:
    if leaf.op == "PlaceholderWithDefault":
      continue
    settings = {}
    if subject.inference is None:
      settings[leaf.name] = value_text(leaf.candidates[0])
    yield (
      leaf.name,
      "chooses between training and inference when the graph runs: both are "
      "in it, it can't be run without feeding this, and consumers that know "
      "no control flow can't load it",
      subject.fix(settings=settings),
    )


RULE = Rule(
  code="BN102",
  severity=ERROR,
  title="a phase that is left open",
  why="""
    The graph holds the training side and the inference side, and a
    placeholder or a variable chooses. Whoever runs it has to know that, and
    to feed it. Consumers without control flow (TFLite, OpenCV, ONNX
    runtimes) refuse the graph, and updates on the training side often keep
    TensorFlow itself from importing it.
  """,
  code_sample="""
    is_training = tf.placeholder(tf.bool)
    h = tf.layers.batch_normalization(h, training=is_training)
  """,
  cure="""
    Decide the phase: freeze and repair put in the value under which the
    outputs need no update, no batch statistic and no random number. Where
    several do, say which with --set=NAME=VALUE.
  """,
  look=_look,
  bad=Example(
    switched_norm("is_training = Placeholder() {dtype=bool, shape=[]}"),
  ),
  good=SOUND,
)
