# SPDX-License-Identifier: Apache-2.0
"""BN304: two nodes with one name."""

from __future__ import annotations

from bnexport.checks.form import RELU, refusals
from bnexport.checks.rule import ERROR, Example, Rule
from bnexport.mending import faults


def _look(subject):
  """Nodes with the name of another node."""
  advice = ""
  if subject.graph is None:
    advice = (
      "; the nodes differ, so that one has to be renamed where the graphs were "
      "joined"
    )
  for fault, message in refusals(subject, faults.DUPLICATE):
    yield fault.node, message + advice, subject.mend()


RULE = Rule(
  code="BN304",
  severity=ERROR,
  title="two nodes with one name",
  why="""
    `Node ... is not unique`: two graphs were joined by appending nodes, or
    one was appended twice.
  """,
  code_sample="""
    graph_def.node.extend(first.node)
    graph_def.node.extend(second.node)
  """,
  cure="""
    repair keeps one of nodes that are equal. Where they differ nothing
    tells which one a reader means: join the graphs with
    tf.import_graph_def(second, name="second"), which renames.
  """,
  look=_look,
  bad=Example(
    """
    x = Placeholder() {shape=[?,3]}
    x = Placeholder() {shape=[?,3]}
    y = Relu(x)
    """
  ),
  good=Example(RELU),
)
