# SPDX-License-Identifier: Apache-2.0
"""Conditionals and loops that stay calls of functions.

TensorFlow 2 and TFLite convert If, Case and While, and not the Switch, Merge
and Enter that these are inlined as.
"""

from __future__ import annotations

import copy
from typing import Dict, Optional, Tuple

from bnexport.analysis.flow import is_setting
from bnexport.batchnorm.forms import NORM_OPS
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import called_ops, functions_of, type_attr
from bnexport.graph.variables import read, variable_of
from bnexport.model import Model
from bnexport.tf1 import FunctionDef, tf1
from bnexport.transforms.folding.kernels import PLAIN

_CHOICES = frozenset(("If", "StatelessIf", "Case", "StatelessCase"))
_LOOPS = frozenset(("While", "StatelessWhile"))
CONTROL = _CHOICES | _LOOPS
_READS = frozenset(("ReadVariableOp", "ResourceGather"))
# What is no part of training: it computes, and takes no statistic of a batch.
_INNER = (
  (PLAIN - ops.REDUCTIONS - NORM_OPS)
  | CONTROL
  | _READS
  | ops.CALLS
  | {"Const", "NoOp", "Identity"}
)
_RESOURCE = tf1.resource.as_datatype_enum

# For each argument of a function that was a variable's handle, the DataType of
# the value that it is now; None for all others.
_Dtypes = Tuple[Optional[int], ...]


class _Obstacle(Exception):
  """A conditional or loop has to be inlined."""


def keep(model: Model) -> Tuple[str, ...]:
  """Prepares conditionals and loops that need not be inlined.

  They are those that only compute. Variables are read outside of them, so that
  they can become constants: their functions take the values.

  Args:
    model: its calls are inlined, but for control flow.

  Returns:
    Names of the nodes that stay.
  """
  awaited = model.needed(control=True)
  written = {
    variable_of(model.graph, model.graph.data_inputs(name)[0])
    for name in awaited
    if model.graph.op(name) in ops.UPDATES
  }
  needed, kept = model.needed(), []
  for name in needed:
    if model.graph.op(name) in CONTROL:
      try:
        _keep(model.graph, name, written, needed)
        kept.append(name)
      except _Obstacle:
        continue
  return tuple(kept)


def _keep(graph, name, written, needed):
  node = graph.node(name)
  inner = called_ops(graph, node)
  if not inner <= _INNER | set(graph.library):
    raise _Obstacle
  if any(_may_be_phase(graph, ref) for ref in graph.data_inputs(name)):
    raise _Obstacle
  refs, first = graph.inputs(name), _first(node.op)
  count = len(graph.data_inputs(name))
  dtypes, values = [], {}
  for slot in range(first, count):
    dtype = None
    if _types(node)[slot - first] == _RESOURCE:
      variable = variable_of(graph, refs[slot])
      if variable is None or variable in written:
        raise _Obstacle
      handed_on = TensorRef(name, slot)
      readers = graph.readers_of(handed_on) if node.op in _LOOPS else ()
      if needed.keys() & set(readers):
        raise _Obstacle  # behind a loop, which hands it on
      dtype = graph.node(variable).attr["dtype"].type
      values[slot] = variable
    dtypes.append(dtype)
  if not values:
    return
  functions = _Functions(graph)
  made = functions.called_with(node, tuple(dtypes))
  for slot, variable in values.items():
    if node.op in _LOOPS:  # no output needs who reads its handles behind it
      graph.substitute({TensorRef(name, slot): refs[slot]})
    refs[slot] = read(graph, variable)
  graph.library.update(functions.made)
  graph.become(name, node.op, refs, dict(made.attr))


def _may_be_phase(graph, ref):
  """Whether a tensor follows from what is set for a run, and from no data."""
  sources = [
    graph.node(name)
    for name in graph.ancestors([ref.node], control=False)
    if ops.is_data_source(graph.op(name)) or graph.op(name) in ops.VARIABLES
  ]
  return bool(sources) and all(
    is_setting(graph, node) or _is_flag(node) for node in sources
  )


def _is_flag(node):
  """Whether a variable is a single value, as a phase is and no weight."""
  return (
    node.op in ops.VARIABLES
    and not node.attr["shape"].shape.dim
    and not tf1.as_dtype(node.attr["dtype"].type).is_floating
  )


def _first(op):
  """The first input of a call that is an argument of its functions."""
  return 1 if op in _CHOICES else 0


