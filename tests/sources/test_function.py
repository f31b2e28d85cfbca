# SPDX-License-Identifier: Apache-2.0
"""ConcreteFunctions and tf.functions: their graphs, with variables in them."""

import numpy as np
import pytest
from judges.commands import run_forked

from bnexport.tf1 import tf1

pytestmark = pytest.mark.skipif(
  tf1.__version__ < "2", reason="TF 1 runs without eager execution"
)

_MADE = """
import numpy as np, tensorflow as tf
import bnexport
from bnexport.errors import SourceError

class Net(tf.Module):
  def __init__(self):
    self.w = tf.Variable(np.random.RandomState(1).randn(4, 3).astype("f"))
    self.mean = tf.Variable([0.5, -1.0, 2.0], trainable=False)
    self.variance = tf.Variable([0.3, 2.0, 5.0], trainable=False)
    self.shift = tf.constant([1.0, 2.0, 3.0])

  def norm(self, h, training):
    if training:
      y, m, v, *_ = tf.raw_ops.FusedBatchNormV3(
        x=h[:, None, None], scale=tf.ones([3]), offset=tf.zeros([3]),
        mean=tf.zeros([0]), variance=tf.zeros([0]), is_training=True)
      self.mean.assign_sub((self.mean - m) * 0.1)
      self.variance.assign_sub((self.variance - v) * 0.1)
      return y[:, 0, 0]
    return (h - self.mean) * tf.math.rsqrt(self.variance + 1e-4)

  @tf.function(input_signature=[tf.TensorSpec([None, 4])])
  def train(self, x):
    return self.norm(x @ self.w, True) + self.shift

  @tf.function
  def serve(self, x):
    return self.norm(x @ self.w, False) + self.shift

net = Net()
x = np.random.RandomState(2).randn(5, 4).astype("f")
truth = net.serve(tf.constant(x)).numpy()
"""


@pytest.mark.parametrize(
  "source",
  ["net.train", "net.serve.get_concrete_function(tf.TensorSpec([None, 4]))"],
)
def test_function_is_exported(source):
  result = run_forked(
    "-c",
    _MADE
    + f"""
model = bnexport.load({source})
made = bnexport.export(model)
assert made.prove().holds, made.prove()
run = bnexport.proof.runs.ImportedGraph(made.to_graph_def(), made.model.outputs)
(name,) = made.model.placeholders()
np.testing.assert_allclose(run.run({{name: x}})[0], truth, rtol=1e-4, atol=1e-4)
assert "statistics" in dir(made.norms[0]) and len(made.norms) == 1
assert made.norms[0].statistics == "stored"
""",
  )
  assert result.status == 0, result.err


def test_function_without_a_signature():
  result = run_forked(
    "-c",
    _MADE
    + """
try:
  bnexport.load(net.serve)
except SourceError as error:
  print(error)
""",
  )
  assert "get_concrete_function(tf.TensorSpec(...))" in result.out, result


def test_truth_is_not_the_answer_of_training():
  """A function that answers the same in training would prove nothing."""
  random = np.random.RandomState(2).randn(5, 4).astype("f")
  assert abs(random.mean(0)).max() > 0.1
