# SPDX-License-Identifier: Apache-2.0
"""Looking into functions: a graph whose calls are plain nodes."""

from __future__ import annotations

from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures, functions_of
from bnexport.model import Model
from bnexport.transforms.inference.inline_functions import InlineFunctions


def inlined(graph: Graph, signatures: Signatures, leaving=()):
  """A copy without function calls, or the graph where it has none.

  Args:
    graph: stays as it is.
    signatures: OpDefs for the bodies' ops.
    leaving: names of nodes whose calls may stay.

  Returns:
    A Graph. It is `graph` also where a function can't be inlined: it calls
    itself, or holds ops that nobody knows.
  """
  if not graph.library:
    return graph
  calls = [
    TensorRef(node.name)
    for node in graph
    if node.name not in leaving
    and any(name in graph.library for name in functions_of(node))
  ]
  if not calls:
    return graph
  copy = graph.clone()
  model = Model(
    graph=copy,
    values=None,
    inputs=(),
    outputs=tuple(calls),
    origin="",
    signatures=signatures,
  )
  try:
    InlineFunctions().apply(model)
  except GraphError:
    return graph
  return copy
