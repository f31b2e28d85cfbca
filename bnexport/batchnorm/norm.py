# SPDX-License-Identifier: Apache-2.0
"""Batch norms of a graph in one normal form, however they are written."""

from __future__ import annotations

import dataclasses
from typing import Optional

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
