# SPDX-License-Identifier: Apache-2.0
"""An Exporter in an Estimator's training, where TensorFlow has estimators."""

import os

import numpy as np
import pytest
from training import jobs

from bnexport.errors import SourceError
from bnexport.proof.runs import ImportedGraph
from bnexport.sources.files import read_proto
from bnexport.tf1 import tf1

HAS_ESTIMATORS = hasattr(tf1, "estimator")


@pytest.mark.skipif(HAS_ESTIMATORS, reason="there are estimators")
def test_a_tensorflow_without_estimators():
  from bnexport import training

  with pytest.raises(SourceError, match="no estimators"):
    training.Exporter("frozen", ["logits"])


def model(features, labels, mode):
  """A model_fn with the norms of `jobs`."""
  is_training = mode == tf1.estimator.ModeKeys.TRAIN
  h = features["x"]
  for i in (1, 2):
    h = jobs.dense(h, 8, f"dense{i}")
    h = tf1.nn.relu(jobs.norm(h, f"norm{i}", training=is_training))
  logits = tf1.identity(jobs.dense(h, 2, "last"), name="logits")
  if labels is None:
    return tf1.estimator.EstimatorSpec(mode, {"y": logits})
  loss = tf1.losses.sparse_softmax_cross_entropy(labels, logits)
  with tf1.control_dependencies(tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)):
    train_op = tf1.train.GradientDescentOptimizer(0.05).minimize(
      loss, tf1.train.get_global_step()
    )
  return tf1.estimator.EstimatorSpec(mode, {"y": logits}, loss, train_op)


def rows():
  features, labels = jobs.data()
  batches = tf1.data.Dataset.from_tensor_slices(({"x": features}, labels))
  return batches.repeat().batch(32)


@pytest.mark.skipif(not HAS_ESTIMATORS, reason="there are no estimators")
def test_exporter_of_train_and_evaluate(tmp_path, forked_workers):
  from bnexport import training

  estimator = tf1.estimator.Estimator(model, str(tmp_path))
  # The training graph reads its input by itself.
  exporter = training.Exporter("frozen", ["logits"], inputs=["IteratorGetNext"])
  tf1.estimator.train_and_evaluate(
    estimator,
    tf1.estimator.TrainSpec(rows, max_steps=40),
    tf1.estimator.EvalSpec(rows, steps=2, exporters=[exporter]),
  )
  verdict = exporter.exports.verdicts[40]
  assert verdict.word == "ok", verdict
  folder = os.path.join(str(tmp_path), "export", "frozen")
  graph = read_proto(
    os.path.join(folder, "frozen-40.pb"), tf1.GraphDef, "the graph"
  )
  features = jobs.data()[0][:16]
  runner = ImportedGraph(graph, ["logits"])
  given = runner.run({"IteratorGetNext": features})[0]
  runner.close()
  predicted = estimator.predict(
    tf1.estimator.inputs.numpy_input_fn(
      {"x": features}, batch_size=16, shuffle=False
    )
  )
  expected = np.stack([one["y"] for one in predicted])
  np.testing.assert_allclose(given, expected, 1e-4, 1e-4)
