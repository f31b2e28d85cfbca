# SPDX-License-Identifier: Apache-2.0
"""FakeQuant ops read the variables that their ranges are stored in."""

import pytest
from judges.transforming import checkpoint, model_of, spelled

from bnexport.batchnorm.stored import Stored
from bnexport.errors import TransformError
from bnexport.graph import TensorRef
from bnexport.transforms.inference.decide import Decide
from bnexport.transforms.inference.use_stored_ranges import UseStoredRanges

BASE = """
  x = Placeholder() {shape=[?,2]}   axes = Const() {value=<int32 [2] 0 1>}
  mn = VariableV2() {shape=[]}   mx = VariableV2() {shape=[]}
  lo = Min(x, axes)   hi = Max(x, axes)
"""
QUANTIZED = "y = FakeQuantWithMinMaxVars(x, %s, %s)"
STORED = "FakeQuantWithMinMaxVars(x, mn/read, mx/read)"
# A conditional by a step that counts itself.
DELAYED = """
  step = VariableV2() {shape=[]}   i = Const() {value=<float 1>}
  s = AssignAdd(step, i)   c = Const() {value=<float 100>}
  p = GreaterEqual(s, c)   w = Switch(x, p)
  a = Assign(mn, lo)   b = Assign(mx, hi)
  q = FakeQuantWithMinMaxVars(x, a, b)
  v = Switch(q, p)   m = Merge(w, v:1)   y = Relu(m)
"""


def applied(*statements):
  model = model_of(BASE + "".join(statements))
  told = UseStoredRanges().apply(model)
  model.graph.lint()
  return model, told


def test_update_is_the_variable():
  model, told = applied(
    "a = Assign(mn, lo)   b = AssignSub(mx, hi)", QUANTIZED % ("a", "b")
  )
  assert spelled(model.graph, "y") == STORED
  assert told == ["'y' quantizes to the range stored in 'mn' and 'mx'"]
  assert model.decisions.stored == {
    TensorRef("a"): Stored("mn"),
    TensorRef("b"): Stored("mx"),
  }


def test_read_that_waits_for_an_update_is_the_variable():
  model, _ = applied(
    "a = Assign(mn, lo)   r = Identity(mn, ^a)   b = Assign(mx, hi)",
    QUANTIZED % ("r", "b"),
  )
  assert spelled(model.graph, "y") == STORED


def test_other_ranges_stay():
  """Those that are read as they are, and those of this very batch."""
  model, told = applied("r = Identity(mn)", QUANTIZED % ("r", "hi"))
  assert spelled(model.graph, "y") == "FakeQuantWithMinMaxVars(x, r, hi)"
  assert told == []


def decided(folder, step, values=()):
  saved = checkpoint(folder, {"step": step})
  model = model_of(BASE + DELAYED, saved=saved)
  Decide(dict(values)).apply(model)
  UseStoredRanges().apply(model)
  model.graph.lint()
  return model.graph


def test_quantization_that_has_begun_is_kept(tmp_path):
  graph = decided(tmp_path, 5000)
  assert spelled(graph, "y") == "Relu(q)"
  assert spelled(graph, "q") == STORED


def test_quantization_that_has_not_begun_is_asked_about(tmp_path):
  with pytest.raises(TransformError) as refused:
    decided(tmp_path, 3)
  assert "--set=step=VALUE" in str(refused.value)
  assert spelled(decided(tmp_path, 3, {"step": "100"}), "y") == "Relu(q)"
  assert spelled(decided(tmp_path, 3, {"step": "3"}), "y") == "Relu(x)"
