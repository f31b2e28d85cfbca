# SPDX-License-Identifier: Apache-2.0
"""Lookup tables that a SavedModel's files fill, made whole in the graph.

A frozen graph is one file: it can't have the vocabulary beside it.
"""

from __future__ import annotations

import numpy as np

from bnexport.errors import SourceError, first_line
from bnexport.graph import ops
from bnexport.graph.nodes import constant, type_attr
from bnexport.graph.variables import variable_of
from bnexport.tf1 import session, tf1

_FROM_FILE = "InitializeTableFromTextFileV2"


def hold_entries(graph, files):
  """Lets tables be filled from constants that files filled before.

  Args:
    graph: is edited.
    files: paths by the name of the tensor that TensorFlow feeds them to when
      it loads the SavedModel.

  Raises:
    SourceError: a file is missing, or is not what the table reads.
  """
  for node in graph:
    if is_held(graph, node.name, files):
      table, name = graph.data_inputs(node.name)
      _hold(graph, node, table, files[_source(graph, name)])


def is_held(graph, name, files):
  """Whether a node fills a table from one of a SavedModel's files."""
  if graph.op(name) != _FROM_FILE:
    return False
  table, path = graph.data_inputs(name)
  return graph.op(table.node) == "HashTableV2" and _source(graph, path) in files


def _source(graph, ref):
  """The tensor whose value a file's path is; TF 2 puts it into a variable."""
  for reader in graph.readers(variable_of(graph, ref) or ref.node):
    if graph.op(reader) in ops.ASSIGN:
      ref = graph.data_inputs(reader)[1]
  return f"{ref.node}:{ref.index}"


def _hold(graph, node, table, path):
  made = graph.node(table.node)
  dtypes = [made.attr[key].type for key in ("key_dtype", "value_dtype")]
  entries = _entries(node, made, dtypes, path)
  refs = [
    constant(graph, f"{node.name}/{label}", array, dtype)
    for label, array, dtype in zip(("keys", "values"), entries, dtypes)
  ]
  attrs = {"Tkey": type_attr(dtypes[0]), "Tval": type_attr(dtypes[1])}
  graph.become(node.name, "InitializeTableV2", [table] + refs, attrs)


def _entries(node, table, dtypes, path):
  """Keys and values of a file, sorted by key; TensorFlow reads it.

  Raises:
    SourceError: it can't.
  """
  part = tf1.GraphDef()
  filled, made = part.node.add(), part.node.add()
  filled.CopyFrom(node)
  made.CopyFrom(table)
  made.name, filled.name = "table", "fill"
  made.ClearField("input")
  filled.input[:] = ["table", "path"]
  named = part.node.add(name="path", op="Const")
  named.attr["dtype"].CopyFrom(type_attr(tf1.string))
  named.attr["value"].tensor.CopyFrom(tf1.make_tensor_proto(path))
  entries = part.node.add(name="entries", op="LookupTableExportV2")
  entries.input.append("table")
  for key, dtype in zip(("Tkeys", "Tvalues"), dtypes):
    entries.attr[key].CopyFrom(type_attr(dtype))
  graph = tf1.Graph()
  try:
    with graph.as_default():
      tf1.import_graph_def(part, name="")
    with session(graph) as running:
      running.run("fill")
      keys, values = running.run(["entries:0", "entries:1"])
  except (tf1.errors.OpError, ValueError) as error:
    raise SourceError(
      f"fill lookup table '{table.name}' from '{path}'",
      first_line(error),
      "copy the whole SavedModel again",
    ) from error
  order = np.argsort(keys, kind="stable")
  return keys[order], values[order]
