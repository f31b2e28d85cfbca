# SPDX-License-Identifier: Apache-2.0
"""Hooks in training jobs that are run: health, and exports beside them."""

import functools
import glob
import logging
import os

import numpy as np
import pytest
from training import jobs

import bnexport
from bnexport.errors import Error
from bnexport.exporting.export import Options
from bnexport.proof.runs import ImportedGraph
from bnexport.sources.files import read_proto
from bnexport.tf1 import tf1
from bnexport.training import ExportHook, NormHealthHook, check
from bnexport.training.health_hook import LAGS, NOT_FINITE, NOT_RUN, VANISHES


def causes(hook):
  return {cause for health in hook.health.values() for cause in health.causes}


def warnings(caplog):
  return [
    record.getMessage()
    for record in caplog.records
    if record.name == "bnexport" and record.levelno > logging.INFO
  ]


def summaries(folder):
  """Scalars and histograms of a folder's event files, by tag, with steps."""
  found = {}
  for path in glob.glob(os.path.join(folder, "events*")):
    for event in tf1.train.summary_iterator(path):
      for value in event.summary.value:
        found.setdefault(value.tag, []).append((event.step, value))
  return found


# Health.


@pytest.mark.parametrize("resource", [False, True])
def test_a_healthy_job_gets_no_word(resource, caplog, tmp_path):
  hook = NormHealthHook(every_steps=20, directory=str(tmp_path))
  job = jobs.build(resource=resource)
  before = len(job.graph.get_operations())
  with job.graph.as_default():
    hook.begin()
  assert len(job.graph.get_operations()) == before
  jobs.train(job, [hook])
  assert sorted(hook.health) == [
    "norm1/batchnorm/Rsqrt",
    "norm2/batchnorm/Rsqrt",
  ]
  assert causes(hook) == set()
  assert not warnings(caplog)
  told = summaries(str(tmp_path))
  tag = "bnexport/norm1/batchnorm/Rsqrt/"
  steps = [step for step, _ in told[tag + "deviations"]]
  assert steps == sorted(steps) and len(steps) == 4 and steps[-1] == 60
  deviations = hook.health["norm1/batchnorm/Rsqrt"].deviations
  assert told[tag + "deviations"][-1][1].simple_value == pytest.approx(
    np.median(deviations)
  )
  assert told[tag + "factor_of_channels"][-1][1].histo.num == 8


def test_updates_that_do_not_run(caplog):
  hook = NormHealthHook(every_steps=10)
  jobs.train(jobs.build(updates=False), [hook])
  assert causes(hook) == {NOT_RUN}
  (said,) = warnings(caplog)  # once, however often it is seen
  assert "norm*/batchnorm/Rsqrt (2)" in said and "UPDATE_OPS" in said


def test_a_decay_too_near_1(caplog):
  slow = functools.partial(jobs.norm, momentum=0.9999)
  hook = NormHealthHook(every_steps=20)
  jobs.train(jobs.build(slow, before=lambda x: x + 30), [hook])
  assert causes(hook) == {LAGS}
  (said,) = warnings(caplog)
  assert "momentum" in said


@pytest.mark.parametrize(
  "cause, options",
  [
    (NOT_RUN, {"updates": False}),
    (LAGS, {"layer": functools.partial(jobs.norm, momentum=0.999)}),
    (None, {}),
  ],
)
def test_a_job_that_is_shorter_than_a_look(caplog, cause, options):
  hook = NormHealthHook()
  job = jobs.build(before=lambda x: x + 30, rate=0.001, **options)
  jobs.train(job, [hook], steps=100)
  assert causes(hook) == ({cause} if cause else set())
  assert len(warnings(caplog)) == bool(cause)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_job_of_a_few_steps(caplog, steps):
  hook = NormHealthHook()
  jobs.train(jobs.build(), [hook], steps=steps)
  assert NOT_RUN not in causes(hook)


