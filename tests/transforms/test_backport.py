# SPDX-License-Identifier: Apache-2.0
"""backport: the same answers, in ops that an older TensorFlow knows."""

import copy

import numpy as np
import pytest
from judges.exporting import assert_close

from bnexport.errors import Error, TransformError
from bnexport.graph import Graph, TensorRef, op_history
from bnexport.graph.nodes import Signatures
from bnexport.model import Model
from bnexport.proof.runs import ImportedGraph
from bnexport.tf1 import tf1
from bnexport.transforms.backport.backport import Backport
from bnexport.transforms.inference.inline_functions import InlineFunctions
from bnexport.transforms.tidying.strip_unused_nodes import StripUnusedNodes

raw = tf1.raw_ops
TOLERANCE = 1e-5  # float32, relative to the largest element or 1
HALF = 2e-3  # float16: the cast to it rounds


def numbers(*shape):
  """Random numbers that are the same each time."""
  return np.random.RandomState(len(shape)).normal(0.1, 1.5, shape).astype("f")


def fed(value, shape=None):
  """A placeholder, and what it is fed."""
  value = np.asarray(value)
  shape = value.shape if shape is None else shape
  return tf1.placeholder(value.dtype, shape), value


def norm(x, version=3, kind=np.float32, **options):
  """Outputs of a fused norm with stored statistics."""
  channels = 4
  op = getattr(raw, "FusedBatchNormV%d" % version)
  mean, variance = numbers(channels), np.abs(numbers(channels)) + 0.5
  if options.get("is_training"):
    mean = variance = np.zeros(0, np.float32)
  return op(
    x=tf1.cast(x, kind),
    scale=np.float32([1.5, 0.5, -1, 2]),
    offset=np.float32([0.1, 0.2, -0.3, 0]),
    mean=mean,
    variance=variance,
    epsilon=1e-3,
    **dict(dict(is_training=False), **options),
  )


# Models: functions without arguments that return the outputs and the feeds.


def stored_norm(version=3, open_batch=True):
  x, value = fed(numbers(2, 5, 6, 4), [None, 5, 6, 4] if open_batch else None)
  return [norm(x, version).y], {x: value}


def training_norm():
  x, value = fed(numbers(2, 5, 6, 4))
  out = norm(x, is_training=True)
  return [out.y, out.batch_mean, out.batch_variance], {x: value}


def half_norm():
  x, value = fed(numbers(2, 5, 6, 4))
  out = norm(x, kind=np.float16)
  return [tf1.cast(out.y, tf1.float32)], {x: value}


def volume_norm(kind=np.float32):
  x, value = fed(numbers(2, 2, 3, 3, 4), [None, 2, None, 3, 4])
  y = norm(x, kind=kind, data_format="NDHWC").y
  return [tf1.cast(y, tf1.float32)], {x: value}


def sum_of_two():
  x, value = fed(numbers(3, 4))
  return [raw.AddV2(x=x, y=numbers(4))], {x: value}


def checked_shape():
  x, value = fed(numbers(3, 4), [None, 4])
  return [raw.EnsureShape(input=x, shape=[3, 4])], {x: value}


def leaky(alpha):
  x, value = fed(np.append(numbers(3, 4), [[np.inf, -np.inf, -0.0, 1e30]], 0))
  return [raw.LeakyRelu(features=x, alpha=alpha)], {x: value}


def clipped():
  x, value = fed(numbers(3, 4))
  return [raw.ClipByValue(t=x, clip_value_min=-0.5, clip_value_max=0.7)], {
    x: value
  }


def guarded(op):
  x, a = fed(np.float32([[0, 1, np.inf, -2], [np.nan, 0, 3, 4]]), [None, 4])
  y, b = fed(np.float32([0, 2, 0, 5]), [None])
  return [getattr(raw, op)(x=x, y=y)], {x: a, y: b}


