# SPDX-License-Identifier: Apache-2.0
"""Graphs that compute on eight bits answer as the float ones, nearly."""

from __future__ import annotations

import numpy as np
import pytest
from judges.graph_transform_tool import histogram, old_tool
from judges.transforming import answers, ends, model_of, nodes, transformed

from bnexport import text
from bnexport.errors import TransformError
from bnexport.tf1 import tf1
from bnexport.transforms import table

RANDOM = np.random.RandomState(2)
X = RANDOM.uniform(-1, 1, (2, 8, 8, 3)).astype("f")


def weights(*shape):
  values = np.random.RandomState(sum(shape)).normal(size=shape)
  return (values / np.sqrt(np.prod(shape[:-1]))).astype("f")


def conv(x, channels, **more):
  w = tf1.constant(weights(3, 3, int(x.shape[-1]), channels), name="w")
  return tf1.nn.conv2d(
    x, w, **dict({"strides": [1, 1, 1, 1], "padding": "SAME"}, **more)
  )


def bias(x):
  return tf1.nn.bias_add(x, tf1.constant(weights(int(x.shape[-1]))))


def network(x):
  """Every op that has a quantized form, once at least."""
  a = tf1.nn.relu(bias(conv(x, 8)))
  b = tf1.nn.max_pool(a, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
  c = tf1.nn.relu6(conv(b, 8))
  d = tf1.raw_ops.Add(x=b, y=c)
  e = tf1.raw_ops.Mul(x=d, y=tf1.constant(1.5))
  f = tf1.raw_ops.Concat(concat_dim=3, values=[e, b])
  g = tf1.raw_ops.ResizeBilinear(images=f, size=[6, 6], align_corners=True)
  h = tf1.nn.avg_pool(g, [1, 6, 6, 1], [1, 1, 1, 1], "VALID")
  i = tf1.reshape(h, [-1, 16])
  return tf1.matmul(i, tf1.constant(weights(5, 16)), transpose_b=True)


def graph_of(build, shape=X.shape):
  graph = tf1.Graph()
  with graph.as_default():
    x = tf1.placeholder(tf1.float32, shape, name="x")
    tf1.identity(build(x), name="y")
  return graph.as_graph_def()


def check(graph, spec="quantize_nodes", tolerance=0.05, feeds=None):
  """Answers stay within a share of the largest; a second time is as one."""
  feeds = feeds or {"x": X}
  before = model_of(graph)
  model = transformed(graph, spec)
  expected, found = answers(before, feeds)[0], answers(model, feeds)[0]
  assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
  assert ends(model) == ends(before)
  once = nodes(model)
  table.apply_specs(model, spec)
  assert nodes(model) == once
  return model


def ops_of(model):
  return [node.op for node in model.graph]


FLOAT_OPS = {
  "Conv2D",
  "BiasAdd",
  "Relu",
  "Relu6",
  "MaxPool",
  "AvgPool",
  "Add",
  "AddV2",
  "Mul",
  "Concat",
  "ConcatV2",
  "ResizeBilinear",
  "MatMul",
}


@pytest.mark.parametrize(
  "spec",
  [
    "quantize_nodes",
    "quantize_weights(minimum_size=16) quantize_nodes",
    "quantize_nodes(fallback_min=-6, fallback_max=6)",
  ],
)
def test_a_network(spec):
  tolerance = 0.3 if "fallback" in spec else 0.05
  model = check(graph_of(network), spec, tolerance)
  assert not FLOAT_OPS & set(ops_of(model))
  assert ops_of(model).count("Dequantize") == 1  # nothing between is float
  assert ("RequantizationRange" in ops_of(model)) == ("fallback" not in spec)


@pytest.mark.parametrize(
  "spec",
  [
    "quantize_nodes",
    "quantize_nodes(fallback_min=-6, fallback_max=6)",
    "quantize_nodes(input_min=-1, input_max=1)",
    'quantize_nodes(ignore_op="Relu", ignore_op="Conv2D")',
  ],
)
def test_a_network_is_the_old_one(spec):
  graph = graph_of(network)
  old, ours = model_of(old_tool(graph, spec)), transformed(graph, spec)
  x = X
  if "input" in spec:
    x = np.array(np.round((X + 1) * 127.5), np.uint8)
  for model in (old, ours):
    if "input" in spec:
      assert model.graph.node("x").attr["dtype"].type == tf1.quint8
  found, expected = (answers(m, {"x": x})[0] for m in (ours, old))
  assert (found == expected).all()
  counts = []
  for model in (ours, old):
    model.graph.keep(model.needed(control=True))  # the old tool leaves much
    counts.append(histogram(model.graph.to_graph_def()))
    counts[-1].pop("Const")  # and merges equal ones of the user's
  assert counts[0] == counts[1]


def test_weights_that_are_quantized_are_read_as_they_are():
  spec = "quantize_weights(minimum_size=16)"
  graph = transformed(graph_of(network), spec).graph.to_graph_def()
  old, ours = old_tool(graph, "quantize_nodes"), check(graph)
  expected = answers(model_of(old), {"x": X})[0]
  assert (answers(ours, {"x": X})[0] == expected).all()
  assert "w" not in ours.graph


def test_inputs_take_bytes():
  graph = graph_of(network)
  model = transformed(graph, "quantize_nodes(input_min=-1, input_max=1)")
  expected = answers(model_of(graph), {"x": X})[0]
  found = answers(model, {"x": np.uint8(np.round((X + 1) * 127.5))})[0]
  assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
  assert "input 'x' takes quint8" in model.history[0]


def test_inputs_of_other_types_and_outputs_stay():
  graph = text.loads("""
    x = Placeholder() {shape=[4]}   p = Placeholder() {dtype=bool, shape=[]}
    a = Relu(x)   s = Switch(a, p)   y = Merge(s, s:1)
  """)
  model = transformed(
    graph, "quantize_nodes(input_min=-1, input_max=1)", outputs=("y", "x")
  )
  for name, dtype in (("x", tf1.float32), ("p", tf1.bool)):
    assert model.graph.node(name).attr["dtype"].type == dtype
  assert "left input 'x' float: it is an output" in model.history[0]


# Fake quantization.


def fake(x, low=-1.0, high=2.0, **more):
  return tf1.quantization.fake_quant_with_min_max_vars(
    x, tf1.constant(low), tf1.constant(high), **more
  )


@pytest.mark.parametrize(
  "build",
  [
    lambda x: fake(bias(conv(x, 8))),
    lambda x: fake(tf1.nn.relu(bias(conv(x, 8)))),
    lambda x: fake(
      tf1.nn.max_pool(
        tf1.nn.relu(conv(x, 8)), [1, 2, 2, 1], [1, 2, 2, 1], "SAME"
      )
    ),
    lambda x: tf1.nn.relu(fake(conv(x, 8))),
  ],
)
def test_fake_quantization_is_where_32_bits_are_cut(build):
  graph = graph_of(build)
  model = check(graph, tolerance=0.06)
  assert "FakeQuantWithMinMaxVars" not in ops_of(model)
  name = [n.name for n in model.graph if n.op == "Requantize"][-1]
  assert "FakeQuant" in name or "fake_quant" in name
  last = model.graph.inputs(name)
  assert [model.graph.op(ref.node) for ref in last[3:]] == ["Const", "Const"]
  wide = [n for n in model.graph if n.op == "RequantizationRange"]
  assert len(wide) == ("BiasAdd" in [n.op for n in graph.node])
  old = model_of(old_tool(graph, "quantize_nodes"))
  found, expected = (answers(m, {"x": X})[0] for m in (model, old))
  assert np.abs(found - expected).max() <= 3.001 / 255


def test_fake_quantization_alone():
  check(graph_of(lambda x: fake(x * 3, -1.0, 1.0)), tolerance=0.02)


def test_fake_quantization_stays_behind_an_average():
  """The old tool moved it up, where it cuts what the average would keep."""

  def build(x):
    a = conv(x * 20, 4)
    pool = tf1.nn.avg_pool(a, [1, 8, 8, 1], [1, 1, 1, 1], "VALID")
    return fake(pool, -1.0, 1.0)

  graph = graph_of(build)
  expected = answers(model_of(graph), {"x": X})[0]
  found = answers(transformed(graph, "quantize_nodes"), {"x": X})[0]
  old = answers(model_of(old_tool(graph, "quantize_nodes")), {"x": X})[0]
  error = np.abs(found - expected).max()
  assert error < 0.3 * np.abs(old - expected).max()


@pytest.mark.parametrize(
  "more, said",
  [
    ({"num_bits": 4}, "it is for 4 bits"),
    ({"narrow_range": True}, "it has narrow_range"),
    ({"low": 1.0}, "its range does not hold 0"),
  ],
)
def test_fake_quantization_that_stays(more, said):
  graph = graph_of(lambda x: fake(x, **more))
  model = transformed(graph, "quantize_nodes")
  assert nodes(model) == nodes(model_of(graph))
  assert said in model.history[0]


# What stays in float.


@pytest.mark.parametrize(
  "shapes, is_quantized",
  [
    (((2, 3, 4), (2, 3, 4)), True),
    (((2, 3, 4), (4,)), True),
    (((4,), (2, 3, 4)), True),
    (((2, 3, 4), (3, 4)), True),
    (((2, 3, 4), (1, 3, 4)), True),
    (((2, 3, 4), ()), True),
    (((1, 1), (2, 3)), True),
    (((2, 3), (2, 1)), False),
    (((2, 1, 4), (1, 3, 4)), False),
    (((2, 3, 4), (2, 1, 1)), False),
    (((2, 3, 4), (2, 3, 1)), False),
    (((4, 1), (4,)), False),
  ],
)
@pytest.mark.parametrize("op", ["Add", "AddV2", "Mul"])
def test_broadcasting(op, shapes, is_quantized):
  graph = text.loads(
    """
    graph {producer=134}  # before 24, shape=[] says nothing
    a = Placeholder() {shape=[%s]}   b = Placeholder() {shape=[%s]}
    y = %s(a, b)
  """
    % (*(",".join(map(str, shape)) for shape in shapes), op)
  )
  a, b = (RANDOM.uniform(-1, 1, shape).astype("f") for shape in shapes)
  model = check(graph, feeds={"a": a, "b": b})
  assert ("Quantized" in "".join(ops_of(model))) == is_quantized
  if not is_quantized:
    assert "left 'y' float" in model.history[0]


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_the_old_tool_broadcast_columns_as_rows(op):
  graph = text.loads(
    """
    a = Placeholder() {shape=[2,4]}   b = Placeholder() {shape=[2,1]}
    y = %s(a, b)
  """
    % op
  )
  feeds = {"a": np.ones((2, 4), "f"), "b": np.float32([[1], [-1]])}
  old = answers(model_of(old_tool(graph, "quantize_nodes")), feeds)[0]
  assert np.abs(old - answers(model_of(graph), feeds)[0]).max() > 1


@pytest.mark.parametrize(
  "a, b, is_quantized",
  [
    ("?,?,?,8", "?,?,?,8", True),
    ("?,?,?,8", "?,1,1,8", False),
    ("?,?,?,8", "1,1,1,8", True),
    ("?,?", "?,?", False),
    ("?", "?", True),
  ],
)
def test_open_shapes(a, b, is_quantized):
  graph = text.loads(
    """
    a = Placeholder() {shape=[%s]}   b = Placeholder() {shape=[%s]}
    y = AddV2(a, b)
  """
    % (a, b)
  )
  model = transformed(graph, "quantize_nodes")
  assert ("QuantizedAdd" in ops_of(model)) == is_quantized


@pytest.mark.parametrize(
  "line, said",
  [
    (
      'y = Conv2D(x, w) {strides=(1,1,1,1), padding="SAME", dilations=(1,2,2,1)}',
      "it is dilated",
    ),
    (
      'y = Conv2D(x, w) {strides=(1,1,2,1), padding="SAME"}',
      "strides over height and width differ",
    ),
    (
      'y = Conv2D(x, w) {strides=(1,1,1,1), padding="SAME", data_format="NCHW"}',
      "its data_format is NCHW",
    ),
    ('y = BiasAdd(x, b) {data_format="NCHW"}', "its data_format is NCHW"),
    (
      'y = MaxPool(x) {ksize=(1,1,1,3), strides=(1,1,1,3), padding="SAME"}',
      "reach over batch or channels",
    ),
    (
      'y = AvgPool(x) {ksize=(1,2,2,1), strides=(1,1,1,1), padding="SAME",'
      ' data_format="NCHW"}',
      "its data_format is NCHW",
    ),
    (
      "k = Const() {value=<int32 -1>}   y = ConcatV2(x, x, k)",
      "its axis is no",
    ),
  ],
)
def test_nodes_that_stay(line, said):
  graph = text.loads(
    """
    x = Placeholder() {shape=[2,3,3,3]}   w = Placeholder() {shape=[1,1,3,3]}
    b = Placeholder() {shape=[3]}   %s
  """
    % line
  )
  model = transformed(graph, "quantize_nodes")
  assert nodes(model) == nodes(model_of(graph))
  assert said in model.history[0]


def test_concat_of_any_version():
  graph = text.loads("""
    x = Placeholder() {shape=[2,3]}   k = Const() {value=<int32 1>}
    z = Neg(x)   y = ConcatV2(x, z, k)
  """)
  model = check(graph, feeds={"x": X[0, :2, :3, 0]})
  assert "QuantizedConcat" in ops_of(model)


def test_half_pixel_centers_are_kept():
  def build(x):
    return tf1.raw_ops.ResizeBilinear(
      images=x, size=[5, 5], half_pixel_centers=True
    )

  check(graph_of(build), tolerance=0.02)


def test_other_types_stay():
  graph = text.loads("""
    x = Placeholder() {dtype=double, shape=[3]}   y = Relu(x) {T=double}
  """)
  model = transformed(graph, "quantize_nodes")
  assert nodes(model) == nodes(model_of(graph))


def test_outputs_between_stay_float():
  graph = text.loads("""
    x = Placeholder() {shape=[4]}   a = Relu(x)   y = Relu6(a)   b = NoOp()
    c = Relu(a, ^b)   z = Neg(c)
  """)
  model = transformed(graph, "quantize_nodes", outputs=("a", "y", "z"))
  assert model.graph.op("a") == "Dequantize"
  assert "^b" in model.graph.node("c/eightbit").input
  feeds = {"x": np.float32([-1, 0, 1, 2])}
  for found, expected in zip(
    answers(model, feeds), answers(model_of(graph, ("a", "y", "z")), feeds)
  ):
    assert np.abs(found - expected).max() < 0.02


def test_second_outputs_and_loops():
  graph = tf1.Graph()
  with graph.as_default():
    x = tf1.placeholder(tf1.float32, [4], name="x")
    tf1.disable_control_flow_v2()

    def body(i, x):
      a, b = tf1.split(x, 2)
      return i + 1, tf1.raw_ops.ConcatV2(
        values=[tf1.nn.relu6(b), tf1.nn.relu(a)], axis=0
      )

    _, y = tf1.while_loop(lambda i, _: i < 3, body, [tf1.constant(0), x])
    tf1.identity(y, name="y")
  for given in ("", "(fallback_min=0, fallback_max=1)"):
    model = check(
      graph.as_graph_def(),
      "quantize_nodes" + given,
      feeds={"x": np.float32([0.1, 1, 2, 3])},
    )
    assert "QuantizedRelu6" in ops_of(model)


@pytest.mark.parametrize(
  "given, said",
  [
    ("input_min=1", "only one of input_min and input_max"),
    ("fallback_max=1", "only one of fallback_min and fallback_max"),
    ("input_min=1, input_max=1", "is not below"),
    ("fallback_min=2, fallback_max=1", "is not below"),
    ("input_min=nan, input_max=1", "is not below"),
  ],
)
def test_ranges_that_are_none(given, said):
  with pytest.raises(TransformError, match=said):
    transformed(graph_of(network), "quantize_nodes(%s)" % given)


# What was quantized before.

TWICE = """
  x = Placeholder() {shape=[2,3]}   k = Const() {value=<float [3,2] 1 2 3 4 5 6>}
  a = Const() {value=<float -4>}   b = Const() {value=<float 8>}
  q = QuantizeV2(x, a, b) {T=quint8, mode=MIN_FIRST}
  w = QuantizeV2(k, a, b) {T=quint8, mode=MIN_FIRST}
  c = QuantizedMatMul(q, w, q:1, q:2, w:1, w:2)
      {T1=quint8, T2=quint8, Toutput=qint32}
  r = RequantizationRange(c, c:1, c:2)
  s = Requantize(c, c:1, c:2, r, r:1) {out_type=quint8}
  d = Dequantize(s, s:1, s:2) {T=quint8, mode=MIN_FIRST}
  low = Const() {value=<float -2>}   high = Const() {value=<float 3>}
  t = QuantizeV2(d, low, high) {T=qint32, mode=MIN_FIRST}
  u = Requantize(t, t:1, t:2, low, %s) {out_type=quint8}
  y = Dequantize(u, u:1, u:2) {T=quint8, mode=MIN_FIRST}
  end = Const() {value=<float 2>}
"""


STEP = 12 / 255  # from -4 to 8


def test_what_is_cut_twice_is_cut_once():
  graph, feeds = (
    TWICE % "high",
    {"x": np.float32([[1, -1, 0], [0.5, 0, -0.25]])},
  )
  model = transformed(graph, "quantize_nodes")
  assert ops_of(model).count("Requantize") == 1
  assert not {"r", "s", "d", "t"} & set(model.graph.names())
  kernel = np.float32([[1, 2], [3, 4], [5, 6]])
  x, w = (np.round(v / STEP) * STEP for v in (feeds["x"], kernel))
  right = np.clip(x @ w, -2, 3)
  found, before = (answers(m, feeds)[0] for m in (model, model_of(graph)))
  error = np.abs(found - right).max()
  assert error < 2.01 * 5 / 255  # Requantize rounds so, on its own
  assert error <= np.abs(before - right).max()


def test_what_is_cut_to_another_range_stays():
  """Between the two stands a range that is cut to as well."""
  model = transformed(TWICE % "end", "quantize_nodes")
  assert ops_of(model).count("Requantize") == 2
