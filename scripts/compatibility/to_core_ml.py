# SPDX-License-Identifier: Apache-2.0
"""Converts a frozen graph to Core ML, which runs on macOS only.

  python to_core_ml.py GRAPH FEEDS ANSWERS OUTPUT...

FEEDS is a .npz with arrays by input name. ANSWERS is not written; a model that
lacks an input or an OUTPUT ends it with a message.
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import coremltools
import numpy as np
import tensorflow.compat.v1 as tf1


def main(graph, feeds, answers, *outputs):
  graph_def = tf1.GraphDef()
  with open(graph, "rb") as f:
    graph_def.ParseFromString(f.read())
  with tf1.Graph().as_default() as imported:
    tf1.import_graph_def(graph_def, name="")
  inputs = [
    coremltools.TensorType(name, value.shape, dtype=value.dtype.type)
    for name, value in np.load(feeds).items()
  ]
  wanted = [name.partition(":")[0] for name in outputs]
  model = coremltools.convert(
    # It infers shapes by itself from a file only under TensorFlow 1.
    imported.as_graph_def(add_shapes=True),
    source="tensorflow",
    convert_to="mlprogram",
    inputs=inputs,
    outputs=[coremltools.TensorType(name) for name in wanted],
  )
  description = model.get_spec().description
  names = (
    [one.name for one in description.input],
    [one.name for one in description.output],
  )
  if names != ([one.name for one in inputs], wanted):
    sys.exit("the converted model has inputs %s and outputs %s" % names)


if __name__ == "__main__":
  main(*sys.argv[1:])
