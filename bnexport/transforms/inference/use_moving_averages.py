# SPDX-License-Identifier: Apache-2.0
"""Weights take the values of their moving averages."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List, Optional

from bnexport.batchnorm.weight_averages import (
  is_used,
  weight_averages,
)
from bnexport.errors import TransformError
from bnexport.graph import Graph, ops
from bnexport.model import Model
from bnexport.model.checkpoint import Values
from bnexport.model.savers import Saved

# What tf.train.ExponentialMovingAverage calls its averages.
_NAME = "ExponentialMovingAverage"


@dataclasses.dataclass(frozen=True)
class UseMovingAverages:
  """Reads each variable from its moving average, where there is one.

  That is the variable whose update settles at the weight; where the graph has
  no such update, the checkpoint's key `NAME/ExponentialMovingAverage`. Of
  several averages it is the one that no other part of the graph uses: a target
  network is one, too. The moving statistics of norms follow the batch, not a
  variable, and are none.

  Before: v = VariableV2()   y = Relu(v)
  After:  v = Const() {value=<float 2>}   y = Relu(v)

  That is once v is frozen, where the checkpoint has 1 for v and 2 for
  v/ExponentialMovingAverage.

  Refuses when no variable has an average, and when one has several and
  `average` does not tell which.

  Attributes:
    average: how the name of the average ends that is meant, or a part of it.
  """

  name: ClassVar[str] = "use_moving_averages"
  average: str = ""

  def apply(self, model: Model) -> List[str]:
    used = 0
    if model.values is not None:
      used = self._use(model.graph, model.values)
    if not used:
      named = f" called '{self.average}'" if self.average else ""
      raise TransformError(
        "use moving averages",
        f"no weight has one{named} in the graph or in the checkpoint",
        "leave --average_name out"
        if self.average
        else "leave --moving_averages out",
      )
    return [f"{used} variables have the values of their moving averages"]

  def _use(self, graph: Graph, values: Values) -> int:
    """Takes values from averages where there are some; returns how many."""
    averages, used = self._meant(graph), 0
    # All of them: which moving statistics are needed is not known yet.
    for name in graph.names():
      if graph.op(name) not in ops.VARIABLES:
        continue
      chosen = self._chosen(name, averages.get(name, []))
      saved = self._key(values, name) if chosen is None else values.find(chosen)
      if saved is not None:
        values.prefer(name, saved)
        used += 1
    return used

  def _meant(self, graph):
    """The averages of each variable, less those that are not meant."""
    found = weight_averages(graph)
    if self.average:
      return {
        weight: [n for n in names if self.average in n]
        for weight, names in found.items()
      }
    kept = {
      weight: [n for n in names if not is_used(graph, n)]
      for weight, names in found.items()
    }
    return kept if any(kept.values()) else found

  def _chosen(self, weight, averages) -> Optional[str]:
    """The one of a weight's averages that is meant; None for none."""
    ends = [name for name in averages if name.endswith(self.average)]
    averages = ends or averages
    if len(averages) > 1:
      one, other = averages[:2]
      raise TransformError(
        "use moving averages",
        f"'{one}' and '{other}' both average '{weight}'",
        "pass --average_name=TEXT, how the name of the one that is meant ends",
      )
    return averages[0] if averages else None

  def _key(self, values, name) -> Optional[Saved]:
    """The key of an average that nothing in the graph updates."""
    end = "/" + (self.average or _NAME)
    own = values.find(name)
    return values.find(name + end) or (own and values.find(own.key + end))


def use_swapped(model: Model) -> List[str]:
  """Reads weights as a Saver means it that swaps them with their averages.

  Such a Saver, as of tf.contrib.opt.MovingAverageOptimizer, keeps the average
  under the weight's name and the weight under the average's, so that whoever
  builds the model for evaluation restores the averages.

  Returns:
    What was done, a line or none.
  """
  values = model.values
  if values is None:
    return []
  swapped = []
  for weight, averages in weight_averages(model.graph).items():
    own = values.find(weight)
    for average in averages:
      other = values.find(average)
      if (
        own is not None
        and other is not None
        and own.key == _named(values, average)
        and other.key == _named(values, weight)
      ):
        swapped.append((weight, other))
  for weight, saved in swapped:
    values.prefer(weight, saved)
  if not swapped:
    return []
  return [
    f"the Saver swaps {len(swapped)} variables with their moving averages: "
    "those have the variables' names, and are used"
  ]


def _named(values, variable):
  """The key that a variable has where no Saver renames it."""
  return values.shared_name(variable) or variable
