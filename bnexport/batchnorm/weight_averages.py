# SPDX-License-Identifier: Apache-2.0
"""Variables that are moving averages of other variables.

Found by what updates compute: where the weight stays the same, repeating the
update leads to the weight. So it goes for ExponentialMovingAverage, for
averages written by hand and for running means. A copy is no average: its
update does not read what was there.
"""

from __future__ import annotations

from typing import Dict, List

from bnexport.analysis.dependence import Dependence
from bnexport.analysis.flow import is_product
from bnexport.batchnorm.fixed_points import KNOWN, Reader
from bnexport.batchnorm.forms import NORM_OPS
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.variables import variable_of

# An average of a weight is computed by these, from rates that may be fed.
_ARITHMETIC = KNOWN - NORM_OPS - ops.UPDATES - {"Mean", "Sum"}
_FREE = ops.PLACEHOLDERS | {"Const"}
# Values that a weight is tried with.
_PROBES = (0.7, 2.3)
_SAME = 1e-6
# So many nodes of an update are looked at; that of an average is short.
_MOST_NODES = 100


def weight_averages(graph: Graph) -> Dict[str, List[str]]:
  """Variables that average a variable, by its name, in the graph's order."""
  found: Dict[str, List[str]] = {}
  for node in graph:
    if node.op not in ops.UPDATES:
      continue
    average = variable_of(graph, graph.inputs(node.name)[0])
    if average is None:
      continue
    read = _variables_read(graph, node.name)
    if node.op in ops.ASSIGN and average not in read:
      continue
    for weight in read:
      averages = found.setdefault(weight, [])
      if (
        weight != average
        and average not in averages
        and _settles_at(graph, average, node.name, weight)
      ):
        averages.append(average)
  return {weight: averages for weight, averages in found.items() if averages}


def _variables_read(graph, update):
  """Variables that an update's value is computed from.

  Empty where anything else has a part in it, such as data or a gradient.
  """
  stack, seen, found = [graph.data_inputs(update)[1]], set(), []
  for ref in stack:
    if ref.node in seen:
      continue
    seen.add(ref.node)
    op = graph.op(ref.node)
    if op in ops.VARIABLES:
      found.append(ref.node)
    elif op in ops.SWITCHES:
      stack += graph.data_inputs(ref.node)[:1]
    elif op in _ARITHMETIC:
      stack += graph.data_inputs(ref.node)
    elif op not in _FREE:
      return []
    if len(seen) > _MOST_NODES:
      return []
  return found


def _settles_at(graph, average, update, weight):
  """Whether the fixed point of an update is the weight."""
  order = graph.topological(graph.ancestors([update], control=False))
  dependence = Dependence(graph, order)
  for probe in _PROBES:
    given = {TensorRef(weight): probe}
    reader = Reader(graph, dependence, {}, given, None, set())
    value = reader.fixed_point(average, update)
    if value is None or abs(value - probe) > _SAME * probe:
      return False
  return True


def is_used(graph: Graph, variable: str) -> bool:
  """Whether anything but writes and Savers uses a variable's value.

  Such as a target network, whose weights follow those of another network.
  """
  stack, seen = [variable], {variable}
  while stack:
    for reader in graph.readers(stack.pop()):
      node = graph.node(reader)
      if reader in seen or node.op in ops.SAVES:
        continue
      seen.add(reader)
      if is_product(node.op):
        return True
      if node.op not in ops.UPDATES:
        stack.append(reader)
  return False
