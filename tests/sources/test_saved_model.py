# SPDX-License-Identifier: Apache-2.0
"""SavedModels: graphs by tags, ends by signature, and where variables are."""

import os

import numpy as np
import pytest
from google.protobuf import text_format
from judges.commands import run_forked
from judges.transforming import answers

import bnexport
from bnexport.errors import SourceError
from bnexport.graph import Graph
from bnexport.model.checkpoint import Checkpoint, Values
from bnexport.report.overview import overview
from bnexport.sources.files import read_proto
from bnexport.sources.saved_model_file import read_saved_model as read
from bnexport.tf1 import SavedModelProto, tf1

BUILDER = tf1.saved_model.builder.SavedModelBuilder
SIGNATURE = tf1.saved_model.signature_def_utils.predict_signature_def


def _network(training):
  x = tf1.placeholder(tf1.float32, [None, 3], "x")
  kernel = tf1.get_variable("kernel", [3, 2])
  y = tf1.matmul(x, kernel, name="train_y" if training else "y")
  return x, y


@pytest.fixture
def folder(tmp_path):
  """A SavedModel with a graph to train and one to serve."""
  path = str(tmp_path / "model")
  builder = BUILDER(path)
  with tf1.Graph().as_default(), tf1.Session() as running:
    x, y = _network(training=True)
    running.run(tf1.global_variables_initializer())
    builder.add_meta_graph_and_variables(
      running, ["train"], {"step": SIGNATURE({"a": x}, {"b": y})}
    )
  with tf1.Graph().as_default(), tf1.Session() as running:
    x, y = _network(training=False)
    running.run(tf1.global_variables_initializer())
    builder.add_meta_graph(
      ["serve"],
      {
        "serving_default": SIGNATURE({"in": x}, {"out": y}),
        "other": SIGNATURE({"in": x}, {"twice": y}),
      },
    )
  builder.save()
  return path


def test_serving_graph_is_the_default(folder):
  model = read(folder)
  assert model.tags == ("serve",)
  assert model.signature == "serving_default"
  assert model.inputs == {"in": "x:0"}
  assert model.outputs == {"out": "y:0"}
  assert "y" in [node.name for node in model.graph_def.node]


def test_tags_choose(folder):
  model = read(folder, tags=("train",))
  assert model.signature == "step"
  assert model.outputs == {"b": "train_y:0"}


def test_signature_chooses(folder):
  assert read(folder, signature="other").outputs == {"twice": "y:0"}


def test_variables_are_a_checkpoint(folder):
  model = read(folder)
  graph = Graph(model.graph_def)
  values = Values(Checkpoint(model.variables), graph)
  assert values["kernel"].shape == (3, 2)
  said = overview(
    graph,
    values=values,
    signatures=model.signatures,
    inputs=list(model.inputs.values()),
    outputs=list(model.outputs.values()),
  )
  assert [(v["name"], v["in_checkpoint"]) for v in said["variables"]] == [
    ("kernel", True)
  ]
  assert [e["name"] for e in said["outputs"]] == ["y"]


def test_text_is_read(folder):
  path = os.path.join(folder, "saved_model.pb")
  proto = read_proto(path, SavedModelProto, "it")
  os.remove(path)
  with open(path + "txt", "w") as f:
    f.write(text_format.MessageToString(proto))
  assert read(folder).outputs == {"out": "y:0"}


def test_file_is_as_good_as_its_directory(folder):
  model = read(os.path.join(folder, "saved_model.pb"))
  assert model.variables == os.path.join(folder, "variables", "variables")


@pytest.mark.parametrize(
  "arguments, parts",
  [
    ({"tags": ("gpu",)}, ["'gpu'", "'train' and 'serve'", "--tags"]),
    ({"tags": ("serve", "gpu")}, ["'gpu,serve'"]),
    ({"signature": "othr"}, ["'othr'", "'serving_default'", "'other'"]),
  ],
)
def test_refusals_name_what_there_is(folder, arguments, parts):
  with pytest.raises(SourceError) as refused:
    read(folder, **arguments)
  message = str(refused.value)
  assert message.startswith("cannot ")
  for part in parts:
    assert part in message


