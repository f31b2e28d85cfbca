# SPDX-License-Identifier: Apache-2.0
"""fold_batch_norms: equal answers always, folded wherever that is exact.

The truth is the graph as it was, run before it is folded. No CPU kernel runs
NCHW: there the truth is the NHWC twin, and the folded graph is turned to NHWC.
"""

import numpy as np
import pytest
import zoo
from judges.counting import assert_linear
from judges.exporting import assert_answers, assert_close, export
from judges.graph_transform_tool import old_tool

from bnexport import text
from bnexport.batchnorm import folding
from bnexport.batchnorm.forms import find
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import (
  DEFERRED,
  Signatures,
  deferred_attrs,
  tensor_attr,
  type_attr,
)
from bnexport.model import Model
from bnexport.tf1 import session, tf1
from bnexport.transforms.folding.fold_batch_norms import FoldBatchNorms
from bnexport.transforms.folding.values import Constants
from bnexport.transforms.layout.convert_layout import ConvertLayout

# Relative to the largest element, or 1.
TOLERANCE = {
  "float64": 1e-12,
  "float32": 2e-5,
  "float16": 1e-2,
  "bfloat16": 8e-2,
}
NORMS = ops.FUSED_NORMS | {"BatchNormWithGlobalNormalization"}
ARITHMETIC = {"Mul", "Add", "AddV2", "Sub", "RealDiv", "Rsqrt", "Sqrt"}


class Script:
  """Builds a model of constants; random numbers repeat for each model."""

  def __init__(self, dtype="float32", data_format="NHWC"):
    self.random = np.random.RandomState(11)
    self.dtype = tf1.as_dtype(dtype)
    self.data_format = data_format

  @property
  def is_first(self):
    return self.data_format.startswith("NC")

  def const(self, values, name=None, dtype=None):
    return tf1.constant(values, dtype or self.dtype, name=name)

  def weights(self, *shape):
    return self.random.normal(0.1, 0.5, shape)

  def input(self, *shape):
    """A placeholder of a shape that is written channels last."""
    shape = [None] + list(shape)
    if self.is_first:
      shape = [None, shape[-1]] + shape[1:-1]
    self.x = tf1.placeholder(self.dtype, shape, "x")
    return self.x

  def per_axis(self, size):
    return [1, 1, size, size] if self.is_first else [1, size, size, 1]

  # Linear ops.

  def conv2d(
    self,
    x,
    channels,
    name="conv",
    size=3,
    padding="SAME",
    taps=None,
    kernel=None,
    strides=1,
    dilations=1,
  ):
    if kernel is None:
      taps = taps or self.width(x)
      kernel = self.const(self.weights(size, size, taps, channels), name + "/w")
    return tf1.raw_ops.Conv2D(
      input=x,
      filter=kernel,
      strides=self.per_axis(strides),
      padding=padding,
      data_format=self.data_format,
      dilations=self.per_axis(dilations),
      name=name,
    )

  def depthwise(self, x, multiplier, name="conv", padding="SAME"):
    w = self.const(self.weights(3, 3, self.width(x), multiplier), name + "/w")
    return tf1.raw_ops.DepthwiseConv2dNative(
      input=x,
      filter=w,
      strides=self.per_axis(1),
      padding=padding,
      data_format=self.data_format,
      name=name,
    )

  def transposed(self, x, channels, name="conv"):
    w = self.const(self.weights(3, 3, channels, self.width(x)), name + "/w")
    sizes = [12, 12, channels]
    if self.is_first:
      sizes = [channels, 12, 12]
    sizes = tf1.stack([tf1.shape(x)[0]] + sizes)
    return tf1.raw_ops.Conv2DBackpropInput(
      input_sizes=sizes,
      filter=w,
      out_backprop=x,
      strides=self.per_axis(2),
      padding="SAME",
      data_format=self.data_format,
      name=name,
    )

  def conv3d(self, x, channels, name="conv", padding="SAME"):
    w = self.const(self.weights(2, 3, 3, self.width(x), channels), name + "/w")
    return tf1.raw_ops.Conv3D(
      input=x,
      filter=w,
      strides=[1] * 5,
      padding=padding,
      name=name,
      data_format="NCDHW" if self.is_first else "NDHWC",
    )

  def transposed3d(self, x, channels, name="conv"):
    w = self.const(self.weights(2, 3, 3, channels, self.width(x)), name + "/w")
    sizes = tf1.stack([tf1.shape(x)[0], 8, 8, 8, channels])
    return tf1.raw_ops.Conv3DBackpropInputV2(
      input_sizes=sizes,
      filter=w,
      out_backprop=x,
      strides=[1, 2, 2, 2, 1],
      padding="SAME",
      name=name,
    )

  def matmul(self, x, channels, name="conv", transpose_b=False):
    w = self.weights(self.width(x), channels)
    w = self.const(w.T if transpose_b else w, name + "/w")
    return tf1.raw_ops.MatMul(a=x, b=w, transpose_b=transpose_b, name=name)

  def width(self, x):
    return x.shape.as_list()[1 if self.is_first else -1]

  # What is one number a channel.

  def vector(self, h, low, high, name=None, dtype=None):
    """A constant that broadcasts against h."""
    values = self.random.uniform(low, high, self.width(h))
    if self.is_first:
      values = values.reshape([-1] + [1] * (h.shape.ndims - 2))
    return self.const(values, name, dtype)

  def bias(self, h, kind, name="bias"):
    if kind == "none":
      return h
    b = self.const(self.random.uniform(-2, 2, self.width(h)), name + "/b")
    if kind == "BiasAdd":
      data_format = "NCHW" if self.is_first else "NHWC"
      return tf1.raw_ops.BiasAdd(
        value=h, bias=b, data_format=data_format, name=name
      )
    if self.is_first:
      b = tf1.reshape(b, [-1] + [1] * (h.shape.ndims - 2))
    add = tf1.raw_ops.Add if kind == "Add" else tf1.raw_ops.AddV2
    return add(x=h, y=b, name=name)

  def norm(self, h, form="FusedBatchNormV3", name="bn", training=False):
    return getattr(self, "_" + form.lower(), self._fused)(
      h, form=form, name=name, training=training
    )

  def statistics(self, h, dtype=None):
    """Scale, offset, mean, variance, none of them trivial."""
    return [
      self.vector(h, low, high, dtype=dtype)
      for low, high in ((0.5, 2), (-1, 1), (-2, 3), (0.2, 4))
    ]

  def _fused(self, h, form, name, training):
    first, self.data_format = self.data_format, "NHWC"
    values = [
      self.random.uniform(
        low, high, h.shape.as_list()[1 if first.startswith("NC") else -1]
      )
      for low, high in ((0.5, 2), (-1, 1), (-2, 3), (0.2, 4))
    ]
    self.data_format = first
    values = [self.const(v, dtype=tf1.float32) for v in values]
    if training:
      values[2:] = [self.const([], dtype=tf1.float32)] * 2
    return getattr(tf1.raw_ops, form)(
      x=h,
      scale=values[0],
      offset=values[1],
      mean=values[2],
      variance=values[3],
      epsilon=0.01,
      is_training=training,
      data_format=first,
      name=name,
    )[0]

  def _spelled(self, h, form, name, training):
    gamma, beta, mean, variance = self.statistics(h)
    return tf1.nn.batch_normalization(
      h, mean, variance, beta, gamma, 0.01, name=name
    )

  def _divided(self, h, form, name, training):
    gamma, beta, mean, variance = self.statistics(h)
    with tf1.name_scope(name):
      root = tf1.sqrt(variance + self.const(0.01))
      return gamma * ((h - mean) / root) + beta

  def _mul(self, h, form, name, training):
    return tf1.multiply(self.vector(h, -2, 2), h, name=name)

  def _add(self, h, form, name, training):
    return tf1.raw_ops.Add(x=h, y=self.vector(h, -2, 2), name=name)

  def _sub(self, h, form, name, training):
    return tf1.subtract(self.vector(h, -2, 2), h, name=name)

  def _neg(self, h, form, name, training):
    return tf1.negative(h, name=name)

  def _half(self, h, form, name, training):
    return tf1.divide(h, self.const(2.0), name=name)


