# SPDX-License-Identifier: Apache-2.0
"""What viewers are given, as the page beside the room tells it, is whole."""

import glob
import os
import re

from judges.commands import ROOT

from bnexport import text
from bnexport.tf1 import tf1

PAGE = os.path.join(ROOT, "bnexport", "validation", "README.md")
NET = """
x = Placeholder() {shape=[?,4,4,2]}
kernel = Const() {value=<float [1,1,2,3] 0.5 -1 2 1 0.25 -0.5>}
logits = Conv2D(x, kernel) {strides=(1, 1, 1, 1), padding="SAME"}
"""


def noted(graph_def):
  """Shapes of outputs by node."""
  return {
    node.name: [dim.size for dim in shape.dim]
    for node in graph_def.node
    for shape in node.attr["_output_shapes"].list.shape
  }


def test_copies_to_look_at_state_shapes(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  graph_def = text.loads(NET)
  assert noted(graph_def) == {}
  (tmp_path / "frozen.pb").write_bytes(graph_def.SerializeToString())
  with open(PAGE) as f:
    (code,) = re.findall(r"^```python\n(.*?)^```$", f.read(), re.M | re.S)
  exec(code, {})
  shapes = {
    "x": [-1, 4, 4, 2],
    "kernel": [1, 1, 2, 3],
    "logits": [-1, 4, 4, 3],
  }
  written = (tmp_path / "look" / "frozen.pb").read_bytes()
  assert noted(tf1.GraphDef.FromString(written)) == shapes
  (events,) = glob.glob("look/events.out.tfevents.*")
  (found,) = [
    tf1.GraphDef.FromString(event.graph_def)
    for event in tf1.train.summary_iterator(events)
    if event.graph_def
  ]
  assert noted(found) == shapes
