# SPDX-License-Identifier: Apache-2.0
"""BN307: malformed inputs."""

from __future__ import annotations

from bnexport.checks.form import feeding, refusals
from bnexport.checks.rule import ERROR, Example, Rule
from bnexport.mending import faults


def _look(subject):
  """Nodes with inputs that are misordered, too few, too many or missing.

  What a node's inputs are, its attributes say.
  """
  kinds = faults.ORDER, faults.ARITY, faults.PORT, faults.ATTRIBUTE
  for fault, message in refusals(subject, *kinds):
    is_lost = fault.kind != faults.ORDER
    fix = feeding(subject, fault.node) if is_lost else subject.mend()
    yield fault.node, message, fix


RULE = Rule(
  code="BN307",
  severity=ERROR,
  title="malformed inputs",
  why="""
    A node's inputs are not what its op takes: a control input before a data
    input, too few or too many of them, an output that the node it reads does
    not have, or no attribute that says their type. TensorFlow refuses to
    import the graph, with its first complaint only.
  """,
  code_sample="""
    del node.input[0]
    node.input.insert(0, "^" + guard)
  """,
  cure="""
    repair puts control inputs where they belong. What was lost it takes
    from the .meta beside the checkpoint, or named with --meta_graph; without
    that, cut behind the node with --input_node.
  """,
  look=_look,
  bad=Example(
    """
    x = Placeholder() {shape=[?,3]}
    guard = NoOp()
    y = Relu(^guard, x)
    """
  ),
  good=Example(
    """
    x = Placeholder() {shape=[?,3]}
    guard = NoOp()
    y = Relu(x, ^guard)
    """
  ),
)
