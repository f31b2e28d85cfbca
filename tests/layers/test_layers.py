# SPDX-License-Identifier: Apache-2.0
"""Batch norm layers for model code: equal to TF 1.15's own.

What TF 1.15's layers do is stored by layers_oracle.py; the same cases are
built here on any TensorFlow.
"""

import re

import numpy as np
import pytest
from judges import layers_oracle
from judges.commands import ROOT, run
from judges.exporting import assert_close

from bnexport import layers
from bnexport.errors import Error
from bnexport.graph import Graph, ops
from bnexport.proof.runs import ImportedGraph
from bnexport.sources.files import read_proto
from bnexport.tf1 import session, tf1

IS_TF1 = tf1.__version__.startswith("1.")
OURS = {"layers": layers.batch_normalization, "contrib": layers.batch_norm}
CASES = layers_oracle.cases()
ORACLE = layers_oracle.read()
# Largest difference, relative to the largest value, or to 1: sums are ordered
# otherwise on another TensorFlow.
TOLERANCE = {"float16": 4e-3, "float32": 2e-5, "float64": 1e-10}
# What a training graph has and one for inference has not.
TRAINING_OPS = re.compile(
  "Assign|Switch|Merge|^If$|^StatelessIf$|^Mean$|Random|Variance|Squared"
)


@pytest.fixture(autouse=True)
def as_training_scripts():
  """Scripts of TF1 have none of TF 2's behaviour."""
  tf1.disable_v2_behavior()
  tf1.disable_resource_variables()


def assert_same_arrays(got, expected):
  assert list(got) == list(expected)
  for key, value in expected.items():
    assert got[key].dtype == value.dtype, key
    assert got[key].shape == value.shape, key
    bound = TOLERANCE[value.dtype.name] * max(1.0, np.abs(value).max())
    difference = np.abs(got[key].astype("f8") - value.astype("f8")).max()
    assert difference <= bound, (key, difference, bound)


def test_arrays_that_differ_are_told():
  one = {"y": np.ones(3, np.float32)}
  assert_same_arrays(one, {"y": np.ones(3, np.float32)})
  for other in (
    np.ones(3),
    np.ones(4, np.float32),
    np.array([1, 1, 1.001], np.float32),
  ):
    with pytest.raises(AssertionError):
      assert_same_arrays(one, {"y": other})
  with pytest.raises(AssertionError):
    assert_same_arrays(one, {})


def assert_same_facts(got, expected):
  assert got["variables"] == expected["variables"]
  assert got["shape"] == expected["shape"]
  assert got["dtype"] == expected["dtype"]
  names, wanted = got["collections"], expected["collections"]
  assert sorted(names) == sorted(wanted)
  for key in wanted:
    assert len(names[key]) == len(wanted[key]), key
    if key not in ("update_ops", "own", "one", "two", "ends", "a", "b"):
      assert names[key] == wanted[key]


def test_facts_that_differ_are_told():
  facts = {
    "variables": [["a", [2], "float32", True]],
    "shape": [2],
    "dtype": "float32",
    "collections": {"update_ops": ["x"]},
  }
  assert_same_facts(facts, dict(facts))
  for other in (
    {"variables": []},
    {"shape": [3]},
    {"dtype": "float16"},
    {"collections": {}},
    {"collections": {"update_ops": []}},
  ):
    with pytest.raises(AssertionError):
      assert_same_facts(facts, dict(facts, **other))


@pytest.mark.part(2, 0)
@pytest.mark.parametrize("name", list(CASES))
def test_equals_the_layer_of_tf1(name):
  case = CASES[name]
  if case.how.get("nchw") and IS_TF1:
    pytest.skip("its fused op does not run NCHW on a CPU")
  facts, arrays = layers_oracle.measure(case, OURS[case.kind])
  assert_same_facts(facts, ORACLE[name][0])
  assert_same_arrays(arrays, ORACLE[name][1])


def test_every_case_has_an_oracle():
  assert set(CASES) == set(ORACLE)
  assert len(CASES) > 300


