# SPDX-License-Identifier: Apache-2.0
"""BN303: an input that is not in the graph."""

from __future__ import annotations

from bnexport.checks.form import RELU, feeding, refusals
from bnexport.checks.rule import ERROR, Example, Rule
from bnexport.mending import faults


def _look(subject):
  """Nodes that read what is not in the file."""
  for fault, message in refusals(subject, faults.DANGLING):
    is_data = not fault.subject.startswith("^")
    fix = feeding(subject, fault.subject) if is_data else subject.mend()
    yield fault.node, message, fix


RULE = Rule(
  code="BN303",
  severity=ERROR,
  title="an input that is not in the graph",
  why="""
    A node names an input that the file does not hold: `Node ... : Unknown
    input node`. Somebody cut too much away, or edited names by hand.
  """,
  code_sample="""
    for node in graph_def.node:
      if node.op != "Switch": kept.node.extend([node])
  """,
  cure="""
    With the .meta beside the checkpoint, or named with --meta_graph, repair
    puts the node back as it was. Without, name the missing input with
    --input_node: it becomes a placeholder. What no output needs is dropped.
  """,
  look=_look,
  bad=Example(
    """
    y = Relu(hidden)
    """
  ),
  good=Example(RELU),
)
