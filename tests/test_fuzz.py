# SPDX-License-Identifier: Apache-2.0
"""A few damaged and hostile files; scripts/fuzz has as many as one asks for."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys

import pytest
from judges.commands import ROOT

sys.path.append(os.path.join(ROOT, "scripts"))

from fuzzing import mutations, trial  # noqa: E402

from bnexport.tf1 import tf1  # noqa: E402


def test_damaged_files_are_answered():
  paths = [ROOT, os.path.join(ROOT, "scripts"), os.path.join(ROOT, "tests")]
  done = subprocess.run(
    [sys.executable, "-m", "fuzzing", "--seed=5", "--count=40"],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    universal_newlines=True,
    env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths)),
  )
  assert done.returncode == 0, done.stdout
  assert re.search(r"^40 inputs \(.*, 0 faults$", done.stdout, re.M)


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
  assert any(words in fault for fault in trial._faults(status, out, err))


def test_a_good_answer_has_no_faults():
  assert not list(trial._faults(0, "report", "bnexport: reading"))
  assert not list(trial._faults(3, "", "bnexport: cannot a: b; c"))
