"""Lookup tables stay with what fills them."""

from __future__ import annotations

from bnexport.errors import SourceError, nearest

_INITIALIZERS = (
  "InitializeTable",
  "InitializeTableV2",
  "InitializeTableFromTextFile",
  "InitializeTableFromTextFileV2",
  "LookupTableImport",
  "LookupTableImportV2",
)


def keep_initializers(model, names):
  """Keeps what fills the tables of the outputs, and what a user names.

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
        "cannot find --initializer_nodes '%s': the graph has "
        "no such node%s" % (name, nearest(name, graph.names()))
      )
    kept.append(name)
  needed = model.needed()
  for node in graph:
    if node.op in _INITIALIZERS and any(
      ref.node in needed for ref in graph.data_inputs(node.name)[:1]
    ):
      kept.append(node.name)
  model.initializers = tuple(dict.fromkeys(kept))
  if kept:
    model.warnings.append(
      "run %s once after importing the graph: it fills lookup tables"
      % ", ".join("'%s'" % name for name in model.initializers)
    )
