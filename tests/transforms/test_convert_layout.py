# SPDX-License-Identifier: Apache-2.0
"""convert_layout: NCHW graphs answer on CPUs what they would on a GPU.

No CPU kernel runs NCHW, so the truth is the same model with each op that
states a layout put between two transposes, its attributes permuted by hand.
"""

import contextlib

import numpy as np
import pytest
from judges.exporting import assert_close

from bnexport.errors import TransformError
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.model import Model
from bnexport.tf1 import session, tf1
from bnexport.transforms.layout.convert_layout import ConvertLayout

TOLERANCE = 1e-5  # float32, relative to the largest element or 1
X = (2, 6, 8, 10)  # N, C, H, W: all different, so that no mixup goes unseen


def weights(*shape):
  """Random numbers that are the same each time a model is built."""
  seed = sum(size * 7**i for i, size in enumerate(shape))
  return np.random.RandomState(seed % 9973).normal(0.1, 0.5, shape).astype("f")


class Written:
  """The layout-bound ops as a user writes them: channels first."""

  def conv(self, x, w, strides=(1, 1), padding="SAME", dilations=(1, 1)):
    return tf1.nn.conv2d(
      x,
      w,
      strides=[1, 1] + list(strides),
      padding=padding,
      data_format="NCHW",
      dilations=[1, 1] + list(dilations),
    )

  def depthwise(self, x, w, strides=(1, 1)):
    return tf1.nn.depthwise_conv2d_native(
      x, w, strides=[1, 1] + list(strides), padding="SAME", data_format="NCHW"
    )

  def conv_transpose(self, x, w, shape, strides):
    return tf1.nn.conv2d_backprop_input(
      shape,
      w,
      x,
      strides=[1, 1] + list(strides),
      padding="SAME",
      data_format="NCHW",
    )

  def pool(self, kind, x, size, strides, padding):
    op = tf1.nn.max_pool if kind == "max" else tf1.nn.avg_pool
    return op(
      x,
      [1, 1] + list(size),
      [1, 1] + list(strides),
      padding,
      data_format="NCHW",
    )

  def max_pool_v2(self, x, size, strides):
    return tf1.raw_ops.MaxPoolV2(
      input=x,
      ksize=[1, 1] + size,
      strides=[1, 1] + strides,
      padding="VALID",
      data_format="NCHW",
    )

  def bias(self, x, b):
    return tf1.nn.bias_add(x, b, data_format="NCHW")

  def norm(self, x):
    stats = [weights(x.shape[1]) for _ in range(3)]
    return tf1.nn.fused_batch_norm(
      x,
      stats[0] + 1,
      stats[1],
      stats[2],
      stats[2] ** 2 + 0.5,
      1e-3,
      data_format="NCHW",
      is_training=False,
    )[0]

  def depth_to_space(self, x, size):
    return tf1.depth_to_space(x, size, data_format="NCHW")

  def space_to_depth(self, x, size):
    return tf1.space_to_depth(x, size, data_format="NCHW")

  def conv3d(self, x, w, strides=(1, 1, 1)):
    return tf1.nn.conv3d(
      x, w, strides=[1, 1] + list(strides), padding="SAME", data_format="NCDHW"
    )

  def conv3d_transpose(self, x, w, shape, strides):
    return tf1.nn.conv3d_transpose(
      x,
      w,
      output_shape=shape,
      strides=[1, 1] + list(strides),
      padding="SAME",
      data_format="NCDHW",
    )

  def pool3d(self, kind, x, size):
    op = tf1.nn.max_pool3d if kind == "max" else tf1.nn.avg_pool3d
    return op(
      x,
      ksize=[1, 1] + size,
      strides=[1, 1] + size,
      padding="VALID",
      data_format="NCDHW",
    )


def back(y):
  rank = len(y.shape)
  return tf1.transpose(y, [0, rank - 1] + list(range(1, rank - 1)))


def there(x):
  rank = len(x.shape)
  return tf1.transpose(x, [0] + list(range(2, rank)) + [1])


