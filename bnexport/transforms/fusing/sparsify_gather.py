# SPDX-License-Identifier: Apache-2.0
"""Embeddings of one column, most of them zero, as hash tables."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

import numpy as np

from bnexport.analysis.shapes import flag
from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value
from bnexport.graph.origins import holder_of
from bnexport.model import Model
from bnexport.model.checkpoint import Checkpoint, Values
from bnexport.text import Emitter
from bnexport.tf1 import tf1
from bnexport.transforms.uses import Uses

_GATHERS = ("Gather", "GatherV2")
_REF_VARIABLES = ("Variable", "VariableV2")
# What is nearer to 0 is left out of the table.
_THRESHOLD = 1e-5


class _Obstacle(Exception):
  """The reason why one Gather stays as it is."""


@dataclasses.dataclass(frozen=True)
class SparsifyGather:
  """Rows gathered from an [N, 1] tensor are looked up in a hash table.

  The table holds the elements of 1e-5 and more, and gives 0 for all others,
  also for an index that is out of range. It is filled by the node
  `group_init_node`, which has to be run once after the graph is imported.

  Before: w = Const() {value=<float [4,1] 0 2 0 3>}   r = Identity(w)
          i = Placeholder() {dtype=int64}
          y = Gather(r, i) {Tindices=int64}
  After:  w/HashTable = HashTable()
          y/LookupTableFind = LookupTableFind(w/HashTable, i, y/Const)
          y = ExpandDims(y/LookupTableFind, y/ExpandDims/Const)
          w/indices = Const() {value=<int64 [2] 1 3>}
          w/values = Const() {value=<float [2] 2 3>}
          w/InitializeTable = InitializeTable(w/HashTable, w/indices, w/values)
          group_deps = NoOp(^w/InitializeTable)

  Leaves alone weights of another shape or dtype than [N, 1] float, inputs,
  variables without a value, other axes than the first, and what is in a loop
  or branch. A variable is read by the key, and as the slice, that the graph's
  SaveV2 and RestoreV2 have for it.

  Attributes:
    input_checkpoint: where the values of variables are, if not in the
      model's own checkpoint.
    group_init_node: the NoOp that waits for all tables to be filled.
  """

  name: ClassVar[str] = "sparsify_gather"
  input_checkpoint: str = ""
  group_init_node: str = "group_deps"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    values = model.values
    if self.input_checkpoint:
      values = Values(Checkpoint(self.input_checkpoint), graph)
    group = self.group_init_node
    if group in graph and graph.op(group) != "NoOp":
      raise TransformError(
        f"fill tables in '{group}'",
        f"the graph has a node of that name, and it is {graph.op(group)}",
        "give another group_init_node",
      )
    tables, told, uses = _Tables(model, values), [], Uses(model)
    for node in graph:
      if node.op not in _GATHERS:
        continue
      weights = _weights(graph, node)
      if weights is None:
        continue
      try:
        _check_axis(graph, node)
        table = tables.of(weights)
      except _Obstacle as reason:
        told.append(f"left '{node.name}' as it is: {reason}")
        continue
      old = [ref.node for ref in graph.data_inputs(node.name)]
      _look_up(graph, node, table)
      uses.remove_unread(old)
      told.append(f"'{node.name}' looks '{weights}' up in a table")
    tables.group(group)
    return told


def _weights(graph, node):
  """Name of the Const or variable that a Gather reads, or None."""
  ref, kinds = graph.data_inputs(node.name)[0], ("Const",) + _REF_VARIABLES
  return holder_of(graph, ref, kinds, ops.IDENTITIES)


def _check_axis(graph, node):
  """Raises _Obstacle where a Gather takes something else than rows."""
  if node.op == "Gather":
    return
  axis = constant_value(graph, graph.data_inputs(node.name)[2], largest=1)
  if axis is None or int(axis) not in (0, -2):
    raise _Obstacle("it does not gather along the first axis")
  if flag(node, "batch_dims"):
    raise _Obstacle("it has batch_dims")


class _Tables:
  """Hash tables by the weights they stand for; several Gathers share one."""

  def __init__(self, model, values):
    self._model = model
    self._values = values
    self._tables = {}
    self._fillers = []

  def of(self, weights):
    """The HashTable that holds `weights`; it is made at need.

    Raises:
      _Obstacle: they can't be in one.
    """
    if weights not in self._tables:
      self._tables[weights] = self._add(weights, self._array(weights))
    return self._tables[weights]

  def _array(self, weights):
    graph = self._model.graph
    node = graph.node(weights)
    dtype = tf1.as_dtype(node.attr["dtype"].type)
    if dtype != tf1.float32:
      raise _Obstacle(f"'{weights}' is {dtype.name}, not float")
    if TensorRef(weights) in self._model.inputs:
      raise _Obstacle(f"'{weights}' is an input")
    if graph.control_inputs(weights):
      raise _Obstacle(f"'{weights}' is part of a branch or loop")
    if node.op == "Const":
      shape = [d.size for d in node.attr["value"].tensor.tensor_shape.dim]
    elif self._values is None or weights not in self._values:
      raise _Obstacle(f"variable '{weights}' has no value{self._where()}")
    else:
      shape = list(self._values.shape(weights))
    if len(shape) != 2 or shape[1] != 1:
      raise _Obstacle(f"'{weights}' has shape {shape}, not [N, 1]")
    if node.op == "Const":
      return self._model.array(weights).reshape(-1)
    return np.asarray(self._values[weights]).reshape(-1)

  def _where(self):
    """Says where the values are from, or how to say where they are."""
    if self._values is None or self._values.checkpoint is None:
      return "; give input_checkpoint"
    return f" in checkpoint '{self._values.checkpoint.prefix}'"

  def _add(self, weights, array):
    """Adds a table, its contents and what fills it."""
    graph = self._model.graph
    (keys,) = np.nonzero(np.abs(array.astype(np.float64)) >= _THRESHOLD)
    if not len(keys):  # nothing fills a table with nothing
      keys, array = np.zeros(1, np.int64), np.zeros(1, np.float32)
    text = """
      indices = Const() {value=$keys}
      values = Const() {value=$values}
      HashTable = HashTable() {key_dtype=int64, value_dtype=float}
      InitializeTable = InitializeTable(HashTable, indices, values)
    """
    made = Emitter(graph).emit(
      weights, text, keys=keys.astype(np.int64), values=array[keys]
    )
    self._fillers.append(made["InitializeTable"].node)
    return made["HashTable"]

  def group(self, name):
    """Lets the node `name` fill all tables, and the model keep it."""
    if not self._fillers:
      return
    model, graph = self._model, self._model.graph
    if name not in graph:
      graph.add("NoOp", name)
    refs = [TensorRef(filler, 0, True) for filler in self._fillers]
    graph.set_inputs(name, graph.inputs(name) + refs)
    model.initializers = tuple(dict.fromkeys(model.initializers + (name,)))
    model.warnings.append(
      f"run '{name}' once after importing the graph: it fills lookup tables"
    )


def _look_up(graph, node, table):
  """Makes a Gather the ExpandDims of what a table gives for its indices."""
  ids, emitter = graph.data_inputs(node.name)[1], Emitter(graph)
  if node.attr["Tindices"].type != tf1.int64.as_datatype_enum:
    text = "Cast = Cast(ids) {SrcT=$T, DstT=int64}"
    made = emitter.emit(node.name, text, ids=ids, T=node.attr["Tindices"])
    ids = made["Cast"]
  text = """
    Const = Const() {value=<float 0>}
    LookupTableFind = LookupTableFind(table, ids, Const, ^waits)
      {Tin=int64, Tout=float}
    ExpandDims/Const = Const() {value=<int32 -1>}
    y = ExpandDims(LookupTableFind, ExpandDims/Const)
  """
  emitter.become(node.name, text, table=table, ids=ids)
