# SPDX-License-Identifier: Apache-2.0
"""BN305: a function that is not in the library."""

from __future__ import annotations

from bnexport.checks.form import feeding, refusals
from bnexport.checks.rule import ERROR, Example, Rule
from bnexport.mending import faults


def _look(subject):
  """Nodes that call a function which the library lacks."""
  for fault, message in refusals(subject, faults.FUNCTION):
    yield fault.node, message, feeding(subject, fault.node)


RULE = Rule(
  code="BN305",
  severity=ERROR,
  title="a function that is not in the library",
  why="""
    A node calls a function by name, and the graph came without its library:
    `Function ... is not defined`. Tools that copy nodes one by one often
    forget it.
  """,
  code_sample="""
    frozen = tf.GraphDef()
    frozen.node.extend(graph_def.node)  # and not graph_def.library
  """,
  cure="""
    With the .meta beside the checkpoint, or named with --meta_graph, repair
    puts the function back, and its body in the place of the call. Without,
    the call can be fed instead: --input_node=NODE.
  """,
  look=_look,
  bad=Example(
    """
    x = Placeholder() {shape=[?,3]}
    h = PartitionedCall(x) {Tin=(float), Tout=(float), f=double{}}
    y = Relu(h)
    """,
    checkpoint={"unused": [1.0]},
    training="""
    x = Placeholder() {shape=[?,3]}
    h = PartitionedCall(x) {Tin=(float), Tout=(float), f=double{}}
    y = Relu(h)
    function double(x float) -> (z float = sum:z:0) {
      sum = AddV2(x, x)
    }
    """,
  ),
  good=Example(
    """
    x = Placeholder() {shape=[?,3]}
    h = PartitionedCall(x) {Tin=(float), Tout=(float), f=double{}}
    y = Relu(h)
    function double(x float) -> (z float = sum:z:0) {
      sum = AddV2(x, x)
    }
    """
  ),
)