class Truth:
  """The same ops by their NHWC kernels, between transposes."""

  def conv(self, x, w, strides=(1, 1), padding="SAME", dilations=(1, 1)):
    if not isinstance(padding, str):
      padding = [padding[0], padding[2], padding[3], padding[1]]
    return back(
      tf1.nn.conv2d(
        there(x),
        w,
        strides=[1] + list(strides) + [1],
        padding=padding,
        dilations=[1] + list(dilations) + [1],
      )
    )

  def depthwise(self, x, w, strides=(1, 1)):
    return back(
      tf1.nn.depthwise_conv2d_native(
        there(x), w, strides=[1] + list(strides) + [1], padding="SAME"
      )
    )

  def conv_transpose(self, x, w, shape, strides):
    n, c, height, width = tf1.unstack(tf1.convert_to_tensor(shape))
    return back(
      tf1.nn.conv2d_backprop_input(
        tf1.stack([n, height, width, c]),
        w,
        there(x),
        strides=[1] + list(strides) + [1],
        padding="SAME",
      )
    )

  def pool(self, kind, x, size, strides, padding):
    op = tf1.nn.max_pool if kind == "max" else tf1.nn.avg_pool
    return back(
      op(there(x), [1] + list(size) + [1], [1] + list(strides) + [1], padding)
    )

  def max_pool_v2(self, x, size, strides):
    return back(
      tf1.nn.max_pool(there(x), [1] + size + [1], [1] + strides + [1], "VALID")
    )

  def bias(self, x, b):
    return x + tf1.reshape(b, [-1] + [1] * (len(x.shape) - 2))

  def norm(self, x):
    stats = [weights(x.shape[1]) for _ in range(3)]
    return back(
      tf1.nn.batch_normalization(
        there(x), stats[2], stats[2] ** 2 + 0.5, stats[1], stats[0] + 1, 1e-3
      )
    )

  def depth_to_space(self, x, size):
    return back(tf1.depth_to_space(there(x), size))

  def space_to_depth(self, x, size):
    return back(tf1.space_to_depth(there(x), size))

  def conv3d(self, x, w, strides=(1, 1, 1)):
    return back(
      tf1.nn.conv3d(
        there(x), w, strides=[1] + list(strides) + [1], padding="SAME"
      )
    )

  def conv3d_transpose(self, x, w, shape, strides):
    return back(
      tf1.nn.conv3d_transpose(
        there(x),
        w,
        output_shape=[shape[i] for i in (0, 2, 3, 4, 1)],
        strides=[1] + list(strides) + [1],
        padding="SAME",
      )
    )

  def pool3d(self, kind, x, size):
    op = tf1.nn.max_pool3d if kind == "max" else tf1.nn.avg_pool3d
    return back(
      op(
        there(x),
        ksize=[1] + size + [1],
        strides=[1] + size + [1],
        padding="VALID",
      )
    )


@contextlib.contextmanager
def old_control_flow():
  """Conditionals and loops as TF1 wrote them: Switch, Merge, Enter."""
  was_new = tf1.control_flow_v2_enabled()
  tf1.disable_control_flow_v2()
  try:
    yield
  finally:
    if was_new:
      tf1.enable_control_flow_v2()


def build(model, layout, shape):
  """Returns the graph of a model and the names of its outputs."""
  graph = tf1.Graph()
  with graph.as_default(), old_control_flow():
    x = tf1.placeholder(tf1.float32, shape, "x")
    ys = model(layout, x)
    ys = ys if isinstance(ys, (list, tuple)) else [ys]
    for i, y in enumerate(ys):
      tf1.identity(y, "y%d" % i)
  return graph, ["y%d" % i for i in range(len(ys))]


def as_model(graph_def, outputs, inputs=()):
  return Model(
    Graph(graph_def),
    None,
    tuple(inputs),
    tuple(map(TensorRef.parse, outputs)),
    "test",
    Signatures(),
  )


def answers(graph, feeds, names):
  with session(graph) as s:
    return s.run(
      [name if ":" in name else name + ":0" for name in names],
      {name + ":0": value for name, value in feeds.items()},
    )


def imported(model):
  """The graph a model has become, as TensorFlow reads it back."""
  model.graph.lint()
  graph_def = model.graph.to_graph_def()
  for node in graph_def.node:
    node.attr.pop("_output_shapes", None)
  graph = tf1.Graph()
  with graph.as_default():
    tf1.import_graph_def(graph_def, name="")
  return graph


def needed_nodes(model):
  return [model.graph.node(name) for name in model.needed(control=True)]


def transposes(model):
  """How often data changes its layout, in the graph that is left."""
  return sum(node.op == "Transpose" for node in needed_nodes(model))


def formats(model):
  return {
    node.attr["data_format"].s
    for node in needed_nodes(model)
    if "data_format" in node.attr
  }


def check(model, most, shape=X, fed=None, unshaped=None):
  """Asserts that a converted model answers the truth.

  Args:
    model: a function of a layout (Written or Truth) and x to the outputs.
    most: how many transposes may be left.
    shape: of the placeholder; the batch is left open.
    fed: the value of x; random where it is None.
    unshaped: `most` where the graph states no shapes; the same if None.
  """
  x = weights(*shape) * 2 if fed is None else fed
  open_shape = (None,) + tuple(shape[1:])
  truth, names = build(model, Truth(), open_shape)
  truths = answers(truth, {"x": x}, names)
  written, _ = build(model, Written(), open_shape)
  for shapes in (True, False):
    limit = most if shapes or unshaped is None else unshaped
    converted = as_model(written.as_graph_def(add_shapes=shapes), names)
    told = ConvertLayout().apply(converted)
    assert len(told) == 1
    assert not formats(converted) & {b"NCHW", b"NCDHW"}
    assert transposes(converted) <= limit
    graph = imported(converted)
    for name in names:
      was = written.get_tensor_by_name(name + ":0")
      now = graph.get_tensor_by_name(name + ":0")
      assert now.dtype == was.dtype
      assert now.shape.rank is None or was.shape.is_compatible_with(now.shape)
    for value, expected in zip(answers(graph, {"x": x}, names), truths):
      assert_close(value, expected, TOLERANCE)
    assert_settled(converted)
  return converted