@pytest.mark.skipif(not IS_TF1, reason="asks TF 1.15's own layers")
@pytest.mark.parametrize("name", list(CASES)[::29])
def test_oracle_is_what_tf1_does(name):
  import tensorflow as tf

  real = {
    "layers": tf.layers.batch_normalization,
    "contrib": tf.contrib.layers.batch_norm,
  }
  case = CASES[name]
  facts, arrays = layers_oracle.measure(case, real[case.kind], oracle=True)
  assert_same_facts(facts, ORACLE[name][0])
  assert_same_arrays(arrays, ORACLE[name][1])


def built(case, kinds=OURS):
  """The Graph of a case, and the node of its output."""
  with tf1.Graph().as_default() as graph:
    y = layers_oracle.build(case, kinds[case.kind])[2]
  return Graph(graph.as_graph_def()), y.op.name


def training_ops(case):
  """Names of what is of training: behind the output, and anywhere."""
  graph, output = built(case)
  names = graph.ancestors([output], control=True)
  behind = [n for n in names if TRAINING_OPS.search(graph.op(n))]
  variables = [n.name for n in graph if n.op in ops.VARIABLES]
  assigned = [n for n in graph if n.op in ops.UPDATES]
  return behind, len(assigned) - len(variables)


@pytest.mark.parametrize(
  "name", [n for n, c in CASES.items() if c.phase in (False, 0, "folded")]
)
def test_inference_graph_holds_nothing_of_training(name):
  behind, updates = training_ops(CASES[name])
  assert behind == []
  assert updates == 0  # each variable has its initializer and no other


@pytest.mark.parametrize(
  "name", [n for n, c in CASES.items() if c.phase == "placeholder"]
)
def test_updates_on_the_way_to_the_output(name):
  """Those in place are; those in a collection are not."""
  graph, output = built(CASES[name])
  names = graph.ancestors([output], control=True)
  updates = [n for n in names if graph.op(n) in ops.UPDATES]
  in_place = CASES[name].options.get("updates_collections", 0) is None
  assert bool(updates) == in_place


def test_training_ops_are_seen():
  behind, updates = training_ops(CASES["layers_plain_4_placeholder"])
  assert behind
  assert updates == 2


def test_virtual_batches_are_gone_at_inference():
  """An exported model takes one row."""
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 3, 2])
    y = layers.batch_normalization(x, virtual_batch_size=4)
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      assert running.run(y, {x: np.ones([1, 3, 2])}).shape == (1, 3, 2)


# Models of the zoo, whose checkpoints TF 1.15's own layers wrote.


def weights(scope, name, shape):
  with tf1.variable_scope(scope):
    return tf1.get_variable(name, shape)


def dense_net(x, norm):
  h = tf1.matmul(x, weights("fc1", "kernel", [9, 7]))
  h = tf1.nn.relu(norm(h + weights("fc1", "bias", [7]), "bn1"))
  h = tf1.matmul(h, weights("fc2", "kernel", [7, 6]))
  h = tf1.tanh(norm(h, "bn2"))
  h = tf1.matmul(h, weights("scores", "kernel", [6, 4]))
  return h + weights("scores", "bias", [4])


def conv_net(x, norm):
  h = tf1.nn.conv2d(
    x, weights("conv1", "kernel", [3, 3, 3, 4]), [1, 1, 1, 1], "SAME"
  )
  h = tf1.nn.relu(norm(h, "bn1"))
  h = tf1.nn.conv2d(
    h, weights("conv2", "kernel", [3, 3, 4, 6]), [1, 2, 2, 1], "VALID"
  )
  h = tf1.reduce_mean(tf1.nn.relu(norm(h, "bn2")), [1, 2])
  h = tf1.matmul(h, weights("logits", "kernel", [6, 5]))
  return h + weights("logits", "bias", [5])


