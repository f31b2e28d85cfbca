# SPDX-License-Identifier: Apache-2.0
"""Norms that share variables, in other towers or called on other inputs.

Often only one of them has updates.
"""

from __future__ import annotations

from bnexport.batchnorm.forms import op_form
from bnexport.graph import TensorRef, ops
from bnexport.graph.variables import variable_of

# From a statistic over the inverse stddev, the scale and the offset to y.
_REACH = 4


class SharedNorms:
  """The averages that norms have by the variables they share."""

  def __init__(self, graph, averages):
    self._graph = graph
    self._averages = averages
    self._known = {}

  def of(self, ref):
    """Averages of the same statistic in norms that share variables.

    Args:
      ref: a norm's mean or variance of the batch.
    """
    form = op_form(self._graph.op(ref.node))
    return self._of_formula(ref) if form is None else self._of_op(form, ref)

  def _of_formula(self, ref):
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

  def _of_op(self, form, ref):
    own = self._parameters(ref.node)
    others = {
      a.statistic.node
      for a in self._averages.all
      if op_form(self._graph.op(a.statistic.node)) is form
      and a.statistic.node != ref.node
      and own & self._parameters(a.statistic.node)
    }
    return [
      a
      for other in sorted(others)
      for a in self._averages.of(TensorRef(other, ref.index))
    ]

  def _parameters(self, name):
    """Variables that are a norm's scale and offset."""
    form = op_form(self._graph.op(name))
    refs = form.parameters(self._graph, name)
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
