# SPDX-License-Identifier: Apache-2.0
"""Freezing from model code: --model, --model_kwargs, --input."""

import os
import sys

import numpy as np
import pytest
from judges.commands import ROOT, assert_refused, contents, run
from judges.exporting import assert_close

from bnexport.errors import SourceError
from bnexport.proof.runs import ImportedGraph
from bnexport.sources import model_code
from bnexport.sources.files import read_proto
from bnexport.tf1 import session, tf1

# Largest relative difference between the same float32 sums, ordered alike.
TOLERANCE = 1e-5

CODE = """
import tensorflow.compat.v1 as tf


def norm(x, is_training):
  size = x.shape[-1]
  gamma = tf.get_variable("gamma", [size])
  beta = tf.get_variable("beta", [size])
  mean = tf.get_variable("moving_mean", [size], trainable=False)
  variance = tf.get_variable("moving_variance", [size], trainable=False)
  if is_training:
    mean, variance = tf.nn.moments(x, [0])
  return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)


def build(x, is_training, width=6, weights="weights"):
  with tf.variable_scope("hidden"):
    h = tf.matmul(x, tf.get_variable("weights", [x.shape[-1], width]))
    h = tf.nn.relu(norm(h, is_training))
  with tf.variable_scope("head"):
    w = tf.get_variable(weights, [width, 3])
  return tf.matmul(h, w, name="logits")


def own_input(is_training):
  return build(tf.placeholder(tf.float32, [None, 5], name="x"), is_training)


def changed_since(x, is_training):
  return build(1.1 * x, is_training)


def two_inputs(a, b, is_training):
  return build(tf.concat([a, b], 1), is_training)


def fails(x, is_training):
  raise RuntimeError("line one\\nline two")


def leaves(x, is_training):
  raise SystemExit(0)


def refuses_phase(x):
  return x


not_callable = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A directory with my_net.py and pack/net.py, the current one."""
  (tmp_path / "my_net.py").write_text(CODE)
  (tmp_path / "pack").mkdir()
  (tmp_path / "pack" / "__init__.py").write_text("")
  (tmp_path / "pack" / "net.py").write_text(CODE)
  (tmp_path / "run").mkdir()
  monkeypatch.chdir(tmp_path)
  yield tmp_path
  for name in ("my_net", "pack.net", "pack"):
    sys.modules.pop(name, None)


def save(build, path, *arguments, has_graph=False, **options):
  """Builds a model, gives it random values and saves them."""
  random = np.random.RandomState(5)
  with tf1.Graph().as_default() as graph:
    tf1.disable_resource_variables()
    build(
      *[model_code.placeholder(text) for text in arguments],
      is_training=False,
      **options,
    )
    with session(graph) as running:
      for variable in tf1.global_variables():
        value = random.uniform(0.5, 1.5, variable.shape.as_list())
        variable.load(value.astype(np.float32), running)
      tf1.train.Saver().save(running, str(path), write_meta_graph=has_graph)


def live_answers(build, prefix, feeds, *arguments, **options):
  """What the model answers in its own graph."""
  with tf1.Graph().as_default() as graph:
    tf1.disable_resource_variables()
    build(
      *[model_code.placeholder(text) for text in arguments],
      is_training=False,
      **options,
    )
    with session(graph) as running:
      tf1.train.Saver().restore(running, str(prefix))
      return running.run("logits:0", feeds)


@pytest.fixture
def net(folder):
  """The module of the model's code, with its checkpoint in run/."""
  function = model_code.find_function("my_net.py:build")
  save(function, folder / "run" / "model.ckpt", "x:float32:?,5")
  return sys.modules["my_net"]


def assert_answers(path, feeds, truth):
  runner = ImportedGraph(
    read_proto(path, tf1.GraphDef, "the graph"), ["logits"]
  )
  assert_close(runner.run(feeds)[0], truth, TOLERANCE)
  runner.close()


def x_of(*shape):
  return np.random.RandomState(8).randn(*shape).astype(np.float32)


