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


_PEERS = """
import numpy as np, tensorflow as tf
import bnexport
from bnexport.tf1 import tf1, session

w = tf.Variable(np.random.RandomState(1).randn(3, 3).astype("f"))
b = tf.Variable(2.0)
table = tf.Variable(np.random.RandomState(1).randn(7, 2).astype("f"))
inner = tf.function(lambda x: x @ w)
numbers = tf.TensorSpec([None], tf.int32)
X = np.random.RandomState(0).randn(4, 3).astype("f")
I = np.array([1, 4, 6], np.int32)

def collected(x):
  rows = tf.TensorArray(tf.float32, 3)
  for i in range(3):
    rows = rows.write(i, x[i] * b)
  return rows.stack()

def looped(x, step, **how):
  return tf.while_loop(
    lambda i, h: i < 3, lambda i, h: (i + 1, step(i, h)), [0, x], **how)[1]

def positive(x):
  return x[0, 0] > 0

FUNCTIONS = {
  "constant": lambda x: x * 2.0,
  "variable": lambda x: x @ w + b,
  "two outputs": lambda x: {"a": x @ w, "b": x * b},
  "function": lambda x: inner(inner(x)),
  "If": lambda x: tf.cond(positive(x), lambda: x @ w, lambda: x * b),
  "Case": lambda x: tf.switch_case(
    tf.cast(positive(x), tf.int32), [lambda: x @ w, lambda: x * b]),
  "While": lambda x: looped(x, lambda i, h: tf.tanh(h @ w)),
  "While that ends": lambda x: looped(
    x, lambda i, h: h @ w, maximum_iterations=2),
  "While, If": lambda x: looped(
    x, lambda i, h: tf.cond(i > 1, lambda: h @ w, lambda: h + b)),
  "array": collected,
  "map": lambda x: tf.map_fn(lambda row: row * b, x),
  "lookup": lambda i: tf.nn.embedding_lookup(table, i),
  "lookup of places": lambda i: tf.gather_nd(table, i[:, None]),
}

def check(name, function, keeps):
  is_lookup = name.startswith("lookup")
  fed = I if is_lookup else X
  spec = numbers if is_lookup else tf.TensorSpec([None, 3])
  traced = tf.function(function, input_signature=[spec]).get_concrete_function()
  right = [t.numpy() for t in tf.nest.flatten(traced(tf.constant(fed)))]
  made = bnexport.export(
    bnexport.load(traced), bnexport.Options(keep_control_flow=keeps))
  assert made.prove().holds, name
  proto = made.to_graph_def()
  ops = {node.op for node in proto.node}
  assert not ops & {"VarHandleOp", "PartitionedCall", "StatefulPartitionedCall"}
  for op in ("If", "Case", "While"):
    if keeps and name.startswith(op):
      assert any(found.endswith(op) for found in ops), (name, ops)
  with tf1.Graph().as_default() as graph:
    tf1.import_graph_def(proto, name="")
  (x,) = made.model.inputs
  with session(graph) as running:
    found = running.run(
      [f"{ref.node}:{ref.index}" for ref in made.model.outputs],
      {f"{x.node}:0": fed})
  for a, b in zip(found, right):
    assert np.allclose(a, b, atol=1e-5), name

for name, function in FUNCTIONS.items():
  for keeps in (False, True):
    check(name, function, keeps)
print("ALL", len(FUNCTIONS))
"""


def test_functions_that_tensorflow_freezes():
  """They are inlined, or their control flow is left as it is."""
  result = run_forked("-c", _PEERS)
  assert "ALL 13" in result.out, result.err[-2000:]


def test_lookup_table_is_told():
  result = run_forked(
    "-c",
    """
import tensorflow as tf, bnexport
keys = tf.constant([1, 2], tf.int64)
rows = tf.lookup.KeyValueTensorInitializer(keys, tf.constant([1.0, 2.0]))
table = tf.lookup.StaticHashTable(rows, -1.0)
f = tf.function(table.lookup, input_signature=[tf.TensorSpec([2], tf.int64)])
try:
  bnexport.load(f.get_concrete_function())
except bnexport.SourceError as error:
  print(error)
""",
  )
  assert "is no variable, such as a lookup table" in result.out
