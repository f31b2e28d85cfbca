"""Only what the outputs need is left."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from bnexport.nodes import functions_of


@dataclasses.dataclass(frozen=True)
class StripUnusedNodes:
  """Removes nodes and functions that no output needs.

  Before: y = Relu(x)   z = Neg(x)
  After:  y = Relu(x)
  """

  name: ClassVar[str] = "strip_unused_nodes"

  def apply(self, model):
    graph = model.graph
    roots = [ref.node for ref in model.outputs] + list(model.initializers)
    gone = graph.keep(graph.ancestors(roots))
    called, stack = set(), list(graph)
    while stack:
      for name in functions_of(stack.pop()):
        if name in graph.library and name not in called:
          called.add(name)
          stack.extend(graph.library[name].node_def)
    graph.library = {
      name: f for name, f in graph.library.items() if name in called
    }
    return ["cut %d nodes that the outputs do not need" % gone] if gone else []
