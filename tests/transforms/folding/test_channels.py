# SPDX-License-Identifier: Apache-2.0
"""Where tensors behind linear ops have their channels, and how many."""

import pytest
from judges.transforming import model_of

from bnexport.graph import TensorRef
from bnexport.transforms.folding.channels import Channels, width_of
from bnexport.transforms.folding.steps import Steps
from bnexport.transforms.folding.values import Constants

LAST = """
  x = Placeholder() {shape=[?,8,8,3]}   k = Const() {value=<float [3,3,3,5] 1>}
  c = Conv2D(x, k) {strides=(1, 1, 1, 1), padding=SAME}
  k2 = Const() {value=<float [1,1,3,7] 1>}
  d = Conv2D(x, k2) {strides=(1, 1, 1, 1), padding=SAME}
  five = Const() {value=<float [5] 1>}   seven = Const() {value=<float [7] 1>}
"""
FIRST = """
  x = Placeholder() {shape=[?,3,8,8]}   k = Const() {value=<float [3,3,3,5] 1>}
  c = Conv2D(x, k)
      {strides=(1, 1, 1, 1), padding=SAME, data_format=NCHW}
"""


def channels_of(statements):
  model = model_of(statements)
  order = model.graph.topological()
  constants = Constants(model, order)
  steps = Steps(model.graph, constants)
  return model.graph, Channels(model.graph, order, constants, steps)


def layout(statements, name="y"):
  found = channels_of(statements)[1].of(TensorRef.parse(name))
  return None if found is None else tuple(found)


LINEAR = {
  "Conv2D": (LAST + "y = Identity(c)", (4, 3, 5, True)),
  "Conv2D, channels first": (FIRST + "y = Identity(c)", (4, 1, 5, True)),
  "depthwise": (
    """
    x = Placeholder() {shape=[?,8,8,3]}   k = Const() {value=<float [3,3,3,2] 1>}
    y = DepthwiseConv2dNative(x, k) {strides=(1, 1, 1, 1), padding=SAME}
  """,
    (4, 3, 6, True),
  ),
  "3-D": (
    """
    x = Placeholder() {shape=[?,4,8,8,3]}
    k = Const() {value=<float [1,3,3,3,2] 1>}
    y = Conv3D(x, k) {strides=(1, 1, 1, 1, 1), padding=SAME}
  """,
    (5, 4, 2, True),
  ),
  "MatMul": (
    """
    x = Placeholder() {shape=[?,3]}   k = Const() {value=<float [3,4] 1>}
    y = MatMul(x, k)
  """,
    (2, 1, 4, True),
  ),
  "MatMul, transposed": (
    """
    x = Placeholder() {shape=[?,3]}   k = Const() {value=<float [4,3] 1>}
    y = MatMul(x, k) {transpose_b=true}
  """,
    (2, 1, 4, True),
  ),
}


@pytest.mark.parametrize("how", LINEAR)
def test_channels_are_the_kernels(how):
  statements, expected = LINEAR[how]
  assert layout(statements) == expected


@pytest.mark.parametrize(
  "sizes, expected",
  [("2 16 16 5", (4, 3, 5, True)), ("2 16 16 10", None)],
)
def test_transposed_convolutions_state_how_many(sizes, expected):
  """A kernel tells the channels of one group."""
  assert (
    layout(f"""
    x = Placeholder() {{shape=[2,8,8,3]}}   k = Const() {{value=<float [3,3,5,3] 1>}}
    n = Const() {{value=<int32 [4] {sizes}>}}
    y = Conv2DBackpropInput(n, k, x) {{strides=(1, 2, 2, 1), padding=SAME}}
  """)
    == expected
  )


