# SPDX-License-Identifier: Apache-2.0
"""The tensors that updates look at, with no form of norm in mind."""

from __future__ import annotations

import dataclasses
from typing import Collection, Dict, List

from bnexport.analysis.dependence import FREE
from bnexport.analysis.flow import Flow
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import static_shape
from bnexport.graph.variables import variable_of


@dataclasses.dataclass
class Tracked:
  """The statistics that a training graph keeps, as an export sees them.

  Attributes:
    tensors: tensors of the export that an update is made from, those nearest
      to it, and the variable that is updated.
    unread: variables that are updated from the batch and have no part in the
      export. One number is none of these: averages of a loss are kept so.
  """

  tensors: Dict[TensorRef, str] = dataclasses.field(default_factory=dict)
  unread: List[str] = dataclasses.field(default_factory=list)


def tracked(training: Graph, export: Graph, known: Collection[str]) -> Tracked:
  """The tensors that updates look at, except by gradients.

  Args:
    training: a Graph with updates of variables.
    export: a Graph with nodes of the same names.
    known: variables that the export has read.
  """
  flow, seen, found = Flow(training), set(), Tracked()
  of_data = _of_data(training, flow.order)
  for node in training:
    if node.op not in ops.UPDATES or node.name in flow.derived:
      continue
    handle, *stack = training.data_inputs(node.name)
    variable = variable_of(training, handle)
    if variable is None:
      continue
    if (
      variable not in known
      and variable not in export
      and static_shape(training, TensorRef(variable)) != ()
      and any(flow.dependence(ref) != FREE for ref in stack)
      and any(ref.node in of_data for ref in stack)
    ):
      found.unread.append(variable)
    while stack:
      ref = stack.pop()
      if ref in seen:
        continue
      seen.add(ref)
      if ref.node in export and export.op(ref.node) != "Const":
        found.tensors[ref] = variable
      elif training.op(ref.node) not in ops.VARIABLES:
        stack.extend(training.data_inputs(ref.node))
  return found


def _of_data(graph, order):
  """Names of nodes that depend on what is fed, not just on random numbers."""
  found, before = set(), None
  while before != len(found):  # once more for each loop around a loop
    before = len(found)
    for name in order:
      if ops.is_data_source(graph.op(name)) or any(
        ref.node in found for ref in graph.data_inputs(name)
      ):
        found.add(name)
  return found