def assert_settled(model):
  """Asserts that a second conversion changes nothing."""
  before = model.graph.to_graph_def().SerializeToString(deterministic=True)
  assert ConvertLayout().apply(model) == []
  after = model.graph.to_graph_def().SerializeToString(deterministic=True)
  assert before == after


def conv(nn, x, channels=6, **options):
  """A convolution with a bias, to put around what a test is about."""
  y = nn.conv(x, weights(3, 3, int(x.shape[1]), channels), **options)
  return nn.bias(y, weights(channels))


# Ops that state their layout.


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
  "options", [{}, {"strides": (2, 3)}, {"dilations": (2, 1)}], ids=str
)
def test_convolution(padding, options):
  check(
    lambda nn, x: nn.conv(x, weights(3, 2, 6, 5), padding=padding, **options), 2
  )


def test_convolution_with_explicit_paddings():
  pads = [[0, 0], [0, 0], [1, 2], [3, 0]]
  check(lambda nn, x: nn.conv(x, weights(3, 2, 6, 5), padding=pads), 2)


def test_depthwise_convolution():
  check(lambda nn, x: nn.depthwise(x, weights(3, 3, 6, 2), (2, 2)), 2)


def test_transposed_convolution_of_constant_shape():
  check(
    lambda nn, x: nn.conv_transpose(
      x, weights(3, 2, 4, 6), [2, 4, 16, 30], (2, 3)
    ),
    2,
  )


def test_transposed_convolution_of_computed_shape():
  def model(nn, x):
    h = tf1.nn.relu(conv(nn, x))
    n, _, height, width = tf1.unstack(tf1.shape(h))
    y = nn.conv_transpose(
      h, weights(3, 2, 4, 6), tf1.stack([n, 4, 2 * height, 3 * width]), (2, 3)
    )
    return tf1.nn.relu(y)

  check(model, 2)


def test_transposed_convolution_shaped_like_another_tensor():
  def model(nn, x):
    h = conv(nn, x, 4)
    small = conv(nn, h, 6, strides=(2, 2))
    return (
      nn.conv_transpose(small, weights(3, 3, 4, 6), tf1.shape(h), (2, 2)) + h
    )

  check(model, 2)


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_pooling(kind, padding):
  check(lambda nn, x: nn.pool(kind, x, (3, 2), (2, 3), padding), 2)


def test_pooling_with_sizes_as_inputs():
  check(lambda nn, x: nn.max_pool_v2(x, [3, 2], [1, 2]), 2)


def test_fused_norm():
  check(lambda nn, x: tf1.nn.relu(nn.norm(conv(nn, x))), 2)


@pytest.mark.parametrize(
  "shape", [(3, 6, 5), (3, 6, 5, 4), (3, 6, 2, 4, 5)], ids=len
)
def test_bias_of_any_rank(shape):
  check(lambda nn, x: tf1.nn.relu(nn.bias(x, weights(6))), 2, shape)


def test_bias_of_a_matrix():
  # Newer TensorFlow refuses NCHW for rank 2, TF 1.x wrote it.
  graph, names = build(
    lambda nn, x: tf1.nn.bias_add(x, weights(6)), None, (None, 6)
  )
  graph_def = graph.as_graph_def(add_shapes=True)
  for node in graph_def.node:
    if node.op == "BiasAdd":
      node.attr["data_format"].s = b"NCHW"
  converted = as_model(graph_def, names)
  ConvertLayout().apply(converted)
  assert transposes(converted) == 0
  assert formats(converted) == {b"NHWC"}
  x = weights(3, 6)
  (found,) = answers(imported(converted), {"x": x}, names)
  assert_close(found, x + weights(6), TOLERANCE)


def test_depth_and_space():
  def model(nn, x):
    h = nn.depth_to_space(conv(nn, x, 12), 2)
    return h, nn.space_to_depth(tf1.nn.relu(h), 2)

  check(model, 3)


def test_volumes():
  def model(nn, x):
    h = nn.bias(nn.conv3d(x, weights(3, 2, 3, 4, 5), (1, 2, 1)), weights(5))
    h = nn.pool3d("max", tf1.nn.relu(h), [2, 1, 2])
    h = nn.pool3d(
      "avg", tf1.pad(h, [[0, 0], [1, 0], [0, 1], [0, 2], [3, 0]]), [1, 2, 1]
    )
    h = tf1.concat([h, h * 2], 1)
    h = h - tf1.reduce_mean(h, [2, 3, 4], keepdims=True)
    return h * weights(1, 12, 1, 1, 1), tf1.reduce_max(h, [2, 3, 4])

  check(model, 2, (2, 4, 6, 8, 5))


