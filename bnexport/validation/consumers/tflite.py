# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Lite: TensorFlow's converter and interpreter.

Only the interpreter's own ops count: others need TensorFlow beside it on the
device.
"""

from __future__ import annotations

import os
import sys

import numpy as np

from bnexport.tf1 import tf1


def version():
  return f"TFLite {tf1.VERSION}"


def load(path, feeds, outputs):
  """See the package; for each shape of feeds the graph is converted anew."""
  # The converter of some versions is a program beside Python.
  os.environ["PATH"] = os.pathsep.join(
    [os.path.dirname(sys.executable), os.environ.get("PATH", "")]
  )
  loaded = {}

  def converted(fed):
    sizes = tuple(np.shape(value) for value in fed.values())
    if sizes not in loaded:
      loaded[sizes] = _Converted(path, fed, outputs)
    return loaded[sizes]

  converted(feeds)
  return lambda fed: converted(fed).run(fed)


class _Converted:
  def __init__(self, path, feeds, outputs):
    converter = tf1.lite.TFLiteConverter.from_frozen_graph(
      path,
      list(feeds),
      [_array_name(names[0]) for names in outputs],
      {name: list(np.shape(value)) for name, value in feeds.items()},
    )
    self._interpreter = tf1.lite.Interpreter(model_content=converter.convert())
    self._interpreter.allocate_tensors()

  def run(self, feeds):
    for one in self._interpreter.get_input_details():
      self._interpreter.set_tensor(one["index"], feeds[one["name"]])
    self._interpreter.invoke()
    return [
      self._interpreter.get_tensor(one["index"])
      for one in self._interpreter.get_output_details()
    ]


def _array_name(tensor):
  return tensor[:-2] if tensor.endswith(":0") else tensor
