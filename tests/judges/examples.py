# SPDX-License-Identifier: Apache-2.0
"""The files of a rule's examples."""

import os

import numpy as np

from bnexport import text
from bnexport.tf1 import session, tf1


def write(example, folder):
  """Writes an example's files; returns what `examination.look` is given."""
  folder = str(folder)
  graph_def = text.loads(example.graph)
  named = {"outputs": example.outputs, "target_tf": example.target_tf}
  if example.checkpoint is not None:
    named["checkpoint"] = os.path.join(folder, "model.ckpt")
    _save(example.checkpoint, named["checkpoint"])
  if example.training is not None:
    meta = tf1.MetaGraphDef(graph_def=text.loads(example.training))
    dump(meta, named["checkpoint"] + ".meta")
  if example.data is not None:
    random = np.random.RandomState(3)
    np.savez(
      os.path.join(folder, "calibration.npz"),
      **{
        name: random.randn(*shape).astype(np.float32)
        for name, shape in example.data.items()
      },
    )
  if example.is_training:
    meta = tf1.MetaGraphDef(graph_def=graph_def)
    dump(meta, named["checkpoint"] + ".meta")
  else:
    named["graph_def"] = os.path.join(folder, "graph.pb")
    dump(graph_def, named["graph_def"])
  return named


def dump(proto, path):
  with open(path, "wb") as f:
    f.write(proto.SerializeToString())


def _save(values, prefix):
  with tf1.Graph().as_default() as graph:
    variables = [
      tf1.Variable(np.array(value, np.float32), name=key, use_resource=False)
      for key, value in values.items()
    ]
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      tf1.train.Saver(variables).save(running, prefix, write_meta_graph=False)