def test_transposed_convolution_of_volumes():
  check(
    lambda nn, x: nn.conv3d_transpose(
      x, weights(3, 2, 2, 3, 4), [2, 3, 8, 6, 10], (2, 1, 2)
    ),
    2,
    (2, 4, 4, 6, 5),
  )


def test_volumes_that_bias_add_takes_as_images():
  # tf.layers.conv3d folds two axes into one for the bias.
  def model(nn, x):
    h = nn.conv3d(x, weights(3, 2, 3, 4, 7))
    h = nn.bias(tf1.reshape(h, [-1, 7, 48, 5]), weights(7))
    return tf1.nn.relu(tf1.reshape(h, [-1, 7, 6, 8, 5]))

  check(model, 2, (2, 4, 6, 8, 5), unshaped=6)


# Ops between them.


def test_residual_blocks():
  def model(nn, x):
    h = tf1.nn.relu(nn.norm(conv(nn, x)))
    h = tf1.nn.relu(nn.norm(conv(nn, h)) + h)
    return tf1.nn.relu(tf1.add_n([conv(nn, h), h, x]))

  check(model, 2)


@pytest.mark.parametrize("axis", [1, -3, 2, 3, -1, 0])
def test_concat(axis):
  check(
    lambda nn, x: tf1.nn.relu(
      tf1.concat([conv(nn, x), x, conv(nn, x) * 2], axis)
    ),
    2,
  )


@pytest.mark.parametrize("mode", ["CONSTANT", "REFLECT", "SYMMETRIC"])
def test_pad(mode):
  pads = [[0, 0], [0, 1], [2, 3], [1, 4]]
  check(lambda nn, x: conv(nn, tf1.pad(conv(nn, x), pads, mode), 3), 2)


def test_pad_with_value_and_computed_amounts():
  def model(nn, x):
    h = conv(nn, x)
    height = tf1.shape(h)[2]
    amounts = tf1.stack([[0, 0], [1, 0], tf1.stack([0, height]), [2, 1]])
    return tf1.pad(h, amounts, constant_values=-1.5)

  check(model, 2)


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize(
  "reduce",
  [tf1.reduce_mean, tf1.reduce_sum, tf1.reduce_max, tf1.reduce_min],
  ids=lambda op: op.__name__,
)
def test_reduction_over_places(reduce, keepdims):
  check(
    lambda nn, x: reduce(conv(nn, x), [2, -1], keepdims=keepdims),
    2 if keepdims else 1,
  )


@pytest.mark.parametrize(
  "axes",
  [[0], [1], [2], [3], [0, 1], [0, 2, 3], [1, 2], [0, 1, 2, 3], None, -3],
)
def test_reduction_over_other_axes(axes):
  check(lambda nn, x: tf1.reduce_mean(conv(nn, x), axes) * 2, 2)


def test_argmax_over_channels():
  check(lambda nn, x: tf1.argmax(conv(nn, x), 1), 1)


def test_global_pooling_and_dense():
  def model(nn, x):
    h = tf1.reduce_mean(tf1.nn.relu(conv(nn, x)), [2, 3])
    return tf1.matmul(h, weights(6, 4)) + weights(4)

  check(model, 1)


def test_global_average_pool_squeezed():
  def model(nn, x):
    h = nn.pool("avg", conv(nn, x), (8, 10), (1, 1), "VALID")
    h = tf1.squeeze(nn.conv(h, weights(1, 1, 6, 5)), [2, 3])
    return tf1.nn.softmax(h)

  check(model, 1)


def test_squeeze_of_whatever_is_one():
  def model(nn, x):
    h = tf1.reduce_max(conv(nn, x), [3], keepdims=True)
    return tf1.squeeze(h), tf1.squeeze(tf1.identity(x[:, :1]))

  check(model, 3)


def test_flatten_and_dense():
  # The rows of the dense kernel are in the order of C, H, W.
  def model(nn, x):
    h = tf1.reshape(tf1.nn.relu(conv(nn, x)), [-1, 6 * 8 * 10])
    return tf1.matmul(h, weights(480, 4))

  check(model, 2)


def test_flatten_with_a_computed_shape():
  def model(nn, x):
    h = conv(nn, x)
    h = tf1.reshape(h, tf1.stack([tf1.shape(h)[0], 480]))
    return tf1.matmul(h, weights(480, 4))

  check(model, 2)


def test_flatten_of_single_places():
  def model(nn, x):
    h = tf1.reduce_mean(conv(nn, x), [2, 3], keepdims=True)
    return tf1.matmul(tf1.reshape(h, [-1, 6]), weights(6, 4))

  check(model, 1)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_split(axis):
  def model(nn, x):
    a, b = tf1.split(conv(nn, x), 2, axis)
    return tf1.nn.relu(a) - b

  check(model, 2)


