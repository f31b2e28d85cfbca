# SPDX-License-Identifier: Apache-2.0
"""Variables become constants."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List, Tuple

import numpy as np

from bnexport.errors import SourceError, nearest
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import (
  DEFERRED,
  deferred_attrs,
  element_count,
  static_shape,
  tensor_attr,
  type_attr,
)
from bnexport.graph.origins import origin_of
from bnexport.graph.variables import variable_dtype
from bnexport.model import Model
from bnexport.model.savers import scopes_between
from bnexport.model.stream import StoredValue
from bnexport.tf1 import tf1

# A protobuf of this many bytes or more can't be read.
MOST_BYTES = (1 << 31) - 1
# Variables of more elements are weights, which only make way; transforms look
# at smaller ones.
_MOST_ELEMENTS = 1 << 16


@dataclasses.dataclass(frozen=True)
class FreezeVariables:
  """Replaces each variable by a Const of the same name and value.

  Before: v = VariableV2()   y = Identity(v)
  After:  v = Const() {value=<float 0.5>}   y = Identity(v)

  Refuses variables that the checkpoint lacks or holds in another shape or type.
  Run first: read_variables.

  Attributes:
    denylist: variables that stay variables.
    are_averages_computed: whether moving averages get values later on; those
      that the checkpoint lacks are not a number until then.
  """

  name: ClassVar[str] = "freeze_variables"
  denylist: Tuple[str, ...] = ()
  are_averages_computed: bool = False

  def apply(self, model: Model) -> List[str]:
    told = self.defer(model)
    fill(model)
    return told

  def defer(self, model: Model) -> List[str]:
    """Makes variables constants and reads no value; `fill` does that."""
    graph = model.graph
    variables = [
      name
      for name in model.needed(control=True)
      if graph.op(name) in ops.VARIABLES and name not in self.denylist
    ]
    if not variables:
      return []
    later = []
    if self.are_averages_computed:
      later = [name for name in variables if _is_lost_average(model, name)]
    given = [name for name in variables if name not in later]
    refuse_unusable(model, given)
    for name in given:
      _defer(model, name)
    for name in later:
      shape = static_shape(graph, TensorRef(name))
      _freeze(graph, name, np.full(shape, np.nan))
    return [f"froze {len(variables)} variables"]


def fill(model):
  """Reads the values of those that are small, which transforms look at."""
  for node in model.graph:
    if DEFERRED not in node.attr:
      continue
    key, dtype = node.attr[DEFERRED].s.decode(), node.attr["dtype"].type
    count = element_count(node.attr["value"].tensor)
    if isinstance(model.deferred[key], StoredValue) and (
      dtype == tf1.string.as_datatype_enum or count <= _MOST_ELEMENTS
    ):
      value = tensor_attr(model.deferred.pop(key)(), dtype)
      node.attr["value"].CopyFrom(value)
      del node.attr[DEFERRED]


def _defer(model, name):
  """Makes a variable a constant that is read where the graph is written."""
  dtype = variable_dtype(model.graph, name)
  _become_const(
    model.graph, name, deferred_attrs(model.values.shape(name), dtype, name)
  )
  model.deferred[name] = StoredValue(model.values, name)


def _is_lost_average(model, name):
  """Whether a moving average of known shape has no value."""
  shape = static_shape(model.graph, TensorRef(name))
  return (
    name in model.decisions.averages
    and shape is not None
    and -1 not in shape
    and (
      model.values is None
      or name not in model.values
      or tuple(model.values.shape(name)) != shape
    )
  )


def refuse_unusable(model, variables, is_frozen=True):
  """Raises SourceError where the checkpoint can't give all values.

  Args:
    model: holds the graph and the values.
    variables: names of the variables.
    is_frozen: whether all of them go into one file.
  """
  missing = [
    name
    for name in variables
    if model.values is None or name not in model.values
  ]
  if missing and (model.values is None or model.values.checkpoint is None):
    raise SourceError(
      f"freeze variable '{missing[0]}'",
      "no checkpoint is given",
      "pass --checkpoint=PREFIX",
    )
  if missing:
    _refuse_missing(model, missing)
  size = 0
  for name in variables:
    saved = model.values.shape(name)
    stated = static_shape(model.graph, TensorRef(name))
    if stated is not None and not _fits(saved, stated):
      raise SourceError(
        f"freeze variable '{name}'",
        f"its shape is {list(stated)} and the checkpoint's {list(saved)}",
        "use the checkpoint that was saved with this graph",
      )
    dtype = tf1.as_dtype(variable_dtype(model.graph, name))
    held = tf1.as_dtype(model.values.dtype(name))
    if held != dtype:
      raise SourceError(
        f"freeze variable '{name}'",
        f"it holds {dtype.name} and the checkpoint {held.name}",
        "use the checkpoint that was saved with this graph",
      )
    size += int(np.prod(saved, dtype=np.int64)) * max(dtype.size, 1)
  if is_frozen and size > MOST_BYTES:
    raise SourceError(
      f"freeze {len(variables)} variables of {size} bytes",
      "a frozen graph is one protobuf and holds less than 2 GB",
      "write a SavedModel, of any size, with --saved_model_out=DIRECTORY",
    )


def _fits(shape, stated):
  """Whether a shape is a stated one, whose open dimensions are negative."""
  return len(stated) == len(shape) and all(
    a == b or a < 0 for a, b in zip(stated, shape)
  )


def _refuse_other_scope(checkpoint, missing, more):
  """Raises SourceError where a checkpoint has variables in another scope."""
  scopes = scopes_between(missing, checkpoint.shapes)
  if scopes is not None:
    old, new = scopes
    raise SourceError(
      f"freeze variable '{missing[0]}'",
      f"checkpoint '{checkpoint.prefix}' lacks it{more}, and holds "
      f"'{new}{missing[0][len(old) :]}'",
      f"pass --scope_map={old}={new} if that is where its values are",
    )


def _refuse_missing(model, missing):
  checkpoint = model.values.checkpoint
  more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
  _refuse_other_scope(checkpoint, missing, more)
  computed = [name for name in missing if _restored_by(model.graph, name)]
  if computed:
    raise SourceError(
      f"freeze variable '{computed[0]}'",
      f"checkpoint '{checkpoint.prefix}' holds it as other tensors, which "
      f"'{_restored_by(model.graph, computed[0])}' puts together",
      "rebuild the model with --model=FILE.py:FUNCTION, of layers that read "
      "these tensors",
    )
  averages = [name for name in missing if name in model.decisions.averages]
  if averages:
    raise SourceError(
      f"freeze moving average '{averages[0]}'",
      f"checkpoint '{checkpoint.prefix}' lacks it{more}, as where only "
      "trainable variables were saved",
      "give a checkpoint that holds it, compute it with "
      "--calibration_data=FILE.npz, pass --keep_batch_statistics=SCOPE of the "
      "norm, or --missing=initialize if training ran the initializers, then "
      "restored",
    )
  raise SourceError(
    f"freeze variable '{missing[0]}'",
    f"checkpoint '{checkpoint.prefix}' lacks it{more}",
    nearest(
      missing[0],
      checkpoint.shapes,
      "give the checkpoint that was saved with this graph, or pass "
      "--missing=initialize if the graph's initial value is meant",
    ),
  )


def _restored_by(graph, variable):
  """The node that computes a variable's value from what is restored, or None.

  CudnnRNN packs all its weights, which are saved one by one, into one tensor.
  """
  for reader in graph.readers(variable):
    refs = graph.data_inputs(reader)
    if graph.op(reader) in ops.ASSIGN and refs[0] == TensorRef(variable):
      source = origin_of(graph, refs[1], ops.IDENTITIES | ops.RESHAPES).node
      restores = graph.ancestors([source], control=False)
      if graph.op(source) != "RestoreV2" and any(
        graph.op(name) == "RestoreV2" for name in restores
      ):
        return source
  return None


def _freeze(graph, name, value):
  dtype = variable_dtype(graph, name)
  attrs = {"dtype": type_attr(dtype), "value": tensor_attr(value, dtype)}
  _become_const(graph, name, attrs)


def _become_const(graph, name, attrs):
  is_resource = graph.op(name) == "VarHandleOp"
  graph.become(name, "Const", (), attrs)
  if not is_resource:
    return
  for reader in graph.readers(name):
    if graph.op(reader) == "ReadVariableOp":
      inputs = graph.inputs(reader)
      graph.become(reader, "Identity", inputs, {"T": attrs["dtype"]})
