# SPDX-License-Identifier: Apache-2.0
"""Updates whose value is needed become the value they would have written."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List, NamedTuple

from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
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
    return [_become_written(model, write) for write in _writes(model)]


class _Write(NamedTuple):
  """A node that gives what an update of the same run wrote.

  Attributes:
    name: the update, or a read that waits for it.
    op: the update's.
    variable: node name.
    before: what the update starts from.
    value: what it adds, subtracts or assigns.
  """

  name: str
  op: str
  variable: str
  before: TensorRef
  value: TensorRef


def _writes(model):
  """What is read after an update of the same run, as a list of _Write.

  An update's written value may itself need further updates, so the walk goes
  on behind each one it finds. All are looked at before the first is edited.
  """
  graph, found = model.graph, []
  seen = dict.fromkeys(model.needed())
  stack = list(seen)
  while stack:
    name = stack.pop()
    node = graph.node(name)
    update = name if node.op in ops.UPDATES else _awaited(model, node)
    if update is not None:
      before, value = graph.data_inputs(update)[:2]
      variable = variable_of(graph, before)
      if variable is None:
        raise TransformError(
          f"use what '{update}' writes",
          f"it writes to '{before}', which is no variable",
          f"cut it away with --input_node={name}",
        )
      earlier = _last(model, update, variable)
      if earlier is not None:
        before = TensorRef(earlier)
      found.append(_Write(name, graph.op(update), variable, before, value))
      more = dict(graph.ancestors([update], control=False))
      if earlier is not None:
        more.update(graph.ancestors([earlier], control=False))
      new = [n for n in more if n not in seen]
      seen.update(dict.fromkeys(new))
      stack.extend(new)
  return found


def _awaited(model, node):
  """The update that a read waits for, of the variable it reads; or None."""
  graph = model.graph
  data = graph.data_inputs(node.name)
  if node.op not in ("Identity", "ReadVariableOp") or len(data) != 1:
    return None
  if graph.op(data[0].node) in ops.RESOURCE_READS:
    return None
  if not graph.control_inputs(node.name):
    return None
  variable = variable_of(graph, data[0])
  if variable is None or not is_reference(graph, data[0]):
    return None
  return _last(model, node.name, variable)


def _last(model, name, variable):
  """The last update of a variable that a node waits for, or None.

  Raises:
    TransformError: it waits for several, and nothing orders them.
  """
  graph = model.graph
  found = _waited_for(graph, name, variable)
  for update in list(found):
    for earlier in _waited_for(graph, update, variable):
      found.pop(earlier, None)
  if len(found) > 1 and variable not in model.decisions.averages:
    one, other = list(found)[:2]
    raise TransformError(
      f"tell what '{name}' reads",
      f"'{one}' and '{other}' both write '{variable}', in no order",
      "let one of them wait for the other where the model is built",
    )
  return next(iter(found), None)


def _waited_for(graph, name, variable):
  """Updates of a variable that a node waits for, as keys of a dict."""
  waits = [ref.node for ref in graph.control_inputs(name)]
  seen, found = set(waits), {}
  for wait in waits:
    op = graph.op(wait)
    if op == "NoOp" or op in ops.IDENTITIES:
      more = [r.node for r in graph.inputs(wait) if r.node not in seen]
      seen.update(more)
      waits.extend(more)
    elif (
      op in ops.UPDATES
      and variable_of(graph, graph.inputs(wait)[0]) == variable
    ):
      found[wait] = None
  return found


def _become_written(model, write):
  """Turns an update, or a read that waits for one, into what is written."""
  graph, name, variable = model.graph, write.name, write.variable
  dtype = variable_dtype(graph, variable)
  is_average = variable in model.decisions.averages
  if is_average:
    become, inputs = "Identity", [_value(graph, write.before)]
  elif write.op in ops.ASSIGN:
    become, inputs = "Identity", [write.value]
  else:
    become = "Sub" if write.op in ops.ASSIGN_SUB else "Add"
    inputs = [_value(graph, write.before), write.value]
  inputs += graph.control_inputs(name)
  graph.become(name, become, inputs, {"T": type_attr(dtype)})
  if is_average:
    return f"'{name}' is the stored average '{variable}'"
  return f"'{name}' is the value that the update of '{variable}' would write"


def _value(graph, ref):
  """A reference as it is; a handle's value where one is needed."""
  if graph.op(ref.node) == "VarHandleOp":
    return read(graph, ref.node)
  return ref