def product(first, second, open_first=None, open_second=None, **options):
  x, a = fed(numbers(*first), open_first)
  y, b = fed(numbers(*second), open_second)
  return [raw.BatchMatMulV2(x=x, y=y, **options)], {x: a, y: b}


def choice(condition, first, second, kind=np.float32, is_open=False):
  shapes = [
    [None] * len(s) if is_open else None for s in (condition, first, second)
  ]
  c, p = fed(numbers(*condition) > 0, shapes[0])
  x, a = fed(numbers(*first).astype(kind), shapes[1])
  y, b = fed(numbers(*second).astype(kind), shapes[2])
  return [raw.SelectV2(condition=c, t=x, e=y)], {c: p, x: a, y: b}


def choice_by_value():
  """The shapes are open, and equal for what was done to them."""
  x, value = fed(numbers(3, 4), [None, None])
  y = raw.SelectV2(condition=x > 0.0, t=x, e=tf1.tanh(x) * 0.3)
  return [y], {x: value}


def broadcast(kind, shape_type=np.int32):
  x, value = fed(numbers(3, 1, 2).astype(kind))
  return [raw.BroadcastTo(input=x, shape=np.array([4, 3, 5, 2], shape_type))], {
    x: value
  }


def convolution(open_image=False, depthwise=False, **options):
  shape = [None, None, None, 3] if open_image else None
  size = (2, 3, 9, 8) if "data_format" in options else (2, 9, 8, 3)
  x, value = fed(numbers(*size), shape)
  op = raw.DepthwiseConv2dNative if depthwise else raw.Conv2D
  options = dict(dict(strides=[1, 1, 1, 1], padding="SAME"), **options)
  y = op(input=x, filter=numbers(3, 2, 3, 2), **options)
  return [tf1.nn.relu(y)], {x: value}


PADDED = dict(padding="EXPLICIT", explicit_paddings=[0, 0, 2, 1, 0, 3, 0, 0])


def pool():
  x, value = fed(numbers(2, 9, 8, 3) - 9, [None, None, 8, 3])
  y = raw.MaxPool(
    input=x,
    ksize=[1, 3, 3, 1],
    strides=[1, 2, 2, 1],
    padding="EXPLICIT",
    explicit_paddings=[0, 0, 1, 1, 0, 2, 0, 0],
  )
  return [y], {x: value}


def softmax(op, open_rank):
  x, value = fed(
    numbers(2, 3, 5), tf1.TensorShape(None) if open_rank else [None, 3, 5]
  )
  return [tf1.reshape(getattr(raw, op)(logits=x), [-1, 15])], {x: value}


def resized():
  x, value = fed(numbers(2, 4, 5, 3))
  return [
    raw.ResizeBilinear(images=x, size=[7, 9], align_corners=True),
    raw.ResizeNearestNeighbor(images=x, size=[7, 9]),
    raw.GatherV2(params=x, indices=[1, 0], axis=1),
    tf1.cast(x, tf1.int32),
  ], {x: value}


def loop():
  """Constants that a rule makes have to be made in the loop."""
  x, value = fed(numbers(2, 4, 4, 3), [None, 4, 4, 3])

  def body(i, h):
    h = raw.Conv2D(
      input=h,
      filter=numbers(3, 3, 3, 3) * 0.1,
      strides=[1, 1, 1, 1],
      padding="SAME",
      dilations=[1, 2, 2, 1],
    )
    h = raw.LeakyRelu(features=h, alpha=0.3)
    h = raw.SelectV2(condition=h > 0.1, t=h, e=[[[[0.5]]]])
    return raw.AddV2(x=i, y=1), h

  out = tf1.while_loop(
    lambda i, h: i < 3, body, [0, x], [tf1.TensorShape([]), x.shape]
  )
  return [out[1]], {x: value}