@pytest.mark.parametrize(
  "model", ["my_net.py:build", "pack.net:build", "./my_net.py:build"]
)
def test_model_with_input(capsys, net, model):
  result = run(
    capsys,
    "--model=" + model,
    "--checkpoint=run/model.ckpt",
    "--input=x:float32:?,5",
    "--output_node=logits",
    "--verbose",
  )
  assert result.status == 0, result.err
  assert "compared with the rebuilt model in its session" in result.out
  assert "\n  PROVEN\n" in result.out
  assert "'hidden/moving_mean' and 'hidden/moving_variance'" in result.out
  truth = live_answers(
    net.build, "run/model.ckpt", {"x:0": x_of(4, 5)}, "x:float32:?,5"
  )
  assert np.ptp(truth) > 0.1
  assert_answers("run/model.ckpt.frozen.pb", {"x": x_of(4, 5)}, truth)


@pytest.mark.parametrize(
  "function, output, status, said",
  [
    ("build", "logits", 0, "'run/model.ckpt.meta' as well"),
    ("changed_since", "logits", 2, "DIFFERS"),
    ("build", "hidden/Relu,x", 0, "as well"),
    ("two_inputs", "concat", 0, "'run/model.ckpt.meta' was not compared"),
  ],
)
def test_the_graph_beside_the_checkpoint_is_compared_too(
  capsys, folder, function, output, status, said
):
  build = model_code.find_function("my_net.py:build")
  save(build, folder / "run" / "model.ckpt", "x:float32:?,5", has_graph=True)
  inputs = ["--input=x:float32:?,5"]
  if function == "two_inputs":
    inputs = ["--input=x:float32:?,2", "--input=z:float32:?,3"]
  result = run(
    capsys,
    "--model=my_net.py:" + function,
    "--checkpoint=run/model.ckpt",
    "--output_node=" + output,
    *inputs,
  )
  assert result.status == status, result
  assert said in result.out
  assert "compared with the rebuilt model in its session" in result.out


def test_model_that_makes_its_input(capsys, net):
  result = run(
    capsys,
    "--model=my_net.py:own_input",
    "--checkpoint=run",
    "--output_node=logits:0",
    "--output_graph=out.pb",
  )
  assert result.status == 0, result.err
  truth = live_answers(net.own_input, "run/model.ckpt", {"x:0": x_of(4, 5)})
  assert_answers("out.pb", {"x": x_of(4, 5)}, truth)


def test_two_inputs(capsys, net):
  result = run(
    capsys,
    "--model=my_net.py:two_inputs",
    "--checkpoint=run/model.ckpt",
    "--input=a:float32:?,2",
    "--input=b:float32:-1,3",
    "--output_node=logits",
    "--output_graph=out.pb",
  )
  assert result.status == 0, result.err
  feeds = {"a": x_of(4, 2), "b": x_of(4, 3)}
  truth = live_answers(
    net.build,
    "run/model.ckpt",
    {"x:0": np.concatenate([feeds["a"], feeds["b"]], 1)},
    "x:float32:?,5",
  )
  assert_answers("out.pb", feeds, truth)


def test_kwargs(capsys, net):
  save(net.build, "run/wide.ckpt", "x:float32:?,5", width=9)
  result = run(
    capsys,
    "--model=my_net.py:build",
    '--model_kwargs={"width": 9}',
    "--checkpoint=run/wide.ckpt",
    "--input=x:float32:?,5",
    "--output_node=logits",
  )
  assert result.status == 0, result.err
  truth = live_answers(
    net.build, "run/wide.ckpt", {"x:0": x_of(4, 5)}, "x:float32:?,5", width=9
  )
  assert_answers("run/wide.ckpt.frozen.pb", {"x": x_of(4, 5)}, truth)


