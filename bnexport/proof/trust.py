# SPDX-License-Identifier: Apache-2.0
"""Ops that reach out of a graph: what runs only where its user trusts it."""

from __future__ import annotations

import itertools

from bnexport.errors import ComparisonError
from bnexport.graph import ops
from bnexport.graph.nodes import called_functions

# What to do about an op that reaches out of its graph.
ALLOW = (
  "pass --allow_unsafe_ops if you trust the graph, or cut it out with "
  "--input_node"
)


def refuse_unsafe(graph, names, is_allowed=False):
  """Raises ComparisonError where a run would reach out of the graph.

  Args:
    graph: a Graph.
    names: of the nodes that would run; the functions they call count too.
    is_allowed: whether the user trusts the graph.
  """
  said = None if is_allowed else _unsafe_op(graph, names)
  if said is not None:
    raise ComparisonError(
      "run the graph",
      said,
      ALLOW,
    )


def unsafe_op(graph, outputs, initializers):
  """Says which op keeps a graph of the user's from being run, or None.

  Files that fill lookup tables are part of a model.

  Args:
    graph: a Graph.
    outputs: TensorRefs that a run would give.
    initializers: nodes that are run before.
  """
  names = graph.ancestors([ref.node for ref in outputs] + list(initializers))
  return _unsafe_op(
    graph, [n for n in names if graph.op(n) not in ops.TABLE_INITIALIZERS]
  )


def _unsafe_op(graph, names):
  """Says which op of some nodes reaches out of the graph, or None."""
  nodes = [graph.node(name) for name in names]
  bodies = (f.node_def for f in called_functions(graph, nodes))
  for node in itertools.chain(nodes, *bodies):
    what = ops.reaches(node)
    if what is not None:
      return f"'{node.name}' is a {node.op} and reaches {what}"
  return None


def unsafe_model(model):
  """Says which op keeps a Model from being run, or None; see `unsafe_op`."""
  if model.is_trusted:
    return None
  return unsafe_op(model.graph, model.outputs, model.initializers)