def tensor_array():
  x, value = fed(numbers(3, 2, 4))
  array = raw.TensorArrayV3(
    size=3, dtype=tf1.float32, identical_element_shapes=True
  )
  flow = raw.TensorArrayScatterV3(
    handle=array.handle, indices=[0, 1, 2], value=x, flow_in=array.flow
  )
  y = raw.TensorArrayGatherV3(
    handle=array.handle, indices=[2, 0], flow_in=flow, dtype=tf1.float32
  )
  return [tf1.reshape(y, [2, 8])], {x: value}


MODELS = {
  "norm": stored_norm,
  "norm v2": lambda: stored_norm(2),
  "norm in training": training_norm,
  "norm of float16": half_norm,
  "AddV2": sum_of_two,
  "EnsureShape": checked_shape,
  "LeakyRelu": lambda: leaky(0.2),
  "LeakyRelu, steep": lambda: leaky(1.7),
  "LeakyRelu, falling": lambda: leaky(-0.5),
  "LeakyRelu, flat": lambda: leaky(0.0),
  "ClipByValue": clipped,
  "DivNoNan": lambda: guarded("DivNoNan"),
  "MulNoNan": lambda: guarded("MulNoNan"),
  "Xdivy": lambda: guarded("Xdivy"),
  "Xlogy": lambda: guarded("Xlogy"),
  "matmul": lambda: product((5, 2, 3), (5, 3, 4)),
  "matmul of one": lambda: product((5, 2, 3), (3, 4), adj_y=False),
  "matmul, adjoint": lambda: product((2, 1, 3, 4), (6, 5, 4), adj_y=True),
  "matmul, open": lambda: product(
    (5, 1, 2, 3), (3, 3, 4), [None, None, 2, 3], [None, 3, 4]
  ),
  "matmul, rank open": lambda: product(
    (5, 2, 3), (5, 3, 4), tf1.TensorShape(None)
  ),
  "matmul of one, open": lambda: product(
    (5, 2, 7, 3), (4, 3), [None, None, None, 3], adj_y=True
  ),
  "matmul of one, adjoint": lambda: product((5, 3, 2), (3, 4), adj_x=True),
  "where": lambda: choice((3, 4), (3, 4), (3, 4)),
  "where, vector": lambda: choice((4,), (4, 4), (4, 4)),
  "where, scalar": lambda: choice((), (3, 4), (3, 4)),
  "where, or a number": lambda: choice((3, 4), (3, 4), ()),
  "where, open": lambda: choice((3, 1), (4,), (3, 4), is_open=True),
  "where of bool": lambda: choice((3, 1), (4,), (), bool),
  "where of int64": lambda: choice((3, 1), (4,), (), np.int64),
  "where, by value": choice_by_value,
  "broadcast": lambda: broadcast(np.float32),
  "broadcast of bool": lambda: broadcast(bool, np.int64),
  "convolution": convolution,
  "padded": lambda: convolution(strides=[1, 2, 1, 1], **PADDED),
  "padded, dilated": lambda: convolution(dilations=[1, 2, 3, 1], **PADDED),
  "dilated": lambda: convolution(dilations=[1, 2, 3, 1]),
  "dilated, open": lambda: convolution(True, dilations=[1, 2, 3, 1]),
  "dilated, valid": lambda: convolution(
    True, padding="VALID", dilations=[1, 3, 1, 1]
  ),
  "resized": resized,
  "softmax": lambda: softmax("Softmax", False),
  "softmax, open": lambda: softmax("LogSoftmax", True),
  "loop": loop,
  "TensorArray": tensor_array,
}
if tf1.__version__ >= "2":  # what TF 1.15 has no ops for
  MODELS["pool"] = pool
  MODELS["norm of volumes"] = volume_norm
  MODELS["norm of volumes of float16"] = lambda: volume_norm(np.float16)


