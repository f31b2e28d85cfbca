# SPDX-License-Identifier: Apache-2.0
"""The list of transforms that is called as TensorFlow's script is.

Where the script takes a norm or a node out, so does the list. What the script
gets wrong, it does not.
"""

import numpy as np
import pytest
from judges.transforming import answers, model_of, transformed
from tensorflow.python.tools import optimize_for_inference_lib as script

from bnexport import text
from bnexport.tf1 import tf1

# The script is told inputs; its tests compute all from constants.
DATA = "x = Const() {value=<float [1,1,6,2] 1 4 2 5 3 6 -1 -4 -2 -5 -3 -6>}"
FED = "x = Placeholder() {shape=[1,1,6,2]}"
KERNEL = """
  k = Const() {value=<float [1,2,2,2] 0.1 0.2 0.3 0.4 0.1 0.2 0.3 0.4>}
"""
CONV = KERNEL + "c = Conv2D(%s, k) {strides=(1, 1, 1, 1), padding=%s}"
DEPTHWISE = (
  KERNEL.replace(
    "[1,2,2,2] 0.1 0.2 0.3 0.4 0.1", "[1,2,2,1] 0.1 0.2 0.3 0.4"
  ).replace(" 0.4 0.2 0.3 0.4>", " 0.4>")
  + "c = DepthwiseConv2dNative(%s, k) {strides=(1, 1, 1, 1), padding=%s}"
)
STATISTICS = """
  m = Const() {value=<float [2] 10 20>}   v = Const() {value=<float [2] 0.25 0.5>}
  b = Const() {value=<float [2] 0.1 0.6>}   g = Const() {value=<float [2] 1 2>}
"""
GLOBAL = (
  STATISTICS
  + """
  y = BatchNormWithGlobalNormalization(%s, m, v, b, g)
    {scale_after_normalization=%s, variance_epsilon=0.00001}
"""
)
FUSED = (
  STATISTICS + "y = %s(%%s, g, b, m, v) {is_training=false, epsilon=0.0001}"
)
SPELLED = (
  STATISTICS
  + """
  e = Const() {value=<float 0.0001>}   ve = Add(v, e)   r = Rsqrt(ve)
  s = Mul(r, g)   p = Mul(%s, s)   q = Mul(m, s)   o = Sub(b, q)
  y = Add(p, o)
"""
)
NORMS = {
  "global, scaled": GLOBAL % ("%s", "true"),
  "global": GLOBAL % ("%s", "false"),
  "fused": FUSED % "FusedBatchNorm",
  "fused V3": FUSED % "FusedBatchNormV3",
  "spelled out": SPELLED,
}
BIASES = {
  "": "",
  "bias": "h = Const() {value=<float [2] 3 -1>}   i = BiasAdd(c, h)",
  "sum": "h = Const() {value=<float [2] 3 -1>}   i = Add(c, h)",
}
X = np.arange(12, dtype="f").reshape(1, 1, 6, 2)


def graph_def(source, producer=4):
  """A GraphDef; later versions know no global normalization."""
  made = text.loads(source)
  made.versions.producer = producer
  return made


def check(source, ops, outputs=("y",)):
  """Asserts which ops are left, and that the answers are the same."""
  given = graph_def(source)
  inputs = ["x"] if "Placeholder" in source else []
  model = transformed(given, "optimize_for_inference", outputs, inputs)
  left = {node.op for node in model.graph}
  assert left <= set(ops) | {"Const", "Placeholder"}
  feeds = {"x": X} if inputs else {}
  right = answers(model_of(given, outputs), feeds)
  for found, expected in zip(answers(model, feeds), right):
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4)
  return model


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("conv", [CONV, DEPTHWISE])
@pytest.mark.parametrize("data", [DATA, FED])
def test_norms_behind_convolutions(data, conv, norm, bias):
  source = data + conv % ("x", "VALID") + BIASES[bias]
  source += NORMS[norm] % ("i" if bias else "c")
  op = "DepthwiseConv2dNative" if conv is DEPTHWISE else "Conv2D"
  check(source, {op, "BiasAdd"})


def test_the_script_leaves_no_less():
  """What it folds of these is what is asked for above."""
  source = FED + CONV % ("x", "VALID") + NORMS["fused"] % "c"
  made = script.optimize_for_inference(
    graph_def(source), ["x"], ["y"], tf1.float32.as_datatype_enum
  )
  assert {n.op for n in made.node} == {
    "Placeholder",
    "Const",
    "Conv2D",
    "BiasAdd",
  }


def test_nodes_of_training_go():
  source = """
    a = Const() {value=<float 1>}   i = Identity(a)   b = Const() {value=<float 2>}
    j = Identity(b)   n = CheckNumerics(j) {message="bad"}
    y = Add(i, n)   unused = Neg(y)
  """
  model = check(source, {"Add"})
  assert set(model.graph.names()) == {"a", "b", "y"}


@pytest.mark.parametrize(
  "front, read, fused",
  [
    (
      "s = Const() {value=<int32 [2] 12 4>}   z = ResizeBilinear(%s, s)",
      "z",
      "FusedResizeAndPadConv2D",
    ),
    (
      "p = Const() {value=<int32 [4,2] 0 0 1 1 2 2 0 0>}"
      "   z = MirrorPad(%s, p) {mode=REFLECT}",
      "z",
      "FusedPadConv2D",
    ),
    (
      "s = Const() {value=<int32 [2] 12 4>}   d = ResizeBilinear(%s, s)"
      "   p = Const() {value=<int32 [4,2] 0 0 1 1 2 2 0 0>}"
      "   z = MirrorPad(d, p) {mode=REFLECT}",
      "z",
      "FusedResizeAndPadConv2D",
    ),
  ],
)
def test_resizing_and_padding_are_fused(front, read, fused):
  data = DATA.replace("[1,1,6,2]", "[1,2,3,2]")
  source = data + front % "x" + CONV % (read, "VALID")
  source = source.replace("c = Conv2D", "y = Conv2D")
  check(source, {fused})


def test_what_is_read_beside_the_norm_is_right():
  """The script scales the kernel for both."""
  source = FED + CONV % ("x", "VALID") + NORMS["fused"] % "c" + "z = Relu(c)"
  check(source, {"Conv2D", "FusedBatchNorm", "Relu"}, ("y", "z"))


@pytest.mark.parametrize("norm", ["fused", "spelled out"])
def test_norms_that_nothing_absorbs_are_one_op(norm):
  source = FED + "c = Relu(x)" + NORMS[norm] % "c"
  check(source, {"Relu", "FusedBatchNorm"})


def test_an_input_keeps_its_dtype():
  """The script feeds bytes as floats."""
  source = """
    x = Placeholder() {dtype=uint8, shape=[2]}
    y = Cast(x) {SrcT=uint8, DstT=float}
  """
  model = transformed(source, "optimize_for_inference", inputs=["x"])
  assert model.graph.node("x").attr["dtype"].type == tf1.uint8