def test_moving_averages(capsys, net, folder):
  """Weights are read from their shadows, where there are any."""
  code = (
    CODE
    + """

def trained(is_training):
  y = own_input(is_training)
  tf.train.ExponentialMovingAverage(0.9).apply(tf.trainable_variables())
  return y
"""
  )
  (folder / "my_net.py").write_text(code)
  save(model_code.find_function("my_net.py:trained"), "run/ema.ckpt")
  result = run(
    capsys,
    "--model=my_net.py:own_input",
    "--moving_averages",
    "--checkpoint=run/ema.ckpt",
    "--output_node=logits",
  )
  assert result.status == 0, result.err
  with tf1.Graph().as_default() as graph:
    net.own_input(is_training=False)
    average = tf1.train.ExponentialMovingAverage(0.9)
    with session(graph) as running:
      tf1.train.Saver(average.variables_to_restore()).restore(
        running, "run/ema.ckpt"
      )
      truth = running.run("logits:0", {"x:0": x_of(4, 5)})
  assert_answers("run/ema.ckpt.frozen.pb", {"x": x_of(4, 5)}, truth)
  plain = live_answers(net.own_input, "run/ema.ckpt", {"x:0": x_of(4, 5)})
  with pytest.raises(AssertionError):
    assert_answers("run/ema.ckpt.frozen.pb", {"x": x_of(4, 5)}, plain)


def test_demo_model(capsys, tmp_path):
  """Trained, frozen both ways; both answer as the restored model."""
  path = os.path.join(ROOT, "scripts", "demo_model.py")
  build = model_code.find_function(path + ":build")
  with tf1.Graph().as_default():
    sys.modules["demo_model"].train(str(tmp_path), steps=3)
  prefix = str(tmp_path / "model.ckpt")
  truth = live_answers(build, prefix, {"x:0": x_of(4, 8, 8, 3)})
  for source in ("--model=%s:build" % path, "--meta_graph=%s.meta" % prefix):
    result = run(
      capsys,
      source,
      "--checkpoint=" + prefix,
      "--overwrite",
      "--output_node=logits",
    )
    assert result.status == 0, result.err
    assert "batch norms: 2" in result.out
    assert_answers(prefix + ".frozen.pb", {"x": x_of(4, 8, 8, 3)}, truth)


def test_tf_layers(capsys, folder):
  """tf.compat.v1.layers needs tf_keras on new TensorFlow."""
  if tf1.__version__.split(".")[0] != "1":
    pytest.importorskip("tf_keras")
  (folder / "my_net.py").write_text("""
import tensorflow.compat.v1 as tf


def build(x, is_training):
  h = tf.layers.dense(x, 6, name="hidden")
  h = tf.layers.batch_normalization(h, training=is_training, name="norm")
  return tf.identity(tf.nn.relu(h), name="logits")
""")
  build = model_code.find_function("my_net.py:build")
  save(build, "run/model.ckpt", "x:float32:?,5")
  result = run(
    capsys,
    "--model=my_net.py:build",
    "--input=x:float32:?,5",
    "--checkpoint=run/model.ckpt",
    "--output_node=logits",
    "--verbose",
  )
  assert result.status == 0, result.err
  assert "norm/moving_mean" in result.out
  truth = live_answers(
    build, "run/model.ckpt", {"x:0": x_of(4, 5)}, "x:float32:?,5"
  )
  assert_answers("run/model.ckpt.frozen.pb", {"x": x_of(4, 5)}, truth)


def assert_refuses(capsys, arguments, *words):
  before = contents("run")
  assert_refused(run(capsys, "--checkpoint=run/model.ckpt", *arguments), *words)
  assert contents("run") == before


@pytest.mark.parametrize(
  "model, words",
  [
    ("my_net.py", ["--model=my_net.py", "file.py:function"]),
    ("my_net.py:", ["file.py:function"]),
    (":build", ["file.py:function"]),
    ("your_net.py:build", ["your_net.py", "no such file"]),
    ("no.such.module:build", ["no.such.module"]),
    ("my_net.py:biuld", ["'biuld'", "'build'"]),
    ("my_net.py:zzzzzzz", ["'zzzzzzz'"]),
    ("my_net.py:not_callable", ["'not_callable'"]),
    ("my_net.py:fails", ["RuntimeError", "line one"]),
    ("my_net.py:leaves", ["SystemExit"]),
    ("my_net.py:refuses_phase", ["TypeError", "is_training"]),
  ],
)
def test_function_that_can_not_be_used(capsys, net, model, words):
  assert_refuses(
    capsys,
    ["--model=" + model, "--input=x:float32:?,5", "--output_node=logits"],
    *words,
  )