def model_of(graph_def, outputs=("y",), inputs=()):
  return Model(
    graph=Graph(graph_def),
    values=None,
    inputs=tuple(map(TensorRef.parse, inputs)),
    outputs=tuple(map(TensorRef.parse, outputs)),
    origin="a test",
    signatures=Signatures(),
  )


def built(build, outputs=("y",), **options):
  """The Model of what `build(script)` makes; its last tensor is named y."""
  graph, script = tf1.Graph(), Script(**options)
  with graph.as_default():
    y = build(script)
    if y is not None and "y" in outputs:
      tf1.identity(y, name="y")
  return model_of(graph.as_graph_def(), outputs), script


def run(model, x):
  graph = tf1.Graph()
  with graph.as_default():
    tf1.import_graph_def(model.graph.to_graph_def(), name="")
  with session(graph) as opened:
    return opened.run(
      [str(ref) + ":0" * (ref.index == 0) for ref in model.outputs], {"x:0": x}
    )


def feed(script, rows=2):
  shape = [rows if size is None else size for size in script.x.shape.as_list()]
  random = np.random.RandomState(3)
  return random.normal(0.3, 1.0, shape).astype(script.dtype.as_numpy_dtype)


def fold(model):
  """Folds; asserts that a second time finds nothing to do."""
  lines = FoldBatchNorms().apply(model)
  model.graph.lint()
  before = model.graph.to_graph_def()
  again = FoldBatchNorms().apply(model)
  assert model.graph.to_graph_def() == before
  assert not [line for line in again if line.startswith("folded")]
  return lines


def ops_of(model):
  needed = model.needed()
  return [model.graph.op(name) for name in needed]


def assert_same(values, truths, dtype):
  for value, truth in zip(values, truths):
    assert value.dtype == truth.dtype and value.shape == truth.shape
    if not value.size:
      continue
    assert_close(
      value.astype(np.float64), truth.astype(np.float64), TOLERANCE[dtype]
    )


def check(build, outputs=("y",), rows=2, **options):
  """Folds what `build` makes; asserts equal answers.

  Returns:
    The folded model and its lines.
  """
  model, script = built(build, outputs, **options)
  x = feed(script, rows)
  truths = run(model, x)
  lines = fold(model)
  assert_same(run(model, x), truths, script.dtype.name)
  return model, lines


def assert_folded(model, most=0):
  """Asserts that nothing of norms is left but one shift for each linear op."""
  left = [
    op for op in ops_of(model) if op in NORMS or op in ARITHMETIC or op == "Neg"
  ]
  assert len(left) <= most, left


FORMS = [
  "FusedBatchNorm",
  "FusedBatchNormV2",
  "FusedBatchNormV3",
  "spelled",
  "divided",
  "mul",
  "add",
  "sub",
  "neg",
  "half",
]
BIASES = ["none", "BiasAdd", "Add", "AddV2"]
LINEAR = {
  "conv2d": ((6, 6, 3), lambda s, x: s.conv2d(x, 4)),
  "strided": ((6, 6, 3), lambda s, x: s.conv2d(x, 4, strides=2)),
  "dilated": ((6, 6, 3), lambda s, x: s.conv2d(x, 4, dilations=2)),
  "depthwise1": ((6, 6, 3), lambda s, x: s.depthwise(x, 1)),
  "depthwise2": ((6, 6, 3), lambda s, x: s.depthwise(x, 2)),
  "transposed": ((6, 6, 3), lambda s, x: s.transposed(x, 4)),
  "conv3d": ((4, 4, 4, 3), lambda s, x: s.conv3d(x, 4)),
  "transposed3d": ((4, 4, 4, 3), lambda s, x: s.transposed3d(x, 4)),
  "matmul": ((5,), lambda s, x: s.matmul(x, 4)),
  "matmul_t": ((5,), lambda s, x: s.matmul(x, 4, transpose_b=True)),
}


def fits(form, shape, dtype="float32"):
  """Whether TensorFlow has the norm for these tensors on CPUs."""
  if not form.startswith("Fused"):
    return True
  if form == "FusedBatchNorm" and dtype != "float32":
    return False
  return len(shape) == 3 and dtype != "float64"


@pytest.mark.parametrize("kind", BIASES)
@pytest.mark.parametrize("op", sorted(LINEAR))
@pytest.mark.parametrize("form", FORMS)
def test_grid(form, op, kind):
  shape, linear = LINEAR[op]
  if not fits(form, shape):
    pytest.skip("TensorFlow has no such norm")
  model, lines = check(
    lambda s: tf1.nn.relu(
      s.norm(s.bias(linear(s, s.input(*shape)), kind), form)
    )
  )
  left = [
    o for o in ops_of(model) if o in NORMS | ARITHMETIC | {"Neg", "BiasAdd"}
  ]
  assert len(left) <= 1, left
  # A lone shift is as good as a BiasAdd.
  if form == "add" and kind == "none":
    assert lines == [] and left == ["Add"]
  else:
    assert len(lines) == 1 and lines[0].startswith("folded 'bn")
    assert lines[0].endswith(" into 'conv'")
    needs_shift = kind != "none" or form not in ("mul", "neg", "half")
    axis_ops = ["BiasAdd"] if needs_shift else []
    assert left == axis_ops


def test_the_assertion_notices_what_is_left():
  model, _ = built(lambda s: s.norm(s.conv2d(s.input(6, 6, 3), 4)))
  with pytest.raises(AssertionError):
    assert_folded(model)


def test_the_assertion_notices_wrong_answers():
  model, script = built(lambda s: s.norm(s.conv2d(s.input(6, 6, 3), 4)))
  x = feed(script)
  truths = run(model, x)
  with pytest.raises(AssertionError):
    assert_same([truth * 1.001 for truth in truths], truths, "float32")


# Other dtypes.


