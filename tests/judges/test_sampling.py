# SPDX-License-Identifier: Apache-2.0
"""What a thinned sweep runs, and that --whole leaves nothing out."""

from __future__ import annotations

import os

import pytest
from judges.commands import ROOT, run_forked
from judges.sampling import stride

SWEEPS = """
import pytest
@pytest.mark.part(3, 1)
@pytest.mark.parametrize("i", range(6))
def test_part(i): pass
@pytest.mark.newest("it is new")
def test_new(): pass
"""


def test_strides_together_are_all():
  parts = [list(stride(10, 3, which)) for which in range(3)]
  assert parts[1] == [1, 4, 7]
  assert sorted(sum(parts, [])) == list(range(10))
  assert stride(10, 3, 4) == stride(10, 3, 1)


@pytest.fixture
def ran(tmp_path):
  """The names of SWEEPS that pytest runs where something is asked, and its words."""
  for name in ("conftest.py", "judges"):
    os.symlink(os.path.join(ROOT, "tests", name), str(tmp_path / name))
  (tmp_path / "test_sweeps.py").write_text(SWEEPS)

  def run(asked="test_sweeps.py", *options):
    command = ("-m", "pytest", "-v", "-rs", "-p", "no:cacheprovider", asked)
    result = run_forked(*command, *options, cwd=str(tmp_path))
    assert result.status == 0, result
    lines = result.out.splitlines()
    return [
      line.partition("::")[2].split()[0] for line in lines if "PASSED" in line
    ], result.out

  return run


def test_thinned_is_less_than_whole(ran):
  (some, said), (whole, _) = ran(), ran("test_sweeps.py", "--whole")
  assert set(some) < set(whole)
  assert sum("test_part" in name for name in some) == 2
  assert ("test_new" in some) != (": it is new" in said)
  assert len(whole) == 6 + 1


def test_what_is_asked_for_is_run(ran):
  for place in range(3):
    assert ran(f"test_sweeps.py::test_part[{place}]")[0] == [
      f"test_part[{place}]"
    ]
