# SPDX-License-Identifier: Apache-2.0
"""The inputs of an export: those that are left, and those that are gone."""

from __future__ import annotations

from bnexport.analysis.flow import is_setting
from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
from bnexport.model.changes import Doubt, changes_by
from bnexport.tf1 import tf1


def is_phase(graph, ref):
  """Whether a signature's input may be decided; a user's own never is."""
  node = graph.node(ref.node)
  return (
    is_setting(graph, node)
    and node.attr["dtype"].type == tf1.bool.as_datatype_enum
  )


def name_lost(original, model):
  """Says which inputs are none any more; some input has to be left.

  What a user or a signature names is asked of all that the outputs wait for.
  """
  named = {ref.node for ref in original.inputs}
  awaited = original.needed(control=True)
  before = original.placeholders()
  before += [name for name in named - set(before) if name in awaited]
  left = model.placeholders()
  lost = [
    name
    for name in before
    if name not in left
    and name not in model.decisions.values
    and name in original.graph
    and original.graph.op(name) in ops.PLACEHOLDERS
  ]
  if lost and not left:
    raise TransformError(
      "export",
      f"the answers no longer depend on '{lost[0]}', nor on any other input",
      "report it, and pass --keep_batch_statistics=SCOPE for the norms that "
      "replaced it",
    )
  for name in lost:
    said = f"'{name}' is no input any more: no answer depends on it now"
    model.history += changes_by("export", [said])
    if name in named:
      model.warnings.append(Doubt(said, name))


def settle(model):
  """The placeholders left are the inputs; a user's list has to cover them.

  What a signature names, and was not decided, is an input as it was.
  """
  placeholders = model.placeholders()
  if model.inputs and model.request and not model.request.inputs:
    model.inputs += tuple(
      TensorRef(name)
      for name in placeholders
      if name in model.input_keys and TensorRef(name) not in model.inputs
    )
  named = {ref.node for ref in model.inputs}
  extra = [
    name
    for name in placeholders
    if name not in named and model.graph.op(name) != "PlaceholderWithDefault"
  ]
  if named and extra:
    raise TransformError(
      f"do with --input_node={','.join(sorted(named))}",
      "the outputs also need %s"
      % (", ".join((f"'{name}'" for name in extra)),),
      "name them in --input_node, or give them values with --set=NAME=VALUE",
    )
  sources = [
    node.name
    for node in model.graph
    if ops.is_data_source(node.op) and node.op not in ops.PLACEHOLDERS
  ]
  if sources:
    read = sorted(model.graph.reads(sources[0]))
    name = model.decisions.uncut.get(sources[0], sources[0])
    named = model.request.inputs if model.request is not None else ()
    tensors = ",".join([*named, *(f"{name}:{ref.index}" for ref in read)])
    raise TransformError(
      "export a graph that reads its input by itself",
      f"'{name}' is a {model.graph.op(sources[0])}",
      f"pass --input_node={tensors} to feed it instead",
    )
