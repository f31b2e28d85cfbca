# SPDX-License-Identifier: Apache-2.0
"""An inference graph with its variables as a SavedModel, of any size."""

from __future__ import annotations

import contextlib
import os
import re

import numpy as np

from bnexport.errors import SourceError
from bnexport.exporting import writing
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import static_shape, tensor_attr
from bnexport.graph.tensors import shape_proto
from bnexport.graph.variables import become_resource, own_read
from bnexport.model.model import tensor_fields
from bnexport.model.stream import to_graph_def
from bnexport.model.tables import refuse_mutable
from bnexport.sources.saved_model_file import PREDICT, SERVED
from bnexport.text import Emitter
from bnexport.tf1 import SavedModelProto, VariableDef, session, tf1
from bnexport.transforms.inference.freeze_variables import refuse_unusable

TAGS = SERVED.tags
# So many bytes of variables are in memory at a time.
_AT_ONCE = 1 << 26
_SHARD = re.compile(rb"_temp_[0-9a-f]{32}/part$")


@contextlib.contextmanager
def written(model, path):
  """Writes a SavedModel; it gets its name when the block has ended well.

  Its variables are resource variables, which every loader takes:
  tf.compat.v1.saved_model.load and tf.saved_model.load. Of the graph it has
  what the inputs, the outputs and the initializers need.

  Args:
    model: a Model for inference that still has its variables. What it was
      read from tells tags, signatures and files, where that was a SavedModel.
    path: the directory to make.

  Yields:
    The SavedModel's MetaGraphDef, and the prefix of its variables for now.

  Raises:
    SourceError: it can't be written, a variable has no value, or a table's
      entries are not in the graph. Nothing is left then.
    GraphError: TensorFlow does not take the graph.
  """
  names = _saved_variables(model)
  refuse_mutable(
    model.graph,
    _needed(model),
    "write SavedModel with",
    "pass --signature=NAME of one that does not read it",
  )
  refuse_unusable(model, names, is_frozen=False)
  with writing.part(path, "SavedModel ") as part:
    meta, prefix = _write(model, names, part)
    yield meta, prefix
    # One of the two is whole at any time, whenever the process is killed.
    before = writing.part_of(path, os.getpid(), "before")
    if tf1.gfile.Exists(path):
      tf1.gfile.Rename(path.rstrip("/"), before)
    tf1.gfile.Rename(part, path)
    if tf1.gfile.Exists(before):
      tf1.gfile.DeleteRecursively(before)


def _write(model, names, folder):
  """Writes it; returns the MetaGraphDef and the prefix of its variables."""
  tf1.gfile.MakeDirs(os.path.join(folder, "variables"))
  prefix = os.path.join(folder, "variables", "variables")
  if names:
    _save_variables(model, names, prefix)
  meta = _meta_graph(model, names)
  _copy_assets(model, meta, folder)
  proto = SavedModelProto(saved_model_schema_version=1)
  proto.meta_graphs.add().CopyFrom(meta)
  with tf1.gfile.GFile(os.path.join(folder, "saved_model.pb"), "wb") as f:
    f.write(proto.SerializeToString(deterministic=True))
  return meta, prefix


def refuse_directory(path, overwrite):
  """Raises SourceError where a SavedModel would be lost, or can't be made."""
  if not tf1.gfile.IsDirectory(path):
    writing.refuse_existing(path.rstrip("/"), overwrite=False)
  elif tf1.gfile.ListDirectory(path) and not (
    overwrite and tf1.gfile.Exists(os.path.join(path, "saved_model.pb"))
  ):
    raise SourceError(
      f"write SavedModel '{path}'",
      "the directory is not empty",
      "pass --overwrite where it holds a SavedModel, or another "
      "--saved_model_out",
    )


def restorer(meta, prefix):
  """A function that gives a session of the graph its variables."""
  saver = meta.saver_def
  feeds = {saver.filename_tensor_name: prefix}
  return lambda running: running.run(saver.restore_op_name, feeds)


def _needed(model):
  roots = [ref.node for ref in model.inputs + model.outputs]
  return model.graph.ancestors(roots + list(model.initializers))


def _saved_variables(model):
  """Variables whose values are files; initializers may give others theirs."""
  begun = model.graph.ancestors(model.initializers)
  return [
    name
    for name in _needed(model)
    if model.graph.op(name) in ops.VARIABLES
    and (name not in begun or name in (model.values or ()))
  ]


def _save_variables(model, names, prefix):
  """Writes a checkpoint, some variables at a time."""
  parts = []
  for i, group in enumerate(_groups(model, names)):
    values = [model.values[name] for name in group]
    with tf1.Graph().as_default() as graph:
      holders = [tf1.placeholder(value.dtype, value.shape) for value in values]
      parts.append(f"{prefix}_part-{i}")
      save = tf1.raw_ops.SaveV2(
        prefix=parts[-1],
        tensor_names=group,
        shape_and_slices=[""] * len(group),
        tensors=holders,
      )
      _run(graph, save, dict(zip(holders, values)))
  with tf1.Graph().as_default() as graph:
    merge = tf1.raw_ops.MergeV2Checkpoints(
      checkpoint_prefixes=parts,
      destination_prefix=prefix,
      delete_old_dirs=False,
    )
    _run(graph, merge)


def _run(graph, op, feeds=None):
  """Runs an op that writes files; raises OSError where that fails."""
  try:
    with session(graph) as running:
      running.run(op, feeds)
  except tf1.errors.OpError as error:
    raise OSError(error.message) from error