@pytest.mark.parametrize("kind", ["none", "BiasAdd"])
@pytest.mark.parametrize(
  "op", ["conv2d", "depthwise2", "matmul", "conv3d", "transposed"]
)
@pytest.mark.parametrize(
  "form", ["FusedBatchNormV2", "FusedBatchNormV3", "spelled", "mul"]
)
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_dtypes(dtype, form, op, kind):
  shape, linear = LINEAR[op]
  if not fits(form, shape, dtype):
    pytest.skip("TensorFlow has no such norm")
  if op == "conv3d" and dtype == "float16":
    pytest.skip("no CPU kernel")
  model, lines = check(
    lambda s: s.norm(s.bias(linear(s, s.input(*shape)), kind), form),
    dtype=dtype,
  )
  assert_folded(model)
  assert len(lines) == 1
  wanted = tf1.as_dtype(dtype).as_datatype_enum
  assert {
    node.attr["dtype"].type
    for node in model.graph
    if node.op == "Const" and node.name in ("conv/w", "bn/bias")
  } == {wanted}


def runs_bfloat16():
  """Whether this TensorFlow multiplies bfloat16 matrices on CPUs."""
  model, script = built(lambda s: s.matmul(s.input(5), 4), dtype="bfloat16")
  try:
    run(model, feed(script))
  except tf1.errors.OpError:
    return False
  return True


def test_bfloat16():
  def build(s):
    return s.norm(s.bias(s.matmul(s.input(5), 4), "BiasAdd"), "spelled")

  model, script = built(build, dtype="bfloat16")
  lines = fold(model)
  assert len(lines) == 1
  assert_folded(model)
  bias = model.graph.node(
    "bn/add_1/bias"
    if "bn/add_1/bias" in model.graph
    else "bn/batchnorm/add_1/bias"
  )
  assert bias.attr["dtype"].type == tf1.bfloat16.as_datatype_enum
  if runs_bfloat16():
    check(build, dtype="bfloat16")


# Channels first.


@pytest.mark.parametrize("kind", BIASES)
@pytest.mark.parametrize(
  "op", ["conv2d", "strided", "depthwise2", "transposed"]
)
@pytest.mark.parametrize(
  "form", ["FusedBatchNorm", "FusedBatchNormV3", "spelled", "divided", "mul"]
)
def test_channels_first(form, op, kind):
  shape, linear = LINEAR[op]

  def build(s):
    return tf1.nn.relu(s.norm(s.bias(linear(s, s.input(*shape)), kind), form))

  twin, script = built(build)
  x = feed(script)
  truths = run(twin, x)
  model, _ = built(build, data_format="NCHW")
  lines = fold(model)
  assert_folded(model)
  assert len(lines) == 1
  if kind != "none" or form != "mul":
    (bias,) = [n for n in model.graph if n.op == "BiasAdd"]
    assert bias.attr["data_format"].s == b"NCHW"
  ConvertLayout().apply(model)
  values = run(model, np.transpose(x, [0, 3, 1, 2]))
  assert_same(
    [np.transpose(v, [0, 2, 3, 1]) for v in values], truths, "float32"
  )


@pytest.mark.parametrize("form", ["spelled", "mul"])
@pytest.mark.parametrize("kind", ["none", "AddV2"])
def test_volumes_with_channels_first(form, kind):
  shape, linear = LINEAR["conv3d"]

  def build(s):
    return s.norm(s.bias(linear(s, s.input(*shape)), kind), form)

  twin, script = built(build)
  x = feed(script)
  truths = run(twin, x)
  model, _ = built(build, data_format="NCHW")
  assert len(fold(model)) == 1
  assert_folded(model, most=1)  # Add: no BiasAdd there
  ConvertLayout().apply(model)
  values = run(model, np.transpose(x, [0, 4, 1, 2, 3]))
  assert_same(
    [np.transpose(v, [0, 2, 3, 4, 1]) for v in values], truths, "float32"
  )


def test_layouts_that_do_not_agree_stay():
  model, _ = built(
    lambda s: s.conv2d(s.input(6, 6, 4), 6, name="conv"), data_format="NCHW"
  )
  graph = model.graph
  vectors = {"g": 1.5, "b": 0.5, "m": -1.0, "v": 2.0}
  added = text.loads(
    "".join(
      "%s = Const() {value=<float [6] %s>}\n" % item
      for item in sorted(vectors.items())
    )
  )
  for node in added.node:
    graph.add("Const", node.name, (), node.attr)
  like = text.loads(
    "g = Placeholder() x = Placeholder() y = FusedBatchNorm("
    "x, g, g, g, g) {is_training=false}"
  ).node[-1]
  graph.become("y", "FusedBatchNorm", ["conv", "g", "b", "m", "v"], like.attr)
  (line,) = fold(model)
  assert "not one number a channel" in line


# Structures.


def norm_of(s, h, name="bn", form="FusedBatchNormV3"):
  return s.norm(h, form, name)


def test_global_normalization():
  """TensorFlow takes the op only from graphs of producers before 9."""
  for after in (True, False):
    model, script = built(lambda s: s.conv2d(s.input(6, 6, 3), 4))
    x = feed(script)
    (conv,) = run(model, x)
    random = np.random.RandomState(2)
    gamma, beta, mean = random.normal(size=(3, 4)).astype("f")
    variance = random.uniform(0.5, 2, 4).astype("f")
    graph, names = model.graph, []
    for name, values in (
      ("m", mean),
      ("v", variance),
      ("b", beta),
      ("g", gamma),
    ):
      attr = (
        text.loads(
          "%s = Const() {value=<float [4] %s>}"
          % (name, " ".join(repr(float(v)) for v in values))
        )
        .node[0]
        .attr
      )
      names.append(graph.add("Const", name, (), attr).name)
    attrs = (
      text.loads(
        "y = BatchNormWithGlobalNormalization(a, b, c, d, e) {"
        "variance_epsilon=0.01, scale_after_normalization=%s}"
        % str(after).lower()
      )
      .node[0]
      .attr
    )
    graph.become(
      "y", "BatchNormWithGlobalNormalization", ["conv"] + names, attrs
    )
    assert fold(model) == ["folded 'y' into 'conv'"]
    truth = (conv - mean) / np.sqrt(variance + 0.01)
    truth = truth * (gamma if after else 1) + beta
    assert_same(run(model, x), [truth], "float32")
    assert_folded(model)


@pytest.mark.parametrize(
  "forms",
  [
    ("FusedBatchNormV3", "FusedBatchNorm"),
    ("spelled", "divided"),
    ("mul", "FusedBatchNormV3"),
    ("divided", "half"),
  ],
)
def test_two_in_a_row(forms):
  def build(s):
    h = s.bias(s.conv2d(s.input(6, 6, 3), 4), "AddV2")
    return s.norm(s.norm(h, forms[0], "bn1"), forms[1], "bn2")

  model, lines = check(build)
  assert_folded(model)
  fused = [form for form in forms if form.startswith("Fused")]
  assert len(lines) == max(1, len(fused))
  assert len([op for op in ops_of(model) if op == "BiasAdd"]) == 1


