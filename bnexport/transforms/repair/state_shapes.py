# SPDX-License-Identifier: Apache-2.0
"""Shapes are written where the file states none."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.analysis.shapes import STATED, inferred
from bnexport.model import Model


@dataclasses.dataclass(frozen=True)
class StateShapes:
  """Gives nodes the `_output_shapes` that Saver writes into a metagraph.

  TensorFlow infers them when it imports the graph; nothing of it is run.
  Where it does not take the graph, or shapes are stated, nothing changes.

  Before: x = Placeholder() {shape=[?,3]}   y = Relu(x)
  After:  x = Placeholder() {shape=[?,3]}   y = Relu(x)
  """

  name: ClassVar[str] = "state_shapes"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    if any(STATED in node.attr for node in graph):
      return []
    shapes = inferred(graph, model.needed(control=True))
    if shapes is None:
      return []  # it can be looked at without
    for ref, shape in shapes.items():
      stated = graph.node(ref.node).attr[STATED].list
      stated.shape.add().CopyFrom(shape.as_proto())
    return []