def build(function):
  """Returns a Model of a function, its feeds by name."""
  with tf1.Graph().as_default() as graph:
    outputs, feeds = function()
    outputs = [tf1.identity(y, "out%d" % i) for i, y in enumerate(outputs)]
    graph_def = graph.as_graph_def(add_shapes=True)
  model = as_model(graph_def, [y.op.name for y in outputs])
  InlineFunctions().apply(model)
  StripUnusedNodes().apply(model)
  return model, {x.op.name: value for x, value in feeds.items()}


def as_model(graph_def, outputs):
  return Model(
    graph=Graph(graph_def),
    values=None,
    inputs=(),
    outputs=tuple(TensorRef.parse(name) for name in outputs),
    origin="a test",
    signatures=Signatures(),
  )


def answers(graph_def, model, feeds):
  # TensorFlow writes defaults into what it imports.
  runner = ImportedGraph(copy.deepcopy(graph_def), model.outputs)
  values = runner.run(feeds)
  runner.close()
  return values


def assert_backported(model, feeds, version, tolerance=TOLERANCE):
  """Asserts equal answers, and that a version knows all that is left."""
  before = model.graph.to_graph_def()
  truths = answers(before, model, feeds)
  told = Backport(version).apply(model)
  model.graph.lint()
  after = model.graph.to_graph_def()
  assert list(op_history.newer_than(after, version)) == []
  for node in model.graph:
    called = node.op in model.graph.library
    assert called or op_history.knows(version, node.op)
    assert "_output_shapes" not in node.attr
  producer, _ = op_history.graph_versions(version)
  assert after.versions.producer <= producer
  values = answers(after, model, feeds)
  for ref, value, truth in zip(model.outputs, values, truths):
    assert rank(after, ref) in (rank(before, ref), None)
    finite = np.isfinite(truth)
    np.testing.assert_array_equal(value[~finite], truth[~finite])
    if truth.dtype == bool:
      np.testing.assert_array_equal(value, truth)
    else:
      assert_close(value[finite], truth[finite], tolerance)
  assert Backport(version).apply(model) == []
  assert model.graph.to_graph_def() == after
  return told


def rank(graph_def, ref):
  """Rank of a tensor, as TensorFlow infers it where it is imported."""
  with tf1.Graph().as_default() as graph:
    tf1.import_graph_def(copy.deepcopy(graph_def), name="")
    return graph.get_tensor_by_name(str(ref) + ":0").shape.ndims