def test_identities_between():
  def build(s):
    h = tf1.identity(s.conv2d(s.input(6, 6, 3), 4))
    return tf1.stop_gradient(norm_of(s, tf1.stop_gradient(h)))

  model, _ = check(build)
  assert_folded(model)


@pytest.mark.parametrize("kind", ["none", "BiasAdd"])
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2])
@pytest.mark.parametrize("form", ["FusedBatchNorm", "spelled", "mul"])
def test_concat(form, axis, kind):
  def build(s):
    x, parts = s.input(6, 6, 3), []
    for i, width in enumerate((4, 2 if axis in (3, -1) else 4, 4)):
      h = s.conv2d(x, width, "conv%d" % i)
      parts.append(s.bias(h, kind if i else "none", "bias%d" % i))
    return tf1.nn.relu(s.norm(tf1.concat(parts, axis, name="join"), form))

  model, lines = check(build)
  assert_folded(model)
  (line,) = lines
  for i in range(3):
    assert "'conv%d'" % i in line


def test_concat_of_shifted_parts_has_one_shift_for_each():
  def build(s):
    x = s.input(6, 6, 3)
    parts = [
      s.bias(s.conv2d(x, 4, "c%d" % i), "BiasAdd", "b%d" % i) for i in range(2)
    ]
    return norm_of(s, tf1.concat(parts, 3))

  model, _ = check(build)
  assert ops_of(model).count("BiasAdd") == 2


def test_norms_around_a_concat():
  def build(s):
    x = s.input(6, 6, 3)
    parts = [norm_of(s, s.conv2d(x, 4, "c%d" % i), "n%d" % i) for i in range(2)]
    return norm_of(s, tf1.concat(parts, 3), "after", "spelled")

  model, lines = check(build)
  assert_folded(model)
  assert len(lines) == 3


def test_concat_of_one_tensor_twice_stays():
  def build(s):
    h = s.conv2d(s.input(6, 6, 3), 4)
    return norm_of(s, tf1.concat([h, h], 3))

  model, lines = check(build)
  assert lines == ["'bn' stays: 'conv' is read by 'concat' more than once"]


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("form", ["FusedBatchNormV3", "spelled", "mul"])
@pytest.mark.parametrize("kind", ["none", "BiasAdd"])
def test_atrous(form, padding, kind):
  def build(s):
    x = s.input(9, 9, 3)
    pad = 2 if padding == "SAME" else 0
    blocks = tf1.space_to_batch_nd(x, [2, 2], [[pad, pad + 1]] * 2)
    h = s.conv2d(blocks, 4, padding="VALID")
    h = tf1.batch_to_space_nd(h, [2, 2], [[0, 1]] * 2)
    return s.norm(s.bias(h, kind), form)

  model, lines = check(build)
  assert_folded(model)
  assert len(lines) == 1


def test_squeezed_and_expanded():
  """What tf.layers.conv1d makes."""

  def build(s):
    x = tf1.expand_dims(s.input(6, 3), 1)
    w = s.const(s.weights(1, 3, 3, 4))
    h = s.conv2d(x, 4, kernel=w)
    h = tf1.raw_ops.BiasAdd(
      value=tf1.squeeze(h, [1]), bias=s.const(s.weights(4))
    )
    h = s.norm(tf1.expand_dims(h, 1))
    return tf1.squeeze(h, [1])

  model, lines = check(build)
  assert_folded(model)
  assert len(lines) == 1


@pytest.mark.parametrize("shape", ["const", "dynamic"])
def test_reshaped_rows(shape):
  """What tf.layers.dense makes of sequences."""

  def build(s):
    x = s.input(6, 3)
    h = s.matmul(tf1.reshape(x, [-1, 3]), 4)
    sizes = [-1, 6, 4]
    if shape == "dynamic":
      sizes = tf1.concat([tf1.gather(tf1.shape(x), [0, 1]), [4]], 0)
    h = tf1.reshape(h, sizes)
    h.set_shape([None, 6, 4])
    return s.norm(h, "spelled")

  model, lines = check(build)
  assert_folded(model)
  assert len(lines) == 1


def test_transposed_channels():
  def build(s):
    h = tf1.transpose(s.conv2d(s.input(6, 6, 3), 4), [0, 3, 1, 2])
    scale = s.const(s.random.uniform(0.5, 2, [4, 1, 1]))
    return h * scale + s.const(s.weights(1, 4, 1, 1))

  model, _ = check(build)
  assert_folded(model, most=1)  # the Add, of a rank and axis BiasAdd knows
  assert "BiasAdd" in ops_of(model)


def test_reshape_that_mixes_channels_stays():
  def build(s):
    h = s.matmul(s.input(5), 4)
    return s.norm(tf1.reshape(h, [-1, 2]), "spelled")

  model, lines = check(build)
  (line,) = lines
  assert "stays: 'Reshape' (Reshape) mixes channels" in line


def test_flattened_images_stay():
  def build(s):
    h = s.conv2d(s.input(4, 4, 3), 2)
    return s.norm(tf1.reshape(h, [-1, 32]), "spelled")

  _, lines = check(build)
  assert len(lines) == 1 and "stays" in lines[0]


def runs_groups():
  model, script = built(lambda s: s.conv2d(s.input(6, 6, 4), 6, taps=2))
  try:
    run(model, feed(script))
  except (tf1.errors.OpError, ValueError):
    return False
  return True


