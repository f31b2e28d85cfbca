# SPDX-License-Identifier: Apache-2.0
"""Parts of a graph that the TensorFlow of --target_tf lacks."""

from __future__ import annotations

from bnexport.graph import op_history
from bnexport.graph.nodes import called_functions


def newer_parts(subject):
  """Lists of op_history.Newer by (op, attribute); empty without a target."""
  found = {}
  if subject.target_tf is not None and subject.graph is not None:
    for newer in _newer(subject):
      found.setdefault((newer.op, newer.attribute), []).append(newer)
  return found


def _newer(subject):
  """Of all nodes of a frozen file, or of those that the outputs need."""
  graph, version = subject.graph, subject.target_tf
  nodes = [
    node for node in graph if subject.is_frozen or subject.is_needed(node.name)
  ]
  paths = [(node.name, node) for node in nodes]
  for function in called_functions(graph, nodes):
    within = function.signature.name + "/"
    paths += [(within + inner.name, inner) for inner in function.node_def]
  for path, node in paths:
    if node.op not in graph.library:
      newer = op_history.newer_in_node(node, version)
      yield from (found._replace(node=path) for found in newer)
