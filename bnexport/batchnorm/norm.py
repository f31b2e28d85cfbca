# SPDX-License-Identifier: Apache-2.0
"""Batch norms of a graph in one normal form, however they are written."""

from __future__ import annotations

import dataclasses
from typing import Optional

from bnexport.batchnorm.form import Form
from bnexport.graph import TensorRef

STORED = "stored"
BATCH = "batch"
UNKNOWN = "unknown"
# A phase chooses between the stored ones and the batch's.
SWITCHED = "switched"


@dataclasses.dataclass(frozen=True)
class BatchNorm:
  """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta

  Attributes:
    form: how it is written, one of `forms.FORMS`.
    name: the node that normalises.
    x: the tensor that is normalised, or None where it is not told.
    mean: the tensor used now.
    variance: the tensor used now.
    epsilon: what is added to the variance.
    statistics: where mean and variance come from: STORED, BATCH or UNKNOWN;
      also SWITCHED, where `norms.batch_norms` tells it.
    moving_mean: name of the stored mean, or None.
    moving_variance: name of the stored variance, or None.
  """

  form: Form
  name: str
  x: Optional[TensorRef]
  mean: Optional[TensorRef]
  variance: TensorRef
  epsilon: float
  statistics: str
  moving_mean: Optional[str]
  moving_variance: Optional[str]
