# SPDX-License-Identifier: Apache-2.0
"""Weights take the values of their moving averages."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.errors import TransformError
from bnexport.graph import Graph, ops
from bnexport.graph.variables import variable_of
from bnexport.model import Model
from bnexport.model.checkpoint import Values

_SHADOW = "/ExponentialMovingAverage"


@dataclasses.dataclass(frozen=True)
class UseMovingAverages:
  """Reads each variable from its shadow, where there is one.

  A shadow is the variable that ExponentialMovingAverage.apply updates from
  the weight; where the graph has no such update, the checkpoint's key
  `NAME/ExponentialMovingAverage`. The moving statistics of norms follow the
  batch, not a variable, and are no shadows.

  Before: v = VariableV2()   y = Relu(v)
  After:  v = Const() {value=<float 2>}   y = Relu(v)

  That is once v is frozen, where the checkpoint has 1 for v and 2 for
  v/ExponentialMovingAverage.

  Refuses when no variable has a shadow.
  """

  name: ClassVar[str] = "use_moving_averages"

  def apply(self, model: Model) -> List[str]:
    used = 0 if model.values is None else _use(model.graph, model.values)
    if not used:
      raise TransformError(
        "use moving averages",
        "no weight has one in the graph or in the checkpoint",
        "leave --moving_averages out",
      )
    return [f"{used} variables have the values of their moving averages"]


def _use(graph: Graph, values: Values) -> int:
  """Takes values from shadows where there are some; returns how many."""
  shadows, used = _shadows(graph), 0
  # All of them: which moving statistics are needed is not known yet.
  for name in graph.names():
    if graph.op(name) not in ops.VARIABLES:
      continue
    saved = values.find(shadows.get(name, name + _SHADOW))
    own = values.find(name) if saved is None else None
    if own is not None:
      saved = values.find(own.key + _SHADOW)
    if saved is not None:
      values.prefer(name, saved)
      used += 1
  return used


def _shadows(graph):
  """Shadow variables by the variable that they average."""
  found = {}
  for node in graph:
    if node.op not in ops.ASSIGN_SUB:
      continue
    shadow_ref, delta = graph.data_inputs(node.name)
    shadow = variable_of(graph, shadow_ref)
    for source in _averaged(graph, shadow, delta):
      found.setdefault(source, shadow)
  return found


def _averaged(graph, shadow, delta):
  """Variables v in `shadow -= (shadow - v) * (1 - decay)`."""
  if graph.op(delta.node) != "Mul":
    return
  for factor in graph.data_inputs(delta.node):
    if graph.op(factor.node) != "Sub":
      continue
    a, b = (variable_of(graph, r) for r in graph.data_inputs(factor.node))
    if a == shadow and b is not None and b != shadow:
      yield b
