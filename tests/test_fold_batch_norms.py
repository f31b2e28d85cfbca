"""fold_batch_norms: equal answers always, folded wherever that is exact.

The truth is the graph as it was, run before it is folded. No CPU kernel runs
NCHW: there the truth is the NHWC twin, and the folded graph is turned to NHWC.
"""

import numpy as np
import pytest
import zoo
from exporting import assert_answers, assert_close, export

from bnexport import ops, text
from bnexport.graph import Graph, TensorRef
from bnexport.model import Model
from bnexport.nodes import Signatures
from bnexport.sources.meta_graph import open_graph
from bnexport.tf1 import session, tf1
from bnexport.transforms.convert_layout import ConvertLayout
from bnexport.transforms.fold_batch_norms import FoldBatchNorms

# Relative to the largest element, or 1.
TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "float16": 1e-2,
             "bfloat16": 8e-2}
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

  def conv2d(self, x, channels, name="conv", size=3, padding="SAME", taps=None,
             kernel=None, strides=1, dilations=1):
    if kernel is None:
      taps = taps or self.width(x)
      kernel = self.const(self.weights(size, size, taps, channels), name + "/w")
    return tf1.raw_ops.Conv2D(
      input=x, filter=kernel, strides=self.per_axis(strides), padding=padding,
      data_format=self.data_format, dilations=self.per_axis(dilations),
      name=name)

  def depthwise(self, x, multiplier, name="conv", padding="SAME"):
    w = self.const(self.weights(3, 3, self.width(x), multiplier), name + "/w")
    return tf1.raw_ops.DepthwiseConv2dNative(
      input=x, filter=w, strides=self.per_axis(1), padding=padding,
      data_format=self.data_format, name=name)

  def transposed(self, x, channels, name="conv"):
    w = self.const(self.weights(3, 3, channels, self.width(x)), name + "/w")
    sizes = [12, 12, channels]
    if self.is_first:
      sizes = [channels, 12, 12]
    sizes = tf1.stack([tf1.shape(x)[0]] + sizes)
    return tf1.raw_ops.Conv2DBackpropInput(
      input_sizes=sizes, filter=w, out_backprop=x, strides=self.per_axis(2),
      padding="SAME", data_format=self.data_format, name=name)

  def conv3d(self, x, channels, name="conv", padding="SAME"):
    w = self.const(self.weights(2, 3, 3, self.width(x), channels), name + "/w")
    return tf1.raw_ops.Conv3D(
      input=x, filter=w, strides=[1] * 5, padding=padding, name=name,
      data_format="NCDHW" if self.is_first else "NDHWC")

  def transposed3d(self, x, channels, name="conv"):
    w = self.const(self.weights(2, 3, 3, channels, self.width(x)), name + "/w")
    sizes = tf1.stack([tf1.shape(x)[0], 8, 8, 8, channels])
    return tf1.raw_ops.Conv3DBackpropInputV2(
      input_sizes=sizes, filter=w, out_backprop=x, strides=[1, 2, 2, 2, 1],
      padding="SAME", name=name)

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
        value=h, bias=b, data_format=data_format, name=name)
    if self.is_first:
      b = tf1.reshape(b, [-1] + [1] * (h.shape.ndims - 2))
    add = tf1.raw_ops.Add if kind == "Add" else tf1.raw_ops.AddV2
    return add(x=h, y=b, name=name)

  def norm(self, h, form="FusedBatchNormV3", name="bn", training=False):
    return getattr(self, "_" + form.lower(), self._fused)(
      h, form=form, name=name, training=training)

  def statistics(self, h, dtype=None):
    """Scale, offset, mean, variance, none of them trivial."""
    return [
      self.vector(h, low, high, dtype=dtype)
      for low, high in ((0.5, 2), (-1, 1), (-2, 3), (0.2, 4))]

  def _fused(self, h, form, name, training):
    first, self.data_format = self.data_format, "NHWC"
    values = [
      self.random.uniform(low, high, h.shape.as_list()[
        1 if first.startswith("NC") else -1])
      for low, high in ((0.5, 2), (-1, 1), (-2, 3), (0.2, 4))]
    self.data_format = first
    values = [self.const(v, dtype=tf1.float32) for v in values]
    if training:
      values[2:] = [self.const([], dtype=tf1.float32)] * 2
    return getattr(tf1.raw_ops, form)(
      x=h, scale=values[0], offset=values[1], mean=values[2],
      variance=values[3], epsilon=0.01, is_training=training,
      data_format=first, name=name)[0]

  def _spelled(self, h, form, name, training):
    gamma, beta, mean, variance = self.statistics(h)
    return tf1.nn.batch_normalization(
      h, mean, variance, beta, gamma, 0.01, name=name)

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
    graph=open_graph(graph_def), values=None,
    inputs=tuple(map(TensorRef.parse, inputs)),
    outputs=tuple(map(TensorRef.parse, outputs)),
    origin="a test", signatures=Signatures())


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
    return opened.run([str(ref) + ":0" * (ref.index == 0)
                       for ref in model.outputs], {"x:0": x})


def feed(script, rows=2):
  shape = [rows if size is None else size
           for size in script.x.shape.as_list()]
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
    assert value.dtype == truth.dtype
    assert_close(value.astype(np.float64), truth.astype(np.float64),
                 TOLERANCE[dtype])


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
  left = [op for op in ops_of(model)
          if op in NORMS or op in ARITHMETIC or op == "Neg"]
  assert len(left) <= most, left


FORMS = ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "spelled",
         "divided", "mul", "add", "sub", "neg", "half"]
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
      s.norm(s.bias(linear(s, s.input(*shape)), kind), form)))
  left = [o for o in ops_of(model) if o in NORMS | ARITHMETIC | {
    "Neg", "BiasAdd"}]
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