def _groups(model, names):
  """Names in groups that fit into memory."""
  group, size = [], 0
  for name in names:
    own = tf1.as_dtype(model.graph.node(name).attr["dtype"].type).size
    for length in model.values.shape(name):
      own *= length
    if group and size + own > _AT_ONCE:
      yield group
      group, size = [], 0
    group.append(name)
    size += own
  if group:
    yield group


def _meta_graph(model, names):
  """The graph with resource variables, a Saver and a signature."""
  graph = Graph(to_graph_def(model), copy=False)
  graph.keep(_needed(model))
  reads = [
    (name, _make_resource(graph, name, model.values.shape(name)))
    for name in names
  ]
  imported = graph.to_tf_graph()
  with imported.as_default():
    values = {
      name: imported.get_tensor_by_name(f"{read.node}:0")
      for name, read in reads
    }
    started = [
      imported.get_operation_by_name(name)
      for name in model.initializers
      if graph.op(name) != "Const"  # the name of a file
    ]
    if started:
      main = tf1.group(*started, name="init_tables")
      tf1.add_to_collection("saved_model_main_op", main)
    saver = tf1.train.Saver(values, sharded=True) if names else None
    meta = tf1.train.export_meta_graph(
      graph=imported, saver_def=saver and saver.as_saver_def()
    )
    _name_shards(meta.graph_def)
    variables = meta.collection_def[tf1.GraphKeys.GLOBAL_VARIABLES].bytes_list
    variables.value.extend(_definition(*pair) for pair in reads)
    if model.served is None:
      meta.meta_info_def.tags.extend(TAGS)
      signature = _signature(imported, model)
      meta.signature_def[SERVED.signature].CopyFrom(signature)
    else:
      meta.meta_info_def.tags.extend(model.served.tags)
      _keep_signatures(imported, model, meta)
  return meta


def _keep_signatures(imported, model, meta):
  """Gives a MetaGraphDef the signatures that the model was read with.

  Raises:
    SourceError: the model has other ends by now.
  """
  served, ends = model.served, model.inputs + model.outputs
  if len(ends) != len(served.ends):
    raise SourceError(
      "write SavedModel",
      f"'{model.origin}' was read with {len(served.ends)} inputs and "
      f"outputs, and there are {len(ends)} by now",
      "load it with those you mean",
    )
  called = dict(zip(served.ends, ends))
  for name, definition in served.signatures.items():
    made = meta.signature_def[name]
    made.CopyFrom(definition)
    for info in list(made.inputs.values()) + list(made.outputs.values()):
      for part, field in tensor_fields(info):
        ref = called[TensorRef.parse(getattr(part, field))]
        setattr(part, field, f"{ref.node}:{ref.index}")
      if info.name:
        info.CopyFrom(_info(imported, TensorRef.parse(info.name)))


def _copy_assets(model, meta, folder):
  """Puts the files that a graph names into a SavedModel."""
  files = {} if model.served is None else model.served.assets
  for node in meta.graph_def.node:
    if node.name not in files:
      continue
    path = files[node.name]
    name = os.path.basename(path)
    tf1.gfile.MakeDirs(os.path.join(folder, "assets"))
    target = os.path.join(folder, "assets", name)
    tf1.gfile.Copy(path, target, overwrite=True)
    meta.asset_file_def.add(filename=name).tensor_info.name = node.name + ":0"
    node.attr["value"].CopyFrom(tensor_attr(name, tf1.string))


def _signature(imported, model):
  """The ends by the names that the source's signature gave, or their own."""
  outputs = dict(zip(model.outputs, model.output_keys))
  return tf1.saved_model.signature_def_utils.build_signature_def(
    {
      model.input_keys.get(name, name): _info(imported, TensorRef(name))
      for name in model.placeholders()
    },
    {outputs.get(r, str(r)): _info(imported, r) for r in model.outputs},
    PREDICT,
  )


def _make_resource(graph, name, shape):
  """Makes a variable a resource variable with what loaders ask for.

  Returns:
    The read that they take for its value.
  """
  node = graph.node(name)
  dtype = node.attr["dtype"].type
  stated = shape_proto(shape)
  if node.op != "VarHandleOp":
    become_resource(graph, name, dtype, stated)
  elif static_shape(graph, TensorRef(name)) is None:
    node.attr["shape"].shape.CopyFrom(stated)
  value = own_read(graph, name)
  Emitter(graph).emit(
    name,
    _INITIALIZER,
    variable=name,
    zero=tensor_attr(0, dtype),
    shape=np.array(shape, np.int32),
  )
  return value


# It is asked for, and never run: values come from the files.
_INITIALIZER = """
  zero = Const() {value=$zero}
  zero/shape = Const() {value=$shape}
  zero/filled = Fill(zero/shape, zero) {index_type=int32}
  initialize = AssignVariableOp(variable, zero/filled)
"""


def _definition(name, read):
  """The record by which a loader of TF 2 knows a variable."""
  return VariableDef(
    variable_name=name + ":0",
    initial_value_name=f"{name}/zero/filled:0",
    initializer_name=f"{name}/initialize",
    snapshot_name=f"{read.node}:0",
    is_resource=True,
    trainable=False,
  ).SerializeToString()


def _name_shards(graph_def):
  """Gives a Saver's shards a name that is the same each time.

  TF 1.15 draws one, `_temp_HEX/part`; newer ones have a name that is fixed.
  """
  for node in graph_def.node:
    if node.op == "Const":
      for i, text in enumerate(node.attr["value"].tensor.string_val):
        if _SHARD.match(text):
          node.attr["value"].tensor.string_val[i] = b"_temp/part"


def _info(imported, ref):
  tensor = imported.get_tensor_by_name(f"{ref.node}:{ref.index}")
  return tf1.saved_model.build_tensor_info(tensor)