def test_statistics_that_are_not_finite(caplog):
  hook = NormHealthHook(every_steps=5)
  jobs.train(jobs.build(before=lambda x: tf1.log(x - 3)), [hook], steps=20)
  assert NOT_FINITE in causes(hook)
  assert any("not finite" in said for said in warnings(caplog))


def test_channels_without_variance(caplog):
  def dead(x):
    return tf1.concat([x[:, :5], tf1.zeros_like(x[:, 5:])], 1)

  hook = NormHealthHook(every_steps=10)
  job = jobs.build(
    layer=lambda h, name: jobs.norm(h * tf1.constant([1.0] * 7 + [0.0]), name),
    before=dead,
  )
  jobs.train(job, [hook])
  assert VANISHES in causes(hook)
  assert any("no variance" in said for said in warnings(caplog))


# Exports.


def answers(path, rows):
  graph = read_proto(path, tf1.GraphDef, "the graph")
  runner = ImportedGraph(graph, ["logits"])
  given = runner.run({"x": rows})[0]
  runner.close()
  return given


def expected(graph_values, rows):
  """The answer of the job's network with stored averages, in NumPy."""
  h = rows
  for i in (1, 2):
    h = h @ graph_values[f"dense{i}/kernel"]
    scope = f"norm{i}/"
    mean = graph_values[scope + "moving_mean"]
    variance = graph_values[scope + "moving_variance"]
    h = (h - mean) / np.sqrt(variance + 1e-3)
    h = h * graph_values[scope + "gamma"] + graph_values[scope + "beta"]
    h = np.maximum(h, 0)
  return h @ graph_values["last/kernel"]


def test_exports_beside_a_monitored_session(tmp_path, forked_workers, caplog):
  caplog.set_level(logging.INFO, "bnexport")
  folder = str(tmp_path / "exports")
  hook = ExportHook(["logits"], folder, every_steps=30, keep=2)
  job = jobs.build()
  values = {}

  class Values(tf1.train.SessionRunHook):
    def end(self, session):
      with job.graph.as_default():
        named = {v.op.name: v for v in tf1.global_variables()}
      values.update(session.run(named))

  jobs.train(job, [Values(), hook], steps=70)
  verdicts = hook.exports.verdicts
  assert {verdict.word for verdict in verdicts.values()} == {"ok"}, verdicts
  assert max(verdicts) == 70
  rows = jobs.data()[0][:16]
  np.testing.assert_allclose(
    answers(os.path.join(folder, "model-70.pb"), rows),
    expected(values, rows),
    1e-4,
    1e-4,
  )
  assert len(hook.exports.steps()) <= 2
  assert hook.exports.steps()[-1] == 70
  assert f"step 70: ok {folder}/model-70.pb" in [
    record.getMessage() for record in caplog.records
  ]
  proven = summaries(folder)["bnexport/proven"]
  assert [value.simple_value for _, value in proven] == [1.0] * len(verdicts)
  left = [name for name in os.listdir(folder) if name.startswith(".")]
  assert left == [] and not glob.glob(os.path.join(folder, "*part*"))


def test_a_listener_and_a_restart(tmp_path, forked_workers):
  run, folder = str(tmp_path / "run"), str(tmp_path / "exports")

  def go(steps):
    job = jobs.build(resource=True)
    hook = ExportHook(["logits"], folder, checkpoint_dir=run)
    with job.graph.as_default():
      saver = tf1.train.CheckpointSaverHook(
        run, save_steps=20, listeners=[hook]
      )
      jobs.train(
        job, [saver], steps=steps, checkpoint_dir=run, save_checkpoint_secs=None
      )
    return hook.exports

  first = go(40)
  assert first.verdicts[40].word == "ok", first.verdicts
  again = go(60)
  assert again.verdicts[60].word == "ok"
  # What was exported before is left as it is.
  assert again.verdicts.get(40, first.verdicts[40]).word in ("ok", "skipped")
  assert again.steps()[-2:] == [40, 60]


