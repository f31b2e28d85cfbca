# SPDX-License-Identifier: Apache-2.0
"""Values of variables that a session holds."""

from __future__ import annotations

from bnexport.errors import SourceError, first_line
from bnexport.graph import TensorRef
from bnexport.graph.ops import RESOURCE_READS, VARIABLES
from bnexport.tf1 import tf1


def read(graph, session):
  """Arrays by variable, of the variables that the session has initialized.

  Raises:
    SourceError: the session is one of another graph.
  """
  tensors = {}
  for node in graph:
    if node.op == "VarHandleOp":
      reads = [
        reader
        for reader in graph.readers_of(TensorRef(node.name))
        if graph.op(reader) in RESOURCE_READS
      ]
      # Nothing is added to the caller's graph to read the others.
      if reads:
        tensors[node.name] = reads[0] + ":0"
    elif node.op in VARIABLES:
      tensors[node.name] = node.name + ":0"
  try:
    return session.run(tensors)
  except (TypeError, ValueError) as error:
    raise SourceError(
      "read the variables from the session",
      first_line(error),
      "give a session of the graph",
    ) from error
  except tf1.errors.FailedPreconditionError:
    pass  # one of them is not initialized
  found = {}
  for name, tensor in tensors.items():
    try:
      found[name] = session.run(tensor)
    except tf1.errors.FailedPreconditionError:
      continue
  return found
