"""Batch norms of a graph in one normal form, however they are written."""

from __future__ import annotations

import dataclasses
from typing import Optional

from bnexport import ops
from bnexport.graph import TensorRef

STORED = "stored"
BATCH = "batch"
UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class BatchNorm:
  """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta

  Attributes:
    form: "fused", "global" or "arithmetic".
    name: the node that normalises.
    x: the tensor that is normalised, or None where it is not told.
    mean: the tensor used now.
    variance: the tensor used now.
    epsilon: what is added to the variance.
    statistics: where mean and variance come from: STORED, BATCH or UNKNOWN.
    moving_mean: name of the stored mean, or None.
    moving_variance: name of the stored variance, or None.
  """

  form: str
  name: str
  x: Optional[TensorRef]
  mean: Optional[TensorRef]
  variance: TensorRef
  epsilon: float
  statistics: str
  moving_mean: Optional[str]
  moving_variance: Optional[str]


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
