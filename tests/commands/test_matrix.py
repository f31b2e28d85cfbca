# SPDX-License-Identifier: Apache-2.0
"""What `scripts/matrix` is made of; its environments are not made here."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
import zoo
from judges.commands import ROOT

sys.path.insert(0, os.path.join(ROOT, "scripts"))

from compatibility import acceptance, matrix  # noqa: E402

from bnexport import text  # noqa: E402

NET = """
x = Placeholder() {shape=[?,3]}
y = Mul(x, x)
axis = Const() {value=<int32 [1] 0>}
mean = Mean(x, axis) {keep_dims=true}
z = Sub(x, mean)
"""


def row(version, *lines):
  made = matrix.Row(version)
  for line in lines:
    made.add(**line)
  return made


def right(route):
  return {"case": "one", "route": route, "fault": None}


def test_cases_are_of_the_zoo():
  assert set(matrix.CASES) <= set(zoo.names())


def test_table():
  fine = row("2.0.4", {"python": "3.7.1"}, right("freeze"), right("stream"))
  bad = row("2.8.4", {"python": "3.9.1"}, right("freeze"))
  bad.add(case="two", route="freeze", fault="status 3: no\nfile")
  gone = matrix.Row("2.99.0")
  gone.is_installed = False
  gone.fail("it can't be installed", "looking\nno such version\n")
  assert matrix.markdown([fine, bad, gone]) == (
    "| version | Python | `freeze` | `freeze`, as a stream | `repair` |\n"
    "| --- | --- | --- | --- | --- |\n"
    "| TF 2.0.4 | 3.7.1 | 1 of 1 | 1 of 1 |  |\n"
    "| TF 2.8.4 | 3.9.1 | 1 of 2 |  |  |\n"
    "| TF 2.99.0 |  |  |  |  |\n"
    "\n"
    "- TF 2.8.4: freeze two: file\n"
    "- TF 2.99.0: it can't be installed: no such version\n"
  )
  assert matrix.status_of([fine]) == 0
  assert matrix.status_of([fine, gone]) == 0
  assert matrix.status_of([fine, bad, gone]) == 2
  assert matrix.status_of([gone]) == 3


def test_process_that_ends_early_is_a_fault(tmp_path, monkeypatch):
  """A crash of TensorFlow ends the lines; what is missing is no success."""
  python = tmp_path / "python"
  python.write_text('#!/bin/sh\necho \'{"python": "3.7"}\'\nexit 9\n')
  python.chmod(0o755)
  monkeypatch.setattr(matrix, "_environment", lambda row: str(python))
  made = matrix._run("2.0.4", str(tmp_path), ["one"])
  assert made.faults == ["it ends with status 9: it says nothing"]
  assert matrix.status_of([made]) == 2


def test_folder_of_cases(tmp_path, monkeypatch):
  for name in ("here", "there"):
    (tmp_path / name).mkdir()
    (tmp_path / name / "case.json").write_text("{}")
  (tmp_path / "no_case").mkdir()
  monkeypatch.setattr(sys, "argv", ["matrix", "--cases=" + str(tmp_path)])
  flags = matrix._flags()
  assert matrix._cases(flags, None) == (str(tmp_path), ["here", "there"])
  flags.only = ["t*"]
  assert matrix._cases(flags, None)[1] == ["there"]


def test_cases_of_the_zoo_are_unpacked(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["matrix", "--only=refuse_nan_*"])
  folder, names = matrix._cases(matrix._flags(), str(tmp_path))
  assert names == ["refuse_nan_mean_phase", "refuse_nan_variance"]
  assert zoo.read(os.path.join(folder, names[0])).expect == "refuse"


@pytest.mark.parametrize(
  "output, scale, fault",
  [
    ("y", 1, None),
    ("y", 2, "'y' is off by "),
    ("z", 1, "a row's answer depends on its batch"),
    ("gone", 1, "it does not run: "),
  ],
)
def test_answers_are_judged(tmp_path, output, scale, fault):
  x = np.arange(12, dtype=np.float32).reshape(4, 3)
  path = str(tmp_path / "net.pb")
  with open(path, "wb") as f:
    f.write(text.loads(NET).SerializeToString())
  fields = dict.fromkeys(zoo.Case._fields)
  fields.update(zoo.DEFAULTS, input="x", output=output, also_y=[], x=x)
  fields["y"] = x - x.mean(0) if output == "z" else x * x * scale
  found = acceptance.fault_of_answers(zoo.Case(**fields), path)
  assert found is None if fault is None else found.startswith(fault)


def test_process_that_takes_too_long_is_no_success(monkeypatch):
  monkeypatch.setattr(acceptance, "_SECONDS", 0.5)
  status, _, err = acceptance._run_alone(["-c", "import time; time.sleep(60)"])
  assert status is None and err == "it takes longer than 0.5 seconds"


def test_routes(cases, tmp_path, capfd):
  """One case that is right on each route, one whose truth is another."""
  fine, refused = cases("layers_dense_literal"), cases("refuse_half_tracked")
  folder = str(tmp_path)
  for case in (fine, refused):
    shutil.copytree(case.folder, os.path.join(folder, case.name))
  wrong = os.path.join(folder, "wrong")
  shutil.copytree(fine.folder, wrong)
  truth = dict(y=fine.y + 1, x=fine.x, y_train=fine.y_train)
  np.savez(os.path.join(wrong, "truth.npz"), **truth)
  acceptance.main(folder, fine.name, refused.name, "wrong")
  first, *rest = map(json.loads, capfd.readouterr().out.splitlines())
  assert list(first) == ["python"]
  assert [one["route"] for one in rest] == [*acceptance.ROUTES] * 3
  faults = [one["fault"] for one in rest]
  assert faults[:6] == [None] * 6
  assert all(fault and "is off by" in fault for fault in faults[6:]), faults
