# SPDX-License-Identifier: Apache-2.0
"""OpenCV's dnn module, which takes and gives images as NCHW."""

from __future__ import annotations

import numpy as np

# The attribute in a serialized GraphDef; parsing that would take TensorFlow.
_CHANNELS_FIRST = b"data_format\x12\x06\x12\x04NCHW"


def version():
  import cv2

  return f"OpenCV {cv2.__version__}"


def load(path, feeds, outputs):
  """See the package."""
  import cv2

  with open(path, "rb") as f:
    if _CHANNELS_FIRST in f.read():
      raise ValueError(
        "the graph is NCHW, which it mistakes; freeze with --data_format=NHWC"
      )
  options = []
  if int(cv2.__version__.partition(".")[0]) >= 5:
    # The engine of OpenCV 5 gives only outputs that were named when it read the
    # graph. It reports names that are none of its layers on stderr.
    every = [_layer(name) for names in outputs for name in names]
    options = ["", cv2.dnn.ENGINE_AUTO, every]
  net = cv2.dnn.readNetFromTensorflow(path, *options)
  there = set(net.getLayerNames())
  layers = [_first(names, there) for names in outputs]

  def run(feeds):
    for name, value in feeds.items():
      net.setInput(_moved(value, -1, 1), name)
    # One by one: several at once have to be all ends of the graph.
    return [_moved(net.forward(layer), 1, -1) for layer in layers]

  return run


def _first(names, there):
  for name in names:
    if _layer(name) in there:
      return _layer(name)
  raise ValueError(f"it has no layer for output '{names[0]}'")


def _layer(name):
  layer, _, index = name.rpartition(":")
  if index != "0":
    raise ValueError("it gives nothing but the first output of a node")
  return layer


def _moved(value, channels, to):
  """Moves the channels of images and volumes."""
  if value.ndim < 4:
    return value
  return np.ascontiguousarray(np.moveaxis(value, channels, to))