def test_split_of_sizes():
  def model(nn, x):
    a, b, c = tf1.split(conv(nn, x), [1, 2, 3], 1)
    return tf1.concat([tf1.nn.relu(c), a], 1), conv(nn, b)

  check(model, 3)


@pytest.mark.parametrize("axis", [1, 2])
def test_unstack(axis):
  check(lambda nn, x: tf1.add_n(tf1.unstack(conv(nn, x), axis=axis)) * 2, 2)


@pytest.mark.parametrize(
  "part",
  [
    lambda h: h[:, 2:4],
    lambda h: h[:, :, 1:-1, ::2],
    lambda h: h[..., 3:],
    lambda h: h[:, ::-1],
    lambda h: h[1:, 1:3, ..., :4],
    lambda h: h[:, 3],
    lambda h: h[:, 1:, 0, 0],
    lambda h: h[:, :, 2],
    lambda h: h[0],
    lambda h: h[:, :, None],
    lambda h: tf1.slice(h, [0, 1, 2, 3], [-1, 4, 5, 6]),
    lambda h: h[:, :, : tf1.shape(h)[2] - 1, 2 : tf1.shape(h)[3]],
    lambda h: tf1.slice(
      h, [0, 0, 1, 1], tf1.stack([-1, 2, tf1.shape(h)[2] - 2, 3])
    ),
  ],
  ids="channels places ellipsis reversed mixed channel corner row image "
  "new_axis slice computed computed_slice".split(),
)
def test_slices(part):
  check(lambda nn, x: part(conv(nn, x)) * 2, 2)


def test_squeeze_and_excite():
  def model(nn, x):
    h = conv(nn, x)
    gate = tf1.reduce_mean(h, [2, 3])
    gate = tf1.nn.relu(tf1.matmul(gate, weights(6, 3)))
    gate = tf1.sigmoid(tf1.matmul(gate, weights(3, 6)))
    return conv(nn, h * tf1.reshape(gate, [-1, 6, 1, 1]))

  # The gate of N, C, 1, 1 is moved by a Reshape, not by a Transpose.
  check(model, 2)


def test_squeeze_and_excite_by_convolutions():
  def model(nn, x):
    h = conv(nn, x)
    gate = tf1.reduce_mean(h, [2, 3], keepdims=True)
    gate = tf1.nn.relu(nn.conv(gate, weights(1, 1, 6, 3)))
    return h * tf1.sigmoid(nn.conv(gate, weights(1, 1, 3, 6)))

  check(model, 2)


def test_squeeze_and_excite_by_expanded_dims():
  def model(nn, x):
    h = conv(nn, x)
    gate = tf1.sigmoid(tf1.reduce_mean(h, [2, 3]))
    return h * tf1.expand_dims(tf1.expand_dims(gate, -1), -1), (
      h * gate[:, :, None, None]
    )

  check(model, 3, unshaped=5)


def test_rectifiers():
  def model(nn, x):
    h = tf1.nn.leaky_relu(conv(nn, x), 0.3)
    h = tf1.nn.relu(h) - weights(6, 1, 1) * tf1.nn.relu(-h)
    h = tf1.maximum(h, h * weights(1, 6, 1, 1))
    return tf1.clip_by_value(tf1.nn.elu(h), -0.5, 2)

  check(model, 2)


def test_spelled_out_norm():
  def model(nn, x):
    shape = [1, 6, 1, 1]
    h = tf1.nn.batch_normalization(
      conv(nn, x),
      tf1.reshape(weights(6), shape),
      tf1.constant(weights(*shape) ** 2 + 1),
      tf1.constant(weights(*shape)),
      tf1.reshape(tf1.constant(weights(6)), shape),
      1e-3,
    )
    return tf1.nn.relu(h)

  check(model, 2)


def test_operands_of_fewer_axes():
  def model(nn, x):
    h = conv(nn, x)
    h = h * weights(6, 8, 10) + weights(8, 10) - weights(10)
    return h + weights(8, 1) * weights(1) / weights(1, 1, 1, 10)

  check(model, 2)


def test_computed_operands_of_fewer_axes():
  def model(nn, x):
    h = conv(nn, x)
    row = x[0, 0, 0]
    return h * tf1.reduce_sum(x, 0) + x[0, 0] - row

  # One for each operand with channels, besides those of x and y.
  check(model, 3)


def test_instance_norm():
  def model(nn, x):
    h = conv(nn, x)
    mean, variance = tf1.nn.moments(h, [2, 3], keep_dims=True)
    h = (h - mean) * tf1.rsqrt(variance + 1e-3)
    return tf1.nn.relu(h * weights(1, 6, 1, 1) + weights(1, 6, 1, 1))

  check(model, 2)


