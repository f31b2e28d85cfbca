# SPDX-License-Identifier: Apache-2.0
"""Nothing is said against graphs that are right."""

import numpy as np
import pytest
from judges.exporting import export
from judges.opening import asked

from bnexport.report import examination
from bnexport.tf1 import session, tf1

PLAIN_CASES = (
  "contrib_fused_phase",
  "contrib_unfused_literal",
  "decoy_global_pool",
  "ema_zero_debias",
  "flow_if_fused",
  "formula_divide_sqrt",
  "formula_global_legacy_op",
  "hand_tensorpack",
  "input_fifo_queue",
  "keep_group_hand",
  "keep_instance_fused",
  "keep_layer_fused",
  "keras_functional",
  "layers_float16_phase",
  "layers_nchw_literal",
  "layers_renorm_phase",
  "loop_while_phase",
  "net_mobile",
  "net_residual_v2",
  "net_u_net",
  "state_weight_norm",
  "towers_first",
)
# What the damage deserves, and a norm whose averages nobody kept.
OTHER_CASES = {
  "keep_gan_generator": "BN201",
  "keep_named_scope": "BN201",
  "warn_never_updated": "BN202",
  "warn_variance_huge": "BN207",
  "warn_variance_zero": "BN203",
}


class Network:
  """A frozen network whose norms have the statistics of its own input.

  Each norm's are computed by running what is built so far, so they are right
  whatever the weights are.
  """

  def __init__(self, x, seed=5):
    self.random = np.random.RandomState(seed)
    self.graph = tf1.Graph()
    self.data = x
    with self.graph.as_default():
      self.x = tf1.placeholder(tf1.float32, (None,) + x.shape[1:], "x")

  def weights(self, *shape):
    scale = np.sqrt(2.0 / np.prod(shape[:-1]))
    return self.constant(scale * self.random.randn(*shape))

  def constant(self, value):
    return tf1.constant(np.asarray(value, np.float32))

  def run(self, tensor):
    with session(self.graph) as running:
      return running.run(tensor, {self.x: self.data})

  def statistics(self, h):
    value = self.run(h).astype(np.float64)
    axes = tuple(range(value.ndim - 1))
    return value.mean(axes), value.var(axes)

  def norm(self, h, gamma=None):
    """As tf.layers' fused norm is when it is frozen."""
    size = int(h.shape[-1])
    gamma = self.random.uniform(0.5, 2, size) if gamma is None else gamma
    beta = 0.3 * self.random.randn(size)
    stored = [self.constant(a) for a in (gamma, beta) + self.statistics(h)]
    return tf1.nn.fused_batch_norm(h, *stored, is_training=False)[0]

  def spelled_norm(self, h):
    mean, variance = self.statistics(h)
    gamma = self.random.uniform(0.5, 2, mean.shape)
    beta = self.random.randn(*mean.shape)
    mean, variance, beta, gamma = map(
      self.constant, (mean, variance, beta, gamma)
    )
    return tf1.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-3)

  def conv(self, h, size, width=3, strides=1):
    w = self.weights(width, width, int(h.shape[-1]), size)
    return tf1.nn.conv2d(h, w, [1, strides, strides, 1], "SAME")

  def examine(self, y, tmp_path):
    """The findings about the graph that ends in `y`."""
    with self.graph.as_default():
      tf1.identity(y, "y")
    path = str(tmp_path / "graph.pb")
    with open(path, "wb") as f:
      f.write(self.graph.as_graph_def().SerializeToString())
    return examination.look(*asked(graph_def=path, outputs=["y"])).findings


def images(scale=1.0, offset=0.0, size=8):
  random = np.random.RandomState(7)
  return (offset + scale * random.rand(12, size, size, 3)).astype(np.float32)


# Networks with healthy norms.


def plain(net):
  h = tf1.nn.relu(net.norm(net.conv(net.x, 6, 5)))
  h = tf1.nn.max_pool2d(h, 2, 2, "SAME")
  h = tf1.nn.bias_add(net.conv(h, 8), net.constant(np.arange(8)))
  h = tf1.nn.relu6(net.norm(h))
  return tf1.matmul(tf1.reduce_mean(h, [1, 2]), net.weights(8, 4))


def spelled(net):
  h = tf1.nn.relu(net.spelled_norm(net.conv(net.x, 6)))
  h = tf1.nn.leaky_relu(net.spelled_norm(net.conv(h, 4)))
  h = tf1.matmul(tf1.reshape(h, [-1, 8 * 8 * 4]), net.weights(8 * 8 * 4, 5))
  return tf1.nn.tanh(net.spelled_norm(h))


def residual(net):
  h = net.conv(net.x, 6)
  for _ in range(6):
    inner = net.conv(tf1.nn.relu(net.norm(h)), 6)
    h = h + 3 * net.conv(tf1.nn.relu(net.norm(inner)), 6)
  return net.conv(tf1.nn.relu(net.norm(h)), 3)


