# SPDX-License-Identifier: Apache-2.0
"""Updates whose value is needed become the value they would have written."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.graph.nodes import type_attr
from bnexport.graph.origins import origin_of, viewed
from bnexport.graph.variables import read, variable_dtype
from bnexport.graph.writes import SET, write_of, written_variable
from bnexport.model import Model
from bnexport.transforms.inference.read_variables import PLAIN, read_value
from bnexport.transforms.inference.written_parts import become_written

# What still is a variable's own memory: it shows what is written later, too.
_ALIASES = ops.CARRIERS | ops.SWITCHES | ops.RESHAPES


@dataclasses.dataclass(frozen=True)
class UseWrittenValues:
  """Replaces updates on the way to the outputs by what they would write.

  What comes after an update of a variable, by its data or by control inputs,
  reads what the update wrote, also through a read that came before: on a CPU
  an Identity of a variable is the variable's own memory. Moving averages of
  batch statistics stay as they are stored. Updates that only run beside the
  outputs have no part in the answer.

  Before: v = VariableV2()   u = AssignAdd(v, d)   y = Relu(u)
  After:  u = Add(v, d)   y = Relu(u)

  Refuses where nothing tells which of two updates comes last, and an update
  in a branch or loop whose variable is read outside of it.

  Run first: use_stored_statistics, which finds the moving averages.
  """

  name: ClassVar[str] = "use_written_values"

  def apply(self, model: Model) -> List[str]:
    return _Writes(model).follow()


class _Writes:
  """The updates before the outputs of one model, and what reads after them.

  Attributes:
    told: what was done, a line each.
  """

  def __init__(self, model):
    self.told = []
    self._model, self._graph = model, model.graph
    order = self._graph.topological(model.needed(control=True))
    self._updates = [n for n in order if self._graph.op(n) in ops.UPDATES]
    self._order = order if self._updates else []
    self._variables = {
      name: written_variable(self._graph, name) for name in self._updates
    }
    for name, variable in self._variables.items():
      if variable is None:
        raise TransformError(
          f"use what '{name}' writes",
          f"it writes to '{self._graph.inputs(name)[0]}', which is no variable",
          f"cut it away with --input_node={name}",
        )
    # For each node a set of bits: the updates that have run when it does.
    self._before = {}
    self._bits = {name: 1 << i for i, name in enumerate(self._updates)}
    for name in self._order:
      before = 0
      for ref in self._graph.inputs(name):
        before |= self._before.get(ref.node, 0) | self._bits.get(ref.node, 0)
      self._before[name] = before
    self._by_variable = {}
    for name, variable in self._variables.items():
      self._by_variable.setdefault(variable, []).append(name)
    self._contexts = Contexts(self._graph, self._order)

  def follow(self):
    """Looks at all reads first, then edits; returns what was done."""
    seen = dict.fromkeys(self._model.needed() if self._updates else ())
    stack, reads, needed = list(seen), [], []
    while stack:
      name = stack.pop()
      refs = dict(enumerate(self._graph.data_inputs(name)))
      if self._graph.op(name) in ops.UPDATES:
        needed.append(name)
        refs = self._operands(name, refs)
      for slot, ref in list(refs.items()):
        last = self._last_read(name, ref)
        if last is not None:
          reads.append((name, slot, last))
          refs[slot] = TensorRef(last)
      for ref in refs.values():
        if ref.node not in seen:
          seen[ref.node] = None
          stack.append(ref.node)
    for read_at in reads:
      self._read(*read_at)
    for name in needed:
      self._become_written(name)
    return self.told

  def _operands(self, name, refs):
    """Those inputs of an update that its written value depends on."""
    if self._variables[name] in self._model.decisions.averages:
      return {0: refs[0]}
    write = write_of(self._graph, name)
    if write.change == SET and write.part is None:
      del refs[0]
    return refs

  def _last_read(self, name, ref):
    """The update whose value a node finds in a tensor that it reads, or None.

    Raises:
      TransformError: nothing tells it.
    """
    variable = self._aliased(ref)
    if variable is None or variable in self._model.decisions.averages:
      return None
    at, before = name, self._before[name]
    if self._graph.op(name) in ops.MERGES:
      # Of a conditional's values each is read on its own side.
      at = ref.node
      before = self._before[at] | self._bits.get(at, 0)
    last = self._last(at, before, variable)
    if last is not None:
      self._refuse_elsewhere(at, last)
    return last

  def _aliased(self, ref):
    """The variable whose memory or handle a tensor is, or None."""
    graph = self._graph
    while True:
      ref = origin_of(graph, ref, _ALIASES)
      if graph.op(ref.node) not in ops.UPDATES:
        break
      ref = graph.data_inputs(ref.node)[0]
    return ref.node if graph.op(ref.node) in ops.VARIABLES else None

  def _last(self, name, before, variable):
    """The last of the updates of a variable that have run; or None."""
    found = [
      (self._bits[update], update)
      for update in self._by_variable.get(variable, ())
      if self._bits[update] & before
    ]
    if not found:
      return None
    earlier = 0
    for _, update in found:
      earlier |= self._before[update]
    last = [update for bit, update in found if not bit & earlier]
    if len(last) == 1:
      return last[0]
    one, other = (last or [update for _, update in found])[:2]
    raise TransformError(
      f"tell what '{name}' reads",
      f"'{one}' and '{other}' both write '{variable}', in no order",
      "let one of them wait for the other where the model is built",
    )

  def _refuse_elsewhere(self, name, update):
    """An update that may not run, or runs again, wrote nothing that is sure."""
    frame = self._contexts.frame(update)
    sides = self._contexts.sides(TensorRef(update))
    if frame or not sides <= self._contexts.sides(TensorRef(name)):
      kind = "loop" if frame else "branch"
      raise TransformError(
        f"tell what '{name}' reads",
        f"'{update}' writes '{self._variables[update]}' in a {kind}",
        f"cut behind it with --input_node={name}",
      )

  def _read(self, name, slot, update):
    """Gives a node the written value in the place of the variable's."""
    graph, variable = self._graph, self._variables[update]
    ref, op = graph.data_inputs(name)[slot], graph.op(name)
    if graph.op(variable) != "VarHandleOp":
      graph.set_input(name, slot, self._again(ref, update))
    elif op in ops.UPDATES:
      graph.set_input(name, slot, TensorRef(update))
    elif op not in ops.CARRIERS | ops.SWITCHES:  # which hand on the handle
      dtype = variable_dtype(graph, variable)
      frame = self._contexts.frame(name)
      value = self._contexts.carry(TensorRef(update), dtype, frame)
      read_value(graph, graph.node(name), variable, value)

  def _again(self, ref, update):
    """A view of a variable's memory, of the written value instead."""
    graph, value = self._graph, TensorRef(update)
    for view in reversed(list(viewed(graph, ref, _ALIASES))):
      op = graph.op(view.node)
      if op not in _ALIASES or op in ops.IDENTITIES:
        continue
      node = graph.node(view.node)
      inputs = [value] + graph.data_inputs(view.node)[1:]
      name = f"{view.node}/written"
      copy = graph.add(PLAIN.get(op, op), name, inputs, dict(node.attr))
      value = TensorRef(copy.name, view.index)
    return value

  def _become_written(self, name):
    """Turns an update into the value that is there when it has run."""
    graph, variable = self._graph, self._variables[name]
    start = graph.data_inputs(name)[0]
    if graph.op(start.node) == "VarHandleOp":
      start = read(graph, start.node)
    if variable in self._model.decisions.averages:
      attrs = {"T": type_attr(variable_dtype(graph, variable))}
      inputs = [start] + graph.control_inputs(name)
      graph.become(name, "Identity", inputs, attrs)
      self.told.append(f"'{name}' is the stored average '{variable}'")
      return
    become_written(self._model, name, variable, start)
    self.told.append(
      f"'{name}' is the value that the update of '{variable}' would write"
    )
