# SPDX-License-Identifier: Apache-2.0
"""One pass over data: moments of what a graph computes of it."""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np

from bnexport.calibration.data import CalibrationData, Input
from bnexport.calibration.moments import Moments
from bnexport.graph import TensorRef

# Axes that are not reduced, by the tensor.
Kept = Mapping[TensorRef, Tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Pass:
  """The work of one pass over the data; it can be pickled.

  Attributes:
    data: a CalibrationData.
    inputs: what the graph's inputs take, by name.
    settled: statistics that are fed with each batch, by name.
    kept: for each group of norms, what is taken of its tensors.
  """

  data: CalibrationData
  inputs: Dict[str, Input]
  settled: Dict[str, np.ndarray]
  kept: Sequence[Kept]

  def gather(self, runner, files=None) -> List[Moments]:
    """The Moments of each group.

    Args:
      runner: a Run of the graph.
      files: of the data, those to read; None for all.

    Raises:
      ComparisonError: the graph does not run.
    """
    gathered = [Moments() for _ in self.kept]
    tensors = list(dict.fromkeys(x for kept in self.kept for x in kept))
    for feeds in self.data.feeds(self.inputs, files) if tensors else ():
      fetched = runner.fetch(tensors, dict(self.settled, **feeds))
      values = dict(zip(tensors, fetched))
      for moments, kept in zip(gathered, self.kept):
        moments.merge(moments_of(kept, values))
    return gathered


def moments_of(kept: Kept, values) -> Moments:
  """The Moments of one batch, all tensors of a group together."""
  moments = Moments()
  for x, axes in kept.items():
    moments.add(values[x], axes)
  return moments
