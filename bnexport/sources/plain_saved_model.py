# SPDX-License-Identifier: Apache-2.0
"""A SavedModel as it is: what the user asks for is all that changes."""

from __future__ import annotations

from bnexport.errors import SourceError
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import tensor_attr, type_attr
from bnexport.model.checkpoint import Checkpoint, Values
from bnexport.model.model import Served, open_model, tensor_fields
from bnexport.sources import saved_model
from bnexport.sources.assets import hold_entries
from bnexport.sources.signature import by_signature
from bnexport.tf1 import tf1

_CONSTANTS = tf1.saved_model.signature_constants
_DEFAULT = _CONSTANTS.DEFAULT_SERVING_SIGNATURE_DEF_KEY
# What the name of a file is in: TensorFlow 2 has a placeholder for it.
_NAMING = ("Const", "Placeholder")


def load(
  path,
  checkpoint=None,
  outputs=(),
  inputs=(),
  tags=(),
  signature=None,
  is_served=False,
):
  """Loads a SavedModel whose devices and colocations stay; nothing is run.

  Args:
    path: the directory.
    checkpoint: prefix of other values for its variables, or None.
    outputs: names of the tensors to keep, or what the signature calls them;
      none for all of the signature.
    inputs: the same of the tensors to feed.
    tags: see saved_model.read.
    signature: see saved_model.read.
    is_served: whether a SavedModel is made of it again. Its files stay files
      then, and where no ends and no signature are named, all signatures stay;
      else lookup tables hold what files filled them with.

  Raises:
    SourceError: see saved_model.read; or nobody names outputs.
  """
  read = saved_model.read(path, tags, signature)
  saved = by_signature(read, outputs, inputs)
  graph = Graph(saved.graph_def, copy=False)
  flat = saved_model.without_calls(graph, saved)  # has keys and entries in it
  graph = graph if is_served else flat
  definitions = {}
  if saved.outputs:
    name = saved.signature or _DEFAULT
    definitions[name] = _definition(read, saved, bool(outputs or inputs))
  left_out = []
  if is_served and not (outputs or inputs or signature):
    for name in read.definitions:
      if name in definitions or _feeds_placeholders(graph, read, name):
        definitions.setdefault(name, read.definitions[name])
      else:
        left_out.append(name)
  if not definitions:
    raise SourceError(
      f"open SavedModel '{path}'",
      "no signature names its outputs",
      "pass --signature=NAME or --outputs=NAME",
    )
  assets = _open_assets(graph, saved.assets, is_served)
  prefix = checkpoint or saved.variables
  model = open_model(
    graph,
    saved.signatures,
    None if prefix is None else Values(Checkpoint(prefix), flat),
    path,
    _tensors(d.outputs for d in definitions.values()),
    _tensors(d.inputs for d in definitions.values()),
    ("--outputs", "--inputs"),
    initializers=_initializers(graph, saved) + tuple(assets),
  )
  ends = model.inputs + model.outputs
  model.served = Served(saved.tags, definitions, ends, assets)
  model.warnings += [
    (
      f"signature '{name}' is left out: it feeds what is no placeholder; pass "
      f"--signature={name} to have that one alone"
    )
    for name in left_out
  ]
  return model


def _definition(read, saved, are_ends_given):
  """The SignatureDef of the chosen ends, as the graph now calls them."""
  made = tf1.MetaGraphDef().signature_def[_DEFAULT]
  made.method_name = _CONSTANTS.PREDICT_METHOD_NAME
  if read.signature is not None:
    made.CopyFrom(read.definitions[read.signature])
  for infos, old, new in (
    (made.inputs, read.inputs, saved.inputs),
    (made.outputs, read.outputs, saved.outputs),
  ):
    if are_ends_given:
      infos.clear()
      for key, text in new.items():
        infos[key].name = text
      continue
    for key, info in infos.items():
      if info.WhichOneof("encoding") == "name" and new[key] != old[key]:
        info.name = new[key]
  return made


def _feeds_placeholders(graph, read, name):
  """Whether a signature can be fed wherever another one cuts the graph."""
  refs = map(TensorRef.parse, _tensors([read.definitions[name].inputs]))
  return all(
    ref.node in graph and graph.op(ref.node) == "Placeholder" for ref in refs
  )


def _tensors(many):
  """Names of the tensors in some maps of TensorInfos, each once."""
  found = {}
  for infos in many:
    for key in sorted(infos):
      for part, field in tensor_fields(infos[key]):
        found[getattr(part, field)] = None
  return list(found)


def _open_assets(graph, files, is_served):
  """Makes tables find their files; returns paths by the Const with each."""
  found = {}
  for text, path in files.items():
    name = TensorRef.parse(text).node
    if name in graph and graph.op(name) in _NAMING:
      attrs = {
        "dtype": type_attr(tf1.string),
        "value": tensor_attr(path, tf1.string),
      }
      graph.become(name, "Const", graph.control_inputs(name), attrs)
      found[name] = path
  if is_served:
    return found
  hold_entries(graph, files)
  return {}


def _initializers(graph, saved):
  """The op that a loader runs, where it does anything."""
  name = saved.initializer
  if name is None or name not in graph:
    return ()
  runs = any(graph.op(n) != "NoOp" for n in graph.ancestors([name]))
  return (name,) if runs else ()