def grouped_truth(x, w, groups):
  """A grouped VALID convolution in NumPy."""
  rows, height, width, channels = x.shape
  high, wide, taps, out = w.shape
  each = out // groups
  y = np.zeros((rows, height - high + 1, width - wide + 1, out))
  for o in range(out):
    part = x[..., o // each * taps : (o // each + 1) * taps]
    for i in range(high):
      for j in range(wide):
        y[..., o] += np.sum(
          part[:, i : i + y.shape[1], j : j + y.shape[2]] * w[i, j, :, o], -1
        )
  return y


def test_grouped():
  """No CPU kernel of TF 1.15 runs it: read what is left by hand."""

  def build(s):
    x = s.input(6, 6, 4)
    before = tf1.multiply(s.vector(x, 0.5, 2, "a"), x, name="before")
    before = tf1.add(before, s.vector(x, -1, 1, "b"), name="shift")
    h = s.conv2d(before, 6, taps=2, padding="VALID")
    return s.norm(h, "spelled")

  try:
    model, script = built(build)
  except ValueError:
    pytest.skip("this TensorFlow states no grouped convolution")
  x = feed(script).astype(np.float64)
  constants = {
    node.name: tf1.make_ndarray(node.attr["value"].tensor)
    for node in model.graph
    if node.op == "Const"
  }
  folded = grouped_truth(
    x * constants["a"] + constants["b"],
    constants["conv/w"].astype(np.float64),
    2,
  )
  graph = model.graph
  mul = [n for n in graph if n.op == "Mul" and "conv" in n.input]
  norm = graph.node("bn/add_1" if "bn/add_1" in graph else "bn/batchnorm/add_1")
  values = Constants(model, graph.topological())
  scale = values.value(TensorRef.parse(mul[0].input[1]))
  shift = values.value(TensorRef.parse(norm.input[1]))
  truth = folded * scale + shift
  lines = fold(model)
  assert len(lines) == 2, lines
  kernel = tf1.make_ndarray(model.graph.node("conv/w").attr["value"].tensor)
  bias = tf1.make_ndarray(
    model.graph.node(norm.name + "/bias").attr["value"].tensor
  )
  value = grouped_truth(x, kernel.astype(np.float64), 2) + bias
  assert_close(value, truth, 1e-5)
  if runs_groups():
    check(build)


# Into the op behind.


def relu_input(s, *shape):
  x = s.input(*shape)
  return tf1.nn.relu(x)


BEHIND = {
  "valid": lambda s, h: s.conv2d(h, 4, padding="VALID"),
  "one": lambda s, h: s.conv2d(h, 4, size=1),
  "one_strided": lambda s, h: s.conv2d(h, 4, size=1, strides=2),
  "dilated": lambda s, h: s.conv2d(h, 4, padding="VALID", dilations=2),
  "depthwise1": lambda s, h: s.depthwise(h, 1, padding="VALID"),
  "depthwise2": lambda s, h: s.depthwise(h, 2, padding="VALID"),
  "same": lambda s, h: s.conv2d(h, 4),
  "depthwise_same": lambda s, h: s.depthwise(h, 2),
  "transposed": lambda s, h: s.transposed(h, 4),
}


@pytest.mark.parametrize("op", sorted(BEHIND))
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["none", "BiasAdd"])
def test_forward(form, op, kind):
  model, lines = check(
    lambda s: tf1.nn.relu(
      s.bias(BEHIND[op](s, s.norm(relu_input(s, 6, 6, 3), form)), kind)
    )
  )
  shifts = form not in ("mul", "neg", "half")
  (line,) = lines or [None]
  if shifts and op in ("same", "depthwise_same", "transposed"):
    if form != "add" and form != "sub":
      assert "puts zeros around" in line
  else:
    assert_folded(model)
    assert line.endswith(" into 'conv'")
    is_shifted = kind != "none" or shifts
    assert ops_of(model).count("BiasAdd") == is_shifted
    assert "conv" in model.graph


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("form", ["spelled", "divided", "mul", "sub"])
def test_forward_into_a_product(form, transpose):
  model, lines = check(
    lambda s: s.matmul(s.norm(relu_input(s, 5), form), 4, transpose_b=transpose)
  )
  assert_folded(model)
  assert len(lines) == 1


def test_forward_into_a_product_of_the_transposed():
  def build(s):
    h = s.norm(relu_input(s, 5), "spelled")
    w = s.const(s.weights(2, 4))
    return tf1.raw_ops.MatMul(a=h, b=w, transpose_a=True)

  model, lines = check(build)
  assert len(lines) == 1 and "stays" in lines[0]


def test_forward_into_volumes():
  model, lines = check(
    lambda s: s.conv3d(
      s.norm(relu_input(s, 4, 4, 4, 3), "spelled"), 4, padding="VALID"
    )
  )
  assert_folded(model)


@pytest.mark.parametrize("pads, folds", [(0, True), (1, False)])
def test_forward_with_stated_pads(pads, folds):
  model, script = built(
    lambda s: s.conv2d(
      norm_of(s, relu_input(s, 6, 6, 3)), 4, size=3, padding="VALID"
    )
  )
  node = model.graph.node("conv")
  node.attr["padding"].s = b"EXPLICIT"
  node.attr["explicit_paddings"].list.i.extend(
    [0, 0, pads, pads, pads, pads, 0, 0]
  )
  (line,) = fold(model)
  assert line.startswith("folded") == folds


def test_forward_into_all_that_read_it():
  def build(s):
    h = norm_of(s, relu_input(s, 6, 6, 3))
    return tf1.add_n([s.conv2d(h, 4, "c%d" % i, size=1) for i in range(3)])

  model, lines = check(build)
  assert_folded(model)
  assert lines == ["folded 'bn' into 'c0', 'c1', 'c2'"]


def test_forward_stays_where_something_else_reads_it():
  def build(s):
    h = norm_of(s, relu_input(s, 6, 6, 3))
    return s.conv2d(h, 3, size=1) + h

  _, (line,) = check(build)
  assert "'add' behind it is not linear" in line


def test_forward_into_an_output():
  def build(s):
    h = norm_of(s, relu_input(s, 6, 6, 3))
    return s.conv2d(h, 3, size=1)

  model, lines = check(build, outputs=("conv",))
  assert_folded(model)
  assert model.graph.op("conv") == "BiasAdd"


def test_forward_and_back():
  def build(s):
    h = norm_of(s, relu_input(s, 6, 6, 3), "before")
    h = s.bias(s.conv2d(h, 4, padding="VALID"), "BiasAdd")
    return norm_of(s, h, "after")

  model, lines = check(build)
  assert_folded(model)
  assert ops_of(model).count("BiasAdd") == 1
  assert lines == ["folded 'before' into 'conv'", "folded 'after' into 'conv'"]


def test_forward_stays_where_channels_may_be_broadcast():
  def build(s):
    x = s.input(6, 6, 1)
    h = tf1.tile(x, [1, 1, 1, 1])
    h = h * s.const(s.random.uniform(1, 2, 3))
    return s.conv2d(h, 4, size=1)

  _, (line,) = check(build)
  assert "stays" in line and "not known" in line


def test_forward_stays_where_numbers_would_cancel():
  def build(s):
    h = relu_input(s, 6, 6, 3)
    vectors = [s.const([v] * 3) for v in (1.0, 0.0, 1e5, 1.0)]
    h = tf1.raw_ops.FusedBatchNorm(
      x=h,
      scale=vectors[0],
      offset=vectors[1],
      mean=vectors[2],
      variance=vectors[3],
      is_training=False,
      name="bn",
    )[0]
    return s.conv2d(h, 4, size=1)

  _, (line,) = check(build)
  assert "takes away 1e+05 times what it leaves" in line


# What stays.


def test_conv_with_another_reader_stays():
  def build(s):
    h = s.conv2d(s.input(6, 6, 3), 4)
    return tf1.add(norm_of(s, h), h, name="sum")

  model, lines = check(build)
  assert lines == ["'bn' stays: 'conv' is read by 'sum' too"]


def test_bias_with_another_reader_stays():
  def build(s):
    h = s.bias(s.conv2d(s.input(6, 6, 3), 4), "Add")
    return tf1.add(norm_of(s, h), h, name="sum")

  _, lines = check(build)
  assert lines == ["'bn' stays: 'bias' is read by 'sum' too"]


def test_who_asks_for_shapes_does_not_count():
  def build(s):
    h = s.conv2d(s.input(6, 6, 3), 4)
    biased = s.bias(h, "BiasAdd")
    y = tf1.nn.relu(s.norm(biased, "spelled"))
    flat = tf1.reshape(y, [tf1.shape(h)[0], -1])
    return flat * tf1.cast(tf1.size(biased), tf1.float32)

  model, _ = check(build)
  assert not NORMS & set(ops_of(model))
  assert ops_of(model).count("BiasAdd") == 1


