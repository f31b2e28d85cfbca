# SPDX-License-Identifier: Apache-2.0
"""Placeholders in the place of tensors: where a graph is cut, and fed."""

from __future__ import annotations

from typing import Dict, Optional

from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import Signatures, type_attr
from bnexport.tf1 import TensorShapeProto, tf1

# Up to this version of GraphDefs, a placeholder that states the shape of a
# scalar may have any shape: TensorFlow 1.1 wrote open shapes so.
_NO_OPEN_SHAPES = 21


def placeholder_name(ref: TensorRef) -> str:
  """Name of the placeholder for a tensor: `a` for `a`, `a_1` for `a:1`."""
  return f"{ref.node}_{ref.index}" if ref.index else ref.node


def placeholder_attrs(
  dtype: int, shape: Optional[TensorShapeProto] = None
) -> Dict[str, tf1.AttrValue]:
  """Attributes of a placeholder; of no shape where none is given."""
  attrs = {"dtype": type_attr(dtype)}
  if shape is not None:
    attrs["shape"] = tf1.AttrValue(shape=shape)
  return attrs


def cut_dtype(graph: Graph, ref: TensorRef, signatures: Signatures) -> int:
  """DataType of a tensor; its readers tell it where its op is unknown.

  Raises:
    GraphError: nobody knows them either.
  """
  dtype = signatures.dtype_of(graph, ref)
  if not dtype:
    raise GraphError(
      f"cut at '{ref}'",
      f"TensorFlow knows neither its op '{graph.op(ref.node)}' nor one that "
      "reads it, so nothing tells its dtype",
      "cut behind it",
    )
  return dtype


def state_open_shapes(graph: Graph) -> None:
  """Lets placeholders of old metagraphs state the shapes that they have.

  Beside a scalar's shape, `_output_shapes` holds the one that is meant.
  """
  if graph.versions.producer > _NO_OPEN_SHAPES:
    return
  for node in graph:
    if node.op in ops.PLACEHOLDERS and "_output_shapes" in node.attr:
      stated = node.attr["shape"].shape
      known = node.attr["_output_shapes"].list.shape
      if known and not stated.dim:
        stated.CopyFrom(known[0])
