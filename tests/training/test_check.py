# SPDX-License-Identifier: Apache-2.0
"""What is said of a training graph before its first step."""

import functools

import pytest
from training import jobs

from bnexport.errors import GraphError
from bnexport.exporting.export import Options
from bnexport.tf1 import tf1
from bnexport.training import check
from bnexport.training.watched import grouped


def found(job, **given):
  given.setdefault("outputs", ["logits"])
  return check(job.graph, train_op=job.train_op, saver=job.saver, **given)


@pytest.mark.parametrize("resource", [False, True])
def test_a_healthy_job_gets_no_word(resource, caplog):
  job = jobs.build(resource=resource, saver=tf1.train.Saver)
  assert found(job) == []
  assert found(job, outputs=[]) == []
  with job.graph.as_default():
    assert check(train_op=job.train_op) == []
  assert not [record for record in caplog.records if record.name == "bnexport"]


def test_a_phase_that_is_fed_is_healthy():
  phase = []

  def switched(h, name):
    if not phase:
      phase.append(tf1.placeholder(tf1.bool, [], name="is_training"))
    with tf1.variable_scope(name, reuse=tf1.AUTO_REUSE):
      return tf1.cond(
        phase[0],
        lambda: jobs.norm(h, "bn"),
        lambda: jobs.norm(h, "bn", training=False),
      )

  job = jobs.build(switched, updates=False)
  codes = [finding.code for finding in check(job.graph, outputs=["logits"])]
  assert codes == []


def test_updates_that_the_train_op_does_not_run(caplog):
  job = jobs.build(updates=False)
  (finding,) = found(job)
  assert finding.code == "BN501" and finding.severity == "error"
  assert "norm*/" in finding.message and "UPDATE_OPS" in finding.message
  (record,) = [r for r in caplog.records if r.name == "bnexport"]
  assert "BN501" in record.getMessage()


def test_updates_collected_before_the_last_layer_was_built():
  (finding,) = found(jobs.build(updates="norm1"))
  assert finding.code == "BN501"
  assert "norm2" in finding.message and "norm1" not in finding.message


def test_a_saver_that_leaves_the_averages_out():
  job = jobs.build(saver=lambda: tf1.train.Saver(tf1.trainable_variables()))
  (finding,) = found(job)
  assert finding.code == "BN502"
  assert "tf.global_variables()" in finding.message
  assert "norm*/moving_mean (2)" in finding.message


def test_a_norm_that_nothing_averages():
  def bare(h, name):
    mean, variance = tf1.nn.moments(h, [0])
    return (h - mean) * tf1.rsqrt(variance + 1e-3)

  job = jobs.build(bare)
  (finding,) = found(job)
  assert finding.code == "BN504"
  assert "--keep_batch_statistics=" in finding.message
  kept = Options(keep_batch_statistics=("Rsqrt", "Rsqrt_1"))
  assert found(job, options=kept) == []


def test_noise_that_can_not_be_decided():
  def mixed(x):
    lam = tf1.identity(tf1.random_uniform([]), name="lam")
    return lam * x + (1 - lam) * tf1.reverse(x, [0])

  (finding,) = found(jobs.build(before=mixed))
  assert finding.code == "BN503"
  assert "--set=" in finding.message


def test_findings_that_raise():
  job = jobs.build(updates=False)
  with pytest.raises(GraphError, match="BN501"):
    found(job, strict=True)


def test_names_are_grouped_by_their_scopes():
  names = [f"net/block{i}/bn" for i in (1, 2)] + ["net/last/bn"]
  assert grouped(names) == ["net/block*/bn (2)", "net/last/bn"]


def test_averages_of_something_else_than_the_norm_uses():
  astray = functools.partial(jobs.norm, of=lambda h: tf1.abs(h) + 1)
  codes = {finding.code for finding in found(jobs.build(astray))}
  assert codes and codes <= {"BN503", "BN504"}


def phased(name, other):
  """A norm that a placeholder of its own switches, or `other` without it."""

  def switched(h, scope):
    phase = tf1.placeholder(tf1.bool, [], name=f"{name}_{scope}")
    with tf1.variable_scope(scope, reuse=tf1.AUTO_REUSE):
      return tf1.cond(phase, lambda: jobs.norm(h, "bn"), lambda: other(h))

  return switched


def test_two_phases_that_an_export_decides():
  job = jobs.build(
    phased("phase", lambda h: jobs.norm(h, "bn", training=False)),
    updates=False,
  )
  assert check(job.graph, outputs=["logits"]) == []


def test_a_phase_that_can_not_be_told():
  job = jobs.build(phased("side", lambda h: h), updates=False)
  (finding,) = check(job.graph, outputs=["logits"])
  assert finding.code == "BN503"
  assert "side_norm" in finding.message and "--set=" in finding.message