def test_group_norm():
  def model(nn, x):
    h = conv(nn, x)
    g = tf1.reshape(h, [-1, 2, 3, 8, 10])
    mean, variance = tf1.nn.moments(g, [2, 3, 4], keep_dims=True)
    g = tf1.reshape((g - mean) * tf1.rsqrt(variance + 1e-3), [-1, 6, 8, 10])
    return conv(nn, g * weights(1, 6, 1, 1))

  check(model, 4)


def test_resize_through_transposes():
  def model(nn, x):
    h = tf1.transpose(tf1.nn.relu(conv(nn, x)), [0, 2, 3, 1])
    h = tf1.image.resize_bilinear(h, [5, 7])
    return conv(nn, tf1.transpose(h, [0, 3, 1, 2]))

  check(model, 2)


def test_softmax_over_channels():
  def model(nn, x):
    h = tf1.transpose(conv(nn, x), [0, 3, 2, 1])  # as tf.nn.softmax(axis=1)
    return tf1.transpose(tf1.nn.softmax(h), [0, 3, 2, 1])

  check(model, 3)


def test_transposes_of_other_axes():
  def model(nn, x):
    h = tf1.transpose(conv(nn, x), [0, 1, 3, 2])
    return tf1.nn.relu(h), tf1.transpose(h, [1, 0, 2, 3])

  check(model, 4)


def test_images_come_in_nhwc():
  def model(nn, x):
    h = tf1.transpose(x, [0, 3, 1, 2]) / 2 - weights(1, 6, 1, 1)
    h = tf1.pad(h, [[0, 0], [0, 0], [1, 1], [1, 1]])
    h = nn.norm(conv(nn, h, padding="VALID"))
    return tf1.transpose(tf1.nn.relu(h), [0, 2, 3, 1])

  check(model, 0, (2, 8, 10, 6))


def test_lrn_through_transposes():
  def model(nn, x):
    h = tf1.nn.lrn(tf1.transpose(conv(nn, x), [0, 2, 3, 1]))
    return tf1.reduce_mean(conv(nn, tf1.transpose(h, [0, 3, 1, 2])), [2, 3])

  check(model, 1)


def test_signals_of_one_axis():
  # tf.layers.conv1d: a conv2d of height 1.
  def model(nn, x):
    h = nn.conv(tf1.expand_dims(x, 2), weights(1, 3, 6, 5))
    h = tf1.nn.relu(tf1.squeeze(h, [2]) + weights(1, 5, 1))
    h = nn.conv(tf1.expand_dims(h, 2), weights(1, 3, 5, 4))
    return tf1.reduce_mean(nn.bias(tf1.squeeze(h, [2]), weights(4)), 2)

  check(model, 1, (2, 6, 9))


def test_dilation_by_blocks():
  # tf.nn.convolution(data_format="NCHW") in TF 1.x: a block of one channel.
  def model(nn, x):
    h = tf1.nn.relu(conv(nn, x))
    h = tf1.space_to_batch_nd(h, [1, 2, 2], [[0, 0], [2, 2], [2, 4]])
    h = nn.conv(h, weights(3, 3, 6, 5), padding="VALID")
    return tf1.batch_to_space_nd(h, [1, 2, 2], [[0, 0], [0, 0], [0, 2]])

  check(model, 2)


def test_tile_gather_reverse_and_cumsum():
  def model(nn, x):
    h = tf1.gather(conv(nn, x), [4, 0, 2, 5, 1], axis=1)  # channel shuffle
    h = tf1.cumsum(tf1.reverse(h, [1, -1]), 1)
    return tf1.tile(h, [1, 2, 1, 3])

  check(model, 2)


def test_nearest_neighbour_by_tiling():
  # Fold into six axes and back: the order of axes counts.
  def model(nn, x):
    h = tf1.reshape(conv(nn, x), [-1, 6, 8, 1, 10, 1])
    h = tf1.reshape(tf1.tile(h, [1, 1, 1, 2, 1, 2]), [-1, 6, 16, 20])
    return conv(nn, h)

  check(model, 4)


def test_shape_size_and_rank():
  def model(nn, x):
    h = conv(nn, x, strides=(2, 2))
    scale = tf1.cast(tf1.size(h) + tf1.rank(h) + tf1.shape(h)[1], tf1.float32)
    return h / scale, tf1.shape(h), tf1.nn.l2_loss(h)

  check(model, 2)


def test_where():
  def model(nn, x):
    h = conv(nn, x)
    rows = tf1.reduce_mean(h, [1, 2, 3]) > 0
    one = tf1.reduce_mean(h) > 0
    h = tf1.where(h > 0, h, tf1.zeros_like(h))
    h = tf1.where(rows, h, -h)
    return tf1.where(tf1.fill(tf1.shape(h), one), h, h * 2), tf1.where(h > 1)

  check(model, 5)


def test_unknown_op_reads_channels_first():
  def model(nn, x):
    h = conv(nn, x)
    h = tf1.matrix_band_part(h, 1, 1)  # looks at H and W: the last two axes
    return conv(nn, h)

  check(model, 4)


