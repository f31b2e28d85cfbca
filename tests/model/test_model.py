# SPDX-License-Identifier: Apache-2.0
"""A Model: copies of it, and what it tells of its graph."""

import numpy as np
import pytest
from judges.transforming import checkpoint, model_of

from bnexport.errors import SourceError
from bnexport.graph import TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.model.model import find_tensors
from bnexport.tf1 import tf1

# The later placeholder is the first to run.
GRAPH = """
y = Add(a, b)
c = Placeholder()
b = Relu(first)
a = Neg(second, ^b)
second = Placeholder()
first = Placeholder()
halves = Split(axis, c) {num_split=2}
axis = Const() {value=<int32 0>}
"""


def find(*names):
  graph = model_of(GRAPH).graph
  return find_tensors(graph, Signatures(), names, "--output_node")


@pytest.mark.parametrize(
  "name, found",
  [
    ("y", TensorRef("y")),
    (" y:0 ", TensorRef("y")),
    ("halves:1", TensorRef("halves", 1)),
  ],
)
def test_names_that_a_user_typed(name, found):
  assert find("a", name) == (TensorRef("a"), found)


@pytest.mark.parametrize(
  "name, said",
  [
    ("y:1", "has 1 outputs"),
    ("halves:2", "has 2 outputs"),
    ("^y", "none of them"),
    ("halve", "no such node"),
  ],
)
def test_names_that_are_no_tensors(name, said):
  with pytest.raises(SourceError, match=said):
    find("a", name)


def test_placeholders_are_those_needed_in_order_of_execution():
  assert model_of(GRAPH).placeholders() == ["first", "second"]


def test_who_only_waits_is_not_needed():
  model = model_of("y = Relu(x, ^w)   x = Placeholder()   w = NoOp()")
  assert set(model.needed()) == {"y", "x"}
  assert set(model.needed(control=True)) == {"y", "x", "w"}


def test_dtypes():
  text = "y = Cast(x) {DstT=int32}   x = Placeholder() {dtype=half}"
  model = model_of(text)
  assert model.dtype(TensorRef("x")) == tf1.float16
  assert model.dtype(TensorRef("y")) == tf1.int32


def test_a_clone_is_edited_alone(tmp_path):
  saved = checkpoint(tmp_path, {"v": np.ones(2, np.float32)})
  model = model_of(
    "y = Placeholder()   v = VariableV2() {shape=[2]}", saved=saved
  )
  held = tf1.make_tensor_proto([2.0, 3.0])
  made = model.clone()
  made.graph.remove(["v"])
  made.history.append("done")
  made.warnings.append("doubted")
  made.decisions.values["phase"] = False
  made.deferred["key"] = None
  made.values.hold("v", held)
  assert "v" in model.graph
  assert not model.history and not model.warnings and not model.deferred
  assert not model.decisions.values
  assert model.values["v"].tolist() == [1.0, 1.0]
  assert made.values["v"].tolist() == [2.0, 3.0]
