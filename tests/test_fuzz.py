# SPDX-License-Identifier: Apache-2.0
"""A few damaged and hostile files; scripts/fuzz has as many as one asks for."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time

import pytest
from judges.commands import ROOT

sys.path.append(os.path.join(ROOT, "scripts"))

from fuzzing import kills, mutations, trial  # noqa: E402

from bnexport.tf1 import tf1  # noqa: E402


def fuzz(*arguments):
  """Runs the command; returns its exit status and what it said."""
  paths = [ROOT, os.path.join(ROOT, "scripts"), os.path.join(ROOT, "tests")]
  done = subprocess.run(
    [sys.executable, "-m", "fuzzing", *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    universal_newlines=True,
    env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths)),
  )
  return done.returncode, done.stdout


def test_damaged_files_are_answered():
  status, said = fuzz("--seed=5", "--count=40")
  assert status == 0, said
  assert re.search(r"^40 inputs \(.*, 0 faults$", said, re.M)


@pytest.mark.newest("files are written without TensorFlow")
def test_killed_commands_lose_nothing():
  status, said = fuzz("--seed=5", "--kills=8")
  assert status == 0, said
  assert re.search(r"^8 kills, 0 faults$", said, re.M)


@pytest.mark.parametrize(
  "name, words",
  [
    ("out/a", "'a' is neither the old nor the new file"),
    ("in/a", "what was read is changed"),
    ("out/b", "there are ['a', 'b'] after the next run"),
  ],
)
def test_what_kills_lose_is_noticed(tmp_path, monkeypatch, name, words):
  for folder in ("in", "out"):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "a").write_bytes(b"old")
  ready = tmp_path / "ready"

  def start(line, folder):
    child = os.fork()
    if child:
      while not ready.exists():
        time.sleep(0.01)
      return child
    os.setpgid(0, 0)
    (tmp_path / name).write_bytes(b"half")
    ready.write_bytes(b"")
    while line == "killed":
      time.sleep(1)
    os._exit(0)

  monkeypatch.setattr(trial, "start", start)
  monkeypatch.setattr(kills, "_finished", lambda *_: {"a": b"", "b": b""})
  found = kills._killed("killed", str(tmp_path), {"a": b"old"}, 0.0, Keeping())
  assert any(words in fault for fault in found)


def test_a_record_is_whole_where_it_can_be_read():
  name = "graph.pb.bnexport.json"
  assert kills._is_whole(name, b'{"of": 1}', b'{"of": 2}')
  assert not kills._is_whole(name, b'{"of', b'{"of": 2}')
  assert not kills._is_whole("graph.pb", b'{"of": 1}', b'{"of": 2}')


class Keeping(random.Random):
  """Draws that leave at the output what is there."""

  def choice(self, drawn):
    return drawn[1]


@pytest.mark.parametrize("edit", sorted(set(mutations._EDITS), key=str))
def test_every_edit_changes_a_graph(cases, edit):
  before = tf1.MetaGraphDef()
  with open(cases("layers_fused_phase").prefix + ".meta", "rb") as f:
    before.ParseFromString(f.read())
  function = before.graph_def.library.function.add()
  function.signature.name = "f"
  function.signature.input_arg.add(name="a", type=1)
  function.signature.output_arg.add(name="b", type=1)
  function.node_def.add(name="n", op="Neg", input=["a"]).attr["T"].type = 1
  function.ret["b"] = "n:y:0"
  changed = 0
  for seed in range(9):
    after = tf1.MetaGraphDef()
    after.CopyFrom(before)
    try:
      edit(after.graph_def, random.Random(seed))
    except (IndexError, ValueError):
      continue  # what was drawn has nothing to change
    changed += after != before
  assert changed >= 2


@pytest.mark.parametrize(
  "status, out, err, words",
  [
    (None, "", "", "no answer"),
    (3, "", f"bnexport: cannot finish: {trial._NO_MEMORY}; cut", "memory"),
    (-11, "", "", "signal 11"),
    (1, "", "Traceback (most recent call last):\nKeyError: 1", "KeyError"),
    (1, "", "", "exits with 1"),
    (3, "", "bnexport: cannot a: b; c\nand more", "not one line"),
    (3, "", "bnexport: cannot a", "without a step"),
    (0, "a\x1bb", "", "control characters"),
    (0, 5000 * "a", "", "without an end"),
  ],
)
def test_faults_are_noticed(status, out, err, words):
  ended = trial.Ended(status, 0)
  assert any(words in fault for fault in trial._faults(ended, out, err))


def test_a_good_answer_has_no_faults():
  for status, out, err in [
    (0, "report", "bnexport: reading"),
    (3, "", "bnexport: cannot a: b; c"),
  ]:
    assert not list(trial._faults(trial.Ended(status, 1 << 30), out, err))


def test_what_waits_is_ended_and_who_is_not_let_run_is_not(monkeypatch):
  monkeypatch.setattr(trial, "SECONDS", 0.1)
  for queued, status in ((0.0, None), (600.0, 0)):
    monkeypatch.setattr(trial, "_queued", lambda _, seconds=queued: seconds)
    child = os.fork()
    if not child:
      time.sleep(2)
      os._exit(0)
    assert trial.wait(child).status == status


def test_waiting_for_a_processor_is_measured():
  began = time.time()
  while time.time() < began + 0.1:
    pass
  assert 0 <= trial._queued(os.getpid()) < 3600


def test_memory_is_measured():
  child = os.fork()
  if not child:
    bytearray(os.urandom(1)) * (400 << 20)
    os._exit(0)
  ended = trial.wait(child)
  assert ended.status == 0
  assert ended.most_bytes > 400 << 20
  assert list(trial._faults(trial.Ended(0, 4 << 30), "", "")) == [
    "takes 4096 MB"
  ]


@pytest.mark.parametrize("is_asked", [True, False])
@pytest.mark.parametrize("was_taken", [True, False])
def test_what_tensorflow_does_not_take_is_noticed(
  tmp_path, monkeypatch, is_asked, was_taken
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "out").mkdir()
  made, given = tf1.GraphDef(), tf1.GraphDef()
  made.node.add(name="n", op="Nobody")
  given.node.add(name="n", op="NoOp" if was_taken else "Nobody")
  (tmp_path / "out" / "made.pb").write_bytes(made.SerializeToString())
  (tmp_path / "given.pb").write_bytes(given.SerializeToString())
  line = ["freeze", "--graph_def=given.pb"]
  line += [] if is_asked else ["--validate=false"]
  if is_asked or was_taken:
    with pytest.raises(Exception, match="Nobody"):
      trial._import_what_was_made(line)
  else:
    trial._import_what_was_made(line)
