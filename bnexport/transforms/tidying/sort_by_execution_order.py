# SPDX-License-Identifier: Apache-2.0
"""Nodes stand in the order in which they run."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.model import Model


@dataclasses.dataclass(frozen=True)
class SortByExecutionOrder:
  """Has the graph written with every node behind its inputs.

  Every graph is written so; this is here since scripts ask for it. Loops are
  entered at their Merge.

  Before: y = Relu(z)   z = Neg(x)
  After:  z = Neg(x)   y = Relu(z)

  Refuses a graph with a cycle that no NextIteration closes.
  """

  name: ClassVar[str] = "sort_by_execution_order"

  def apply(self, model: Model) -> List[str]:
    model.graph.topological()
    return []
