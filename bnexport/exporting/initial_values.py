# SPDX-License-Identifier: Apache-2.0
"""Variables that the checkpoint lacks, as the graph initializes them."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from bnexport.errors import SourceError
from bnexport.graph import ops
from bnexport.graph.nodes import identity
from bnexport.graph.variables import variable_dtype, variable_of
from bnexport.model import Model
from bnexport.model.changes import Doubt
from bnexport.transforms.folding.fold_constants import FoldConstants

_MOST_BYTES = 1 << 30


def hold(model: Model) -> Dict[str, str]:
  """Gives variables without a value what the graph initializes them with.

  An initial value is what an Assign writes that follows from constants alone.

  Args:
    model: its values are added to.

  Returns:
    For each variable without a value in the checkpoint, why it has none even
    now; "" where it has one.
  """
  if model.values is None:
    return {}
  graph = model.graph
  missing = {
    node.name: "no constant initializes it in the graph"
    for node in graph
    if node.op in ops.VARIABLES and node.name not in model.values
  }
  if not missing:
    return {}
  for name, found in _written(model, missing).items():
    distinct = {tensor.SerializeToString(): tensor for tensor in found}
    if len(distinct) == 1:
      model.values.hold(name, *distinct.values())
      missing[name] = ""
    elif distinct:
      missing[name] = f"the graph sets it to {len(distinct)} constants"
  return missing


def _written(
  model: Model, variables: Mapping[str, str]
) -> Dict[str, List[Any]]:
  """TensorProtos that Assigns write to some variables, computed from constants.

  Nothing but constant folding computes them: no random op, and no op that
  reaches out of the graph, is run.
  """
  made = model.clone()
  graph, writes = made.graph, {}
  for node in list(graph):
    refs = graph.data_inputs(node.name)[:2]
    if node.op not in ops.ASSIGN or len(refs) < 2:
      continue
    name = variable_of(graph, refs[0])
    if name is not None and name in variables:
      dtype = variable_dtype(graph, name)
      label = f"{node.name}/initial"
      writes[identity(graph, label, refs[1], dtype)] = name
  made.outputs, made.initializers, made.inputs = tuple(writes), (), ()
  FoldConstants(max_constant_size_in_bytes=_MOST_BYTES).apply(made)
  found: Dict[str, List[Any]] = {}
  for ref, name in writes.items():
    (source,) = graph.data_inputs(ref.node)
    if graph.op(source.node) == "Const":
      value = graph.node(source.node).attr["value"].tensor
      found.setdefault(name, []).append(value)
  return found


def tell(model: Model, initialized: Mapping[str, str]) -> None:
  """Says which variables that are to be frozen have their initial values.

  Args:
    model: is about to be frozen.
    initialized: what `hold` returned.

  Raises:
    SourceError: one of them has no value.
  """
  for name in sorted(initialized.keys() & model.needed(control=True).keys()):
    if initialized[name]:
      raise SourceError(
        f"initialize variable '{name}'",
        f"the checkpoint lacks it, and {initialized[name]}",
        "give a checkpoint that holds it",
      )
    said = f"'{name}' is not in the checkpoint: it has its initial value"
    model.warnings.append(Doubt(said, name))
