# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: its frontend reads frozen graphs as they are."""

from __future__ import annotations


def version():
  import openvino

  return f"OpenVINO {openvino.__version__.partition('-')[0]}"


def load(path, feeds, outputs):
  """See the package."""
  import openvino
  from openvino.frontend import FrontEndManager

  outputs = [names[0] for names in outputs]
  frontend = FrontEndManager().load_by_framework("tf")
  graph = frontend.load(path)
  # OpenVINO takes a tensor that is read for an output only where it is named.
  graph.override_all_outputs(
    [graph.get_place_by_tensor_name(name) for name in outputs]
  )
  compiled = openvino.Core().compile_model(
    frontend.convert(graph),
    "CPU",
    # OpenVINO computes in bfloat16 where a processor has that.
    {"INFERENCE_PRECISION_HINT": "f32"},
  )
  inputs = {
    name: port
    for port in compiled.inputs
    for name in feeds
    if name + ":0" in port.names
  }

  def run(feeds):
    answers = compiled({port: feeds[name] for name, port in inputs.items()})
    return [answers[name] for name in outputs]

  return run
