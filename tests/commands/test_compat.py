# SPDX-License-Identifier: Apache-2.0
"""What `scripts/compat` is made of; its environments are not made here."""

import ast
import os
import sys

import numpy as np
import pytest
from judges.commands import ROOT, run_process

sys.path.insert(0, os.path.join(ROOT, "scripts"))

from compatibility import command, table, training  # noqa: E402
from compatibility.places import Exported, Finding  # noqa: E402

from bnexport import text
from bnexport.tf1 import tf1

LOADER = os.path.join(ROOT, "scripts", "compatibility", "load_graph.py")
NET = """
x = Placeholder() {shape=[?,3]}
scale = Const() {value=<float [] %s>}
y = Mul(x, scale)
"""


def test_table():
  assert table.markdown(
    {
      "one": {"1.4.1": Finding(1.26e-7, True), "opencv": Finding(0.0, True)},
      "two": {
        "1.4.1": Finding(0.5, False),
        "opencv": Finding(None, False, "no op"),
      },
      "three": {
        "1.4.1": Finding(None, False, "no op"),
        "opencv": Finding(None, False, "no memory"),
      },
    }
  ) == (
    "| network | TF 1.4.1 | OpenCV |\n"
    "| --- | --- | --- |\n"
    "| one | 1e-07 | 0 |\n"
    "| two | **5e-01** | no (1) |\n"
    "| three | no (1) | no (2) |\n"
    "\n"
    "1. no op\n"
    "2. no memory\n"
  )


def test_flags(monkeypatch, capsys):
  monkeypatch.setattr(
    sys,
    "argv",
    ["compat", "--on=opencv,1.4.1", "--checkpoint=run", "--output_node=y"],
  )
  flags, of_freeze = command._flags()
  assert flags.on == ["1.4.1", "opencv"]
  assert flags.only == list(training.NETWORKS)
  assert of_freeze == ["--checkpoint=run", "--output_node=y"]
  monkeypatch.setattr(sys, "argv", ["compat", "--on=1.5"])
  with pytest.raises(SystemExit):
    command._flags()
  assert "there is no '1.5'; take some of 1.4.1, " in capsys.readouterr().err


def test_loader_is_for_old_pythons():
  with open(LOADER) as f:
    source = f.read()
  if sys.version_info >= (3, 8):
    ast.parse(source, feature_version=(3, 6))
  assert "annotations" not in source and "bnexport" not in source


@pytest.mark.skipif(
  not tf1.VERSION.startswith("1."), reason="it is written for TF 1"
)
def test_loader(tmp_path):
  path, fed, got = (str(tmp_path / n) for n in ("y.pb", "x.npz", "y.npz"))
  with open(path, "wb") as f:
    f.write(text.loads(NET % 3).SerializeToString())
  x = np.ones([2, 3], np.float32)
  np.savez(fed, x=x)
  result = run_process(LOADER, path, fed, got, "y:0", "x:0")
  assert result.status == 0, result
  with np.load(got) as found:
    np.testing.assert_array_equal(found["0"], 3 * x)
    np.testing.assert_array_equal(found["1"], x)


@pytest.mark.parametrize("scale, off, holds", [(3, 0.0, True), (2, 1, False)])
def test_difference_is_relative_to_the_range(
  tmp_path, monkeypatch, scale, off, holds
):
  path = str(tmp_path / "y.pb")
  with open(path, "wb") as f:
    f.write(text.loads(NET % 3).SerializeToString())
  exported = Exported(
    path,
    {
      "outputs": ["y"],
      "proof": {"holds": holds, "outputs": [{"largest_difference": off}]},
    },
  )
  spread = np.ptp(exported._answers[0])
  assert exported.in_newest() == Finding(pytest.approx(off / spread), holds)

  def load(command, **_):
    with np.load(command[3]) as fed:
      np.savez(command[4], **{"0": fed["x"] * np.float32(scale)})
    return command_result

  class command_result:
    returncode = 0

  monkeypatch.setattr("compatibility.places._python", lambda version: "python")
  monkeypatch.setattr("compatibility.places.subprocess.run", load)
  found = exported.in_version("1.4.1", path)
  assert found.holds == holds
  assert (found.off == 0) == holds
