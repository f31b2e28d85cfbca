"""Variables are only read, by value: no references, handles or updates."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from bnexport import ops
from bnexport.batchnorm.averages import variable_of
from bnexport.errors import TransformError
from bnexport.graph import TensorRef
from bnexport.nodes import constant, int_attr, type_attr
from bnexport.tf1 import tf1
from bnexport.variables import read, variable_dtype

_PLAIN = {
  "RefSwitch": "Switch", "RefEnter": "Enter", "RefIdentity": "Identity",
  "RefMerge": "Merge", "RefExit": "Exit", "RefNextIteration": "NextIteration",
}
_CARRIERS = frozenset(_PLAIN) | frozenset(_PLAIN.values())
_HANDLE_READS = frozenset((
  "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape",
))


@dataclasses.dataclass(frozen=True)
class ReadVariables:
  """Replaces reads through references and handles by plain values.

  An update whose value the outputs read becomes the value that it would have
  written; one that only runs beside them has no part in the answer.

  Before: u = AssignAdd(v, d)   s = RefSwitch(v, p)   y = Sub(u, s)
  After:  u = Add(v, d)   s = Switch(v/read, p)   y = Sub(u, s)

  Refuses ops that use a variable's handle in a way that is no read.
  """

  name: ClassVar[str] = "read_variables"

  def apply(self, model):
    told = []
    for name in _updated_reads(model):
      told.append(_become_written(model, name))
    for name in model.graph.topological(model.needed()):
      _make_plain(model.graph, model.graph.node(name))
    return told


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
  if variable is None or not _is_reference(graph, data[0]):
    return None
  for name in waits:
    op = graph.op(name)
    if op == "NoOp" or op in ops.IDENTITIES:
      waits.extend(ref.node for ref in graph.inputs(name)
                   if ref.node not in waits)
    elif (op in ops.UPDATES
          and variable_of(graph, graph.inputs(name)[0]) == variable):
      return name
  return None


def _is_reference(graph, ref):
  """Whether a tensor is a variable's reference or handle, not its value."""
  while graph.op(ref.node) not in ops.VARIABLES:
    node = graph.node(ref.node)
    if node.op not in _CARRIERS:
      return False
    if (not node.op.startswith("Ref")
        and node.attr["T"].type != tf1.resource.as_datatype_enum):
      return False
    ref = graph.inputs(ref.node)[0]
  return True


def _become_written(model, name):
  """Turns an update, or a read that waits for one, into what is written."""
  graph = model.graph
  node = graph.node(name)
  update = name if node.op in ops.UPDATES else _awaited_update(graph, node)
  op = graph.op(update)
  before, value = graph.data_inputs(update)[:2]
  variable = variable_of(graph, before)
  dtype = variable_dtype(graph, variable)
  if op in ops.ASSIGN:
    node.op, inputs = "Identity", [value]
  else:
    node.op = "Sub" if op in ops.ASSIGN_SUB else "Add"
    inputs = [_value(graph, before), value]
  graph.set_inputs(name, inputs + graph.control_inputs(name))
  node.attr.clear()
  node.attr["T"].CopyFrom(type_attr(dtype))
  return "'%s' is the value that the update of '%s' would write" % (
    name, variable)


def _value(graph, ref):
  """A reference as it is; a handle's value where one is needed."""
  if graph.op(ref.node) == "VarHandleOp":
    return read(graph, ref.node)
  return ref


def _make_plain(graph, node):
  """Makes one node read values where it read references or handles."""
  name = node.name
  data = graph.data_inputs(name)
  if not data:
    return
  if node.op in _CARRIERS:
    variable = variable_of(graph, TensorRef(name))
    is_handle = node.attr["T"].type == tf1.resource.as_datatype_enum
    if variable is not None and (node.op in _PLAIN or is_handle):
      node.attr["T"].CopyFrom(type_attr(variable_dtype(graph, variable)))
      graph.set_inputs(name, [
        read(graph, r.node) if graph.op(r.node) in ops.VARIABLES else r
        for r in data] + graph.control_inputs(name))
    node.op = _PLAIN.get(node.op, node.op)
    return
  source = graph.node(data[0].node)
  if source.op == "VarHandleOp" or node.op in _HANDLE_READS:
    _read_handle(graph, node, data)


def _read_handle(graph, node, data):
  """Gives an op that took a handle the value instead."""
  variable = variable_of(graph, data[0])
  if variable is None:
    return  # a table or another resource
  if node.op == "ReadVariableOp" and data[0].node == variable:
    return
  if node.op not in _HANDLE_READS:
    raise TransformError(
      "cannot freeze variable '%s': op '%s' of node '%s' uses its handle and "
      "has no form that takes a value; cut it away with --input_node"
      % (variable, node.op, node.name))
  value = data[0]
  if value.node == variable and graph.op(variable) == "VarHandleOp":
    value = read(graph, variable)
  dtype = type_attr(variable_dtype(graph, variable))
  rest = data[1:]
  if node.op == "ReadVariableOp":
    node.op, attrs = "Identity", {"T": dtype}
  elif node.op == "ResourceGather":
    attrs = {"Tparams": dtype, "Tindices": node.attr["Tindices"],
             "Taxis": type_attr(tf1.int32)}
    if node.attr["batch_dims"].i:
      attrs["batch_dims"] = int_attr(node.attr["batch_dims"].i)
    axis = node.attr["batch_dims"].i
    node.op = "GatherV2"
    rest.append(constant(graph, node.name + "/axis", axis, tf1.int32,
                         [TensorRef(rest[0].node, 0, True)]))
  elif node.op == "ResourceGatherNd":
    node.op = "GatherNd"
    attrs = {"Tparams": dtype, "Tindices": node.attr["Tindices"]}
  else:
    node.op = "Shape"
    attrs = {"T": dtype, "out_type": node.attr["out_type"]}
  # Attributes of the node itself die when its map is cleared.
  kept = {key: type(attr).FromString(attr.SerializeToString())
          for key, attr in attrs.items()}
  graph.set_inputs(node.name,
                   [value] + rest + graph.control_inputs(node.name))
  node.attr.clear()
  for key, attr in kept.items():
    node.attr[key].CopyFrom(attr)