def unnormalised_before(net):
  """Layers without norms let values grow."""
  h = net.x
  for _ in range(4):
    h = tf1.nn.relu(5 * net.conv(h, 6))
  return tf1.nn.relu(net.norm(net.conv(h, 4)))


def mobile(net):
  h = tf1.nn.relu6(net.norm(net.conv(net.x, 6)))
  for _ in range(2):
    depthwise = tf1.nn.depthwise_conv2d(
      h, net.weights(3, 3, 6, 2), [1, 1, 1, 1], "SAME"
    )
    h = tf1.nn.relu6(net.norm(depthwise))
    h = net.norm(net.conv(h, 6, 1))
  return h


def branches(net):
  a = tf1.nn.relu(net.norm(net.conv(net.x, 3)))
  b = tf1.nn.relu(net.norm(net.conv(net.x, 5, 1)))
  return tf1.nn.softmax(net.norm(net.conv(tf1.concat([a, b], 3), 4)))


def small_weights(net):
  """Weight decay shrinks weights that a norm follows; it does no harm."""
  w = 1e-6 * net.weights(3, 3, 3, 6)
  h = tf1.nn.conv2d(net.x, net.constant(net.run(w)), [1, 1, 1, 1], "SAME")
  return tf1.nn.relu(net.norm(h))


def dead_filters(net):
  """Some filters are 0, and some channels never pass the ReLU."""
  w = net.run(net.weights(3, 3, 3, 6))
  w[..., :2] = 0
  h = tf1.nn.conv2d(net.x, net.constant(w), [1, 1, 1, 1], "SAME")
  gamma = np.array([1.0, 1, 1e-30, 0, 1, 2])
  h = tf1.nn.relu(net.norm(h, gamma))
  return tf1.nn.relu(net.norm(net.conv(h, 5)))


def generator(net):
  """From a code to an image, by transposed convolutions."""
  code = tf1.reduce_mean(net.x, [1, 2])
  h = tf1.matmul(code, net.weights(3, 4 * 4 * 6))
  h = tf1.nn.relu(net.norm(tf1.reshape(h, [-1, 4, 4, 6])))
  shape = tf1.stack([tf1.shape(h)[0], 8, 8, 5])
  w = net.weights(3, 3, 5, 6)
  h = tf1.nn.conv2d_transpose(h, w, shape, [1, 2, 2, 1])
  h.set_shape([None, 8, 8, 5])
  return tf1.nn.tanh(net.conv(tf1.nn.relu(net.norm(h)), 3))


NETWORKS = (
  plain,
  spelled,
  residual,
  unnormalised_before,
  mobile,
  branches,
  small_weights,
  dead_filters,
  generator,
)
INPUTS = {
  "images of 0 to 1": (1.0, 0.0),
  "images of 0 to 255": (255.0, 0.0),
  "images of 16 bits": (65535.0, 0.0),
  "images around 0": (2.0, -1.0),
  "small values": (0.02, 0.0),
}


@pytest.mark.parametrize("build", NETWORKS, ids=lambda b: b.__name__)
@pytest.mark.parametrize("kind", sorted(INPUTS))
def test_healthy_norms(tmp_path, build, kind):
  net = Network(images(*INPUTS[kind]))
  with net.graph.as_default():
    y = build(net)
  assert net.examine(y, tmp_path) == []


def test_a_blown_up_variance_is_none_of_these(tmp_path):
  """The helper above can find something."""
  net = Network(images())
  with net.graph.as_default():
    h = tf1.nn.relu(net.norm(net.conv(net.x, 6)))
    h = net.conv(h, 4)
    mean, variance = net.statistics(h)
    stored = map(net.constant, (mean + 1, mean, mean, 1e7 * variance))
    y = tf1.nn.fused_batch_norm(h, *stored, is_training=False)[0]
  assert [f.code for f in net.examine(y, tmp_path)] == ["BN207"]


# Norms of rows, which use no averages.


def layer_norm(h):
  mean, variance = tf1.nn.moments(h, [1, 2, 3], keepdims=True)
  return tf1.nn.batch_normalization(h, mean, variance, None, None, 1e-5)


def layer_norm_of_channels(h):
  mean = tf1.reduce_mean(h, -1, keepdims=True)
  variance = tf1.reduce_mean(tf1.square(h - mean), -1, keepdims=True)
  return (h - mean) * tf1.rsqrt(variance + 1e-6)


def instance_norm(h):
  mean, variance = tf1.nn.moments(h, [1, 2], keepdims=True)
  return (h - mean) / tf1.sqrt(variance + 1e-5)


def root_mean_square_norm(h):
  return h * tf1.rsqrt(tf1.reduce_mean(tf1.square(h), -1, keepdims=True) + 1e-6)


