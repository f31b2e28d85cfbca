# SPDX-License-Identifier: Apache-2.0
"""Likeness of tensors: whether one can be read in the place of another."""

from __future__ import annotations

from typing import Optional, Tuple

from bnexport.editing.selection import output_dtypes
from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import static_shape
from bnexport.tf1 import tf1


def refuse_unlike(
  graph: Graph, old: TensorRef, new: TensorRef, of: Optional[Graph] = None
) -> None:
  """Raises GraphError where `new` can't be read in the place of `old`.

  Args:
    graph: the graph.
    old: a tensor of it, or of the graph `of`.
    new: a tensor of it.
    of: a Graph, or None.
  """
  if old.control != new.control:
    raise GraphError(
      f"put '{new}' in the place of '{old}'",
      "one is a tensor, one a control input",
      "give two of a kind",
    )
  dtypes = [dtype_of(graph if of is None else of, old), dtype_of(graph, new)]
  # The dtype that an incomplete node leaves out may be any.
  if all(dtypes) and dtypes[0] != dtypes[1]:
    was, now = (tf1.as_dtype(dtype).name for dtype in dtypes)
    raise GraphError(
      f"put '{new}' in the place of '{old}'",
      f"it is {now} and not {was}",
      "insert a Cast",
    )
  shapes = [static_shape(graph if of is None else of, old)]
  shapes.append(static_shape(graph, new))
  if not _may_be_the_same(*shapes):
    raise GraphError(
      f"put '{new}' in the place of '{old}'",
      f"its shape is stated as {shapes[1]} and not {shapes[0]}",
      "insert a Reshape, or drop the shapes with "
      "remove_attribute(attribute_name=_output_shapes)",
    )


def _may_be_the_same(
  shape: Optional[Tuple[int, ...]], other: Optional[Tuple[int, ...]]
) -> bool:
  """Tells whether one tensor may have both shapes, where sizes may be open."""
  if shape is None or other is None:
    return True
  return len(shape) == len(other) and all(
    a == b or min(a, b) < 0 for a, b in zip(shape, other)
  )


def dtype_of(graph: Graph, ref: TensorRef) -> Optional[int]:
  """DataType of a tensor; None where nothing tells it.

  Raises:
    GraphError: the node has no such output.
  """
  dtypes = output_dtypes(graph, ref.node)
  if dtypes is None or ref.control:
    return None
  if ref.index >= len(dtypes):
    raise GraphError(
      f"read '{ref}'",
      f"node '{ref.node}' ({graph.op(ref.node)}) has {len(dtypes)} outputs",
      "give one of them",
    )
  return dtypes[ref.index]