MODELS = [
  ("layers_dense_literal", dense_net, {}),
  ("layers_virtual_batch", conv_net, {"virtual_batch_size": 2}),
  (
    "layers_renorm_phase",
    conv_net,
    {"renorm": True, "renorm_clipping": {"rmax": 2.0, "dmax": 1.0}},
  ),
  ("layers_axis_1_3", conv_net, {"axis": [1, 3]}),
  ("contrib_fused_literal", conv_net, {"scale": True}),
  ("contrib_renorm_literal", conv_net, {"scale": True, "renorm": True}),
  (
    "contrib_zero_debias_literal",
    conv_net,
    {"scale": True, "zero_debias_moving_mean": True},
  ),
  (
    "contrib_fused_inplace_phase",
    conv_net,
    {"scale": True, "updates_collections": None},
  ),
]


def model(build, name, options, training):
  """Builds a model of the zoo with our layers; returns its output."""

  def norm(h, scope):
    if name.startswith("layers"):
      return layers.batch_normalization(
        h, training=training, name=scope, **options
      )
    return layers.batch_norm(h, is_training=training, scope=scope, **options)

  x = tf1.placeholder(
    tf1.float32, [None, 9] if build is dense_net else [None, 6, 6, 3], "x"
  )
  return tf1.identity(build(x, norm), "y")


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("name, build, options", MODELS)
def test_checkpoint_of_tf1_restores(cases, name, build, options, resource):
  case = cases(name)
  with tf1.Graph().as_default() as graph:
    with tf1.variable_scope("", use_resource=resource):
      y = model(build, name, options, False)
    with session(graph) as running:
      tf1.train.Saver().restore(running, case.prefix)
      assert_close(running.run(y, {"x:0": case.x}), case.y, case.tol)


@pytest.mark.parametrize("name, build, options", MODELS)
def test_checkpoint_of_tf1_restores_into_training(cases, name, build, options):
  """With its helpers: zero debias and renorm go on where they were."""
  case = cases(name)
  with tf1.Graph().as_default() as graph:
    y = model(build, name, options, True)
    with session(graph) as running:
      tf1.train.Saver().restore(running, case.prefix)
      names = [v.op.name for v in tf1.global_variables()]
      stored = {k for k, _ in tf1.train.list_variables(case.prefix)}
      own = {
        k
        for k in stored
        if not re.search("RMSProp|Momentum|Adam|power|global_step", k)
      }
      assert set(names) == own
      got = running.run(y, {"x:0": case.x})
      assert_close(got, case.y_train, case.tol)


@pytest.mark.parametrize(
  "call, words",
  [
    (lambda x: layers.batch_normalization(x, axis=4), "axis=4"),
    (lambda x: layers.batch_normalization(x, axis=-5), "axis=-5"),
    (lambda x: layers.batch_normalization(x, axis=[1, -3]), "twice"),
    (lambda x: layers.batch_normalization(x, axis=0), "axis 0 is unknown"),
    (lambda x: layers.batch_normalization(x, axis=[]), "no axis"),
    (
      lambda x: layers.batch_normalization(x, virtual_batch_size=0),
      "virtual_batch_size is 0",
    ),
    (
      lambda x: layers.batch_normalization(
        x, axis=[0, 3], virtual_batch_size=2
      ),
      "axis 0",
    ),
    (
      lambda x: layers.batch_normalization(
        x, virtual_batch_size=2, adjustment=layers_oracle.adjust_last
      ),
      "exclude each other",
    ),
    (
      lambda x: layers.batch_normalization(
        x, renorm=True, renorm_clipping={"max": 1}
      ),
      "'max'",
    ),
    (lambda x: layers.batch_normalization(x, training=None), "None"),
    (lambda x: layers.batch_normalization(x, training="yes"), "'yes'"),
    (lambda x: layers.batch_normalization(tf1.cast(x, tf1.float64)), "float64"),
    (lambda x: layers.batch_normalization(tf1.cast(x, tf1.int32)), "int32"),
    (
      lambda x: layers.batch_normalization(tf1.placeholder(tf1.float32)),
      "rank is unknown",
    ),
    (
      lambda x: layers.batch_normalization(
        tf1.placeholder(tf1.float32, [None, None, 3]), virtual_batch_size=2
      ),
      "known shape",
    ),
    (lambda x: layers.batch_norm(x, data_format="NWHC"), "'NWHC'"),
    (
      lambda x: layers.batch_norm(x, renorm=True, updates_collections=None),
      "renorm excludes",
    ),
    (
      lambda x: layers.batch_norm(x, renorm=True, batch_weights=[1.0]),
      "renorm excludes",
    ),
    (
      lambda x: layers.batch_norm(tf1.placeholder(tf1.float32, [4, None])),
      "channels is unknown",
    ),
    (
      lambda x: layers.batch_norm(
        tf1.placeholder(tf1.float32, [4, 3]), batch_weights=[1.0, 2.0]
      ),
      "batch_weights",
    ),
    (lambda x: layers.batch_norm(x, is_training=None), "None"),
    (
      lambda x: layers.batch_norm(
        tf1.cast(x, tf1.float64), updates_collections=None
      ),
      "float64",
    ),
  ],
)
def test_refusals(call, words):
  """They are ValueErrors, as TF 1.15's, and ours."""
  with tf1.Graph().as_default():
    x = tf1.placeholder(tf1.float32, [None, 3, 3, 2], "x")
    with pytest.raises(layers.LayerError) as raised:
      call(x)
  assert isinstance(raised.value, (ValueError, Error))
  message = str(raised.value)
  assert re.match(r"cannot [^:]+(:\d')?: .+; .+$", message), message
  assert words in message
  assert "\n" not in message


