# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: the graph as tf2onnx converts it."""

from __future__ import annotations

from bnexport.sources.files import read_proto
from bnexport.tf1 import tf1


def version():
  import onnxruntime
  import tf2onnx

  return (
    f"ONNX Runtime {onnxruntime.__version__}, tf2onnx {tf2onnx.__version__}"
  )


def load(path, feeds, outputs):
  """See the package."""
  import onnxruntime
  import tf2onnx

  outputs = [names[0] for names in outputs]
  graph_def = read_proto(path, tf1.GraphDef, "the graph")
  converted, _ = tf2onnx.convert.from_graph_def(
    graph_def,
    input_names=[name + ":0" for name in feeds],
    output_names=outputs,
  )
  session = onnxruntime.InferenceSession(
    converted.SerializeToString(), providers=["CPUExecutionProvider"]
  )
  # The converter may drop inputs that no output needs.
  inputs = [one.name for one in session.get_inputs()]

  def run(feeds):
    fed = {name + ":0": value for name, value in feeds.items()}
    return session.run(outputs, {name: fed[name] for name in inputs})

  return run
