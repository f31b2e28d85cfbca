# SPDX-License-Identifier: Apache-2.0
"""Gives every node, variable and key of a checkpoint a meaningless name."""

import hashlib

import numpy as np

from bnexport.tf1 import session, tf1


def renamed(case, folder):
  """Writes a renamed copy of a case.

  Returns:
    The prefix of the new checkpoint, and a function from old to new names.
  """
  meta = tf1.MetaGraphDef()
  with open(case.prefix + ".meta", "rb") as f:
    meta.ParseFromString(f.read())

  def rename(name):
    base, colon, index = name.partition(":")
    return "n" + hashlib.md5(base.encode()).hexdigest()[:10] + colon + index

  keys = {
    text
    for node in meta.graph_def.node
    for text in node.input[1:2]
    if node.op
    in ("SaveV2", "SaveSlices", "Save", "RestoreV2", "RestoreSlice", "Restore")
  }
  for node in meta.graph_def.node:
    _rename_node(node, keys, rename)
  saver = meta.saver_def
  for field in ("filename_tensor_name", "save_tensor_name", "restore_op_name"):
    setattr(saver, field, rename(getattr(saver, field)))
  prefix = "%s/%s" % (folder, case.name)
  with open(prefix + ".meta", "wb") as f:
    f.write(meta.SerializeToString())
  _rename_checkpoint(case.prefix, prefix, rename)
  return prefix, rename


def _rename_node(node, keys, rename):
  is_keys = node.name in keys
  node.name = rename(node.name)
  for i, text in enumerate(node.input):
    control = "^" if text.startswith("^") else ""
    node.input[i] = control + rename(text.lstrip("^"))
  if "_class" in node.attr:
    del node.attr["_class"]
  if node.attr["shared_name"].s:
    node.attr["shared_name"].s = rename(
      node.attr["shared_name"].s.decode()
    ).encode()
  elif "shared_name" in node.attr:
    del node.attr["shared_name"]
  if is_keys and node.op == "Const":
    old = tf1.make_ndarray(node.attr["value"].tensor)
    new = [rename(key.decode()) for key in old.reshape(-1)]
    node.attr["value"].tensor.CopyFrom(
      tf1.make_tensor_proto(np.array(new).reshape(old.shape))
    )


def _rename_checkpoint(old, new, rename):
  reader = tf1.train.NewCheckpointReader(old)
  keys = sorted(reader.get_variable_to_shape_map())
  graph = tf1.Graph()
  with graph.as_default():
    values = [tf1.constant(reader.get_tensor(key)) for key in keys]
    save = tf1.raw_ops.SaveV2(
      prefix=new,
      tensor_names=[rename(key) for key in keys],
      shape_and_slices=[""] * len(keys),
      tensors=values,
    )
  with session(graph) as run:
    run.run(save)
