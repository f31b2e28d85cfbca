# SPDX-License-Identifier: Apache-2.0
"""Nodes of a graph and of its functions, for what concerns them alike."""

from __future__ import annotations


def every_node(graph):
  """Yields all nodes: the graph's, and those in the bodies of functions.

  Yields:
    The NodeDef, and `NODE` or `NODE of function FUNCTION` for messages.
  """
  for node in graph:
    yield node, f"'{node.name}'"
  for name, function in graph.library.items():
    for node in function.node_def:
      yield node, f"'{node.name}' of function '{name}'"
