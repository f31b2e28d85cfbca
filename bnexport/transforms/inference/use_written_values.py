# SPDX-License-Identifier: Apache-2.0
"""Updates whose value is needed become the value they would have written."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.graph import ops
from bnexport.graph.nodes import type_attr
from bnexport.graph.variables import (
  is_reference,
  read,
  variable_dtype,
  variable_of,
)
from bnexport.model import Model


@dataclasses.dataclass(frozen=True)
class UseWrittenValues:
  """Replaces updates on the way to the outputs by what they would write.

  A read that waits for an update of its variable counts as the update's
  value. Moving averages of batch statistics stay as they are stored. Updates
  that only run beside the outputs have no part in the answer.

  Before: v = VariableV2()   u = AssignAdd(v, d)   y = Relu(u)
  After:  u = Add(v, d)   y = Relu(u)

  Run first: use_stored_statistics, which finds the moving averages.
  """

  name: ClassVar[str] = "use_written_values"

  def apply(self, model: Model) -> List[str]:
    return [_become_written(model, name) for name in _updated_reads(model)]


def _updated_reads(model):
  """Nodes that read what an update of the same run wrote, inputs first.

  An update's written value may itself need further updates, so the walk goes
  on behind each one it finds.
  """
  graph, found = model.graph, []
  seen = dict.fromkeys(model.needed())
  stack = list(seen)
  while stack:
    name = stack.pop()
    node = graph.node(name)
    update = name if node.op in ops.UPDATES else _awaited_update(graph, node)
    if update is not None:
      found.append(name)
      more = graph.ancestors([update], control=False)
      new = [n for n in more if n not in seen]
      seen.update(dict.fromkeys(new))
      stack.extend(new)
  return found


def _awaited_update(graph, node):
  """The update that a read waits for, of the variable it reads; or None."""
  data = graph.data_inputs(node.name)
  if node.op not in ("Identity", "ReadVariableOp") or len(data) != 1:
    return None
  if graph.op(data[0].node) in ops.RESOURCE_READS:
    return None
  waits = [ref.node for ref in graph.control_inputs(node.name)]
  variable = variable_of(graph, data[0]) if waits else None
  if variable is None or not is_reference(graph, data[0]):
    return None
  for name in waits:
    op = graph.op(name)
    if op == "NoOp" or op in ops.IDENTITIES:
      waits.extend(
        ref.node for ref in graph.inputs(name) if ref.node not in waits
      )
    elif (
      op in ops.UPDATES
      and variable_of(graph, graph.inputs(name)[0]) == variable
    ):
      return name
  return None


def _become_written(model, name):
  """Turns an update, or a read that waits for one, into what is written."""
  graph = model.graph
  node = graph.node(name)
  update = name if node.op in ops.UPDATES else _awaited_update(graph, node)
  op = graph.op(update)
  before, value = graph.data_inputs(update)[:2]
  variable = variable_of(graph, before)
  dtype = variable_dtype(graph, variable)
  if variable in model.decisions.averages:
    become, inputs = "Identity", [_value(graph, before)]
  elif op in ops.ASSIGN:
    become, inputs = "Identity", [value]
  else:
    become = "Sub" if op in ops.ASSIGN_SUB else "Add"
    inputs = [_value(graph, before), value]
  inputs += graph.control_inputs(name)
  graph.become(name, become, inputs, {"T": type_attr(dtype)})
  if variable in model.decisions.averages:
    return f"'{name}' is the stored average '{variable}'"
  return f"'{name}' is the value that the update of '{variable}' would write"


def _value(graph, ref):
  """A reference as it is; a handle's value where one is needed."""
  if graph.op(ref.node) == "VarHandleOp":
    return read(graph, ref.node)
  return ref