def group_norm(h):
  groups = tf1.reshape(h, [-1, 8, 8, 2, 3])
  mean, variance = tf1.nn.moments(groups, [1, 2, 4], keepdims=True)
  groups = (groups - mean) * tf1.rsqrt(variance + 1e-5)
  return tf1.reshape(groups, [-1, 8, 8, 6])


def fused_group_norm(h):
  """The fused op takes the groups of all rows for channels."""
  count = 2 * tf1.shape(h)[0]
  groups = tf1.transpose(tf1.reshape(h, [-1, 64, 2, 3]), [0, 2, 1, 3])
  groups = tf1.reshape(groups, tf1.stack([1, count, 64, 3]))
  groups = tf1.transpose(groups, [0, 2, 3, 1])
  groups.set_shape([1, 64, 3, None])
  y = tf1.nn.fused_batch_norm(
    groups, tf1.ones([count]), tf1.zeros([count]), is_training=True
  )[0]
  y = tf1.reshape(tf1.transpose(y, [0, 3, 1, 2]), [-1, 2, 64, 3])
  return tf1.reshape(tf1.transpose(y, [0, 2, 1, 3]), [-1, 8, 8, 6])


def fused_instance_norm(h):
  count = 6 * tf1.shape(h)[0]
  rows = tf1.transpose(h, [0, 3, 1, 2])
  rows = tf1.reshape(rows, tf1.stack([1, count, 8, 8]))
  rows = tf1.transpose(rows, [0, 2, 3, 1])
  y = tf1.nn.fused_batch_norm(
    rows, tf1.ones([count]), tf1.zeros([count]), is_training=True
  )[0]
  y = tf1.reshape(tf1.transpose(y, [0, 3, 1, 2]), [-1, 6, 8, 8])
  return tf1.transpose(y, [0, 2, 3, 1])


def standardised_images(h):
  return tf1.map_fn(tf1.image.per_image_standardization, h)


def unit_length(h):
  return tf1.nn.l2_normalize(h, -1) + tf1.nn.lrn(h)


def attention(h):
  rows = tf1.reshape(h, [-1, 64, 6])
  weights = tf1.nn.softmax(tf1.matmul(rows, rows, transpose_b=True) / 6**0.5)
  return tf1.reshape(tf1.matmul(weights, rows), [-1, 8, 8, 6])


ROW_NORMS = (
  layer_norm,
  layer_norm_of_channels,
  instance_norm,
  root_mean_square_norm,
  group_norm,
  fused_group_norm,
  fused_instance_norm,
  standardised_images,
  unit_length,
  attention,
)


@pytest.mark.parametrize("norm", ROW_NORMS, ids=lambda n: n.__name__)
@pytest.mark.parametrize("is_mixed", [False, True], ids=["alone", "mixed"])
def test_norms_of_rows(tmp_path, norm, is_mixed):
  """Alone, and before and behind a batch norm."""
  net = Network(images())
  with net.graph.as_default():
    h = net.conv(net.x, 6)
    if is_mixed:
      h = net.norm(h)
    h = net.conv(tf1.nn.relu(norm(h)), 6)
    if is_mixed:
      h = net.norm(h)
    y = tf1.nn.relu(h)
  assert net.examine(y, tmp_path) == []


def test_a_training_graph_and_its_checkpoint(tmp_path):
  """Built for inference and saved with all variables."""
  net = Network(images())
  prefix = str(tmp_path / "model.ckpt")
  with net.graph.as_default():
    stored = [
      tf1.get_variable(name, initializer=np.float32([a, b]), use_resource=False)
      for name, a, b in [
        ("gamma", 1.5, 2),
        ("beta", 0.2, 0.1),
        ("moving_mean", 0.3, 0.4),
        ("moving_variance", 0.7, 1.2),
      ]
    ]
    h = net.conv(net.x, 2)
    h = tf1.nn.fused_batch_norm(h, *stored, is_training=False)[0]
    tf1.nn.relu(h, name="y")
    with session(net.graph) as running:
      running.run(tf1.global_variables_initializer())
      tf1.train.Saver().save(running, prefix)
  assert (
    examination.look(*asked(checkpoint=prefix, outputs=["y"])).findings == []
  )


# Exports of real training graphs.


def codes_of_export(case, folder):
  exported = export(case, folds=False)
  path = str(folder / "frozen.pb")
  with open(path, "wb") as f:
    f.write(exported.to_graph_def().SerializeToString())
  names = [case.output] + list(case.also)
  looked = examination.look(*asked(graph_def=path, outputs=names))
  return {finding.code for finding in looked.findings}


@pytest.mark.parametrize("name", PLAIN_CASES)
def test_exports(cases, name, tmp_path):
  assert codes_of_export(cases(name), tmp_path) == set()


@pytest.mark.parametrize("name", sorted(OTHER_CASES))
def test_exports_with_something_to_say(cases, name, tmp_path):
  assert codes_of_export(cases(name), tmp_path) == {OTHER_CASES[name]}
