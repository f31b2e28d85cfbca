# SPDX-License-Identifier: Apache-2.0
"""Runs a SavedModel by its signature, in the TensorFlow of this process.

  python load_saved_model.py SAVED_MODEL FEEDS ANSWERS OUTPUT...

FEEDS is a .npz with arrays by the signature's input names; ANSWERS is one that
is written, with an array for each OUTPUT, by its place. Under TensorFlow 1 the
loader is that of sessions, as TF Serving and Java have it; under TensorFlow 2
it is tf.saved_model.load.
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

_SIGNATURE = "serving_default"


def main(saved_model, feeds, answers, *outputs):
  is_first = tf.__version__.startswith("1.")
  run = _in_session if is_first else _in_function
  with np.load(feeds) as stored:
    found = run(saved_model, dict(stored.items()))
  # An output that is a node's first goes by the name of the node.
  names = [name[:-2] if name.endswith(":0") else name for name in outputs]
  if set(found) != set(names):
    sys.exit("its signature has outputs %s" % ", ".join(sorted(found)))
  np.savez(answers, **{str(i): found[name] for i, name in enumerate(names)})


def _in_session(saved_model, feeds):
  with tf.Graph().as_default(), tf.Session() as session:
    loaded = tf.saved_model.loader.load(session, ["serve"], saved_model)
    signature = loaded.signature_def[_SIGNATURE]
    outputs = {key: info.name for key, info in signature.outputs.items()}
    fed = {signature.inputs[key].name: feeds[key] for key in signature.inputs}
    return session.run(outputs, fed)


def _in_function(saved_model, feeds):
  function = tf.saved_model.load(saved_model).signatures[_SIGNATURE]
  fed = {key: tf.constant(value) for key, value in feeds.items()}
  return {key: value.numpy() for key, value in function(**fed).items()}


if __name__ == "__main__":
  main(*sys.argv[1:])
