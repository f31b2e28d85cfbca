# SPDX-License-Identifier: Apache-2.0
"""TF1 Hub modules: the graph for use as it is, that for training made right."""

import os

import numpy as np
import pytest
from judges.commands import assert_refused, run
from judges.exporting import assert_close

import bnexport
from bnexport.errors import SourceError
from bnexport.proof.runs import ImportedGraph
from bnexport.sources.files import read_proto
from bnexport.tf1 import session, tf1

BUILDER = tf1.saved_model.builder.SavedModelBuilder
SIGNATURE = tf1.saved_model.signature_def_utils.predict_signature_def
X = np.random.RandomState(5).randn(6, 4).astype("f")
VALUES = {
  "w": np.random.RandomState(6).randn(4, 3).astype("f"),
  "moving_mean": np.float32([0.5, -1.0, 2.0]),
  "moving_variance": np.float32([0.3, 2.0, 5.0]),
}


def net(is_training):
  """A dense norm as a module function builds it."""
  x = tf1.placeholder(tf1.float32, [None, 4], name="x")
  w, mean, variance = (
    tf1.get_variable(key, initializer=value, use_resource=False)
    for key, value in VALUES.items()
  )
  h = tf1.matmul(x, w)
  if is_training:
    m, v = tf1.nn.moments(h, [0])
    for average, batch in ((mean, m), (variance, v)):
      update = tf1.assign_sub(average, (average - batch) * 0.1)
      tf1.add_to_collection(tf1.GraphKeys.UPDATE_OPS, update)
  else:
    m, v = mean.read_value(), variance.read_value()
  y = tf1.identity(
    tf1.nn.batch_normalization(h, m, v, None, None, 1e-3), name="y"
  )
  return x, y


@pytest.fixture(scope="module")
def module(tmp_path_factory):
  """The directory of a module, and what it answers for X."""
  path = str(tmp_path_factory.mktemp("hub") / "module")
  builder = BUILDER(path)
  for is_training in (False, True):
    with tf1.Graph().as_default() as graph, session(graph) as running:
      x, y = net(is_training)
      running.run(tf1.global_variables_initializer())
      signatures = {
        "default": SIGNATURE({"image": x}, {"default": y}),
        "features": SIGNATURE({"image": x}, {"out": y}),
      }
      if is_training:
        builder.add_meta_graph(["train"], signatures)
      else:
        builder.add_meta_graph_and_variables(running, [], signatures)
        truth = running.run(y, {x: X})
  builder.save()
  with open(os.path.join(path, "tfhub_module.pb"), "wb") as f:
    f.write(b"\x08\x03")
  return path, truth


@pytest.mark.parametrize("tags", [(), ("train",)])
def test_both_graphs_answer_as_for_use(capsys, module, tmp_path, tags):
  path, truth = module
  out = str(tmp_path / "out.pb")
  result = run(
    capsys,
    "--hub_module=" + path,
    "--output_graph=" + out,
    "--tags=" + ",".join(tags),
    "--signature=default",
  )
  assert result.status == 0, result
  answers = ImportedGraph(read_proto(out, tf1.GraphDef, "it"), ["y"])
  assert_close(answers.run({"x": X})[0], truth, 1e-4)
  answers.close()


def test_default_signature_is_chosen(module):
  path, truth = module
  model = bnexport.load(path)
  assert [str(ref) for ref in model.outputs] == ["y"]
  assert model.request.kind == "hub_module"
  made = bnexport.export(model)
  assert made.prove().holds


def test_training_graph_is_told(capsys, module):
  result = run(
    capsys, "--hub_module=" + module[0], "--tags=train", command="inspect"
  )
  assert result.status == 2
  assert "Hub module" in result.out and "BN1" in result.out


def test_what_is_no_module(capsys, module, tmp_path):
  result = run(capsys, "--hub_module=" + str(tmp_path))
  assert_refused(result, "tfhub_module.pb")
  (tmp_path / "tfhub_module.pb").write_bytes(b"\x08\x02")
  result = run(capsys, "--hub_module=" + str(tmp_path))
  assert_refused(result, "format", "--saved_model")
  with pytest.raises(SourceError, match="its graphs are tagged"):
    bnexport.load(module[0], tags=["serve"])
