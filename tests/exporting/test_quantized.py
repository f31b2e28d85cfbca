# SPDX-License-Identifier: Apache-2.0
"""Quantization-aware training is exported as TFLite's converter reads it."""

import os
import sys

import numpy as np
import pytest

from bnexport.graph import ops
from bnexport.proof.runs import ImportedGraph
from bnexport.tf1 import tf1

# Real values of the input's bytes: (byte - ZERO) * STEP.
STEP, ZERO = 0.025, 128


@pytest.fixture
def quantized(exports, tmp_path, monkeypatch):
  """An Export that ends in quantized values, and its TFLite model."""
  import tensorflow as tf

  # TF 1.15 starts a program of its own to convert.
  folders = [os.path.dirname(sys.executable), os.environ["PATH"]]
  monkeypatch.setenv("PATH", os.pathsep.join(folders))
  made = exports("quant_mobile")
  path = str(tmp_path / "net.pb")
  with open(path, "wb") as f:
    f.write(made.to_graph_def().SerializeToString())
  (output,) = made.model.outputs
  converter = tf1.lite.TFLiteConverter.from_frozen_graph(
    path, ["x"], [output.node], {"x": [1, 6, 6, 3]}
  )
  converter.inference_type = tf.uint8
  converter.quantized_input_stats = {"x": (float(ZERO), 1 / STEP)}
  interpreter = tf.lite.Interpreter(model_content=converter.convert())
  interpreter.allocate_tensors()
  return made, interpreter


def test_tflite_gives_the_exports_answers_in_bytes(cases, quantized):
  made, interpreter = quantized
  (given,) = interpreter.get_input_details()
  (found,) = interpreter.get_output_details()
  assert given["dtype"] == found["dtype"] == np.uint8
  step, zero = found["quantization"]
  images = np.clip(np.round(cases("quant_mobile").x / STEP) + ZERO, 0, 255)
  with ImportedGraph(made.to_graph_def(), made.model.outputs) as run:
    for image in images.astype(np.uint8)[:, np.newaxis]:
      interpreter.set_tensor(given["index"], image)
      interpreter.invoke()
      answer = interpreter.get_tensor(found["index"]).astype(int) - zero
      real = (image.astype(np.float32) - ZERO) * np.float32(STEP)
      (expected,) = run.run({"x": real})
      assert len(np.unique(answer)) > 5
      # Integers and floats may round one step apart.
      assert np.max(np.abs(answer * step - expected)) <= 1.01 * step


def test_every_range_is_the_stored_one(cases, exports):
  """And no FakeQuant op is lost."""
  case, made = cases("quant_default"), exports("quant_default")
  reader = tf1.train.NewCheckpointReader(case.prefix)
  graph, found = made.model.graph, 0
  for node in graph:
    if node.op in ops.FAKE_QUANTS:
      for end, ref in zip(("min", "max"), graph.inputs(node.name)[1:]):
        variable = graph.inputs(ref.node)[0].node
        stored = reader.get_tensor(f"{os.path.dirname(node.name)}/{end}")
        assert made.model.array(variable) == stored
        found += 1
  assert found == 10


def test_nothing_stands_between_a_convolution_and_its_offset(exports):
  graph = exports("quant_default").model.graph
  for layer in ("c1", "c2"):
    (data, _) = graph.inputs(f"{layer}/add_fold")
    assert graph.op(data.node) == "Conv2D"
