# SPDX-License-Identifier: Apache-2.0
"""Commands end: at a time limit, and at a signal, whatever is being run."""

import os
import signal
import subprocess
import sys
import time

import pytest
from judges.commands import ROOT, assert_refused, contents, run, run_forked

from bnexport.tf1 import session, tf1, time_limit

# Seconds after which a command that was to end counts as hanging.
_LONGEST = 120


def saved(folder, start):
  """The prefix of a checkpoint whose graph loops from `start(x)` on up to 4."""
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 3], "x")
    scale = tf1.get_variable("scale", initializer=[1.0, 2.0, 3.0])
    grown = tf1.while_loop(
      lambda v: v < 4.0, lambda v: v * v, [start(tf1.reduce_max(tf1.abs(x)))]
    )
    tf1.multiply(x * scale, grown, name="y")
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      return tf1.train.Saver().save(running, os.path.join(folder, "model.ckpt"))


def endless(largest):
  return 0.5 + 0.0 * largest


def endless_for_small(largest):
  return 0.02 * largest


@pytest.fixture
def hanging(tmp_path):
  return saved(str(tmp_path), endless)


def test_what_does_not_end_is_written_and_not_proven(capsys, hanging):
  result = run(
    capsys,
    "--checkpoint=" + hanging,
    "--output_node=y",
    "--proof_timeout=2",
  )
  assert result.status == 2
  assert "NOT PROVEN" in result.out
  assert "longer than the time limit" in result.out
  assert "--proof_timeout" in result.out
  assert os.path.exists(hanging + ".frozen.pb")


def test_values_for_which_a_loop_ends_are_looked_for(capsys, tmp_path):
  prefix = saved(str(tmp_path), endless_for_small)
  result = run(
    capsys, "--checkpoint=" + prefix, "--output_node=y", "--proof_timeout=30"
  )
  assert result.status == 0, result
  assert result.out.startswith("PROVEN: ")


def test_validate_ends(capsys, hanging):
  run(capsys, "--checkpoint=" + hanging, "--output_node=y", "--validate=false")
  frozen = hanging + ".frozen.pb"
  result = run(
    capsys,
    "--graph=" + frozen,
    "--reference=" + frozen,
    "--proof_timeout=1",
    command="validate",
  )
  assert_refused(result, "time limit", "--proof_timeout")


@pytest.mark.part(2, 0)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_that_does_not_end(hanging, number):
  folder = os.path.dirname(hanging)
  before = contents(folder)
  process = subprocess.Popen(
    [sys.executable, "-m", "bnexport.freeze", "--checkpoint=" + hanging]
    + ["--output_node=y"],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    universal_newlines=True,
    env=dict(os.environ, PYTHONPATH=ROOT, TF_CPP_MIN_LOG_LEVEL="3"),
  )
  try:
    for line in process.stderr:
      if "importing it again" in line:
        break
    time.sleep(3)  # it is in TensorFlow's run by now, and stays there
    assert process.poll() is None
    assert any(".part-" in name for name in os.listdir(folder))
    process.send_signal(number)
    _, said = process.communicate(timeout=_LONGEST)
  finally:
    process.kill()
  assert process.returncode == 3, said
  assert said.count("bnexport: cannot finish: interrupted") == 1
  assert "Traceback" not in said
  assert contents(folder) == before


_SWALLOWED = """
import os, signal, time
from bnexport.cli import process
from bnexport.exporting import writing

process._LONGEST_ENDING = 1.0

def main():
  with writing.whole_file("out", [b"half"]):
    try:
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(60)
    except KeyboardInterrupt:
      os.kill(os.getpid(), signal.SIGINT)  # changes nothing
      time.sleep(60)

process.run(main)
"""


def test_a_command_that_swallows_the_signal_ends_all_the_same(tmp_path):
  begun = time.monotonic()
  result = run_forked("-c", _SWALLOWED, cwd=str(tmp_path))
  assert result.status == 3
  assert "interrupted" in result.err
  assert time.monotonic() - begun < 50
  assert contents(tmp_path) == {}


def test_the_earliest_limit_counts():
  with tf1.Graph().as_default() as graph:
    one = tf1.constant(1.0)
  with session(graph) as running:
    with time_limit(0.0), time_limit(100.0):
      with pytest.raises(tf1.errors.DeadlineExceededError):
        running.run(one)
    with time_limit(100.0):
      assert running.run(one) == 1.0
    assert running.run(one) == 1.0