def _types(node):
  key = "T" if node.op in _LOOPS else "Tin"
  return node.attr[key].list.type


class _Functions:
  """Functions that take values where others took handles.

  Attributes:
    made: FunctionDefs by name.
  """

  def __init__(self, graph):
    self._graph = graph
    self._names: Dict[Tuple[str, _Dtypes], str] = {}
    self.made: Dict[str, FunctionDef] = {}

  def are_called_by(self, node) -> bool:
    return any(name in self._graph.library for name in functions_of(node))

  def called_with(self, node, dtypes: _Dtypes):
    """A copy of a call whose functions take values of these dtypes."""
    made = copy.deepcopy(node)
    made.attr.pop("_output_shapes", None)
    types = _types(made)
    for place, dtype in enumerate(dtypes):
      if dtype is not None:
        types[place] = dtype
    if node.op not in _LOOPS and _RESOURCE in made.attr["Tout"].list.type:
      raise _Obstacle
    for attr in made.attr.values():
      for func in [attr.func] if attr.HasField("func") else attr.list.func:
        func.name = self._function(func.name, dtypes)
    return made

  def _function(self, name: str, dtypes: _Dtypes) -> str:
    if (name, dtypes) not in self._names:
      label, number = f"{name}_of_values", 0
      while label in self._graph.library or label in self.made:
        number += 1
        label = f"{name}_of_values_{number}"
      self._names[name, dtypes] = label
      self.made[label] = _Body(self, self._graph.library[name], dtypes).made
      self.made[label].signature.name = label
    return self._names[name, dtypes]


class _Body:
  """One function, as it takes values.

  Attributes:
    made: the FunctionDef.
  """

  def __init__(self, functions, fdef, dtypes):
    self._functions = functions
    self.made = copy.deepcopy(fdef)
    for field in ("arg_attr", "resource_arg_unique_id"):
      if field in fdef.DESCRIPTOR.fields_by_name:  # TF 1.15 has one of them
        self.made.ClearField(field)
    self._handles: Dict[str, int] = {}
    for arg, dtype in zip(self.made.signature.input_arg, dtypes):
      if dtype is not None:
        arg.type = dtype
        self._handles[arg.name] = dtype
    self._renamed: Dict[str, str] = {}
    for node in list(self.made.node_def):
      self._rewrite(node)
    self._rename()
    self._returns()

  def _rewrite(self, node):
    handles = [self._dtype(text) for text in node.input]
    if not any(handles):
      return
    node.attr.pop("_output_shapes", None)
    if node.op == "ReadVariableOp":
      self._renamed[f"{node.name}:value:0"] = f"{node.name}:output:0"
      _become(node, "Identity", {"T": type_attr(handles[0])})
    elif node.op == "ResourceGather" and not any(handles[1:]):
      self._gather(node, handles[0])
    elif self._functions.are_called_by(node):
      first = _first(node.op)
      dtypes = tuple(handles[first : first + len(_types(node))])
      node.CopyFrom(self._functions.called_with(node, dtypes))
    else:
      raise _Obstacle

  def _dtype(self, text):
    return self._handles.get(text[:-2] if text.endswith(":0") else text)

  def _gather(self, node, dtype):
    axis = self.made.node_def.add(name=f"{node.name}_axis", op="Const")
    axis.attr["dtype"].CopyFrom(type_attr(tf1.int32))
    axis.attr["value"].tensor.CopyFrom(tf1.make_tensor_proto(0))
    attrs = {
      "Tparams": type_attr(dtype),
      "Tindices": node.attr["Tindices"],
      "Taxis": type_attr(tf1.int32),
    }
    if node.attr["batch_dims"].i:
      raise _Obstacle
    _become(node, "GatherV2", copy.deepcopy(attrs))
    node.input.insert(2, f"{axis.name}:output:0")

  def _rename(self):
    for node in self.made.node_def:
      node.input[:] = [self._renamed.get(text, text) for text in node.input]
    for key, text in self.made.ret.items():
      self.made.ret[key] = self._renamed.get(text, text)

  def _returns(self):
    """A loop's body hands its handles on."""
    for out in self.made.signature.output_arg:
      dtype = self._dtype(self.made.ret[out.name])
      if dtype is not None:
        out.type = dtype
      if out.type == _RESOURCE:
        raise _Obstacle


def _become(node, op: str, attrs):
  node.op = op
  node.attr.clear()
  for key, value in attrs.items():
    node.attr[key].CopyFrom(value)
