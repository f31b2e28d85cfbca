# SPDX-License-Identifier: Apache-2.0
"""BN302: a value where a variable is wanted."""

from __future__ import annotations

from bnexport.checks.form import refusals
from bnexport.checks.rule import ERROR, Example, Rule
from bnexport.mending import faults


def _look(subject):
  """Ops that write a variable, and read a constant in its place."""
  because = "freezing made a constant of a variable that is still written, and "
  for fault, message in refusals(subject, faults.REFERENCE, because=because):
    yield fault.node, message, subject.mend()


RULE = Rule(
  code="BN302",
  severity=ERROR,
  title="a value where a variable is wanted",
  why="""
    An op that writes a variable takes its reference or handle. Freezing
    made a constant of the variable and left the op: TensorFlow says `Input
    0 of node ... was passed float from ... incompatible with expected
    float_ref`. The usual cause is the update of a batch norm's averages
    that the outputs wait for; renaming RefSwitch to Switch and AssignSub to
    Sub makes the graph import, and leaves training in it.
  """,
  code_sample="""
    h = tf.contrib.layers.batch_norm(
        h, is_training=phase, updates_collections=None)
    tf.graph_util.convert_variables_to_constants(sess, graph_def, ["y"])
  """,
  cure="""
    repair takes the update out; where the norm is in training mode, it has
    it use the averages, which are still in the file. With the training code
    at hand, freeze makes a right graph from the start.
  """,
  look=_look,
  bad=Example(
    """
    x = Placeholder() {shape=[?,3]}
    mean = Const() {value=<float [3] 0.4 -0.2 0.1>}
    axes = Const() {value=<int32 [1] 0>}
    rest = Const() {value=<float [] 0.1>}
    m = Mean(x, axes)
    off = Sub(mean, m)
    step = Mul(off, rest)
    update = AssignSub(mean, step)
    apart = Sub(x, mean)
    y = Relu(apart, ^update)
    """,
  ),
  good=Example(
    """
    x = Placeholder() {shape=[?,3]}
    mean = Const() {value=<float [3] 0.4 -0.2 0.1>}
    apart = Sub(x, mean)
    y = Relu(apart)
    """,
  ),
)
