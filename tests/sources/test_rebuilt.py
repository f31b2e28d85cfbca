# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of TF 1.15's slim, tf.layers and Keras, in code of today.

The graphs they were trained in are gone: the models are written again, with
bnexport.layers, and export what TF 1.15 itself answered.
"""

import os

import numpy as np
import pytest
import saved
from judges.commands import ROOT, assert_refused, run
from judges.exporting import assert_close

from bnexport.graph import Graph
from bnexport.model.checkpoint import Checkpoint, Values
from bnexport.proof.runs import ImportedGraph
from bnexport.sources.files import read_graph_def
from bnexport.tf1 import tf1

_CODE = os.path.join(ROOT, "tests", "saved", "rebuilt.py")
# Of a fixture: its model, checkpoint, input, and answer.
_MODELS = {
  "slim": ("slim_net", "model.ckpt", "x", "y"),
  "layers": ("layers_net", "model.ckpt", "x", "y"),
  "keras": ("keras_net", "weights", "image", "head"),
}


def _arguments(folder, name):
  function, prefix, fed, _ = _MODELS[name]
  return [
    "--model=%s:%s" % (_CODE, function),
    "--checkpoint=" + os.path.join(folder, prefix),
    "--input=%s:float32:?,6,6,3" % fed,
    "--output_node=answer",
  ]


@pytest.mark.parametrize("name", sorted(_MODELS))
def test_answers_of_tf_1_15(capsys, tmp_path, name):
  folder, truth = saved.load(name, tmp_path)
  path = str(tmp_path / "frozen.pb")
  result = run(capsys, "--output_graph=" + path, *_arguments(folder, name))
  assert result.status == 0, result
  assert "compared with the rebuilt model in its session" in result.out
  _, _, fed, answer = _MODELS[name]
  runner = ImportedGraph(read_graph_def(path), ["answer"])
  (y,) = runner.run({fed: truth[fed]})
  runner.close()
  assert_close(y, truth[answer], 2e-6)
  assert np.ptp(truth[answer], axis=0).min() > 1e-3  # rows do differ


def test_averages_were_trained(tmp_path):
  """Statistics as they begin would be told by no test above."""
  folder, _ = saved.load("slim", tmp_path)
  reader = tf1.train.NewCheckpointReader(os.path.join(folder, "model.ckpt"))
  mean = reader.get_tensor("net/conv1/BatchNorm/moving_mean")
  variance = reader.get_tensor("net/conv1/BatchNorm/moving_variance")
  assert np.abs(mean).min() > 1e-3
  assert np.abs(variance - 1).min() > 1e-3


def test_other_names_than_were_saved(capsys, tmp_path):
  folder, _ = saved.load("keras", tmp_path)
  arguments = _arguments(folder, "layers")
  arguments[1] = "--checkpoint=" + os.path.join(folder, "weights")
  result = run(capsys, "--output_graph=%s" % (tmp_path / "o.pb"), *arguments)
  assert_refused(result, "it lacks 'dense/", "as it was trained")


def test_name_of_several_variables_tells_no_key(tmp_path):
  folder, _ = saved.load("module", tmp_path)
  checkpoint = Checkpoint(
    os.path.join(folder, "saved", "variables", "variables")
  )
  keys = [key for key in checkpoint.shapes if key.endswith("VARIABLE_VALUE")]
  assert "norms/0/a/.ATTRIBUTES/VARIABLE_VALUE" in keys
  assert checkpoint.key_of("average") is None
  assert checkpoint.key_of("Variable") == "weights/.ATTRIBUTES/VARIABLE_VALUE"


def test_savers_know_best(tmp_path):
  """TF 2 renames variables in what it saves, and notes what they were called.

  There, `Variable` may be another one than that which had this name.
  """
  folder, _ = saved.load("module", tmp_path)
  prefix = os.path.join(folder, "saved", "variables", "variables")
  with tf1.Graph().as_default() as graph:
    kept = tf1.get_variable("kept", [], use_resource=True)
    tf1.get_variable("Variable", [3, 2], use_resource=True)
    assert "Variable" in Values(Checkpoint(prefix), Graph(graph.as_graph_def()))
    tf1.train.Saver([kept])
    values = Values(Checkpoint(prefix), Graph(graph.as_graph_def()))
  assert "Variable" not in values
