# SPDX-License-Identifier: Apache-2.0
"""The file of a SavedModel: the graph that is meant, its ends and its files."""

from __future__ import annotations

import dataclasses
import os
from typing import Dict, NamedTuple, Optional, Tuple

from bnexport.errors import Offer, SourceError, nearest
from bnexport.graph import TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.graph.soundness import refuse_unsound
from bnexport.model.paths import refuse_special
from bnexport.model.prefixes import by_number
from bnexport.sources.files import read_proto
from bnexport.tf1 import SavedModelProto, tf1

# Names that TensorFlow's writers and loaders have fixed.
DEFAULT = "serving_default"
PREDICT = "tensorflow/serving/predict"
# These start up a model; nobody asks them for an answer.
_INTERNAL = "__saved_model_"
_START = _INTERNAL + "init_op"
_ASSETS = "saved_model_assets"


class Usual(NamedTuple):
  """The tags and the signature of what serves, where nobody names others."""

  tags: Tuple[str, ...]
  signature: str


SERVED = Usual(("serve",), DEFAULT)


@dataclasses.dataclass(frozen=True)
class SavedModel:
  """One graph of a SavedModel.

  Attributes:
    graph_def: its GraphDef.
    signatures: OpDefs, those the file brings along included.
    inputs: names of the tensors to feed, by what the signature calls them.
    outputs: names of the tensors to fetch, by what the signature calls them.
    signature: the signature's name, or None where the graph has none.
    tags: the graph's tags.
    variables: prefix of the checkpoint with its variables, or None.
    assets: paths of its files, by the tensor that is fed them.
    definitions: SignatureDefs by name, those that start up a model left out.
    initializer: the op that a loader runs once, or None.
  """

  graph_def: object
  signatures: Signatures
  inputs: Dict[str, str]
  outputs: Dict[str, str]
  signature: Optional[str]
  tags: Tuple[str, ...]
  variables: Optional[str]
  assets: Dict[str, str]
  definitions: Dict[str, object]
  initializer: Optional[str]


def read_saved_model(path, tags=(), signature=None, usual=SERVED):
  """Reads a SavedModel; nothing of it is imported or run.

  Args:
    path: the directory, or the saved_model.pb or .pbtxt in it.
    tags: those of the graph; empty for the one that serves, or the only one.
    signature: name of a signature; None for the one that serves, or the only
      one.
    usual: a Usual, which tells the graph and the signature that serve.

  Returns:
    A SavedModel. What TensorFlow 2 wrote is the graph of its signatures, with
    the model in functions that the graph calls.

  Raises:
    SourceError: there is no SavedModel, or none with these tags or this
      signature.
  """
  path, folder = _find(path)
  proto = read_proto(path, SavedModelProto, "the SavedModel")
  meta = _pick_graph(proto, tags, folder, usual)
  signatures = Signatures(meta.meta_info_def.stripped_op_list.op)
  refuse_unsound(meta.graph_def, signatures, f"SavedModel '{folder}'")
  name = _pick_signature(meta, signature, folder, usual)
  ends = meta.signature_def[name] if name is not None else None
  return SavedModel(
    graph_def=meta.graph_def,
    signatures=signatures,
    inputs=tensor_names(ends.inputs) if ends else {},
    outputs=tensor_names(ends.outputs) if ends else {},
    signature=name,
    tags=tuple(meta.meta_info_def.tags),
    variables=_variables(folder),
    assets=_assets(meta, folder),
    definitions={key: meta.signature_def[key] for key in _names(meta)},
    initializer=_initializer(meta),
  )


