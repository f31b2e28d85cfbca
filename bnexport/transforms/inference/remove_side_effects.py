# SPDX-License-Identifier: Apache-2.0
"""Nothing waits for what has no part in the answer."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.graph import TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.model import Model


@dataclasses.dataclass(frozen=True)
class RemoveSideEffects:
  """Drops control inputs that only order updates, checks and prints.

  A control input that places a node without data inputs in a branch of a
  conditional, or in a loop, stays: without it the node would run always.

  Before: a = Assert(c, x)   y = Relu(x, ^a)
  After:  y = Relu(x)
  """

  name: ClassVar[str] = "remove_side_effects"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    order = graph.topological(model.needed(control=True))
    contexts = Contexts(graph, order)
    seen = dict.fromkeys(model.needed())
    stack = list(seen)
    dropped = 0
    while stack:
      name = stack.pop()
      control = graph.control_inputs(name)
      data = graph.data_inputs(name)
      kept = [] if data else _pivots(graph, control, contexts)
      if control != kept:
        dropped += len(set(control) - set(kept))
        graph.set_inputs(name, data + kept)
      for ref in graph.inputs(name):
        if ref.node not in seen:
          seen[ref.node] = None
          stack.append(ref.node)
    if not dropped:
      return []
    return [
      f"dropped {dropped} control inputs that only order updates or checks"
    ]


def _pivots(graph, control, contexts):
  """The conditional nodes to wait for: never an update or a check itself."""
  pivots, stack, seen = [], list(control), set()
  for ref in stack:
    if ref in seen or not contexts.is_inside(ref):
      continue
    seen.add(ref)
    op = graph.op(ref.node)
    if op in ("NoOp", "Assert", "Print") or op in ops.UPDATES:
      for r in graph.inputs(ref.node):
        # A Switch itself is never dead; what reads one of its sides is.
        if graph.op(r.node) not in ops.SWITCHES:
          stack.append(TensorRef(r.node, 0, True))
    else:
      pivots.append(ref)
  return pivots
