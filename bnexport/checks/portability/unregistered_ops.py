# SPDX-License-Identifier: Apache-2.0
"""BN405: ops that nobody knows."""

from __future__ import annotations

from bnexport.checks.portability import and_more
from bnexport.checks.portability.cutting import cut_by_op, needed_names
from bnexport.checks.rule import ERROR, Example, Rule
from bnexport.tf1 import op_def


def _look(subject):
  """Ops that neither TensorFlow nor the graph's library defines."""

  def is_unknown(node):
    return node.op not in subject.graph.library and op_def(node.op) is None

  # TensorFlow refuses a file for nodes that nothing needs, too.
  names = needed_names(subject)
  if subject.is_frozen and subject.graph is not None:
    names = subject.graph.names()
  for op, found, fix in cut_by_op(subject, names, is_unknown):
    yield (
      found[0],
      f"has op {op}{and_more(found)}, which this TensorFlow does not know: the "
      "graph is not imported without the library that registers it",
      fix,
    )


RULE = Rule(
  code="BN405",
  severity=ERROR,
  title="ops that nobody knows",
  why="""
    TensorFlow refuses a graph with an op that is not registered. The op is
    from a library that has to be loaded first, as those of tf.contrib are
    in TensorFlow 1, or from one that is no more.
  """,
  code_sample="""
    lib = tf.load_op_library("decode.so")
    h = lib.decode(x)
  """,
  cure="""
    Feed what the op gives: --input_node makes it an input. Before you do,
    see whether the op is a part of the model, and not of its input.
  """,
  look=_look,
  bad=Example(
    """
    x = Placeholder() {dtype=string, shape=[]}
    decoded = DecodeAsWeDo(x)
    y = Relu(decoded)
    """
  ),
  good=Example(
    """
    decoded = Placeholder() {shape=[?,3]}
    y = Relu(decoded)
    """
  ),
)