def _find(path):
  """Path of the protobuf, and the directory it is in."""
  if not tf1.gfile.IsDirectory(path):
    return path, os.path.dirname(path) or "."
  for name in ("saved_model.pb", "saved_model.pbtxt"):
    if tf1.gfile.Exists(os.path.join(path, name)):
      return os.path.join(path, name), path
  # Estimators and Serving put versions of a model into numbered directories.
  versions = [
    name.rstrip("/")
    for name in tf1.gfile.ListDirectory(path)
    if tf1.gfile.Exists(os.path.join(path, name, "saved_model.pb"))
  ]
  versions.sort(key=by_number, reverse=True)
  step = "give the directory that holds it"
  if versions:
    step = f"give a version in it, like '{os.path.join(path, versions[0])}'"
  raise SourceError(
    f"read SavedModel '{path}'",
    "there is no saved_model.pb in it",
    step,
    [Offer({"saved_model": os.path.join(path, v)}) for v in versions],
  )


def _pick_graph(proto, tags, folder, usual):
  graphs = list(proto.meta_graphs)
  there = [tuple(meta.meta_info_def.tags) for meta in graphs]
  wanted = set(tags or usual.tags)
  for meta, own in zip(graphs, there):
    if set(own) == wanted:
      return meta
  if not tags and len(graphs) == 1:
    return graphs[0]
  if not graphs:
    raise SourceError(
      f"use SavedModel '{folder}'",
      "it holds no graph",
      "export it again",
    )
  raise SourceError(
    f"find tags '{','.join(sorted(wanted))}' in SavedModel '{folder}'",
    "its graphs are tagged %s"
    % (" and ".join((f"'{','.join(own)}'" for own in there)),),
    "pass --tags with one of these",
    [Offer({"tags": ",".join(own)}) for own in there if own],
  )


def _names(meta):
  return sorted(n for n in meta.signature_def if not n.startswith(_INTERNAL))


def _pick_signature(meta, wanted, folder, usual):
  names = _names(meta)
  if wanted is not None:
    if wanted in meta.signature_def:
      return wanted
    raise SourceError(
      f"find signature '{wanted}' in SavedModel '{folder}'",
      "it has %s" % (", ".join((f"'{name}'" for name in names)) or "none",),
      nearest(wanted, names, "pass --signature with one of these")
      if names
      else "leave --signature out",
      [Offer({"signature": name}) for name in names or [None]],
    )
  if usual.signature in names:
    return usual.signature
  return names[0] if len(names) == 1 else None


def tensor_names(infos):
  """Tensor names by key; of a sparse or composite tensor, its parts'."""
  found = {}
  for key in sorted(infos):
    info = infos[key]
    if info.HasField("coo_sparse"):
      for part in ("values", "indices", "dense_shape"):
        name = getattr(info.coo_sparse, part + "_tensor_name")
        found[f"{key}/{part}"] = name
    elif info.name:
      found[key] = info.name
  return found


def _initializer(meta):
  if _START in meta.signature_def:
    return TensorRef.parse(meta.signature_def[_START].outputs[_START].name).node
  for key in ("saved_model_main_op", "legacy_init_op"):
    for name in meta.collection_def[key].node_list.value:
      return name
  return None


def _variables(folder):
  prefix = os.path.join(folder, "variables", "variables")
  return prefix if tf1.gfile.Exists(prefix + ".index") else None


def _assets(meta, folder):
  """Paths by the name of the tensor that a loader feeds them to.

  Raises:
    SourceError: a file is outside of the SavedModel.
  """
  found = {}
  definitions = list(meta.asset_file_def)
  for packed in meta.collection_def[_ASSETS].any_list.value:  # as of TF 1
    definition = meta.asset_file_def.add()
    packed.Unpack(definition)
    definitions.append(definition)
  for definition in definitions:
    name = definition.filename
    path = os.path.join(folder, "assets", name)
    if (
      os.path.isabs(name)
      or ".." in name.split("/")
      or not _is_below(path, folder)
    ):
      raise SourceError(
        f"use SavedModel '{folder}'",
        f"its file '{name}' is not in it",
        "export it again",
      )
    refuse_special(path, f"use SavedModel '{folder}'")
    found[definition.tensor_info.name] = path
  return found


def _is_below(path, folder):
  """Whether a path is in a folder, also where it is a link."""
  real = os.path.realpath(folder)
  return os.path.commonpath([real, os.path.realpath(path)]) == real