def test_no_saved_model(tmp_path):
  with pytest.raises(SourceError, match="there is no saved_model.pb"):
    read(str(tmp_path))
  with pytest.raises(SourceError, match="there is no such file"):
    read(str(tmp_path / "nothing"))


def test_versions_are_offered(folder):
  parent = os.path.dirname(folder)
  os.rename(folder, os.path.join(parent, "17"))
  with pytest.raises(SourceError, match="give a version in it, like '.*17'"):
    read(parent)


def test_only_graph_needs_no_tags(tmp_path):
  path = str(tmp_path / "model")
  builder = BUILDER(path)
  with tf1.Graph().as_default(), tf1.Session() as running:
    _network(training=True)
    running.run(tf1.global_variables_initializer())
    builder.add_meta_graph_and_variables(running, ["train", "gpu"])
  builder.save()
  model = read(path)
  assert set(model.tags) == {"train", "gpu"}
  assert model.signature is None
  assert model.inputs == model.outputs == {}


def test_model_without_variables(tmp_path):
  path = str(tmp_path / "model")
  builder = BUILDER(path)
  with tf1.Graph().as_default(), tf1.Session() as running:
    x = tf1.placeholder(tf1.float32, [None], "x")
    builder.add_meta_graph_and_variables(
      running, ["serve"], {"a": SIGNATURE({"x": x}, {"y": x + 1})}
    )
  builder.save()
  assert read(path).variables is None


def test_model_of_tensorflow_2(tmp_path):
  """The graph calls functions; all of it is read, nothing restored."""
  if tf1.__version__.startswith("1."):
    pytest.skip("TensorFlow 1 has no tf.saved_model.save for this")
  path = str(tmp_path / "model")
  done = run_forked("-c", _TF2, path)
  assert done.status == 0, done.err
  model = read(path)
  assert model.signature == "serving_default"
  assert list(model.outputs.values()) == ["StatefulPartitionedCall:0"]
  said = overview(
    Graph(model.graph_def),
    signatures=model.signatures,
    inputs=list(model.inputs.values()),
    outputs=list(model.outputs.values()),
  )
  assert said["functions"] > 0
  assert [(n["form"], n["statistics"]) for n in said["batch_norms"]] == [
    ("fused", "stored")
  ]
  assert said["batch_norms"][0]["epsilon"] == 0.002
  assert np.prod(said["inputs"][0]["shape"][1:]) == 48


_TF2 = """
import sys
import tensorflow as tf

class Net(tf.Module):
  def __init__(self):
    self.mean = tf.Variable(tf.zeros([3]), name="mean")
    self.variance = tf.Variable(tf.ones([3]), name="variance")

  @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3])])
  def __call__(self, x):
    return tf.compat.v1.nn.fused_batch_norm(
      x, tf.ones([3]), tf.zeros([3]), self.mean, self.variance,
      epsilon=0.002, is_training=False)[0]

net = Net()
tf.saved_model.save(net, sys.argv[1], signatures=net.__call__)
"""


@pytest.mark.parametrize("flag, factor", [(True, 2), (False, 3)])
def test_choice_that_a_signature_names_stays_an_input(tmp_path, flag, factor):
  """It decides nothing of training, whatever its dtype."""
  path = str(tmp_path / "model")
  with tf1.Graph().as_default(), tf1.Session() as running:
    x, y = _network(training=False)
    doubled = tf1.placeholder(tf1.bool, [], "doubled")
    z = tf1.where(doubled, 2 * y, 3 * y, name="z")
    running.run(tf1.global_variables_initializer())
    fed = np.float32([[1, 2, 3], [4, 5, 6]])
    right = running.run(y, {x: fed}) * factor
    builder = BUILDER(path)
    builder.add_meta_graph_and_variables(
      running,
      ["serve"],
      {"serving_default": SIGNATURE({"x": x, "doubled": doubled}, {"z": z})},
    )
    builder.save()
  made = bnexport.export(bnexport.load(path))
  assert sorted(map(str, made.model.inputs)) == ["doubled", "x"]
  assert made.prove().holds
  found = answers(made.model, {"x": fed, "doubled": flag})[0]
  assert np.allclose(found, right, rtol=1e-5)