def test_a_listener_beside_a_scaffolds_own_saver(tmp_path, forked_workers):
  run, folder = str(tmp_path / "run"), str(tmp_path / "exports")
  job = jobs.build()
  hook = ExportHook(["logits"], folder, checkpoint_dir=run)
  with job.graph.as_default():
    scaffold = tf1.train.Scaffold(saver=tf1.train.Saver(max_to_keep=1))
    saver = tf1.train.CheckpointSaverHook(
      run, save_steps=15, scaffold=scaffold, listeners=[hook]
    )
    jobs.train(job, [saver], steps=30, scaffold=scaffold)
  assert hook.exports.verdicts[30].word == "ok", hook.exports.verdicts


def test_a_bare_loop_that_checks_first(tmp_path):
  job = jobs.build(saver=tf1.train.Saver)
  found = check(job.graph, job.train_op, ["logits"], job.saver)
  assert found == []
  prefix = str(tmp_path / "model.ckpt")
  with jobs.started(job) as running:
    for _ in range(40):
      running.run(job.train_op, job.feeds())
    job.saver.save(running, prefix)
    rows = jobs.data()[0][:16]
    values = running.run({v.op.name: v for v in tf1.global_variables()})
  made = bnexport.export(bnexport.load(prefix, outputs=["logits"]))
  path = str(tmp_path / "net.pb")
  assert made.write(path).proof.verdict == "PROVEN"
  np.testing.assert_allclose(
    answers(path, rows), expected(values, rows), 1e-4, 1e-4
  )


def mixed(x):
  lam = tf1.identity(tf1.random_uniform([]), name="lam")
  return lam * x + (1 - lam) * tf1.reverse(x, [0])


def test_a_refusal_does_not_stop_training(tmp_path, forked_workers, caplog):
  hook = ExportHook(["logits"], str(tmp_path), every_steps=10)
  job = jobs.build(before=mixed)
  jobs.train(job, [hook], steps=30)
  assert hook.exports.verdicts[30].word == "refused"
  assert any("--set=" in said for said in warnings(caplog))
  assert hook.exports.steps() == []


def test_strict_ends_training(tmp_path, forked_workers):
  hook = ExportHook(["logits"], str(tmp_path), strict=True)
  with pytest.raises(Error, match="its export is refused"):
    jobs.train(jobs.build(before=mixed), [hook], steps=10)


def test_options_reach_the_export(tmp_path, forked_workers):
  options = Options(settings={"lam": "1.0"})
  hook = ExportHook(["logits"], str(tmp_path), options=options)
  jobs.train(jobs.build(before=mixed), [hook], steps=10)
  assert hook.exports.verdicts[10].word == "ok", hook.exports.verdicts


def test_callback_of_keras_in_compat_mode(tmp_path, forked_workers):
  from bnexport.training import ExportCallback

  rows, labels = jobs.data()
  with tf1.Graph().as_default(), tf1.Session().as_default():
    layers = tf1.keras.layers
    model = tf1.keras.Sequential(
      [
        layers.Dense(8, input_shape=(jobs.FEATURES,)),
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
        layers.Dense(2, activation="softmax"),
      ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    callback = ExportCallback(str(tmp_path), every_epochs=1)
    model.fit(rows, labels, epochs=2, verbose=0, callbacks=[callback])
    answer = model.predict(rows[:8])
    name = model.outputs[0].name
    fed = model.inputs[0].name
  assert callback.exports.verdicts[2].word == "ok", callback.exports.verdicts
  graph = read_proto(str(tmp_path / "model-2.pb"), tf1.GraphDef, "the graph")
  runner = ImportedGraph(graph, [name])
  given = runner.run({fed.split(":")[0]: rows[:8]})[0]
  runner.close()
  np.testing.assert_allclose(given, answer, 1e-4, 1e-5)
