# SPDX-License-Identifier: Apache-2.0
"""A graph that runs for no input is never proven, though it imports."""

import pytest

from bnexport import text
from bnexport.graph import TensorRef
from bnexport.proof.comparison import NOT_PROVEN, prove
from bnexport.proof.runs import ImportedGraph

# A tensor of a loop is read outside of it, without an Exit.
OTHER_FRAME = """
x = Placeholder() {shape=[?,3]}
entered = Enter(x) {frame_name="loop"}
y = Add(entered, x)
"""
# The branch that gives the answer is never taken.
DEAD = """
x = Placeholder() {shape=[?,3]}
no = Const() {value=<bool [] false>}
s = Switch(x, no)
y = Relu(s:1)
"""


@pytest.mark.parametrize("graph", [OTHER_FRAME, DEAD])
@pytest.mark.parametrize("is_compared", [True, False])
def test_what_runs_for_no_input_is_not_proven(graph, is_compared):
  graph_def = text.loads(graph)
  reference = ImportedGraph(graph_def, ["y"]) if is_compared else None
  proof = prove(graph_def, [TensorRef("y")], reference)
  assert proof.verdict == NOT_PROVEN
  assert not proof.differences and proof.arrays is None
  assert proof.missing == "no made-up input fits the graph"
