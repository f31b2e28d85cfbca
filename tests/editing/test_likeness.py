# SPDX-License-Identifier: Apache-2.0
"""Which tensors can be read in the place of which."""

import pytest
from judges.norms import graph_of

from bnexport.editing.likeness import dtype_of, refuse_unlike
from bnexport.errors import GraphError
from bnexport.graph import TensorRef

GRAPH = """
a = Placeholder() {shape=[2,3]}   open = Placeholder() {shape=[?,3]}
any = Placeholder()   empty = Placeholder() {shape=[0,3]}
vector = Placeholder() {shape=[3]}   whole = Placeholder() {dtype=int32}
unknown = NotAnOp(a)   s = Split(axis, a) {num_split=3}
axis = Const() {value=<int32 1>}
"""


@pytest.mark.parametrize(
  "old, new, said",
  [
    ("a", "a", None),
    ("a", "open", None),
    ("open", "empty", None),
    ("a", "any", None),
    ("any", "a", None),
    ("a", "unknown", None),
    ("unknown", "whole", None),
    ("^a", "^whole", None),
    ("a", "empty", r"its shape is stated as \(0, 3\) and not \(2, 3\)"),
    ("a", "vector", "its shape"),
    ("a", "whole", "it is int32 and not float32"),
    ("any", "whole", "insert a Cast"),
    ("a", "^a", "one is a tensor, one a control input"),
    ("^a", "a", "one is a tensor, one a control input"),
    ("a", "s:3", "has 3 outputs"),
  ],
)
def test_likeness(old, new, said):
  graph = graph_of(GRAPH)
  refs = TensorRef.parse(old), TensorRef.parse(new)
  if said is None:
    refuse_unlike(graph, *refs)
  else:
    with pytest.raises(GraphError, match=said):
      refuse_unlike(graph, *refs)


def test_likeness_of_a_tensor_of_another_graph():
  other = graph_of("a = Placeholder() {dtype=int32}")
  refuse_unlike(graph_of(GRAPH), TensorRef("a"), TensorRef("whole"), of=other)
  with pytest.raises(GraphError, match="it is float32 and not int32"):
    refuse_unlike(graph_of(GRAPH), TensorRef("a"), TensorRef("a"), of=other)


def test_dtype_that_nothing_tells():
  graph = graph_of(GRAPH)
  assert dtype_of(graph, TensorRef("unknown")) is None
  assert dtype_of(graph, TensorRef("a", 0, True)) is None
