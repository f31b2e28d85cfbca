# SPDX-License-Identifier: Apache-2.0
"""BN401: ops that an older TensorFlow lacks."""

from __future__ import annotations

from bnexport.checks.examples import AFFINE, MEAN, NORM, VARIANCE
from bnexport.checks.portability import and_more
from bnexport.checks.portability.older_targets import newer_parts
from bnexport.checks.rule import ERROR, Example, Rule
from bnexport.graph import op_history


def _look(subject):
  """Ops that the target lacks, each at its first node."""
  for (op, attribute), newer in newer_parts(subject).items():
    if attribute is None and op_history.since(op) is not None:
      yield (
        newer[0].node,
        f"has op {op}{and_more(newer)}, which TensorFlow {subject.target_tf} "
        f"lacks ({newer[0].since} has it): the graph is not imported there",
        subject.fix(target_tf=subject.target_tf),
      )


RULE = Rule(
  code="BN401",
  severity=ERROR,
  title="ops that an older TensorFlow lacks",
  why="""
    The graph is to be read by the TensorFlow that --target_tf names, and
    that one does not have these ops: it refuses the whole graph. TensorFlow
    writes its newest ops, also where an older one computes the same.
  """,
  code_sample="""
    h = tf.layers.batch_normalization(h, training=False)  # in TF 1.15
    tf.import_graph_def(graph_def)  # in TF 1.4
  """,
  cure="""
    Name that version in --target_tf when the graph is written. The ops are
    replaced by older ones that compute the same; where there are none, that
    is said.
  """,
  look=_look,
  bad=Example(
    AFFINE
    + MEAN
    + VARIANCE
    + """\
n = FusedBatchNormV3(x, gamma, beta, mean, variance) {is_training=false}
y = AddV2(n, beta)
""",
    target_tf="1.4",
  ),
  good=Example(AFFINE + MEAN + VARIANCE + NORM, target_tf="1.4"),
)
