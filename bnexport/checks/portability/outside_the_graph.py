# SPDX-License-Identifier: Apache-2.0
"""BN406: files and Python in the graph."""

from __future__ import annotations

import re

from bnexport.checks.portability import and_more
from bnexport.checks.portability.cutting import cut_by_op, needed_names
from bnexport.checks.rule import WARNING, Example, Rule
from bnexport.graph import ops
from bnexport.sources import assets

_LOOKUPS = re.compile(r"^LookupTable(Find|Size|Export)(V2)?$")
_FACTS = {
  ops.PYTHON: (
    "calls a Python function, which is not in the graph: it runs in the "
    "process that made it, and nowhere else"
  ),
  ops.FILES: (
    "uses files, which have to be at the same place wherever the graph runs"
  ),
  ops.NETWORK: (
    "uses the network, which has to be the same wherever the graph runs"
  ),
}


def _look(subject):
  """Ops that call Python or use files or the network, for the outputs."""

  def reaches_out(node):
    return ops.reaches(node) or _looks_up_in_file(subject, node)

  for op, found, fix in cut_by_op(subject, needed_names(subject), reaches_out):
    reached = ops.reaches(subject.graph.node(found[0])) or ops.FILES
    fact = _FACTS[reached]
    yield found[0], f"has op {op}{and_more(found)}, and {fact}", fix


def _looks_up_in_file(subject, node):
  """Whether a node uses a table that a file fills, also once it is frozen."""
  graph = subject.graph
  if _LOOKUPS.search(node.op) is None:
    return False
  fillers = graph.readers(graph.inputs(node.name)[0].node)
  return any(
    ops.reaches(graph.node(reader)) == ops.FILES
    and not assets.is_held(graph, reader, subject.assets)
    for reader in fillers
  )


RULE = Rule(
  code="BN406",
  severity=WARNING,
  title="files and Python in the graph",
  why="""
    The outputs need what is not in the graph: a function of the Python
    process that made it, or files. Elsewhere the graph fails when it is
    run, or reads other files.
  """,
  code_sample="""
    h = tf.py_func(prepare, [x], tf.float32)
    y = tf.layers.batch_normalization(h, training=False)
  """,
  cure="""
    Feed what these ops give: --input_node makes it an input, and what they
    did is done outside. --input_node is the whole list of inputs.
  """,
  look=_look,
  bad=Example(
    """
    x = Placeholder() {shape=[?,3]}
    prepared = PyFunc(x) {token="pyfunc_0", Tout=(float)}
    y = Relu(prepared)
    """
  ),
  good=Example(
    """
    prepared = Placeholder() {shape=[?,3]}
    y = Relu(prepared)
    """
  ),
)
