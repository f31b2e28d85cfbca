# SPDX-License-Identifier: Apache-2.0
"""FakeQuant ops quantize to the ranges that training stored."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List, Optional

from bnexport.batchnorm.stored import Stored
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.graph.origins import HANDOVERS, VIEWS, origin_of, viewed
from bnexport.graph.variables import read, variable_dtype, variable_of
from bnexport.model import Model

# Where a FakeQuant op reads the ends of its range.
_ENDS = (1, 2)


@dataclasses.dataclass(frozen=True)
class UseStoredRanges:
  """Lets FakeQuant ops read the variables that their ranges are kept in.

  While training, the ends of a range come from the update that stores them:
  an average over batches, or the last batch's. At inference nothing is
  updated, and the range is the one that is stored. That is what
  tf.contrib.quantize.create_eval_graph builds.

  Before: mn = VariableV2()   mx = VariableV2()   hi = Placeholder()
          a = Assign(mn, lo)  b = Assign(mx, hi)  lo = Placeholder()
          y = FakeQuantWithMinMaxVars(x, a, b)
  After:  mn = VariableV2()   mn/read = Identity(mn)
          mx = VariableV2()   mx/read = Identity(mx)
          y = FakeQuantWithMinMaxVars(x, mn/read, mx/read)

  Run first: decide, which takes the FakeQuant ops out of conditionals.
  """

  name: ClassVar[str] = "use_stored_ranges"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    ranges = {}
    for name in model.needed():
      if graph.op(name) in ops.FAKE_QUANTS:
        written = [
          _written_variable(graph, graph.inputs(name)[slot]) for slot in _ENDS
        ]
        if any(written):
          ranges[name] = written
    if not ranges:
      return []
    contexts = Contexts(graph, graph.topological(model.needed()))
    for name, written in ranges.items():
      for slot, variable in zip(_ENDS, written):
        if variable is not None:
          model.decisions.stored[graph.inputs(name)[slot]] = Stored(variable)
          dtype = variable_dtype(graph, variable)
          stored = contexts.carry(
            read(graph, variable), dtype, contexts.frame(name)
          )
          graph.set_input(name, slot, stored)
    return [
      f"'{name}' quantizes to the range stored in "
      + " and ".join(f"'{variable}'" for variable in written if variable)
      for name, written in ranges.items()
    ]


def _written_variable(graph: Graph, ref: TensorRef) -> Optional[str]:
  """The variable whose update gives a tensor, or is waited for by its read."""
  origin = origin_of(graph, ref, VIEWS)
  if graph.op(origin.node) in ops.UPDATES:
    return variable_of(graph, graph.inputs(origin.node)[0])
  is_late = any(
    graph.control_inputs(view.node) for view in viewed(graph, ref, HANDOVERS)
  )
  return variable_of(graph, ref) if is_late else None
