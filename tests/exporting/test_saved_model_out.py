# SPDX-License-Identifier: Apache-2.0
"""An inference SavedModel: any loader reads it, and answers the truth."""

import os

import numpy as np
import pytest
from judges.commands import assert_refused, contents, run, run_forked
from judges.exporting import assert_close

from bnexport.tf1 import session, tf1

CASES = (
  "layers_fused_literal",
  "layers_fused_phase",
  "layers_resource_literal",
  "layers_partitioned",
  "keras_functional",
  "layers_renorm_literal",
  "flow_if_default_true",
)


@pytest.mark.parametrize("name", CASES)
def test_loaders_answer_the_truth(cases, capsys, tmp_path, name):
  case = cases(name)
  folder = str(tmp_path / "saved")
  result = run(
    capsys,
    "--checkpoint=" + case.prefix,
    "--output_node=" + case.output,
    "--saved_model_out=" + folder,
  )
  assert result.status == 0, result
  assert result.out.startswith("PROVEN: ")
  assert "uninitialized" not in result.out
  assert sorted(os.listdir(folder)) == ["saved_model.pb", "variables"]
  assert os.listdir(str(tmp_path)) == ["saved"]
  with tf1.Graph().as_default() as graph, session(graph) as running:
    meta = tf1.saved_model.load(running, ["serve"], folder)
    signature = meta.signature_def["serving_default"]
    feeds = {signature.inputs[case.input].name: case.x}
    y = running.run(signature.outputs[case.output].name, feeds)
    assert not any(
      op.type.startswith("Assign")
      and "initialize" not in op.name
      and "save/" not in op.name
      for op in graph.get_operations()
    )
  assert_close(y, case.y, case.tol)


# In a process of its own: other tests turn off what TF 2 does.
_LOAD = """
import sys
import numpy as np
import tensorflow as tf
folder, feed, x, y = sys.argv[1:]
answer = tf.saved_model.load(folder).signatures["serving_default"](
  **{feed: tf.constant(np.load(x))})
np.save(y, list(answer.values())[0].numpy())
"""


@pytest.mark.skipif(tf1.VERSION.startswith("1."), reason="it is TF 2's")
def test_newest_loader_answers_the_truth(cases, capsys, tmp_path):
  case = cases("layers_fused_phase")
  folder, x, y = (str(tmp_path / name) for name in ("saved", "x.npy", "y.npy"))
  assert (
    run(
      capsys,
      "--checkpoint=" + case.prefix,
      "--output_node=" + case.output,
      "--saved_model_out=" + folder,
    ).status
    == 0
  )
  np.save(x, case.x)
  done = run_forked("-c", _LOAD, folder, case.input, x, y)
  assert done.status == 0, done.err
  assert_close(np.load(y), case.y, case.tol)


def test_directory_that_exists(cases, capsys, tmp_path):
  case = cases("layers_fused_literal")
  folder = tmp_path / "saved"
  folder.mkdir()
  (folder / "notes.txt").write_text("mine")
  arguments = [
    "--checkpoint=" + case.prefix,
    "--output_node=" + case.output,
    "--saved_model_out=%s" % folder,
  ]
  before = contents(tmp_path)
  assert_refused(run(capsys, *arguments), "not empty")
  assert_refused(run(capsys, "--overwrite", *arguments), "not empty")
  assert contents(tmp_path) == before
  (folder / "notes.txt").unlink()
  assert run(capsys, *arguments).status == 0
  assert_refused(run(capsys, *arguments), "--overwrite")
  assert run(capsys, "--overwrite", *arguments).status == 0


def test_variable_without_value(cases, capsys, tmp_path):
  case = cases("refuse_trainable_saver")
  result = run(
    capsys,
    "--checkpoint=" + case.prefix,
    "--output_node=" + case.output,
    "--saved_model_out=%s" % (tmp_path / "saved"),
  )
  assert_refused(result, "cannot freeze moving average")
  assert os.listdir(str(tmp_path)) == []


def test_values_in_several_parts(cases, capsys, tmp_path, monkeypatch):
  from bnexport.exporting import saved_model

  monkeypatch.setattr(saved_model, "_AT_ONCE", 100)
  case = cases("layers_fused_literal")
  folder = str(tmp_path / "saved")
  assert (
    run(
      capsys,
      "--checkpoint=" + case.prefix,
      "--output_node=" + case.output,
      "--saved_model_out=" + folder,
    ).status
    == 0
  )
  names = os.listdir(os.path.join(folder, "variables"))
  assert len(names) > 3
  reader = tf1.train.NewCheckpointReader(
    os.path.join(folder, "variables", "variables")
  )
  trained = tf1.train.NewCheckpointReader(case.prefix)
  for key in reader.get_variable_to_shape_map():
    np.testing.assert_array_equal(
      reader.get_tensor(key), trained.get_tensor(key)
    )