def test_kernel_that_is_computed():
  def model(nn, x):
    w = tf1.transpose(weights(3, 3, 5, 6), [0, 3, 1, 2])  # 3, 6, 3, 5
    w = tf1.transpose(w * 2 + 1, [0, 2, 1, 3])
    return conv(nn, nn.conv(x, w))

  check(model, 4)


# Names, ends and control flow.


def test_outputs_inside_keep_names_and_values():
  def model(nn, x):
    h = conv(nn, x)
    a, b = tf1.split(tf1.nn.relu(h, "r"), 2, 1)
    return conv(nn, a, 3) + b

  graph, names = build(model, Written(), (None,) + X[1:])
  truth, _ = build(model, Truth(), (None,) + X[1:])
  names += ["r", "split:1", "split"]
  converted = as_model(graph.as_graph_def(add_shapes=True), names)
  ConvertLayout().apply(converted)
  feeds = {"x": weights(*X)}
  found = answers(imported(converted), feeds, names)
  for value, expected in zip(found, answers(truth, feeds, names)):
    assert_close(value, expected, TOLERANCE)
  assert_settled(converted)


def test_stated_input_inside_the_graph():
  """A tensor that is fed is what it was, whatever computes it."""

  def model(nn, x):
    h = tf1.nn.relu(conv(nn, x), "inner")
    return tf1.nn.relu(conv(nn, h) + h)

  graph, names = build(model, Written(), (None,) + X[1:])
  truth, _ = build(model, Truth(), (None,) + X[1:])
  converted = as_model(
    graph.as_graph_def(add_shapes=True), names, [TensorRef("inner")]
  )
  ConvertLayout().apply(converted)
  feeds = {"inner": weights(*X)}
  (found,) = answers(imported(converted), feeds, names)
  assert_close(found, answers(truth, feeds, names)[0], TOLERANCE)


def test_readers_that_no_output_needs():
  def model(nn, x):
    h = conv(nn, x)
    tf1.matrix_band_part(tf1.nn.relu(h), 0, 1, name="beside")
    return tf1.nn.relu(h)

  graph, names = build(model, Written(), (None,) + X[1:])
  truth, _ = build(model, Truth(), (None,) + X[1:])
  converted = as_model(graph.as_graph_def(add_shapes=True), names)
  ConvertLayout().apply(converted)
  feeds = {"x": weights(*X)}
  (found,) = answers(imported(converted), feeds, ["beside"])
  assert_close(found, answers(truth, feeds, ["beside"])[0], TOLERANCE)


def test_variables_before_they_are_frozen():
  def model(nn, x):
    gamma = tf1.get_variable("gamma", [1, 6, 1, 1], use_resource=True)
    beta = tf1.get_variable("beta", [6, 1, 1], use_resource=False)
    return tf1.nn.relu(conv(nn, x) * gamma + beta)

  graph, names = build(model, Written(), (None,) + X[1:])
  converted = as_model(graph.as_graph_def(add_shapes=True), names)
  ConvertLayout().apply(converted)
  assert transposes(converted) <= 2
  truth, _ = build(model, Truth(), (None,) + X[1:])
  found = [_with_variables(g, names) for g in (imported(converted), truth)]
  assert_close(found[0], found[1], TOLERANCE)


def _with_variables(graph, names):
  values = {"gamma": weights(1, 6, 1, 1), "beta": weights(6, 1, 1)}
  with session(graph) as s:
    for name, value in values.items():
      if graph.get_operation_by_name(name).type == "VarHandleOp":
        with graph.as_default():
          s.run(
            tf1.raw_ops.AssignVariableOp(
              resource=graph.get_tensor_by_name(name + ":0"), value=value
            )
          )
      else:
        with graph.as_default():
          s.run(
            tf1.raw_ops.Assign(
              ref=graph.get_tensor_by_name(name + ":0"), value=value
            )
          )
    return s.run(names[0] + ":0", {"x:0": weights(*X)})


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_conditional_on_data(scale):
  def model(nn, x):
    h = conv(nn, x)
    return conv(
      nn,
      tf1.cond(
        tf1.reduce_sum(x) > 0,
        lambda: tf1.nn.relu(conv(nn, h)) * weights(1, 6, 1, 1),
        lambda: h + 1,
      ),
    )

  check(model, 2, fed=weights(*X) * scale)


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_conditional_with_a_constant_branch(scale):
  def model(nn, x):
    h = conv(nn, x)
    return conv(
      nn,
      tf1.cond(
        tf1.reduce_sum(x) > 0,
        lambda: tf1.nn.relu(h),
        lambda: tf1.identity(tf1.constant(weights(2, 6, 8, 10))),
      ),
    )

  check(model, 4, fed=weights(*X) * scale)


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_conditional_whose_branches_differ(scale):
  def model(nn, x):
    h = conv(nn, x)
    return tf1.cond(
      tf1.reduce_sum(x) > 0,
      lambda: tf1.matrix_band_part(h, 1, 1),
      lambda: tf1.reverse(h, [1]),
    )

  check(model, 5, fed=weights(*X) * scale)


