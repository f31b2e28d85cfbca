# SPDX-License-Identifier: Apache-2.0
"""The same norm elsewhere: in another tower, or called on another input.

Twins use the same variables, and often only one of them has updates.
"""

from __future__ import annotations

from bnexport.graph import ops
from bnexport.graph.variables import variable_of

# From a statistic over the inverse stddev, the scale and the offset to y.
_REACH = 4


class Twins:
  """Finds the averages of norms that have none of their own."""

  def __init__(self, graph, averages):
    self._graph = graph
    self._averages = averages
    self._known = {}

  def of(self, ref):
    """Averages of the statistics that twins of a spelled out norm take."""
    signature = self._averages.signature(ref)
    own = signature and self._companions(ref)
    if not own:
      return []
    return [
      a
      for a in self._averages.all
      if a.signature is not None
      and a.signature[1:] == signature[1:]
      and own <= self._companions(a.statistic)
    ]

  def of_fused(self, node, which):
    """Averages of the "mean" or "variance" of a fused norm's twins."""
    own = self._parameters(node.name)
    twins = {
      a.statistic.node
      for a in self._averages.all
      if self._graph.op(a.statistic.node) in ops.FUSED_NORMS
      and a.statistic.node != node.name
      and own & self._parameters(a.statistic.node)
    }
    return [
      a
      for twin in sorted(twins)
      for a in self._averages.of_fused(self._graph.node(twin), which)
    ]

  def _parameters(self, name):
    """Variables that are a fused norm's scale and offset."""
    refs = self._graph.inputs(name)[1:3]
    return {variable_of(self._graph, ref) for ref in refs} - {None}

  def _companions(self, ref):
    """Variables that a norm combines with its statistic, such as gamma."""
    if ref in self._known:
      return self._known[ref]
    graph, found = self._graph, set()
    names, seen = [(ref.node, 0)], set()
    for name, depth in names:
      for reader in graph.readers(name):
        if reader in seen or graph.op(reader) in ops.UPDATES or depth > _REACH:
          continue
        seen.add(reader)
        names.append((reader, depth + 1))
        for other in graph.data_inputs(reader):
          variable = variable_of(graph, other)
          if variable and not self._averages.is_updated(variable):
            found.add(variable)
    self._known[ref] = found
    return found
