# SPDX-License-Identifier: Apache-2.0
"""BN306: an output on one side of a conditional."""

from __future__ import annotations

from bnexport.checks.rule import ERROR, Example, Rule
from bnexport.graph import TensorRef, ops
from bnexport.graph.contexts import Contexts


def _look(subject):
  """Outputs that lie on one side of a conditional."""
  if subject.inference is None:
    return
  graph = subject.graph
  contexts = Contexts(graph, graph.topological())
  for ref in subject.outputs:
    if subject.inference.is_dead(ref):
      state = "is not taken at inference"
    elif subject.inference.contexts.sides(ref):
      state = "is taken for some data and not for other"
    else:
      continue
    merge = _merge_behind(graph, contexts, ref.node)
    yield (
      str(ref),
      f"lies on a side of a conditional that {state}: running it fails with "
      "'Retval does not have value' or a dead tensor",
      subject.fix(merge and [merge]),
    )


def _merge_behind(graph, contexts, name):
  """The nearest Merge behind a node that always runs, or None."""
  seen, stack = {name}, [name]
  for name in stack:
    for reader in graph.readers(name):
      is_merge = graph.op(reader) in ops.MERGES
      if is_merge and not contexts.sides(TensorRef(reader)):
        return reader
      if reader not in seen:
        seen.add(reader)
        stack.append(reader)
  return None


RULE = Rule(
  code="BN306",
  severity=ERROR,
  title="an output on one side of a conditional",
  why="""
    What is computed inside tf.cond exists only when that side is taken.
    An output there has no value at inference, or none for some data, and
    running it fails.
  """,
  code_sample="""
    y = tf.cond(flag, lambda: tf.nn.relu(x, name="y"), lambda: x)
    tf.graph_util.convert_variables_to_constants(sess, graph_def, ["cond/y"])
  """,
  cure="""
    Name the output behind the conditional: its Merge, or what reads it.
  """,
  look=_look,
  bad=Example(
    """
    x = Placeholder() {shape=[?,3]}
    flag = Const() {value=<bool [] false>}
    side = Switch(x, flag)
    y = Relu(side:1)
    z = Merge(side, y)
    """
  ),
  good=Example(
    """
    x = Placeholder() {shape=[?,3]}
    flag = Const() {value=<bool [] false>}
    side = Switch(x, flag)
    r = Relu(side:1)
    y = Merge(side, r)
    """
  ),
)