def test_loop():
  def model(nn, x):
    h = conv(nn, x)

    def body(i, state):
      state = tf1.tanh(
        conv(
          nn, tf1.pad(state, [[0, 0], [0, 0], [1, 1], [0, 2]]), padding="VALID"
        )
      )
      state += weights(1, 6, 1, 1) + tf1.reduce_mean(
        state, [2, 3], keepdims=True
      )
      return i + 1, tf1.concat([state[:, 2:], h[:, :2]], 1)

    return tf1.while_loop(lambda i, s: i < 3, body, [0, h])[1]

  check(model, 2)


def test_loop_whose_body_reads_channels_first():
  def model(nn, x):
    def body(i, state):
      state = tf1.matrix_band_part(conv(nn, state), 2, 2)
      return i + 1, tf1.reshape(tf1.reshape(state, [2, -1]), [2, 6, 8, 10])

    return tf1.while_loop(lambda i, s: i < 3, body, [0, conv(nn, x)])[1]

  check(model, 8)


def test_loop_over_what_stays_channels_first():
  def model(nn, x):
    def body(i, state):
      return i + 1, tf1.tanh(conv(nn, state)) + x

    return tf1.while_loop(lambda i, s: i < 3, body, [0, x])[1]

  check(model, 5)


# What is refused, and what is left alone.


def test_graph_of_nhwc_is_left_alone():
  graph, names = build(lambda nn, x: tf1.nn.relu(conv(nn, x)), Truth(), X)
  converted = as_model(graph.as_graph_def(add_shapes=True), names)
  assert_settled(converted)


def test_other_target_is_refused():
  graph, names = build(lambda nn, x: conv(nn, x), Written(), X)
  with pytest.raises(TransformError, match="^cannot .*NCHW.*; "):
    ConvertLayout("NCHW").apply(as_model(graph.as_graph_def(), names))


def test_bias_of_unknown_rank_is_refused():
  graph = tf1.Graph()
  with graph.as_default():
    x = tf1.placeholder(tf1.float32, None, "x")
    tf1.nn.bias_add(x, weights(6), data_format="NCHW", name="b")
  model = as_model(graph.as_graph_def(add_shapes=True), ["b"])
  before = model.graph.to_graph_def()
  with pytest.raises(TransformError, match="^cannot .*'b'.*; "):
    ConvertLayout().apply(model)
  assert model.graph.to_graph_def() == before


def test_unknown_op_that_states_nchw_is_refused():
  graph, names = build(lambda nn, x: conv(nn, x), Written(), X)
  graph_def = graph.as_graph_def()
  for node in graph_def.node:
    if node.op == "BiasAdd":
      node.op, bias = "MyBias", node.name
  with pytest.raises(TransformError, match="^cannot .*'%s'.*; " % bias):
    ConvertLayout().apply(as_model(graph_def, names))


def test_function_that_states_nchw_is_refused():
  graph, names = build(lambda nn, x: conv(nn, x), Written(), X)
  graph_def = graph.as_graph_def()
  inner = graph_def.library.function.add()
  inner.signature.name = "inner"
  inner.node_def.add(name="c", op="Conv2D").attr["data_format"].s = b"NCHW"
  call = graph_def.node.add(name="call", op="PartitionedCall")
  call.attr["f"].func.name = "inner"
  with pytest.raises(TransformError, match="^cannot .*'call'.*; "):
    ConvertLayout().apply(as_model(graph_def, ["call"]))


def test_assert_close_fails():
  truth = weights(2, 3)
  with pytest.raises(AssertionError):
    assert_close(truth + 1e-3, truth, TOLERANCE)
  with pytest.raises(AssertionError):
    assert_close(truth.T, truth, TOLERANCE)


def test_check_fails_on_a_wrong_answer():
  def model(nn, x):
    return conv(nn, x) * (1.0 if isinstance(nn, Truth) else 1.001)

  with pytest.raises(AssertionError):
    check(model, 2)


def test_check_fails_on_too_many_transposes():
  with pytest.raises(AssertionError):
    check(lambda nn, x: conv(nn, x), 1)


@pytest.mark.parametrize(
  "name",
  [
    "contrib_nchw_literal",
    "contrib_nchw_phase",
    "layers_nchw_inner",
    "layers_nchw_literal",
    "layers_nchw_phase",
  ],
)
def test_zoo_has_transposes_at_its_ends_only(cases, name):
  from judges.exporting import assert_answers, export

  case = cases(name)
  exported = export(case)
  assert_answers(case, exported)
  assert not formats(exported.model) & {b"NCHW"}
  ends = {"contrib": 1, "layers_nchw_inner": 0}
  most = ends.get(name, ends.get(name.split("_")[0], 2))
  assert transposes(exported.model) <= most