def test_conv_that_is_an_output_stays():
  def build(s):
    return norm_of(s, s.conv2d(s.input(6, 6, 3), 4))

  _, lines = check(build, outputs=("y", "conv"))
  assert lines == ["'bn' stays: 'conv' is an input or output of the model"]


def test_norm_between_that_is_an_output_keeps_its_value():
  def build(s):
    h = norm_of(s, s.conv2d(s.input(6, 6, 3), 4), "bn1")
    return norm_of(s, h, "bn2")

  model, lines = check(build, outputs=("y", "bn1"))
  assert lines[0] == "folded 'bn1' into 'conv'"
  assert lines[1].startswith("'bn2' stays: 'bn1' is an input or output")


def test_norm_that_is_an_output_keeps_its_name():
  for form in ("FusedBatchNormV3", "mul"):
    model, _ = check(
      lambda s, form=form: s.norm(s.conv2d(s.input(6, 6, 3), 4), form),
      outputs=("bn",),
    )
    assert_folded(model)


def test_conv_that_is_fed_stays():
  model, _ = built(lambda s: norm_of(s, s.conv2d(s.input(6, 6, 3), 4)))
  model.inputs = (TensorRef("conv"),)
  (line,) = fold(model)
  assert "is an input or output" in line


def test_other_outputs_of_a_norm():
  """TF 1.15 leaves them unwritten, where nothing is trained."""
  model, _ = built(
    lambda s: norm_of(s, s.conv2d(s.input(6, 6, 3), 4)), outputs=("y", "bn:1")
  )
  assert fold(model) == ["'bn' stays: 'bn:1' is needed, too"]


def test_shape_of_another_output_of_a_norm():
  def build(s):
    h = s.norm(s.conv2d(s.input(6, 6, 3), 4), "FusedBatchNorm", "bn1")
    statistic = s.x.graph.get_tensor_by_name("bn1:1")
    h = norm_of(s, h, "bn2")
    size = tf1.raw_ops.Size(input=statistic)
    return h * tf1.cast(size, tf1.float32)

  model, lines = check(build)
  assert "'bn1:1' is needed, too" in lines[0]


def test_deconvolution_to_the_shape_of_another_tensor():
  def build(s):
    skip = tf1.nn.relu(s.conv2d(s.input(12, 12, 3), 4, "skip"))
    small = tf1.nn.relu(s.conv2d(skip, 5, "small", strides=2))
    w = s.const(s.weights(3, 3, 4, 5))
    h = tf1.raw_ops.Conv2DBackpropInput(
      input_sizes=tf1.shape(skip),
      filter=w,
      out_backprop=small,
      strides=s.per_axis(2),
      padding="SAME",
      name="conv",
    )
    h.set_shape([None, 12, 12, 4])
    return norm_of(s, h) + skip

  model, lines = check(build)
  assert lines == ["folded 'bn' into 'conv'"]


def test_deconvolution_of_unknown_width_stays():
  model, _ = built(lambda s: norm_of(s, s.transposed(s.input(6, 6, 3), 4)))
  sizes = model.graph.data_inputs("conv")[0].node
  model.graph.become(sizes, "Placeholder", (), {"dtype": type_attr(tf1.int32)})
  (line,) = fold(model)
  assert line == "'bn' stays: 'conv' does not state how many channels it gives"


def test_training_mode_stays():
  _, lines = check(
    lambda s: s.norm(s.conv2d(s.input(6, 6, 3), 4), training=True)
  )
  assert lines == ["'bn' stays: it is in training mode"]


def test_training_mode_with_constant_statistics_stays():
  model, script = built(lambda s: norm_of(s, s.conv2d(s.input(6, 6, 3), 4)))
  model.graph.node("bn").attr["is_training"].b = True
  assert fold(model) == ["'bn' stays: it is in training mode"]


def test_batch_statistics_in_arithmetic_stay():
  def build(s):
    h = s.conv2d(s.input(6, 6, 3), 4)
    mean, variance = tf1.nn.moments(h, [0, 1, 2])
    return tf1.nn.batch_normalization(
      h, mean, variance, s.const(s.weights(4)), None, 0.01
    )

  _, lines = check(build)
  (line,) = lines
  assert line.endswith("stays: its statistics are not stored ones")


def test_statistics_that_are_not_constant_stay():
  def build(s):
    h = s.conv2d(s.input(6, 6, 3), 4)
    mean = tf1.placeholder_with_default(np.ones(4, "f"), [4], name="mean")
    ones = s.const(np.ones(4))
    return tf1.raw_ops.FusedBatchNorm(
      x=h,
      scale=ones,
      offset=ones,
      mean=mean,
      variance=ones,
      is_training=False,
      name="bn",
    )[0]

  _, lines = check(build)
  assert lines == ["'bn' stays: its mean 'mean' is not constant"]


def test_kernel_that_is_not_constant_stays():
  def build(s):
    w = tf1.placeholder_with_default(
      s.weights(3, 3, 3, 4).astype("f"), [3, 3, 3, 4]
    )
    return norm_of(s, s.conv2d(s.input(6, 6, 3), 4, kernel=w))

  _, lines = check(build)
  assert lines == ["'bn' stays: the kernel of 'conv' is not constant"]


def test_kernel_of_constants():
  """Partitioned, transposed, normalised: what is left of it is a constant."""

  def build(s):
    w = tf1.concat([s.const(s.weights(3, 3, 3, 2)) for _ in range(2)], 3)
    w *= tf1.rsqrt(tf1.reduce_sum(tf1.square(w), [0, 1, 2], keepdims=True))
    return norm_of(s, s.conv2d(s.input(6, 6, 3), 4, kernel=w))

  model, lines = check(build)
  assert_folded(model)
  assert lines == ["folded 'bn' into 'conv'"]
  assert "ConcatV2" not in ops_of(model)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_statistics_that_are_no_numbers_stay(value):
  def build(s):
    h = s.conv2d(s.input(6, 6, 3), 4)
    vectors = [s.const(np.ones(4)) for _ in range(3)]
    variance = s.const([1.0, 2.0, value, 1.0])
    if value == np.inf:  # as a variance it would be a scale of zero
      vectors[2], variance = variance, vectors[2]
    return tf1.raw_ops.FusedBatchNorm(
      x=h,
      scale=vectors[0],
      offset=vectors[1],
      mean=vectors[2],
      variance=variance,
      is_training=False,
      name="bn",
    )[0]

  model, _ = built(build)
  (line,) = fold(model)
  assert line.startswith("'bn' stays: its s") and "in channel 2" in line


def test_channels_that_are_switched_off():
  def build(s):
    h = s.bias(s.conv2d(s.input(6, 6, 3), 4), "BiasAdd")
    return h * s.const([0.0, 1.0, 0.0, 2.0]) + s.const([1.0, 0.0, 0.0, 3.0])

  model, _ = check(build)
  assert_folded(model)


