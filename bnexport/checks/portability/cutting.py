# SPDX-License-Identifier: Apache-2.0
"""Fixes that cut nodes off: inputs behind them, outputs before them."""

from __future__ import annotations


def needed_names(subject):
  """Names of the nodes that the outputs need, also at inference."""
  return [n for n in subject.needed_at_inference if n in subject.needed]


def cut_by_op(subject, names, is_bad):
  """Groups bad nodes by op, with one fix that cuts all of them off.

  Args:
    subject: a Subject.
    names: of the nodes to look at.
    is_bad: tells of a NodeDef whether it has to go.

  Returns:
    A list of (op, names of nodes, fix).
  """
  by_op = {}
  for name in names:
    node = subject.graph.node(name)
    if is_bad(node):
      by_op.setdefault(node.op, []).append(name)
  if not by_op:
    return []
  outputs = _outputs_before(subject, is_bad)
  cuts = _inputs_behind(subject, outputs, is_bad)
  fix = subject.fix(outputs, inputs=tuple(cuts))
  return [(op, found, fix) for op, found in by_op.items()]


def _outputs_before(subject, is_bad):
  """The outputs, each bad one replaced by what it reads."""
  graph, found, stack = subject.graph, {}, list(subject.outputs)
  for ref in stack:
    if is_bad(graph.node(ref.node)):
      stack.extend(graph.data_inputs(ref.node))
    elif ref in subject.outputs or graph.op(ref.node) != "Const":
      found[ref] = None
  return list(found)


def _inputs_behind(subject, outputs, is_bad):
  """Tensors that, when they are fed, keep the outputs from bad nodes.

  The placeholders that are needed besides come behind them: --input_node is
  the whole list of what is fed. Empty where no output needs a bad node.
  """
  graph, found, inputs = subject.graph, {}, {}
  stack, seen = list(outputs), set()
  for ref in stack:
    node = graph.node(ref.node)
    if is_bad(node):
      found[str(ref)] = None
    elif node.op in ("Placeholder", "PlaceholderV2"):
      inputs[str(ref)] = None
    elif ref.node not in seen:
      seen.add(ref.node)
      needed = subject.needed_at_inference
      stack.extend(r for r in graph.data_inputs(ref.node) if r.node in needed)
  return list(found) + list(inputs) if found else []