def test_a_name_is_not_used_twice():
  with tf1.Graph().as_default():
    x = tf1.placeholder(tf1.float32, [None, 3])
    layers.batch_normalization(x, name="norm")
    with pytest.raises(ValueError, match="norm/gamma"):
      layers.batch_normalization(x, name="norm")
    with pytest.raises(ValueError, match="other/gamma"):
      layers.batch_normalization(x, name="other", reuse=True)


def test_unknown_sizes_and_batch():
  """Height and width may be unknown, as the batch."""
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, None, None, 3])
    y = layers.batch_norm(
      layers.batch_normalization(x, training=True, fused=False),
      updates_collections=None,
    )
    assert y.shape.as_list() == [None, None, None, 3]
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      assert running.run(y, {x: np.ones([2, 5, 4, 3])}).shape == (2, 5, 4, 3)


def test_end_points():
  """Slim's dictionary of end points reads the aliases of tensors."""
  with tf1.Graph().as_default():
    x = tf1.placeholder(tf1.float32, [None, 3])
    with tf1.variable_scope("net"):
      y = layers.batch_norm(
        x, outputs_collections="ends", scope="norm", activation_fn=tf1.nn.relu
      )
    assert y.aliases == ["net/norm"]
    assert tf1.get_collection("ends") == [y]
    assert y.op.type == "Relu"


# The page's model, exported both ways.

with open(ROOT + "/bnexport/layers/README.md") as _file:
  MODEL = re.search(r"^```python\n(.*?)^```$", _file.read(), re.M | re.S).group(
    1
  )


def test_model_of_the_page_is_trained_and_exported(
  capsys, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "my_net.py").write_text(MODEL)
  code = {}
  exec(MODEL, code)
  images = np.random.RandomState(3).randn(6, 8, 8, 3).astype(np.float32)
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 8, 8, 3], "x")
    phase = tf1.placeholder(tf1.bool, [], "phase")
    y = code["build"](x, phase)
    updates = tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)
    assert len(updates) == 4
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      for _ in range(5):
        running.run(updates, {x: images + 1, phase: True})
      truth = running.run(y, {x: images, phase: False})
      tf1.train.Saver().save(running, "run/model.ckpt")
  shared = ("--checkpoint=run/model.ckpt", "--output_node=logits")
  for source in (("--model=my_net.py:build", "--input=x:float32:?,8,8,3"), ()):
    result = run(capsys, "--overwrite", *(shared + source))
    assert result.status == 0, result.err
    assert "batch norms: 2" in result.out
    runner = ImportedGraph(
      read_proto("run/model.ckpt.frozen.pb", tf1.GraphDef, "it"), ["logits"]
    )
    assert_close(runner.run({"x": images})[0], truth, 1e-5)
    runner.close()
