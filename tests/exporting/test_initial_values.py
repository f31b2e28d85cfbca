# SPDX-License-Identifier: Apache-2.0
"""Variables that a checkpoint lacks have the values of their initializers."""

import numpy as np
import pytest
from judges.transforming import answers, checkpoint, model_of

import bnexport
from bnexport.errors import SourceError
from bnexport.exporting import initial_values

NET = """
  x = Placeholder() {shape=[?,2]}
  w = VariableV2() {shape=[2]}   w/read = Identity(w)
  b = %s
  h = Mul(x, w/read)   y = Add(h, b/read)
  zeros = Const() {value=<float [2] 0>}   ones = Const() {value=<float [2] 1>}
  %s
"""
REF = "VariableV2() {shape=[2]}   b/read = Identity(b)"
RESOURCE = (
  "VarHandleOp() {dtype=float, shape=[2]}"
  "   b/read = ReadVariableOp(b) {dtype=float}"
)
X = np.float32([[1, 2], [3, 4]])


def opened(tmp_path, kind, writes):
  saved = checkpoint(tmp_path, {"w": [2, 5]})
  return model_of(NET % (kind, writes), inputs=("x",), saved=saved)


def initialized(model):
  return bnexport.export(model, bnexport.Options(missing="initialize"))


@pytest.mark.parametrize(
  "kind, writes",
  [
    (REF, "init = Assign(b, ones)"),
    (REF, "two = Add(ones, zeros)   init = Assign(b, two)"),
    (REF, "init = Assign(b, ones)   again = Assign(b, ones)"),
    (REF, "init = Assign(b, ones)   train = Assign(b, h)"),
    (RESOURCE, "init = AssignVariableOp(b, ones) {dtype=float}"),
  ],
)
def test_value_is_what_constants_initialize(tmp_path, kind, writes):
  model = opened(tmp_path, kind, writes)
  with pytest.raises(SourceError, match="--missing=initialize"):
    bnexport.export(model)
  made = initialized(model)
  assert np.allclose(answers(made.model, {"x": X})[0], X * [2, 5] + 1)
  assert made.prove().holds
  said = "'b' is not in the checkpoint: it has its initial value"
  assert said in made.model.warnings


@pytest.mark.parametrize(
  "writes, fact",
  [
    ("", "no constant initializes it in the graph"),
    ("init = Assign(b, h)", "no constant initializes it in the graph"),
    (
      "size = Const() {value=<int32 [1] 2>}"
      "   random = RandomUniform(size) {dtype=float, T=int32}"
      "   init = Assign(b, random)",
      "no constant initializes it in the graph",
    ),
    (
      "init = Assign(b, ones)   reset = Assign(b, zeros)",
      "the graph sets it to 2 constants",
    ),
  ],
)
def test_value_that_nothing_tells_is_refused(tmp_path, writes, fact):
  with pytest.raises(SourceError) as refused:
    initialized(opened(tmp_path, REF, writes))
  message = str(refused.value)
  assert message.startswith("cannot initialize variable 'b': ")
  assert fact in message


def test_what_the_checkpoint_holds_is_taken_from_there(tmp_path):
  saved = checkpoint(tmp_path, {"w": [2, 5], "b": [7, 7]})
  graph = NET % (REF, "init = Assign(b, ones)")
  made = initialized(model_of(graph, inputs=("x",), saved=saved))
  assert np.allclose(answers(made.model, {"x": X})[0], X * [2, 5] + 7)
  assert not made.model.warnings


def test_what_no_output_needs_is_not_asked_for(tmp_path):
  model = opened(tmp_path, REF, "")
  model.graph.set_input("y", 1, model.graph.inputs("h")[1])
  assert initial_values.hold(model) == {
    "b": "no constant initializes it in the graph"
  }
  assert np.allclose(
    answers(initialized(model).model, {"x": X})[0], X * [2, 5] + [2, 5]
  )