@pytest.mark.parametrize("version", ["1.4", "1.12"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_answers_stay(name, version):
  model, feeds = build(MODELS[name])
  tolerance = HALF if "float16" in name else TOLERANCE
  assert_backported(model, feeds, version, tolerance)


def test_dilated_depthwise():
  """No CPU has a kernel for it; TensorFlow's own rearranging is the truth."""
  x, filters = numbers(2, 9, 8, 3), numbers(3, 2, 3, 2)
  model, feeds = build(lambda: convolution(True, True, dilations=[1, 2, 2, 1]))
  Backport("1.4").apply(model)
  (value,) = answers(model.graph.to_graph_def(), model, feeds)
  with tf1.Graph().as_default(), tf1.Session() as running:
    y = tf1.nn.depthwise_conv2d(x, filters, [1] * 4, "SAME", rate=[2, 2])
    assert_close(value, running.run(tf1.nn.relu(y)), TOLERANCE)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_statistics_at_inference_are_the_stored_ones(kind):
  """Old kernels leave them unwritten."""

  def function():
    x, value = fed(numbers(2, 5, 6, 4))
    out = norm(x, kind=kind)
    return [out.batch_mean, out.batch_variance], {x: value}

  model, feeds = build(function)
  Backport("1.4").apply(model)
  mean, variance = answers(model.graph.to_graph_def(), model, feeds)
  assert_close(mean, numbers(4), 0)
  assert_close(variance, np.abs(numbers(4)) + 0.5, 0)


def test_equal_shapes_are_not_broadcast():
  for name in ("where", "where, scalar", "where, by value", "matmul"):
    model, _ = build(MODELS[name])
    Backport().apply(model)
    assert "Fill" not in {node.op for node in model.graph}
  model, _ = build(MODELS["where, or a number"])
  Backport().apply(model)
  assert [node.op for node in model.graph].count("Fill") == 1


def test_what_was_done_is_told():
  model, _ = build(resized)
  assert Backport("1.8").apply(model) == [
    "dropped 4 attributes that TF 1.8 does not know and that change nothing",
    "lowered the graph's version to 26, that of TF 1.8",
  ]
  model, _ = build(stored_norm)
  assert Backport().apply(model)[0] == ("rewrote 1 FusedBatchNormV3 for TF 1.4")


def test_versions_are_only_lowered():
  model, _ = build(sum_of_two)
  model.graph.versions.producer = 12
  model.graph.versions.min_consumer = 30
  Backport().apply(model)
  assert model.graph.versions.producer == 12
  assert model.graph.versions.min_consumer == 24


def test_own_version_has_nothing_to_do():
  model, _ = build(MODELS["convolution"])
  before = model.graph.to_graph_def().versions
  assert Backport("2.21").apply(model) == []
  assert model.graph.to_graph_def().versions == before


# Refusals.


def refusal(function, version="1.4"):
  """The message; asserts that the model stays as it was."""
  model, _ = function if isinstance(function, tuple) else build(function)
  before = model.graph.to_graph_def()
  with pytest.raises(TransformError) as refused:
    Backport(version).apply(model)
  assert model.graph.to_graph_def() == before
  message = str(refused.value)
  assert message.startswith("cannot backport to TF %s: " % version)
  assert "\n" not in message
  return message


def test_refuses_ops_without_an_older_form():
  def function():
    x, value = fed(numbers(2, 3))
    y = raw.Einsum(inputs=[x, x], equation="ij,kj->ik", name="e")
    z = raw.Einsum(inputs=[y, x], equation="ij,jk->ik", name="f")
    return [raw.Roll(input=z, shift=[1], axis=[0], name="g")], {x: value}

  assert refusal(function) == (
    "cannot backport to TF 1.4: op 'Einsum' of node 'e' is newer (TF 1.15) "
    "and has no older form (and 2 more); pass --target_tf=1.15, or cut it "
    "away with --input_node"
  )
  assert "(and 1 more)" in refusal(function, "1.8")


def test_refuses_attributes_that_matter():
  def function():
    x, value = fed(numbers(2, 4, 4, 3))
    return [
      raw.ResizeBilinear(
        images=x, size=[8, 8], half_pixel_centers=True, name="resize"
      )
    ], {x: value}

  assert (
    "attribute 'half_pixel_centers', here True of node 'resize' "
    "(ResizeBilinear) is newer (TF 1.15)"
  ) in refusal(function)


def test_refuses_types():
  def function():
    x, value = fed(np.array([1, 2], np.uint32))
    return [raw.Relu(features=x, name="r")], {x: value}

  message = refusal(function)
  assert "uint32 of attribute 'T' of node 'r' (Relu) is newer" in message


def test_refuses_what_no_tensorflow_has():
  model, feeds = build(sum_of_two)
  name = model.outputs[0].node
  model.graph.node(name).op = "MyOp"
  message = refusal((model, feeds))
  assert "op 'MyOp' of node 'out0' is in no TensorFlow on record" in message
  assert message.endswith("; cut it away with --input_node")


def test_refuses_what_is_gone():
  model, feeds = build(sum_of_two)
  model.graph.node(model.outputs[0].node).op = "SaveIterator"
  message = refusal((model, feeds), "1.12")
  assert "op 'SaveIterator' of node 'out0' is gone there" in message


def test_refuses_dilated_convolutions_it_cannot_rearrange():
  for options, why in (
    (
      dict(data_format="NCHW", padding="VALID", dilations=[1, 1, 2, 1]),
      "run convert_layout",
    ),
    (dict(dilations=[1, 2, 2, 1], strides=[1, 2, 2, 1]), "has strides as well"),
  ):
    assert why in refusal(lambda options=options: convolution(**options))

  def unknown_kernel():
    x, value = fed(numbers(2, 9, 8, 3))
    w, kernel = fed(numbers(3, 3, 3, 1), [None, 3, 3, 1])
    y = raw.Conv2D(
      input=x,
      filter=w,
      strides=[1] * 4,
      padding="SAME",
      dilations=[1, 2, 2, 1],
    )
    return [y], {x: value, w: kernel}

  assert "the size of its kernel is not known" in refusal(unknown_kernel)


def test_refuses_norms():
  def statistics():
    x, value = fed(numbers(2, 5, 6, 4))
    return [norm(x).y], {x: value}

  model, feeds = build(statistics)
  name = next(n.name for n in model.graph if n.op == "FusedBatchNormV3")
  model.outputs = (TensorRef(name, 1),)
  assert "its statistics are outputs" in refusal((model, feeds))
  model.outputs = (TensorRef(name, 5),)
  assert "its sixth output is read" in refusal((model, feeds))


def test_refuses_strings_that_would_have_to_be_broadcast():
  def function():
    c, value = fed([[True], [False]])
    return [raw.SelectV2(condition=c, t=["a", "b"], e="c")], {c: value}

  assert "string can't be broadcast there" in refusal(function)


def test_refuses_versions_that_are_not_on_record():
  model, _ = build(sum_of_two)
  for version in ("1.3", "new", "1"):
    with pytest.raises(Error, match="cannot use TensorFlow '%s'" % version):
      Backport(version).apply(model)


# Functions.


def with_function(nodes, output):
  """A model that calls a function of one float32 argument `x`."""
  graph_def = tf1.GraphDef()
  graph_def.versions.producer = 134
  placeholder = graph_def.node.add(name="in", op="Placeholder")
  placeholder.attr["dtype"].type = 1
  graph_def.node.add(name="y", op="f", input=["in"])
  function = graph_def.library.function.add()
  function.signature.name = "f"
  function.signature.input_arg.add(name="x", type=1)
  function.signature.output_arg.add(name="y", type=1)
  function.node_def.extend(nodes)
  function.ret["y"] = output
  return as_model(graph_def, ["y"]), {"in": numbers(2, 3)}


def body_node(op, name, inputs):
  node = tf1.NodeDef(name=name, op=op, input=inputs)
  node.attr["T"].type = 1
  return node


def test_functions_are_lowered():
  add = body_node("AddV2", "a", ["x", "x"])
  relu = body_node("Relu", "r", ["a:z:0"])
  model, feeds = with_function([add, relu], "r:activations:0")
  assert_backported(model, feeds, "1.4")
  assert model.graph.library["f"].node_def[0].op == "Add"


def test_norms_in_functions_are_lowered():
  norm_node = body_node("FusedBatchNormV3", "n", ["x"] * 5)
  norm_node.attr["U"].type = 1
  norm_node.attr["exponential_avg_factor"].f = 1.0
  model, _ = with_function([norm_node], "n:y:0")
  Backport().apply(model)
  (lowered,) = model.graph.library["f"].node_def
  assert (lowered.op, list(lowered.attr)) == ("FusedBatchNorm", ["T"])
  model, feeds = with_function([norm_node], "n:reserve_space_3:0")
  assert "run inline_functions first" in refusal((model, feeds))


def test_refuses_what_takes_several_nodes_in_a_function():
  leaky_node = body_node("LeakyRelu", "l", ["x"])
  model, feeds = with_function([leaky_node], "l:activations:0")
  message = refusal((model, feeds))
  assert "op 'LeakyRelu' of node 'f/l'" in message
  assert "run inline_functions first" in message
