# SPDX-License-Identifier: Apache-2.0
"""Source distributions and installed packages are whole."""

import os
import subprocess
import sys
import tarfile

import pytest
from judges.commands import ROOT

pytestmark = pytest.mark.newest("packages hold the same for each TensorFlow")

# What setuptools writes into a source distribution itself.
GENERATED = {"PKG-INFO", "setup.cfg"}


def tracked():
  """Bytes of git's files by path."""
  command = ["git", "ls-files", "-z"]
  listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
  found = {}
  for path in filter(None, listed.stdout.decode().split("\0")):
    with open(os.path.join(ROOT, path), "rb") as f:
      found[path] = f.read()
  return found


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  """A folder with dist/*.tar.gz, lib/ and bnexport.egg-info/."""
  if not os.path.exists(os.path.join(ROOT, ".git")):
    pytest.skip("not a checkout, so nothing lists its files")
  folder = str(tmp_path_factory.mktemp("built"))
  subprocess.run(
    [sys.executable, "setup.py", "-q"]
    + ["egg_info", "--egg-base", folder]
    + ["build", "--build-base", folder, "--build-lib", f"{folder}/lib"]
    + ["sdist", "--dist-dir", f"{folder}/dist", "--formats", "gztar"],
    cwd=ROOT,
    stderr=subprocess.PIPE,
    check=True,
  )
  return folder


def test_source_distribution_holds_what_git_holds(built):
  (name,) = os.listdir(os.path.join(built, "dist"))
  held = {}
  with tarfile.open(os.path.join(built, "dist", name)) as archive:
    for member in archive.getmembers():
      if member.isfile():
        path = member.name.partition("/")[2]
        held[path] = archive.extractfile(member).read()
  expected = tracked()
  assert set(held) - GENERATED == set(expected) - GENERATED
  assert [
    p for p in held if p not in GENERATED and held[p] != expected[p]
  ] == []


def test_every_file_that_has_comments_states_its_licence():
  plain = (
    ".json",
    ".md",
    ".npz",
    ".png",
    ".zip",
    ".gitignore",
    "LICENSE",
    "py.typed",
  )
  lines = {
    path: held.splitlines()[:2]
    for path, held in tracked().items()
    if not path.endswith(plain)
  }
  assert [
    path
    for path, first in lines.items()
    if not any(b"SPDX-License-Identifier: Apache-2.0" in line for line in first)
  ] == []
  assert {"BUILD", "setup.py", "scripts/lint"} <= set(lines)


def test_package_holds_all_that_is_below_it(built):
  library, held = os.path.join(built, "lib"), set()
  for where, _, names in os.walk(library):
    held |= {os.path.relpath(os.path.join(where, n), library) for n in names}
  assert held == {p for p in tracked() if p.startswith("bnexport/")}
  assert "bnexport/py.typed" in held


def test_package_installs_the_command(built):
  path = os.path.join(built, "bnexport.egg-info", "entry_points.txt")
  with open(path) as f:
    assert "bnexport = bnexport.__main__:main" in f.read().splitlines()
