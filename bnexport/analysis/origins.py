# SPDX-License-Identifier: Apache-2.0
"""The node that a tensor is a view of."""

from __future__ import annotations

from bnexport.graph import ops

# What a statistic goes through between where it is made and where it is used.
_VIEWS = ops.CARRIERS | ops.RESHAPES | {"Cast"}


def stored_name(graph, ref):
  """Name of the variable or constant whose value a tensor is, or None."""
  while ref is not None:
    op = graph.op(ref.node)
    if op in ops.VARIABLES or op == "Const":
      return ref.node
    if op not in _VIEWS and op not in ops.RESOURCE_READS:
      return None
    ref = graph.inputs(ref.node)[0]
  return None


def is_chosen(graph, ref):
  """Whether a tensor is what a conditional hands out."""
  seen = set()
  while ref.node not in seen:
    seen.add(ref.node)
    op = graph.op(ref.node)
    if op in ops.MERGES or op in ("Select", "SelectV2"):
      return True
    if op not in _VIEWS:
      return False
    ref = graph.inputs(ref.node)[0]
  return False


def parameter_of(graph, ref):
  """The tensor that a norm's parameter is a view of."""
  while graph.op(ref.node) in _VIEWS:
    ref = graph.inputs(ref.node)[0]
  return ref
