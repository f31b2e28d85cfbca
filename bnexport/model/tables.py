# SPDX-License-Identifier: Apache-2.0
"""Lookup tables and the initializers that fill them."""

from __future__ import annotations

from typing import Iterable

from bnexport.errors import SourceError, nearest
from bnexport.graph import Graph, ops
from bnexport.model.model import Model


def keep_initializers(model: Model, names: Iterable[str]) -> None:
  """Keeps the initializers of the outputs' tables, and nodes that a user names.

  Args:
    model: gets its `initializers` set.
    names: nodes to keep besides.

  Raises:
    SourceError: a name is not in the graph.
  """
  graph = model.graph
  kept = []
  for name in names:
    if name not in graph:
      raise SourceError(
        f"find --initializer_nodes '{name}'",
        "the graph has no such node",
        nearest(name, graph.names()),
      )
    kept.append(name)
  # The training graph, too, runs the nodes that an output only waits for.
  needed = model.needed(control=True)
  for node in graph:
    if node.op in ops.TABLE_INITIALIZERS and any(
      ref.node in needed for ref in graph.data_inputs(node.name)[:1]
    ):
      kept.append(node.name)
  model.initializers = tuple(dict.fromkeys(kept))
  if kept:
    model.warnings.append(
      "run %s once after importing the graph: it fills lookup tables"
      % ", ".join(f"'{name}'" for name in model.initializers)
    )


def refuse_mutable(
  graph: Graph, names: Iterable[str], what: str, step: str
) -> None:
  """Raises SourceError where one of the nodes is a mutable lookup table.

  Args:
    graph: a Graph.
    names: of its nodes.
    what: can't be done, for the message.
    step: what to do instead.
  """
  for name in names:
    op = graph.op(name)
    if op in ops.MUTABLE_TABLES:
      raise SourceError(
        f"{what} lookup table '{name}'",
        f"it is a {op}, whose entries are not in the graph",
        step,
      )