@pytest.mark.parametrize(
  "code, word",
  [
    ("def build(:\n", "SyntaxError"),
    ("import no_such_module\n", "no_such_module"),
    ("import sys\nsys.exit(1)\n", "SystemExit"),
    ("raise ValueError('a\\nb')\n", "ValueError"),
    ("\0", "my_net.py"),
  ],
)
def test_code_that_can_not_be_imported(capsys, net, folder, code, word):
  (folder / "my_net.py").write_text(code)
  assert_refuses(
    capsys,
    [
      "--model=my_net.py:build",
      "--input=x:float32:?,5",
      "--output_node=logits",
    ],
    word,
  )


@pytest.mark.parametrize(
  "kwargs, words",
  [
    ("{width: 9}", ["--model_kwargs"]),
    ("[1]", ["--model_kwargs", "object"]),
    ("", ["--model_kwargs"]),
    ("[" * 99999, ["--model_kwargs"]),
    ('{"depth": 9}', ["depth"]),
    ('{"is_training": true}', ["is_training"]),
    ('{"width": "wide"}', ["my_net.py:build"]),
  ],
)
def test_kwargs_that_can_not_be_used(capsys, net, kwargs, words):
  assert_refuses(
    capsys,
    [
      "--model=my_net.py:build",
      "--input=x:float32:?,5",
      "--model_kwargs=" + kwargs,
      "--output_node=logits",
    ],
    *words,
  )


@pytest.mark.parametrize(
  "text",
  [
    "x",
    "x:float99:?,5",
    "x:float32:a,5",
    ":float32:?,5",
    "x:float32:?,5:1",
    "a b:float32:?,5",
    "x:float32:-5,5",
    "",
  ],
)
def test_input_that_can_not_be_read(capsys, net, text):
  assert_refuses(
    capsys,
    ["--model=my_net.py:build", "--input=" + text, "--output_node=logits"],
    "--input=" + text,
  )


def test_input_without_model(capsys, net):
  """It would have no effect."""
  assert_refuses(
    capsys,
    ["--input=x:float32:?,5", "--output_node=logits", "--graph_def=my_net.py"],
    "--input",
  )


@pytest.mark.parametrize(
  "text, dtype, shape",
  [
    ("x:float32:?,224,3", tf1.float32, [None, 224, 3]),
    ("x:int64:None,-1", tf1.int64, [None, None]),
    ("x:bool:", tf1.bool, []),
    ("x:bool", tf1.bool, []),
    ("x:string:4", tf1.string, [4]),
  ],
)
def test_placeholder(text, dtype, shape):
  with tf1.Graph().as_default():
    made = model_code.placeholder(text)
  assert made.op.name == "x"
  assert made.dtype == dtype
  assert made.shape.as_list() == shape


def test_unknown_output(capsys, net):
  assert_refuses(
    capsys,
    ["--model=my_net.py:own_input", "--output_node=logit"],
    "'logit'",
    "did you mean 'logits'",
  )


def test_checkpoint_lacks_a_variable(capsys, net):
  save(net.build, "run/model.ckpt", "x:float32:?,5", weights="weight")
  assert_refuses(
    capsys,
    ["--model=my_net.py:own_input", "--output_node=logits"],
    "it lacks 'head/weights'",
    "is it 'head/weight'",
    "it also holds 'head/weight'",
  )


def test_checkpoint_of_other_shapes(capsys, net):
  save(net.build, "run/model.ckpt", "x:float32:?,5", width=7)
  assert_refuses(
    capsys,
    ["--model=my_net.py:own_input", "--output_node=logits"],
    "shapes differ",
    "is [6] here and [7] there",
    "and 1 more",
  )


def test_code_that_changes_is_read_again(net, folder):
  (folder / "my_net.py").write_text("def build(is_training): return 17\n")
  assert model_code.find_function("my_net.py:build")(is_training=False) == 17


def test_a_failed_import_leaves_no_module(folder):
  (folder / "my_net.py").write_text("raise ValueError('no')\n")
  with pytest.raises(SourceError):
    model_code.find_function("my_net.py:build")
  assert "my_net" not in sys.modules