@pytest.mark.parametrize(
  "values, word",
  [
    (np.ones((6, 1, 4)), "not one number a channel"),
    (np.ones((1, 1, 1, 1, 4)), "has 5 axes and x 4"),
    (np.ones((6, 6, 4)), "not one number a channel"),
  ],
)
def test_operands_of_other_shapes_stay(values, word):
  def build(s):
    h = s.conv2d(s.input(6, 6, 3), 4)
    return tf1.multiply(h, s.const(values * 1.5), name="bn")

  _, (line,) = check(build)
  assert line.startswith("'bn' stays") and word in line


def test_one_channel_that_is_broadcast_stays():
  def build(s):
    h = s.conv2d(s.input(6, 6, 3), 1)
    return tf1.multiply(h, s.const([1.0, 2.0, 3.0]), name="bn")

  _, lines = check(build)
  assert lines == ["'bn' stays: its operand has 3 numbers for 1 channels"]


def test_products_of_two_tensors_are_no_steps():
  def build(s):
    h = s.conv2d(s.input(6, 6, 3), 4)
    return h * tf1.nn.sigmoid(s.conv2d(s.x, 4, "gate"))

  _, lines = check(build)
  assert lines == []


def test_empty_batches():
  check(lambda s: norm_of(s, s.conv2d(s.input(6, 6, 3), 4)), rows=0)


@pytest.mark.parametrize(
  "scale, word",
  [(1e30, "float16 can't hold the numbers"), (1e-7, "as small as")],
)
def test_float16_that_can_not_hold_the_kernel_stays(scale, word):
  model, _ = built(
    lambda s: s.norm(s.conv2d(s.input(6, 6, 3), 4), "FusedBatchNormV3"),
    dtype="float16",
  )
  gamma = TensorRef.parse(model.graph.node("bn").input[1]).node
  value = np.full(4, scale, np.float32)
  model.graph.node(gamma).attr["value"].tensor.CopyFrom(
    tf1.make_tensor_proto(value)
  )
  (line,) = fold(model)
  assert word in line


@pytest.mark.parametrize(
  "dtype, size, scale, holds",
  [
    ("float16", 0.5, 0.5, True),
    ("float16", 0.05, 0.5, True),
    ("float16", 0.05, 1e-6, False),
    ("float16", 0.05, 1e-30, False),
    ("float16", 1e-7, 0.3, True),  # it had lost its precision before
    ("float16", 100.0, 1000.0, False),
    ("bfloat16", 0.5, 1e-30, True),
    ("bfloat16", 0.5, 1e-38, False),
    ("bfloat16", 0.5, 1e39, False),
    ("float32", 0.5, 1e-30, True),
    ("float32", 0.5, 1e-38, False),
    ("float32", 0.5, 1e-50, False),
    ("float32", 1e-41, 0.3, True),
    ("float32", 0.5, 0.0, True),
    ("float32", 0.5, 1e39, False),
    ("float32", np.nan, 1.0, False),
    ("float64", 0.5, 1e-290, True),
    ("float64", 0.5, 1e-320, False),
  ],
)
def test_what_a_dtype_holds(dtype, size, scale, holds):
  kernel = np.full((3, 2), size, "d")
  kernel[0, 0] *= 0.3
  if dtype != "bfloat16":
    kernel = kernel.astype(dtype)

  def scaled():
    return folding.scale_outputs(kernel, (1,), np.array([scale, 1.0]), dtype)

  if holds:
    expected = kernel.astype("d") * [scale, 1.0]
    error = np.abs(scaled().astype("d") - expected)
    precision = {"bfloat16": 2.0**-8, "float16": 2.0**-11}.get(dtype, 1e-7)
    assert (
      error <= np.maximum(precision * np.abs(expected), 1e-6 * (size < 1e-6))
    ).all()
  else:
    with pytest.raises(folding.CannotFold):
      scaled()


def test_channels_that_do_not_fit_a_kernel():
  two = folding.Affine(np.ones(4), np.ones(4))
  for shape, in_axis, out_axes in (
    ((1, 1, 3, 2), 2, (3,)),
    ((1, 1, 2, 3), 2, (3,)),
    ((1, 1, 2, 2), 2, (2, 3)),
    ((1, 1, 2, 2), 3, (2,)),
    ((1, 1, 0, 2), 2, (3,)),
    ((1, 1, 8, 2), 2, (3,)),
  ):
    with pytest.raises(folding.CannotFold):
      folding.absorb_inputs(np.ones(shape), in_axis, out_axes, two, "float32")


def test_control_inputs_stay():
  for form in ("FusedBatchNormV3", "half"):
    model, script = built(
      lambda s, form=form: s.norm(s.conv2d(s.input(6, 6, 3), 4), form)
    )
    graph = model.graph
    for name in ("conv", "bn"):
      graph.add("NoOp", "before_" + name)
      graph.set_inputs(name, graph.inputs(name) + ["^before_" + name])
    fold(model)
    found = {
      name for name in model.needed(control=True) if graph.op(name) == "NoOp"
    }
    assert found == {"before_conv", "before_bn"}
    assert_folded(model)


def test_norm_in_a_loop():
  def build(s):
    x = s.input(6, 6, 4)
    w = s.const(s.weights(3, 3, 4, 4), "kernel")
    vectors = s.statistics(x)

    def body(i, h):
      h = s.conv2d(h, 4, kernel=w)
      h = tf1.nn.batch_normalization(
        h, vectors[2], vectors[3], vectors[1], vectors[0], 0.01
      )
      return i + 1, tf1.nn.relu(h)

    tf1.disable_control_flow_v2()
    return tf1.while_loop(
      lambda i, h: i < 3,
      body,
      [tf1.constant(0), x],
      shape_invariants=[tf1.TensorShape([]), tf1.TensorShape([None, 6, 6, 4])],
    )[1]

  model, lines = check(build)
  assert len(lines) == 1 and lines[0].startswith("folded")
  assert_folded(model, most=1)  # the counter's


# Shared kernels.


def shared(s, scales):
  x, w = s.input(6, 6, 3), s.const(s.weights(3, 3, 3, 4), "kernel")
  others = [x, tf1.abs(x), tf1.square(x)]
  h = [s.conv2d(others[i], 4, "c%d" % i, kernel=w) for i in range(len(scales))]
  return tf1.add_n(
    [
      tf1.nn.relu(h[i] if c is None else h[i] * s.const(c))
      for i, c in enumerate(scales)
    ]
  )


ONE, TWO = [1.0, 2.0, 3.0, 4.0], [2.0, 0.5, 0.5, 3.0]


@pytest.mark.parametrize(
  "scales, kernels",
  [
    ((ONE, None), 2),
    ((None, ONE), 2),
    ((ONE, TWO), 2),
    ((ONE, ONE), 1),
    ((ONE, ONE, None), 2),
    ((ONE, TWO, ONE), 2),
  ],
)
def test_shared_kernels_are_copied_where_they_differ(scales, kernels):
  model, _ = check(lambda s: shared(s, scales))
  needed = model.needed()
  found = {
    TensorRef.parse(model.graph.node(n).input[1]).node
    for n in needed
    if model.graph.op(n) == "Conv2D"
  }
  assert len(found) == kernels


