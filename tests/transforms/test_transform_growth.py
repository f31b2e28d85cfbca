# SPDX-License-Identifier: Apache-2.0
"""What a transform costs grows with the graph and not faster."""

from __future__ import annotations

import pytest
from judges.counting import assert_linear
from judges.transforming import model_of
from test_transform_contract import SPECS

from bnexport.transforms import table

LAYER = """
  w{0} = Const() {{value=<float [1,1,1,1] {1}>}}   r{0} = Identity(w{0})
  c{0} = Conv2D({2}, r{0}) {{strides=(1,1,1,1), padding="SAME"}}
  g{0} = Const() {{value=<float [1] 2>}}   o{0} = Const() {{value=<float [1] 1>}}
  m{0} = Const() {{value=<float [1] {1}>}}   v{0} = Const() {{value=<float [1] 4>}}
  n{0} = FusedBatchNorm(c{0}, g{0}, o{0}, m{0}, v{0}) {{is_training=false}}
  h{0} = Relu(n{0}, ^c{0}) @"/device:CPU:0"
"""
SMALL, LARGE = 5, 20


def chain(layers):
  statements, last = "x = Placeholder() {shape=[1,2,2,1]}", "x"
  for i in range(layers):
    statements += LAYER.format(i, i % 7, last)
    last = "h%d" % i
  return model_of(statements + "y = Identity(%s)" % last, inputs=["x"])


# It refuses a graph that has none.
@pytest.mark.parametrize(
  "line", [line for line in SPECS if line != "use_moving_averages"]
)
def test_cost_is_linear(line):
  transforms = table.parse(line)
  table.apply_specs(chain(1), transforms)  # what is made once

  def prepare(layers):
    model = chain(layers)
    return lambda: table.apply_specs(model, transforms)

  assert_linear(prepare, SMALL, LARGE)
