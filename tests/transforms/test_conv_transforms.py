# SPDX-License-Identifier: Apache-2.0
"""Convolutions that take in what stands before them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from judges.graph_transform_tool import by_name, old_tool
from judges.transforming import (
  answers,
  assert_same_answers,
  ends,
  model_of,
  nodes,
  transformed,
)

from bnexport import text
from bnexport.tf1 import tf1
from bnexport.transforms import table

X = np.random.RandomState(1).normal(size=(2, 9, 11, 3)).astype("f")
ONE, X1 = (1, 9, 11, 3), X[:1]
SIZED, OPEN = (2, 9, 11, 3), (None, None, None, 3)


def weights(*shape):
  return np.random.RandomState(sum(shape)).normal(size=shape).astype("f")


def graph_of(build, shape=SIZED):
  """The GraphDef y = Identity(build(x))."""
  graph = tf1.Graph()
  with graph.as_default():
    x = tf1.placeholder(tf1.float32, shape, name="x")
    tf1.identity(build(x), name="y")
  return graph.as_graph_def()


def check(graph, spec, tolerance=1e-5, outputs=("y",), x=X):
  """Applies a transform; answers, ends and a second time are as before."""
  before = model_of(graph, outputs)
  model = transformed(graph, spec, outputs)
  assert_same_answers(
    answers(model, {"x": x}), answers(before, {"x": x}), tolerance
  )
  once = nodes(model)
  table.apply_specs(model, spec)
  assert nodes(model) == once
  return model


def left(graph, spec, said, outputs=("y",)):
  """Asserts that the graph stays, and that it is said why."""
  model = transformed(graph, spec, outputs)
  assert nodes(model) == nodes(model_of(graph, outputs))
  assert said in model.history[0]


def ops_of(model):
  return [node.op for node in model.graph]


# flatten_atrous_conv.

FLATTEN = "flatten_atrous_conv"


def atrous(padding, taps=(3, 3), rates=(2, 3), depthwise=False):
  def build(x):
    w = tf1.constant(weights(*taps, 3, 2), name="w")
    if depthwise:
      return tf1.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], padding, rate=rates)
    return tf1.nn.convolution(x, w, padding, dilation_rate=rates)

  return build


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("taps", [(3, 3), (2, 4), (1, 3), (1, 1)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("shape", [SIZED, OPEN, (None, 9, None, 3)])
def test_atrous_convolutions(shape, padding, taps, depthwise):
  graph = graph_of(atrous(padding, taps, (2, 3), depthwise), shape)
  before = ends(model_of(graph))
  model = check(graph, FLATTEN)
  if shape == SIZED:
    assert ends(model) == before
  assert "SpaceToBatchND" not in ops_of(model)
  assert "Pad" not in ops_of(model)


@pytest.mark.parametrize("taps", [(3, 3), (2, 4)])
@pytest.mark.parametrize("depthwise", [False, True])
def test_atrous_convolutions_are_the_old_ones(taps, depthwise):
  graph = graph_of(atrous("SAME", taps, (2, 3), depthwise))
  old = model_of(old_tool(graph, FLATTEN))
  model = transformed(graph, FLATTEN)
  ours, theirs = (by_name(m.graph.to_graph_def()) for m in (model, old))
  name = [node.name for node in model.graph if "onv" in node.op][0]
  for attrs in (ours[name][2], theirs[name][2]):
    for default in ("dilations", "explicit_paddings", "use_cudnn_on_gpu"):
      attrs.pop(default, None)
  assert ours[name] == theirs[name]
  assert ours["w"] == theirs["w"]
  assert_same_answers(answers(model, {"x": X}), answers(old, {"x": X}), 1e-6)


def test_the_old_tool_took_valid_for_same():
  graph = graph_of(atrous("VALID", rates=(2, 2)))
  old = model_of(old_tool(graph, FLATTEN))
  assert answers(old, {"x": X})[0].shape == (2, 9, 11, 2)
  assert answers(check(graph, FLATTEN), {"x": X})[0].shape == (2, 5, 7, 2)


def by_hand(
  conv="padding=VALID",
  pads="2 3 2 3",
  crops="0 1 0 0",
  block="2 2",
  more="",
  w="w",
  dtype="float",
):
  return text.loads(
    """
    x = Placeholder() {shape=[2,9,11,3]}   b = Const() {value=<int32 [2] %s>}
    p = Const() {value=<int32 [2,2] %s>}   c = Const() {value=<int32 [2,2] %s>}
    w = Const() {value=<float [3,3,3,1] %s>}   v = Identity(w)
    s = SpaceToBatchND(x, b, p)   a = Conv2D(s, %s) {%s}
    y = BatchToSpaceND(a, b, c)   %s
  """
    % (block, pads, crops, " ".join(map(str, range(27))), w, conv, more)
  )


@pytest.mark.parametrize(
  "conv, pads, crops",
  [
    ('strides=(1,1,1,1), padding="VALID"', "2 3 2 3", "0 1 0 0"),
    ('strides=(1,1,1,1), padding="VALID"', "1 0 4 1", "0 0 0 1"),
    ('strides=(1,1,1,1), padding="SAME"', "0 1 0 1", "0 1 0 1"),
    ('strides=(1,1,1,1), padding="SAME"', "2 3 0 1", "1 2 0 1"),
  ],
)
def test_paddings_by_hand(conv, pads, crops):
  check(by_hand(conv, pads, crops), FLATTEN)


def test_filters_with_other_readers_stay():
  more = 'z = Conv2D(x, w) {strides=(1,1,1,1), padding="SAME"}'
  conv = 'strides=(1,1,1,1), padding="VALID"'
  for w in ("w", "v"):
    model = check(by_hand(conv, w=w, more=more), FLATTEN, outputs=("y", "z"))
    assert "SpaceToBatchND" not in ops_of(model)


def test_branches_that_share_the_way_into_the_batch():
  conv = 'strides=(1,1,1,1), padding="VALID"'
  more = "a2 = Conv2D(s, u) {%s}  z = BatchToSpaceND(a2, b, c)  u = Neg(w)"
  model = check(by_hand(conv, more=more % conv), FLATTEN, outputs=("y", "z"))
  assert ops_of(model).count("BatchToSpaceND") == 1  # whose filter is computed
  assert ops_of(model).count("SpaceToBatchND") == 1


@pytest.mark.parametrize(
  "changes, said, outputs",
  [
    ({"conv": 'strides=(1,2,2,1), padding="VALID"'}, "has strides of", ()),
    (
      {"conv": 'strides=(1,1,1,1), padding="VALID", dilations=(1,1,2,1)'},
      "has dilations of",
      (),
    ),
    ({"crops": "3 0 0 0"}, "reach into the image", ()),
    ({"more": "n = Neg(w)", "w": "n"}, "its filter 'n' is no constant", ()),
    ({"more": "z = Neg(a)"}, "'a' is read elsewhere", ("z",)),
    ({}, "'a' is read elsewhere or is an end", ("a",)),
  ],
)
def test_atrous_convolutions_that_stay(changes, said, outputs):
  changes = dict({"conv": 'strides=(1,1,1,1), padding="VALID"'}, **changes)
  left(by_hand(**changes), FLATTEN, said, ("y",) + outputs)


def test_paddings_that_depend_on_the_size():
  """Where the size of the image shows in the padding, nothing is known."""

  def build(x):
    rows = tf1.shape(x)[1]
    pads = tf1.stack([[rows, rows], [2, 3]])
    s = tf1.space_to_batch_nd(x, [2, 2], pads)
    w = tf1.constant(weights(3, 3, 3, 2))
    a = tf1.nn.conv2d(s, w, strides=[1, 1, 1, 1], padding="VALID")
    return tf1.batch_to_space_nd(a, [2, 2], [[0, 0], [0, 0]])

  left(graph_of(build, OPEN), FLATTEN, "depend on the size of the image")


def test_channels_first_is_flattened():
  graph = tf1.Graph()
  with graph.as_default():
    x = tf1.placeholder(tf1.float32, [2, 3, 9, None], name="x")
    w = tf1.constant(weights(3, 3, 3, 2), name="w")
    y = tf1.nn.convolution(
      x, w, "SAME", dilation_rate=(2, 3), data_format="NCHW"
    )
    tf1.identity(y, name="y")
  graph = graph.as_graph_def()
  if "SpaceToBatchND" not in [node.op for node in graph.node]:
    # TF 2 dilates the convolution itself where the layout is not the CPU's.
    pytest.skip("no atrous convolution")
  model = transformed(graph, FLATTEN)
  assert "SpaceToBatchND" not in ops_of(model)
  (conv,) = [node for node in model.graph if node.op == "Conv2D"]
  assert conv.attr["padding"].s == b"SAME"
  assert conv.attr["data_format"].s == b"NCHW"
  filters = model.array("w")
  assert filters.shape == (5, 7, 3, 2)
  assert (filters[::2, ::3] == weights(3, 3, 3, 2)).all()
  assert np.count_nonzero(filters) == 54


def test_filter_keeps_its_dtype():
  def build(x):
    w = tf1.constant(weights(3, 3, 3, 2), tf1.float16)
    y = tf1.nn.atrous_conv2d(tf1.cast(x, tf1.float16), w, 2, "SAME")
    return tf1.cast(y, tf1.float32)

  check(graph_of(build), FLATTEN, tolerance=3e-3)


# fuse_pad_and_conv, fuse_resize_and_conv, fuse_resize_pad_and_conv.


def chain(
  resize=True,
  pad=True,
  mode="REFLECT",
  padding="VALID",
  stride=1,
  align=False,
  half=False,
  pads=((0, 0), (1, 2), (2, 0), (0, 0)),
  pads_dtype=tf1.int32,
  **conv,
):
  def build(x):
    if resize:
      more = {"half_pixel_centers": True} if half else {}
      x = tf1.raw_ops.ResizeBilinear(
        images=x, size=[13, 7], align_corners=align, name="resize", **more
      )
    if pad:
      x = tf1.raw_ops.MirrorPad(
        input=x, paddings=tf1.constant(pads, pads_dtype), mode=mode, name="pad"
      )
    return tf1.nn.conv2d(
      x,
      tf1.constant(weights(3, 3, 3, 2)),
      strides=[1, stride, stride, 1],
      padding=padding,
      name="conv",
      **conv,
    )

  return build


def single(build):
  return graph_of(build, ONE)


SPECS = {
  (True, True): "fuse_resize_pad_and_conv",
  (True, False): "fuse_resize_and_conv",
  (False, True): "fuse_pad_and_conv",
}
GRID = list(
  itertools.product(
    SPECS, ["REFLECT", "SYMMETRIC"], ["VALID", "SAME"], [1, 2], [False, True]
  )
)


@pytest.mark.parametrize(
  "ends_of, mode, padding, stride, align",
  [
    row
    for row in GRID
    if (row[0][0] or not row[4]) and (row[0][1] or row[1] == "REFLECT")
  ],
)
def test_fused_convolutions(ends_of, mode, padding, stride, align):
  resize, pad = ends_of
  graph = single(chain(resize, pad, mode, padding, stride, align))
  spec = SPECS[ends_of]
  model = check(graph, spec, tolerance=1e-4, x=X1)
  fused = "FusedResizeAndPadConv2D" if resize else "FusedPadConv2D"
  assert model.graph.op("conv") == fused
  assert not {"MirrorPad", "ResizeBilinear", "Conv2D"} & set(ops_of(model))
  assert ends(model) == ends(model_of(graph))


@pytest.mark.parametrize("ends_of", SPECS)
@pytest.mark.parametrize("align", [False, True])
def test_fused_convolutions_are_the_old_ones(ends_of, align):
  graph = single(chain(*ends_of, align=align, stride=2))
  old = by_name(old_tool(graph, SPECS[ends_of]))
  ours = transformed(graph, SPECS[ends_of]).graph.to_graph_def()
  assert by_name(ours) == old


PAD, RESIZE, BOTH = {"resize": False}, {"pad": False}, {}


@pytest.mark.parametrize(
  "changes, said",
  [
    (dict(PAD, dilations=[1, 2, 2, 1]), "it is dilated"),
    (dict(RESIZE, dilations=[1, 2, 1, 1]), "it is dilated"),
    (dict(BOTH, dilations=[1, 2, 2, 1]), "it is dilated"),
    (
      dict(PAD, padding=[[0, 0], [1, 1], [0, 0], [0, 0]]),
      "padding is EXPLICIT",
    ),
    (dict(RESIZE, half=True), "'resize' has half_pixel_centers"),
    (dict(BOTH, half=True), "'resize' has half_pixel_centers"),
    (dict(PAD, pads=((1, 0), (0, 0), (0, 0), (0, 0))), "more than height and"),
    (dict(PAD, pads=((0, 0), (0, 0), (0, 0), (2, 0))), "more than height and"),
  ],
)
def test_convolutions_that_stay(changes, said):
  build = chain(**changes)
  if "more than" in said and changes["pads"][3][0]:

    def build(x):
      x = tf1.raw_ops.MirrorPad(
        input=x, paddings=changes["pads"], mode="REFLECT", name="pad"
      )
      w = tf1.constant(weights(3, 3, 5, 2))
      return tf1.nn.conv2d(
        x, w, strides=[1, 1, 1, 1], padding="SAME", name="conv"
      )

  spec = SPECS[(changes.get("resize", True), changes.get("pad", True))]
  left(graph_of(build, ONE), spec, said)


def test_the_old_tool_dropped_dilations():
  graph = single(chain(False, dilations=[1, 2, 2, 1]))
  old = answers(model_of(old_tool(graph, "fuse_pad_and_conv")), {"x": X1})
  assert old[0].shape != answers(model_of(graph), {"x": X1})[0].shape


def test_the_old_tool_dropped_half_pixel_centers():
  graph = single(chain(pad=False, half=True))
  old = answers(model_of(old_tool(graph, "fuse_resize_and_conv")), {"x": X1})
  assert np.abs(old[0] - answers(model_of(graph), {"x": X1})[0]).max() > 0.1


@pytest.mark.parametrize("spec", SPECS.values())
def test_channels_first_stays(spec):
  graph = text.loads(
    """
    x = Placeholder() {shape=[1,3,9,11]}   n = Const() {value=<int32 [2] 5 5>}
    p = Const() {value=<int32 [4,2] 0 0 0 0 1 1 1 1>}
    r = ResizeBilinear(x, n)   m = MirrorPad(%s, p) {mode=REFLECT}
    y = Conv2D(%s, w) {strides=(1,1,1,1), padding=SAME, data_format=NCHW}
    w = Placeholder() {shape=[3,3,3,2]}
  """.replace("REFLECT", '"REFLECT"')
    .replace("SAME", '"SAME"')
    .replace("NCHW", '"NCHW"')
    % (
      "r" if "resize_pad" in spec else "x",
      "r" if spec == "fuse_resize_and_conv" else "m",
    )
  )
  left(graph, spec, "its data_format is NCHW")


@pytest.mark.parametrize(
  "ends_of, outputs",
  [
    ((False, True), ("y", "pad")),
    ((True, False), ("y", "resize")),
    ((True, True), ("y", "resize")),
    ((True, True), ("y", "pad")),
  ],
)
def test_an_output_in_the_chain_stays(ends_of, outputs):
  graph = single(chain(*ends_of))
  left(graph, SPECS[ends_of], "read elsewhere or is an end", outputs)


def test_a_padded_tensor_that_is_read_twice_stays():
  def build(x):
    x = tf1.raw_ops.MirrorPad(
      input=x, paddings=[[0, 0], [1, 1], [1, 1], [0, 0]], mode="REFLECT"
    )
    a, b = (
      tf1.nn.conv2d(
        x,
        tf1.constant(weights(3, 3, 3, 2)),
        strides=[1, 1, 1, 1],
        padding="VALID",
      )
      for _ in range(2)
    )
    return a + tf1.abs(b)

  left(graph_of(build, ONE), "fuse_pad_and_conv", "is read elsewhere")


def test_integer_images_are_resized_before():
  graph = text.loads("""
    i = Placeholder() {dtype=uint8, shape=[1,9,11,3]}
    n = Const() {value=<int32 [2] 5 5>}   w = Placeholder() {shape=[3,3,3,2]}
    r = ResizeBilinear(i, n) {T=uint8}
    y = Conv2D(r, w) {strides=(1,1,1,1), padding="SAME"}
  """)
  left(graph, "fuse_resize_and_conv", "'r' resizes uint8")


def test_paddings_of_int64():
  model = check(
    single(chain(False, pads_dtype=tf1.int64)), "fuse_pad_and_conv", 1e-4, x=X1
  )
  assert model.graph.op("conv") == "FusedPadConv2D"


def test_paddings_that_are_computed_stay():
  graph = text.loads("""
    x = Placeholder() {shape=[1,9,11,3]}   w = Placeholder() {shape=[3,3,3,2]}
    p = Placeholder() {dtype=int32, shape=[4,2]}
    m = MirrorPad(x, p) {mode="REFLECT"}
    y = Conv2D(m, w) {strides=(1,1,1,1), padding="SAME"}
  """)
  left(graph, "fuse_pad_and_conv", "the paddings of 'm' are not constant")


def test_what_the_chain_waits_for_the_fused_op_waits_for():
  graph = text.loads("""
    x = Placeholder() {shape=[1,9,11,3]}
    w = Const() {value=<float [1,1,3,1] 1 2 3>}
    p = Const() {value=<int32 [4,2] 0 0 1 1 1 1 0 0>}   a = NoOp()   b = NoOp()
    m = MirrorPad(x, p, ^a) {mode="REFLECT"}
    y = Conv2D(m, w, ^b) {strides=(1,1,1,1), padding="SAME"}
  """)
  model = check(graph, "fuse_pad_and_conv", x=X1)
  assert list(model.graph.node("y").input) == ["x", "p", "w", "^b", "^a"]


@pytest.mark.parametrize("ends_of", SPECS)
@pytest.mark.parametrize("batch", [2, None])
def test_batches_stay(ends_of, batch):
  """The old tool gave wrong answers for all images but the first."""
  graph = graph_of(chain(*ends_of), (batch, 9, 11, 3))
  left(graph, SPECS[ends_of], "its batch is not known to be 1")
  found = answers(model_of(old_tool(graph, SPECS[ends_of])), {"x": X})[0]
  wrong = np.abs(found - answers(model_of(graph), {"x": X})[0])
  assert wrong[0].max() < 1e-4
  assert wrong[1].max() > 1