def test_kernel_that_is_an_output_is_copied():
  def build(s):
    return norm_of(s, s.conv2d(s.input(6, 6, 3), 4))

  model, lines = check(build, outputs=("y", "conv/w"))
  assert_folded(model)


def test_kernel_behind_identities_is_changed_in_place():
  def build(s):
    w = tf1.identity(s.const(s.weights(3, 3, 3, 4), "w"), "w/read")
    return norm_of(s, s.conv2d(s.input(6, 6, 3), 4, kernel=w))

  model, _ = check(build)
  assert model.graph.inputs("conv")[1] == TensorRef("w/read")
  assert [n.name for n in model.graph if n.op == "Const"] == ["w", "bn/bias"]


def test_deferred_kernel_is_folded_where_it_is_written():
  """Large weights are read one at a time, where the graph is written."""
  for copies in (1, 2):
    model, script = built(
      lambda s, copies=copies: shared(s, [ONE] + [None] * (copies - 1))
    )
    x = feed(script)
    truths = run(model, x)
    kernel = model.array("kernel")
    model.deferred["kernel"] = lambda kernel=kernel: kernel
    model.graph.become(
      "kernel", "Const", (), deferred_attrs(kernel.shape, tf1.float32, "kernel")
    )
    assert all(line.startswith("folded") for line in fold(model))
    left = [n.name for n in model.graph if DEFERRED in n.attr]
    assert len(left) == copies
    for name in left:
      value = model.array(name)
      model.graph.become(name, "Const", (), tf1_const(value))
    assert_same(run(model, x), truths, "float32")


def tf1_const(value):
  return {"dtype": type_attr(tf1.float32), "value": tensor_attr(value)}


# Cases that TensorFlow's own tools get wrong.


def test_constants_that_were_folded_before():
  """Nothing but Mul and Add is left of a norm then."""

  def build(s):
    h = s.conv2d(s.input(6, 6, 3), 4)
    return h * s.const([1.5, 0.5, 2.0, -1.0]) + s.const([1.0, 2.0, 0.0, 3.0])

  model, (line,) = check(build)
  assert line == "folded 'add' into 'conv'"


def test_scalar_factors_do_not_stop_the_rest():
  """The old tool raised an error at a scalar and folded nothing at all."""

  def build(s):
    h = s.conv2d(s.input(6, 6, 3), 4) * s.const(2.0)
    return s.conv2d(tf1.nn.relu(norm_of(s, h)), 4, "conv2") * s.const([0.5])

  model, lines = check(build)
  assert_folded(model)


def test_siblings_are_folded_at_once():
  """The old tool folded one of those that read the same tensor."""

  def build(s):
    x = s.input(6, 6, 3)
    return tf1.concat(
      [
        tf1.nn.relu(s.norm(s.conv2d(x, 4, "c%d" % i), "spelled", "n%d" % i))
        for i in range(4)
      ],
      3,
    )

  model, lines = check(build)
  assert len(lines) == 4
  assert_folded(model)


def test_library_and_versions_are_kept():
  model, _ = built(lambda s: norm_of(s, s.conv2d(s.input(6, 6, 3), 4)))
  versions = model.graph.to_graph_def().versions
  model.graph.library.update(
    (f.signature.name, f)
    for f in text.loads(
      "function f(x float) -> (y float = n:y:0) { n = Neg(x) }"
    ).library.function
  )
  fold(model)
  after = model.graph.to_graph_def()
  assert after.versions == versions and versions.producer
  assert [f.signature.name for f in after.library.function] == ["f"]


@pytest.mark.parametrize(
  "build, transform",
  [
    (
      lambda s: s.norm(s.conv2d(s.input(6, 6, 3), 4), "FusedBatchNorm"),
      "fold_old_batch_norms",
    ),
    (
      lambda s: s.norm(s.depthwise(s.input(6, 6, 3), 1), "FusedBatchNorm"),
      "fold_old_batch_norms",
    ),
    (
      lambda s: s.conv2d(s.input(6, 6, 3), 4) * s.const(ONE),
      "fold_batch_norms",
    ),
    (lambda s: s.matmul(s.input(5), 4) * s.const(ONE), "fold_batch_norms"),
  ],
)
def test_ops_are_those_of_the_old_tool(build, transform):
  """Where it folds, and is right."""
  model, script = built(build)
  graph_def = model.graph.to_graph_def()
  old = model_of(old_tool(graph_def, transform, inputs=["x"]))
  fold(model)
  assert sorted(ops_of(model)) == sorted(ops_of(old))
  x = feed(script)
  assert_same(run(model, x), run(old, x), "float32")


def test_cost_is_linear():
  """The same work for each norm, however many there are."""

  def prepare(count):
    graph = text.loads("x = Placeholder() {shape=[?,4]}")
    vector = text.loads("c = Const() {value=<float [4] 1 2 3 4>}").node[0]
    kernel = text.loads("c = Const() {value=<float [4,4] 0.5>}").node[0]
    like = text.loads(
      "x = Placeholder() m = MatMul(x, x) n = Mul(x, x) r = Relu(x)"
    ).node
    last = "x"
    for i in range(count):
      for name, proto in (("k%d", kernel), ("c%d", vector)):
        node = graph.node.add()
        node.CopyFrom(proto)
        node.name = name % i
      for name, proto, inputs in (
        ("m%d", like[1], [last, "k%d" % i]),
        ("n%d", like[2], ["m%d" % i, "c%d" % i]),
        ("r%d", like[3], ["n%d" % i]),
      ):
        node = graph.node.add()
        node.CopyFrom(proto)
        node.name = name % i
        del node.input[:]
        node.input.extend(inputs)
      last = "r%d" % i
    model = model_of(graph, outputs=(last,))

    def work():
      assert len(FoldBatchNorms().apply(model)) == count

    return work

  assert_linear(prepare, 40, 200)


# The zoo.

# Norms before and after, where anything else would be a loss.
COUNTS = {
  "contrib_fused_literal": (2, 0),
  "contrib_siamese_phase": (4, 0),
  "formula_divide_sqrt": (2, 0),
  "keras_functional": (None, 0),
  "layers_nchw_literal": (2, 0),
  "layers_renorm_literal": (3, 1),
  "layers_volume_literal": (None, 0),
  "net_mobile": (None, 0),
}


@pytest.mark.parametrize("name", zoo.names())
def test_zoo(name, cases):
  case = cases(name)
  if case.expect == "refuse":
    pytest.skip("it is not exported")
  exported = export(case, folds=False)
  model = exported.model
  before = len(find(model.graph, model.outputs))
  lines = fold(model)
  assert_answers(case, exported)
  after = len(find(model.graph, model.outputs))
  folded = [line for line in lines if line.startswith("folded")]
  assert len(folded) >= before - after
  if name in COUNTS:
    wanted = COUNTS[name]
    assert after == wanted[1]
    assert wanted[0] in (None, before)
