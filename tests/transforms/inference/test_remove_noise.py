# SPDX-License-Identifier: Apache-2.0
"""Noise of mean 0 that is added to data goes; all else that is random stays."""

import pytest
from judges.transforming import model_of, spelled

from bnexport.transforms.inference.remove_noise import RemoveNoise

BASE = """
  x = Placeholder() {shape=[?,4]}   scale = Const() {value=<float 0.2>}
  half = Const() {value=<float -0.5>}   one = Const() {value=<float 1>}
  n = Shape(x)   r = RandomStandardNormal(n)   u = RandomUniform(n)
"""


def applied(statements, outputs=("y",)):
  model = model_of(BASE + statements, outputs)
  told = RemoveNoise().apply(model)
  model.graph.lint()
  return model, told


@pytest.mark.parametrize(
  "noise",
  [
    "a = AddV2(x, r)",
    "a = Add(r, x)",
    "m = Mul(r, scale)   a = AddV2(x, m)",
    "m = Mul(scale, r)   a = AddV2(x, m)",
    "t = TruncatedNormal(n)   a = AddV2(x, t)",
    "m = Add(u, half)   a = AddV2(x, m)",
    "c = Cast(r) {DstT=float}   i = Identity(c)   a = AddV2(x, i)",
    "s = VariableV2() {shape=[]}   m = Mul(r, s)   a = AddV2(x, m)",
  ],
)
def test_noise_of_mean_0_goes(noise):
  model, told = applied(noise + "   y = Relu(a)")
  assert spelled(model.graph, "y") == "Relu(x)"
  assert len(told) == 1 and told[0].endswith("from 'x'")
  assert model.warnings == [told[0] + ": it is random and its mean is 0"]


@pytest.mark.parametrize(
  "noise",
  [
    "a = AddV2(x, u)",
    "m = Add(r, one)   a = AddV2(x, m)",
    "m = Mul(u, half)   a = AddV2(x, m)",
    "a = Mul(x, r)",
    "a = Sub(x, u)",
    "m = Exp(r)   a = AddV2(x, m)",
    "m = Add(r, x)   t = Mul(m, x)   a = AddV2(one, t)",
  ],
)
def test_noise_of_another_mean_stays(noise):
  model, told = applied(noise + "   y = Relu(a)")
  assert [n for n in told if "from 'x'" in n and "'m'" not in n] == told[:1]
  if not told:
    assert spelled(model.graph, "y") == "Relu(a)" and model.warnings == []


def test_sum_that_is_all_random_stays():
  """As the code that a generator starts from."""
  model, told = applied("a = AddV2(r, u)   y = Relu(a)")
  assert spelled(model.graph, "y") == "Relu(a)" and told == []


def test_noise_on_what_is_no_data_stays():
  model, told = applied(
    "w = VariableV2() {shape=[4]}   a = AddV2(w, r)   y = Relu(a)"
  )
  assert spelled(model.graph, "y") == "Relu(a)" and told == []


def test_output_itself_stays():
  model, told = applied("y = AddV2(x, r)")
  assert spelled(model.graph, "y") == "AddV2(x, r)" and told == []