CARRIED = {
  "steps": ("a = Mul(c, five)   y = Add(a, five)", (4, 3, 5, True)),
  "activations": ("y = Relu(c)", (4, 3, 5, False)),
  "pools": (
    "y = MaxPool(c) {ksize=(1, 2, 2, 1), strides=(1, 2, 2, 1), padding=SAME}",
    (4, 3, 5, False),
  ),
  "sums": ("r = Relu(c)   y = Add(c, r)", None),
  "sums of what is alike": (
    "r = Relu(c)   s = Abs(c)   y = Add(r, s)",
    (4, 3, 5, False),
  ),
  "concatenation of channels": (
    "a = Const() {value=<int32 3>}   y = ConcatV2(c, d, a)",
    (4, 3, 12, True),
  ),
  "concatenation from the end": (
    "a = Const() {value=<int32 -1>}   y = ConcatV2(c, d, a)",
    (4, 3, 12, True),
  ),
  "concatenation of rows": (
    "a = Const() {value=<int32 0>}   y = ConcatV2(c, c, a)",
    (4, 3, 5, True),
  ),
  "concatenation of other widths": (
    "a = Const() {value=<int32 0>}   y = ConcatV2(c, d, a)",
    None,
  ),
  "Transpose": (
    "a = Const() {value=<int32 [4] 0 3 1 2>}   y = Transpose(c, a)",
    (4, 1, 5, True),
  ),
  "ExpandDims before": (
    "a = Const() {value=<int32 1>}   y = ExpandDims(c, a)",
    (5, 4, 5, True),
  ),
  "ExpandDims behind": (
    "a = Const() {value=<int32 -1>}   y = ExpandDims(c, a)",
    (5, 3, 5, True),
  ),
  "Squeeze": ("y = Squeeze(c) {squeeze_dims=(1, 2)}", (2, 1, 5, True)),
  "Squeeze of the channels": ("y = Squeeze(c) {squeeze_dims=(3)}", None),
  "Squeeze of who knows what": ("y = Squeeze(c)", None),
  "Reshape": (
    "a = Const() {value=<int32 [3] -1 64 5>}   y = Reshape(c, a)",
    (3, 2, 5, True),
  ),
  "Reshape that mixes channels": (
    "a = Const() {value=<int32 [2] -1 320>}   y = Reshape(c, a)",
    None,
  ),
  "BatchToSpaceND": (
    "b = Const() {value=<int32 [2] 2 2>}   o = Const() {value=<int32 [2,2] 0>}"
    "  y = BatchToSpaceND(c, b, o)",
    (4, 3, 5, True),
  ),
  "a step of more channels": ("y = Mul(c, seven)", None),
  "what nobody knows": ("y = Softmax(c)", None),
}


@pytest.mark.parametrize("how", CARRIED)
def test_channels_are_carried(how):
  statements, expected = CARRIED[how]
  assert layout(LAST + statements) == expected


def test_only_first_outputs_have_a_layout():
  _, channels = channels_of(LAST + "y = Relu(c)")
  assert channels.of(TensorRef("c")) is not None
  assert channels.of(TensorRef("c", 1)) is None


def test_parts_of_a_concatenation():
  graph, channels = channels_of(
    LAST + "a = Const() {value=<int32 3>}   y = ConcatV2(c, d, a)"
  )
  assert channels.parts(graph.node("y")) == [
    (TensorRef("c"), slice(0, 5)),
    (TensorRef("d"), slice(5, 12)),
  ]


def test_parts_that_lie_side_by_side_have_all_channels():
  graph, channels = channels_of(
    LAST + "a = Const() {value=<int32 1>}   y = ConcatV2(c, c, a)"
  )
  parts = channels.parts(graph.node("y"))
  assert parts == [(TensorRef("c"), slice(None))] * 2


@pytest.mark.parametrize(
  "name, axis, width",
  [("x", 3, 3), ("x", 0, None), ("c", 3, 5), ("r", 3, 5), ("c", 1, None)],
)
def test_width_of_any_tensor(name, axis, width):
  graph, channels = channels_of(LAST + "r = Relu(c)   y = Relu(x)")
  assert width_of(graph, channels, TensorRef(name), 4, axis) == width
  assert width_of(graph, channels, TensorRef("y"), 4, 3) == 3
