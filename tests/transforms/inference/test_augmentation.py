# SPDX-License-Identifier: Apache-2.0
"""Where the input is changed at random, the refusal says where to feed it."""

import pytest
from judges.transforming import model_of

from bnexport.errors import TransformError
from bnexport.transforms.inference.remove_noise import RemoveNoise

HEAD = """
x = Placeholder() {shape=[?,4]}
n = Const() {value=<int32 [0] >}   r = RandomUniform(n)
one = Const() {value=<float 1>}   axes = Const() {value=<int32 [1] 1>}
f = Round(r)   g = Sub(one, f)   back = ReverseV2(x, axes)
a = Mul(f, back) {_output_shapes=([?,4])}
b = Mul(g, x) {_output_shapes=([?,4])}
made = Add(a, b) {_output_shapes=([?,4])}
w = VariableV2() {shape=[4,4]}
"""


def refusal(statements):
  with pytest.raises(TransformError) as refused:
    RemoveNoise().apply(model_of(HEAD + statements, ("y",)))
  message = str(refused.value)
  assert "\n" not in message and "--set=f=VALUE" in message
  return message


def test_the_tensor_behind_the_whole_change_is_named():
  told = refusal("y = MatMul(made, w)")
  assert "pass --input_node=made to feed the input there, as it is" in told


@pytest.mark.parametrize(
  "statements",
  [
    # The input is read beside it, too.
    "z = MatMul(made, w)   y = Mul(z, x)",
    # The draw is read beside it, too.
    "z = MatMul(made, w)   y = Mul(z, r)",
    # It is the input no more where it has another shape.
    "s = Square(w)   y = MatMul(made, s)",
  ],
)
def test_a_change_that_is_no_augmentation_has_no_such_place(statements):
  others = HEAD
  if "Square" in statements:
    others = HEAD.replace("_output_shapes=([?,4])", "_output_shapes=([?,5])")
  with pytest.raises(TransformError) as refused:
    RemoveNoise().apply(model_of(others + statements, ("y",)))
  assert "--input_node" not in str(refused.value)


def test_weights_before_it_make_it_no_input():
  told = refusal(
    """v = VariableV2() {shape=[4]}   c = Add(made, v) {_output_shapes=([?,4])}
    z = Mul(c, f)   y = MatMul(z, w)"""
  )
  assert "--input_node=c" not in told
