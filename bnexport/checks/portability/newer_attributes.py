# SPDX-License-Identifier: Apache-2.0
"""BN402: attributes that an older TensorFlow lacks."""

from __future__ import annotations

from bnexport.checks.portability import and_more
from bnexport.checks.portability.older_targets import newer_parts
from bnexport.checks.rule import ERROR, Example, Rule


def _look(subject):
  """Attributes that the target's op lacks, each at its first node."""
  for (op, attribute), newer in newer_parts(subject).items():
    if attribute is not None:
      yield (
        newer[0].node,
        f"has op {op}{and_more(newer)} with {newer[0].what}, which TensorFlow "
        f"{subject.target_tf} does not know: the graph is not imported there",
        subject.fix(target_tf=subject.target_tf),
      )


RULE = Rule(
  code="BN402",
  severity=ERROR,
  title="attributes that an older TensorFlow lacks",
  why="""
    The TensorFlow that --target_tf names has the op, and not this attribute
    or this value of it. It refuses the whole graph. Attributes at the value
    that makes them void are no matter, they are dropped.
  """,
  code_sample="""
    h = tf.nn.conv2d(x, w, padding="SAME", dilations=[1, 2, 2, 1])
    tf.import_graph_def(graph_def)  # in TF 1.4
  """,
  cure="""
    Name that version in --target_tf when the graph is written. What the
    attribute does is then done by older ops, where there are such.
  """,
  look=_look,
  bad=Example(
    """
    x = Placeholder() {shape=[?,6,6,1]}
    w = Const() {value=<float [2,2,1,2] 1 2 3 4 5 6 7 8>}
    c = Conv2D(x, w) {strides=(1, 1, 1, 1), dilations=(1, 2, 2, 1),
                      padding=VALID}
    y = Relu(c)
    """,
    target_tf="1.4",
  ),
  good=Example(
    """
    x = Placeholder() {shape=[?,6,6,1]}
    w = Const() {value=<float [2,2,1,2] 1 2 3 4 5 6 7 8>}
    c = Conv2D(x, w) {strides=(1, 1, 1, 1), padding=VALID}
    y = Relu(c)
    """,
    target_tf="1.4",
  ),
)
