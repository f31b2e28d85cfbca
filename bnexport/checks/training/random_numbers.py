# SPDX-License-Identifier: Apache-2.0
"""BN103: random numbers in the forward pass."""

from __future__ import annotations

from bnexport.checks.rule import WARNING, Example, Rule
from bnexport.graph import ops


def _look(subject):
  """Random ops that the outputs need at inference."""
  for name in subject.needed_at_inference:
    if ops.is_random(subject.graph.op(name)):
      yield (
        name,
        "draws random numbers in the forward pass, as dropout does in "
        "training: every run answers differently",
        subject.fix(),
      )


RULE = Rule(
  code="BN103",
  severity=WARNING,
  title="random numbers in the forward pass",
  why="""
    Dropout and added noise are there to train. Left in, two runs of the
    graph on the same input answer differently, and every answer is off.
  """,
  code_sample="""
    h = tf.nn.dropout(h, keep_prob=0.5)
    tf.graph_util.convert_variables_to_constants(sess, graph_def, ["y"])
  """,
  cure="""
    Take dropout and noise out: freeze and repair do. Random numbers that
    are the model itself, as a generator's code, stay; cut them with
    --input_node=NODE to feed them instead.
  """,
  look=_look,
  bad=Example(
    """
    x = Placeholder() {shape=[4,3]}
    shape = Const() {value=<int32 [2] 4 3>}
    random = RandomUniform(shape) {dtype=float}
    keep = Const() {value=<float [] 0.5>}
    sum = Add(keep, random)
    mask = Floor(sum)
    scaled = RealDiv(x, keep)
    dropped = Mul(scaled, mask)
    y = Relu(dropped)
    """,
  ),
  good=Example(
    """
    x = Placeholder() {shape=[4,3]}
    y = Relu(x)
    """
  ),
)
