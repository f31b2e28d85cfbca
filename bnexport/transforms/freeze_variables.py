"""Variables become constants."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Tuple

import numpy as np

from bnexport import ops
from bnexport.errors import SourceError, nearest
from bnexport.graph import TensorRef
from bnexport.nodes import static_shape, tensor_attr, type_attr
from bnexport.tf1 import tf1
from bnexport.variables import variable_dtype

# A protobuf of this many bytes or more can't be read.
MOST_BYTES = (1 << 31) - 1


@dataclasses.dataclass(frozen=True)
class FreezeVariables:
  """Replaces each variable by a Const of the same name and value.

  Before: v = VariableV2()   y = Identity(v)
  After:  v = Const() {value=<float 0.5>}   y = Identity(v)

  Refuses variables that the checkpoint lacks or holds in another shape.
  Run first: read_variables.

  Attributes:
    denylist: variables that stay variables.
    are_averages_computed: whether moving averages get values later on; those
      that the checkpoint lacks are not a number until then.
  """

  name: ClassVar[str] = "freeze_variables"
  denylist: Tuple[str, ...] = ()
  are_averages_computed: bool = False

  def apply(self, model):
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
    _refuse_unusable(model, given)
    for name in given:
      _freeze(graph, name, model.values[name])
    for name in later:
      shape = static_shape(graph, TensorRef(name))
      _freeze(graph, name, np.full(shape, np.nan))
    return ["froze %d variables" % len(variables)]


def _is_lost_average(model, name):
  """Whether a moving average of known shape has no value."""
  shape = static_shape(model.graph, TensorRef(name))
  return (
    name in model.averages
    and (model.values is None or name not in model.values)
    and shape is not None
    and -1 not in shape
  )


def _refuse_unusable(model, variables):
  """Raises SourceError where the checkpoint can't give all values."""
  missing = [
    name
    for name in variables
    if model.values is None or name not in model.values
  ]
  if missing and (model.values is None or model.values.checkpoint is None):
    raise SourceError(
      "cannot freeze variable '%s': no checkpoint is given; pass "
      "--checkpoint=PREFIX" % missing[0]
    )
  if missing:
    _refuse_missing(model, missing)
  size = 0
  for name in variables:
    saved = model.values.shape(name)
    stated = static_shape(model.graph, TensorRef(name))
    if stated is not None and (
      len(stated) != len(saved)
      or any(a != b and a >= 0 for a, b in zip(stated, saved))
    ):
      raise SourceError(
        "cannot freeze variable '%s': its shape is %s and the checkpoint's "
        "%s; use the checkpoint that was saved with this graph"
        % (name, list(stated), list(saved))
      )
    dtype = tf1.as_dtype(variable_dtype(model.graph, name))
    size += int(np.prod(saved, dtype=np.int64)) * max(dtype.size, 1)
  if size > MOST_BYTES:
    raise SourceError(
      "cannot freeze %d variables of %d bytes: a frozen graph is one protobuf "
      "and holds less than 2 GB; serve a SavedModel, which keeps its "
      "variables in files" % (len(variables), size)
    )


def _refuse_missing(model, missing):
  checkpoint = model.values.checkpoint
  more = " and %d more" % (len(missing) - 1) if len(missing) > 1 else ""
  averages = [name for name in missing if name in model.averages]
  if averages:
    raise SourceError(
      "cannot freeze moving average '%s': checkpoint '%s' lacks it%s, as where "
      "only trainable variables were saved; give a checkpoint that holds it, "
      "compute it with --calibration_data=FILE.npz, or pass "
      "--keep_batch_statistics=SCOPE of the norm"
      % (averages[0], checkpoint.prefix, more)
    )
  raise SourceError(
    "cannot freeze variable '%s': checkpoint '%s' lacks it%s%s"
    % (
      missing[0],
      checkpoint.prefix,
      more,
      nearest(
        missing[0],
        checkpoint.shapes,
        "; give the checkpoint that was saved with this graph",
      ),
    )
  )


def _freeze(graph, name, value):
  node = graph.node(name)
  is_resource = node.op == "VarHandleOp"
  dtype = node.attr["dtype"].type
  attrs = {"dtype": type_attr(dtype), "value": tensor_attr(value, dtype)}
  graph.become(name, "Const", (), attrs)
  if not is_resource:
    return
  for reader in graph.readers(name):
    if graph.op(reader) == "ReadVariableOp":
      inputs = graph.inputs(reader)
      graph.become(reader, "Identity", inputs, {"T": type_attr(dtype)})
