# SPDX-License-Identifier: Apache-2.0
"""Converts a frozen graph for TensorFlow.js and runs it there, under Node.

  python in_tensorflow_js.py GRAPH FEEDS ANSWERS OUTPUT...

FEEDS is a .npz with arrays by input name; ANSWERS is one that is written, with
an array for each OUTPUT, by its place.
"""

import json
import os
import subprocess
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
from tensorflowjs.converters import tf_saved_model_conversion_v2

_PROGRAM = os.path.splitext(os.path.abspath(__file__))[0] + ".js"


def main(graph, feeds, answers, *outputs):
  # A name alone is that of the node's first output there.
  names = [name[:-2] if name.endswith(":0") else name for name in outputs]
  with tempfile.TemporaryDirectory() as folder:
    tf_saved_model_conversion_v2.convert_tf_frozen_model(
      graph, ",".join(names), folder
    )
    with open(os.path.join(folder, "feeds.json"), "w") as f:
      json.dump(
        {name: _plain(value) for name, value in np.load(feeds).items()}, f
      )
    done = subprocess.run(
      [
        "node",
        _PROGRAM,
        os.path.join(sys.prefix, "node_modules"),
        folder,
        *names,
      ],
      stderr=subprocess.PIPE,
      universal_newlines=True,
    )
    if done.returncode:
      sys.exit(done.stderr)
    with open(os.path.join(folder, "answers.json")) as f:
      found = [_array(**one) for one in json.load(f)]
  np.savez(answers, **{str(i): value for i, value in enumerate(found)})


def _plain(value):
  return {
    "dtype": str(value.dtype),
    "shape": value.shape,
    "values": value.ravel().tolist(),
  }


def _array(dtype, shape, values):
  return np.array(values, dtype).reshape(shape)


if __name__ == "__main__":
  main(*sys.argv[1:])
