# SPDX-License-Identifier: Apache-2.0
"""Nothing waits for what it does not read."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
from bnexport.graph.variables import is_reference, variable_of
from bnexport.model import Model
from bnexport.transforms.inference.remove_side_effects import RemoveSideEffects


@dataclasses.dataclass(frozen=True)
class RemoveControlDependencies:
  """Drops control inputs, of functions' nodes as well.

  What nobody waits for any more, such as an Assert, stays in the graph until
  strip_unused_nodes. These control inputs stay: what places a node without
  data inputs in a branch of a conditional or in a loop, since it would run
  always without it; and those of a NoOp, which is nothing but what it waits
  for.

  Before: a = Assert(c, x)   y = Relu(x, ^a)
  After:  y = Relu(x)   a = Assert(c, x)

  Refuses where an output needs a variable to be read after its update.
  """

  name: ClassVar[str] = "remove_control_dependencies"

  def apply(self, model: Model) -> List[str]:
    _refuse_ordered_reads(model)
    graph = model.graph
    everything = tuple(
      TensorRef(node.name) for node in graph if node.op != "NoOp"
    )
    # As if each node was asked for by itself.
    whole = dataclasses.replace(model, outputs=everything)
    told = RemoveSideEffects().apply(whole)
    dropped = sum(_drop(f.node_def) for f in graph.library.values())
    if dropped:
      told = told + [f"dropped {dropped} control inputs in functions"]
    return told


def _refuse_ordered_reads(model):
  graph = model.graph
  for name in model.needed():
    waits = graph.control_inputs(name)
    if not waits or graph.op(name) not in ("Identity", "ReadVariableOp"):
      continue
    data = graph.data_inputs(name)[0]
    variable = variable_of(graph, data)
    if variable is None or not is_reference(graph, data):
      continue
    for update in graph.ancestors(ref.node for ref in waits):
      if (
        graph.op(update) in ops.UPDATES
        and variable_of(graph, graph.inputs(update)[0]) == variable
      ):
        raise TransformError(
          f"remove the control inputs of node '{name}'",
          f"it reads variable '{variable}' after its update '{update}'",
          "run use_written_values first",
        )


def _drop(nodes):
  """Drops control inputs in a function's body; returns how many."""
  dropped = 0
  for node in nodes:
    data = [text for text in node.input if not text.startswith("^")]
    if node.op != "NoOp" and data and len(data) < len(node.input):
      dropped += len(node.input) - len(data)
      node.input[:] = data
  return dropped
