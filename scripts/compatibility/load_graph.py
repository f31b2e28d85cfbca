# SPDX-License-Identifier: Apache-2.0
"""Runs a frozen graph in the TensorFlow of this process.

  python load_graph.py GRAPH FEEDS ANSWERS OUTPUT...

FEEDS is a .npz with arrays by input name; ANSWERS is one that is written, with
an array for each OUTPUT, by its place. Written for Python 3.6 and TF 1.4.
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf


def main(graph, feeds, answers, *outputs):
  graph_def = tf.GraphDef()
  with open(graph, "rb") as f:
    graph_def.ParseFromString(f.read())
  with tf.Graph().as_default():
    tf.import_graph_def(graph_def, name="")
    with tf.Session() as session:
      values = session.run(
        list(outputs),
        {name + ":0": value for name, value in np.load(feeds).items()},
      )
  np.savez(answers, **{str(i): value for i, value in enumerate(values)})


if __name__ == "__main__":
  main(*sys.argv[1:])
