# SPDX-License-Identifier: Apache-2.0
"""A SavedModel: one of its graphs, with the ends that a signature names."""

from __future__ import annotations

from bnexport.errors import Offer, SourceError
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import called_ops, tensor_attr, type_attr
from bnexport.model import Model
from bnexport.model.checkpoint import Checkpoint, Values
from bnexport.model.model import Served, find_tensors, tensor_fields
from bnexport.sources.assets import hold_entries
from bnexport.sources.contents import Contents
from bnexport.sources.saved_model_file import (
  DEFAULT,
  PREDICT,
  SERVED,
  read_saved_model,
)
from bnexport.sources.signature import by_signature
from bnexport.tf1 import tf1
from bnexport.transforms.inference.inlining import inlined

# The ops that the path of a file is held by: TensorFlow 2 has a placeholder.
_NAMING = ("Const", "Placeholder")


def read(request, usual=SERVED) -> Contents:
  """Reads a SavedModel; nothing of it is imported or run.

  Args:
    request: a Request; its `outputs` and `inputs` may also be what the
      signature calls the tensors.
    usual: tells the graph and the signature where the request names none.

  Raises:
    SourceError: there is no SavedModel, or none with these tags or this
      signature.
  """
  file = read_saved_model(
    request.source, request.tags, request.signature, usual
  )
  saved = by_signature(file, request.outputs, request.inputs)
  prefix = request.checkpoint or saved.variables
  opening = _Opening(request, file, saved)
  return Contents(
    saved.graph_def,
    saved.signatures,
    request.source,
    tuple(saved.outputs.values()),
    tuple(saved.inputs.values()),
    label="SavedModel",
    checkpoint=None if prefix is None else Checkpoint(prefix),
    input_keys={
      TensorRef.parse(name).node: key for key, name in saved.inputs.items()
    },
    output_keys=tuple(saved.outputs),
    assets=saved.assets,
    prepare=opening.prepare,
    finish=opening.finish,
  )


class _Opening:
  """Makes a Model of what was read: flat, or as a SavedModel is written."""

  def __init__(self, request, file, saved):
    self._request, self._file, self._saved = request, file, saved
    self._flat, self._left_out = None, []

  def prepare(self, graph: Graph) -> Graph:
    """The Graph to open: with its tables filled, unless it stays served.

    Raises:
      SourceError: nothing names outputs.
    """
    saved = self._saved
    # It has the keys of variables and the entries of tables in it.
    self._flat = _without_calls(graph, saved)
    if self._request.is_served:
      self._definitions = self._kept_definitions(graph)
    else:
      graph = self._flat
      self._definitions = self._definition()
    if not self._definitions:
      raise _no_outputs(self._request, saved)
    self._files = _name_files(graph, saved.assets)
    if not self._request.is_served:
      hold_entries(graph, saved.assets)
    return graph

  def finish(self, model: Model):
    """Sets initializers, files and signatures, and the values' keys."""
    saved, request = self._saved, self._request
    if request.is_served:
      graph, names = model.graph, self._definitions.values()
      assert model.values is not None  # opening sets them
      model.values = Values(
        model.values.checkpoint, self._flat, scopes=request.scope_map
      )
      model.outputs = find_tensors(
        graph, model.signatures, _names(d.outputs for d in names), ""
      )
      model.inputs = find_tensors(
        graph, model.signatures, _names(d.inputs for d in names), ""
      )
    files = self._files if request.is_served else {}
    model.initializers = _initializers(model.graph, saved) + tuple(files)
    model.served = Served(
      saved.tags, self._definitions, model.inputs + model.outputs, files
    )
    model.warnings += [
      f"signature '{name}' is left out: it feeds what is no placeholder; pass "
      f"--signature={name} to have that one alone"
      for name in self._left_out
    ]

  def _kept_definitions(self, graph):
    """The chosen signature and, where nobody chose, those beside it."""
    request, file = self._request, self._file
    made = self._definition()
    if request.outputs or request.inputs or request.signature:
      return made
    for name, definition in file.definitions.items():
      if name in made:
        continue
      if _feeds_placeholders(graph, definition):
        made[name] = definition
      else:
        self._left_out.append(name)
    return made

  def _definition(self):
    """The SignatureDef of the chosen ends, as the graph now calls them."""
    request, file, saved = self._request, self._file, self._saved
    if not saved.outputs:
      return {}
    made = tf1.MetaGraphDef().signature_def[DEFAULT]
    made.method_name = PREDICT
    if file.signature is not None:
      made.CopyFrom(file.definitions[file.signature])
    for infos, old, new in (
      (made.inputs, file.inputs, saved.inputs),
      (made.outputs, file.outputs, saved.outputs),
    ):
      if request.outputs or request.inputs:
        infos.clear()
        for key, text in new.items():
          infos[key].name = text
        continue
      for key, info in infos.items():
        if info.WhichOneof("encoding") == "name" and new[key] != old[key]:
          info.name = new[key]
    return {saved.signature or DEFAULT: made}


def _no_outputs(request, saved):
  fact = "no signature names its outputs"
  step = f"pass {request.flags[0]}=NAME"
  offers = [Offer({"signature": name}) for name in sorted(saved.definitions)]
  if saved.definitions:
    fact = f"it has several signatures, and none of them is '{DEFAULT}'"
    step = f"pass --signature={' or '.join(sorted(saved.definitions))}"
  elif saved.graph_def.library.function:
    # What nobody called is in no graph: there is nothing to name.
    fact = "TensorFlow 2 saved it without signatures"
    step = (
      "save it again with tf.saved_model.save(MODEL, DIR, signatures=FUNCTION)"
    )
  return SourceError(f"open SavedModel '{request.source}'", fact, step, offers)


def _without_calls(graph, saved):
  """A Graph in which what saves variables and fills tables is plain nodes.

  TensorFlow 2 keeps the keys of a checkpoint in a function, and the entries of
  tables in others.
  """
  for node in graph:
    node.attr.pop("debug_name", None)  # older TensorFlow does not know it
  wanted = ops.SAVES | ops.TABLE_INITIALIZERS
  others = [n.name for n in graph if not wanted & called_ops(graph, n)]
  return inlined(graph, saved.signatures, leaving=others)


def _feeds_placeholders(graph, definition):
  """Whether a signature can be fed wherever another one cuts the graph."""
  refs = map(TensorRef.parse, _names([definition.inputs]))
  return all(
    ref.node in graph and graph.op(ref.node) == "Placeholder" for ref in refs
  )


def _names(many):
  """Names of the tensors in some maps of TensorInfos, each once."""
  found = {}
  for infos in many:
    for key in sorted(infos):
      for part, field in tensor_fields(infos[key]):
        found[getattr(part, field)] = None
  return list(found)


def _name_files(graph, files):
  """Makes Consts name the files that a loader would feed the names of.

  Returns:
    Paths by the Const with each.
  """
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
  return found


def _initializers(graph, saved):
  """The op that a loader runs, where it does anything."""
  name = saved.initializer
  if name is None or name not in graph:
    return ()
  runs = any(graph.op(n) != "NoOp" for n in graph.ancestors([name]))
  return (name,) if runs else ()
