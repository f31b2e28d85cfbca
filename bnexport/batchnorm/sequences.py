# SPDX-License-Identifier: Apache-2.0
"""Updates of one variable that follow each other in a run, made one."""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Set, Tuple

from bnexport.batchnorm.stored import Stored, StoredValues
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.graph.nodes import Signatures, type_attr
from bnexport.graph.variables import variable_dtype
from bnexport.graph.writes import (
  ADD,
  ELEMENTS,
  PART_READS,
  ROWS,
  SET,
  SLICE,
  SUBTRACT,
  Part,
  part_key,
  part_read,
  write_of,
  written_variable,
)
from bnexport.text import Emitter

_OPS = {
  ADD: "Add",
  SUBTRACT: "Sub",
  "Mul": "Mul",
  "Div": "RealDiv",
  "Max": "Maximum",
  "Min": "Minimum",
}
# Memory of a variable, and its handle; values of resources are read apart.
_ALIASES = ops.CARRIERS


def in_one(graph: Graph, updates: Iterable[str]) -> Graph:
  """A graph in which no variable is written twice on the way to its update.

  Args:
    graph: stays as it is.
    updates: names of the updates that are meant.

  Returns:
    The graph itself where there is nothing to do. Else a clone: the last of
    several updates assigns what all of them make, those before it are the
    values in between.
  """
  region = graph.ancestors(updates)
  found: Dict[Tuple, Set[str]] = {}
  for name in region:
    if graph.op(name) in ops.UPDATES:
      variable = written_variable(graph, name)
      key = part_key(graph, write_of(graph, name).part)
      found.setdefault((variable, key), set()).add(name)
  several = {
    key: names
    for key, names in found.items()
    if key[0] is not None and len(names) > 1
  }
  if not several:
    return graph
  places = {name: i for i, name in enumerate(graph.topological(region))}
  chains = {}
  for key, names in several.items():
    chain = sorted(names, key=places.__getitem__)
    if _is_clear(graph, chain):
      chains[key] = chain
  if not chains:
    return graph
  made = _Chained(graph.clone())
  for (variable, _), chain in chains.items():
    made.join(variable, chain)
  return made.graph


def _is_clear(graph, chain):
  """Whether each waits for the one before it, and none writes a slice."""
  part = write_of(graph, chain[-1]).part
  return (part is None or part.kind != SLICE) and all(
    a in graph.ancestors([b]) for a, b in zip(chain, chain[1:])
  )


class _Chained:
  """A graph that is rewritten chain by chain."""

  def __init__(self, graph: Graph):
    self.graph = graph
    self._contexts = Contexts(graph, graph.topological())
    self._values = StoredValues(graph, self._contexts, Signatures())
    self._emitter = Emitter(graph)

  def join(self, variable: str, chain: List[str]) -> None:
    """Makes one update of several, which are in order."""
    graph = self.graph
    frame = self._contexts.frame(chain[-1])
    part = write_of(graph, chain[-1]).part
    if any(self._contexts.frame(name) != frame for name in chain):
      return
    readers = self._readers(variable, part, chain)
    # The indices of the first: those of the last may wait for it.
    first = Stored(variable, write_of(graph, chain[0]).part)
    value = self._values.emit(first, chain[0], frame)
    values = {}
    for name in chain:
      values[name] = value = self._after(name, value)
    for reader, slot in readers:
      behind = graph.ancestors([reader])
      last = [name for name in chain if name in behind][-1:]
      for name in last:
        self._read(reader, slot, values[name])
    kind = type_attr(variable_dtype(graph, variable))
    target = graph.data_inputs(chain[0])[0]
    for name in chain[:-1]:
      inputs = [values[name]] + graph.control_inputs(name)
      graph.become(name, "Identity", inputs, {"T": kind})
    self._assign(chain[-1], target, part, value)

  def _after(self, name: str, value: TensorRef) -> TensorRef:
    """A variable's value after an update."""
    change, _, operand = write_of(self.graph, name)
    if change == SET:
      return operand
    text = "after = op(value, operand)"
    op = _OPS[change]
    made = self._emitter.emit(name, text, op=op, value=value, operand=operand)
    return made["after"]

  def _readers(
    self, variable: str, part: Optional[Part], chain: List[str]
  ) -> List[Tuple[str, int]]:
    """Names and slots of what reads a variable, or a part of it."""
    graph, found = self.graph, []
    aliases = [TensorRef(variable)]
    for ref in aliases:
      for reader in graph.readers_of(ref):
        op = graph.op(reader)
        for slot, source in enumerate(graph.data_inputs(reader)):
          is_own = slot == 0 and (op in ops.UPDATES)
          if source == ref and part is None and not is_own:
            found.append((reader, slot))
        key = part_key(graph, part)
        if part is not None and op in PART_READS:
          if part_key(graph, part_read(graph, reader)) == key:
            found.append((reader, 0))
        if op in _ALIASES or reader in chain:
          aliases.append(TensorRef(reader))
    return found

  def _read(self, reader: str, slot: int, value: TensorRef) -> None:
    graph = self.graph
    if graph.op(reader) in PART_READS | ops.RESOURCE_READS:
      self._emitter.become(
        reader, "result = Identity(value, ^waits)", value=value
      )
    else:
      graph.set_input(reader, slot, value)

  def _assign(
    self, name: str, target: TensorRef, part: Optional[Part], value: TensorRef
  ) -> None:
    """Makes the last update the one that writes what all of them make."""
    is_handle = self.graph.op(name).startswith("Resource") or self.graph.op(
      name
    ).endswith("VariableOp")
    text = "result = Assign(target, value, ^waits)"
    if is_handle:
      text = "result = AssignVariableOp(target, value, ^waits)"
    if part is not None:
      op = {ROWS: "ScatterUpdate", ELEMENTS: "ScatterNdUpdate"}[part.kind]
      text = f"result = {'Resource' * is_handle}{op}(target, at, value, ^waits)"
    at = None if part is None else part.operands[0]
    self._emitter.become(name, text, target=target, value=value, at=at)
