# SPDX-License-Identifier: Apache-2.0
"""What a thinned sweep runs, and that --whole leaves nothing out."""

from __future__ import annotations

import itertools
import os

import pytest
from judges.commands import ROOT, run_forked
from judges.sampling import pairs, stride

SWEEPS = """
import pytest
@pytest.mark.part(3, 1)
@pytest.mark.parametrize("i", range(6))
def test_part(i): pass
@pytest.mark.pairs
@pytest.mark.parametrize("a", "xyz")
@pytest.mark.parametrize("b", "xyz")
@pytest.mark.parametrize("c", "xyz")
def test_pairs(a, b, c): pass
@pytest.mark.newest("it is new")
def test_new(): pass
@pytest.mark.oldest("it is old")
def test_old(): pass
"""


def test_strides_together_are_all():
  parts = [list(stride(10, 3, which)) for which in range(3)]
  assert parts[1] == [1, 4, 7]
  assert sorted(sum(parts, [])) == list(range(10))
  assert stride(10, 3, 4) == stride(10, 3, 1)


@pytest.mark.parametrize("which", [0, 7, 40])
def test_all_pairs_of_values_meet(which):
  rows = list(itertools.product("abcde", "xyz", (0, 1, 2, 3)))
  taken = [rows[place] for place in pairs(rows, which)]
  for i, j in itertools.combinations(range(3), 2):
    assert {(r[i], r[j]) for r in taken} == {(r[i], r[j]) for r in rows}
  assert 20 <= len(taken) <= 30


def test_pairs_of_what_is_no_product():
  rows = [("a", 0), ("a", 1), ("b", 1)]
  assert pairs(rows) == [0, 1, 2]
  assert pairs([]) == []


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
  assert sum("test_pairs" in name for name in some) < 15
  assert sum("_new" in name or "_old" in name for name in some) == 1
  assert ": it is " in said
  assert len(whole) == 6 + 27 + 2


def test_what_is_asked_for_is_run(ran):
  for place in range(3):
    assert ran(f"test_sweeps.py::test_part[{place}]")[0] == [
      f"test_part[{place}]"
    ]
