# SPDX-License-Identifier: Apache-2.0
"""Placeholders in the place of tensors: where a graph is cut, and fed."""

from __future__ import annotations

from typing import Dict, Iterable, Optional

from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures, output_dtypes, type_attr
from bnexport.tf1 import tf1


def placeholder_name(ref: TensorRef) -> str:
  """Name of the placeholder for a tensor: `a` for `a`, `a_1` for `a:1`."""
  return f"{ref.node}_{ref.index}" if ref.index else ref.node


def placeholder_attrs(
  dtype: int, shape: Optional[tf1.TensorShape] = None
) -> Dict[str, tf1.AttrValue]:
  """Attributes of a placeholder; of no shape where none is given."""
  attrs = {"dtype": type_attr(dtype)}
  if shape is not None:
    attrs["shape"] = tf1.AttrValue(shape=shape.as_proto())
  return attrs


def cut_dtype(graph: Graph, ref: TensorRef, signatures: Signatures) -> int:
  """DataType of a tensor; its readers tell it where its op is unknown.

  Raises:
    GraphError: nobody knows them either.
  """
  dtypes = output_dtypes(graph, ref.node, signatures)
  dtype = dtypes[ref.index] if dtypes is not None else None
  if dtype is None:
    readers = map(graph.node, graph.readers_of(ref))
    dtype = read_dtype(readers, ref, signatures)
  if not dtype:
    raise GraphError(
      f"cut at '{ref}'",
      f"TensorFlow knows neither its op '{graph.op(ref.node)}' nor one that "
      "reads it, so nothing tells its dtype",
      "cut behind it",
    )
  return dtype


def read_dtype(
  readers: Iterable[tf1.NodeDef], ref: TensorRef, signatures: Signatures
) -> Optional[int]:
  """DataType that nodes read a tensor as; None where no op of them is known."""
  for reader in readers:
    if reader.op in signatures:
      dtypes = signatures.input_dtypes(reader)
      refs = [TensorRef.parse(t) for t in reader.input if not t.startswith("^")]
      if len(dtypes) == len(refs):
        return dtypes[refs.index(ref)]
  return None
