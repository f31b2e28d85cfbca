# SPDX-License-Identifier: Apache-2.0
"""Outputs that can't be written, in every command: one line, nothing lost."""

from __future__ import annotations

import os
import shutil
import sys

import pytest
import saved
from judges.commands import ROOT, assert_refused, contents, run, run_forked

sys.path.append(os.path.join(ROOT, "scripts"))

from fuzzing import artefacts, kills  # noqa: E402

CASE, OUTPUT = "layers_fused_literal", "prob"
# Two commands write nothing; of several checkpoints each has a verdict.
LINES = [
  line
  for line in kills.lines(OUTPUT)
  if line[0] not in ("inspect", "validate") and "--jobs=2" not in line
]
# Whatever a file system says: neither root nor its owner makes files here.
CLOSED = "/sys"


def written_to(line):
  """What a command line writes, and the line with {} in its place."""
  flags = ("--output_graph=", "--out_graph=", "--saved_model_out=", "--report=")
  (path,) = [arg for arg in line if arg.startswith(flags)][-1:]
  flag, _, name = path.partition("=")
  return name, [f"{flag}={{}}" if arg == path else arg for arg in line]


@pytest.fixture
def folder(cases, tmp_path, monkeypatch):
  """A directory with the case's files, to be in."""
  shutil.copytree(cases(CASE).folder, str(tmp_path / artefacts.FOLDER))
  (tmp_path / "out").mkdir()
  monkeypatch.chdir(tmp_path)
  return tmp_path


def ids(line):
  return f"{line[0]}-{written_to(line)[0]}-{len(line)}"


@pytest.mark.parametrize("line", LINES, ids=ids)
def test_a_full_disk(folder, line):
  """No file may grow beyond 512 bytes: a write fails as on a full disk."""
  name, _ = written_to(line)
  is_file = os.path.splitext(name)[1] != ""
  if is_file:
    (folder / name).write_bytes(b"old")
  before = contents(folder)
  result = run_forked(
    "-m", "bnexport." + line[0], *line[1:], cwd=str(folder), largest_file=512
  )
  assert result.status == 3, result
  assert result.err.splitlines()[-1].startswith("bnexport: cannot write ")
  assert "Traceback" not in result.err
  after = contents(folder)
  assert {n: after[n] for n in before} == before
  # What was written before the disk was full is whole.
  assert not any(".bnexport-" in name for name in after)


@pytest.mark.parametrize("line", LINES, ids=ids)
@pytest.mark.parametrize("kind", ["closed", "fifo", "missing"])
def test_places_that_take_no_file(capsys, folder, line, kind):
  name, spelled = written_to(line)
  end = os.path.splitext(name)[1]
  place = {
    "closed": f"{CLOSED}/made{end}",
    "fifo": str(folder / f"fifo{end}"),
    "missing": f"nowhere/made{end}",
  }[kind]
  if kind == "fifo":
    os.mkfifo(place)
  before = sorted(os.listdir(str(folder)))
  arguments = [argument.format(place) for argument in spelled[1:]]
  result = run(capsys, *arguments, command=line[0])
  assert result.status == 3, result
  said = [x for x in result.err.splitlines() if "bnexport: cannot write" in x]
  assert len(said) == 1 and place in said[0], result.err
  assert sorted(os.listdir(str(folder))) == before


@pytest.mark.parametrize("line", LINES, ids=ids)
def test_what_is_read_is_not_written_over(capsys, folder, line):
  name, spelled = written_to(line)
  source = str(folder / artefacts.FOLDER / "naive.pb")
  if not any("naive.pb" in argument for argument in line):
    source = str(folder / artefacts.FOLDER / "model.ckpt.meta")
  before = contents(folder)
  os.link(source, str(folder / "another"))
  for place in (source, str(folder / "another")):
    arguments = [argument.format(place) for argument in spelled[1:]]
    assert_refused(run(capsys, *arguments, command=line[0]))
  os.remove(str(folder / "another"))
  assert contents(folder) == before


@pytest.mark.parametrize("command", ["freeze", "transform"])
def test_an_output_inside_the_saved_model_that_is_read(
  capsys, tmp_path, command
):
  saved_model = os.path.join(saved.load("module", str(tmp_path))[0], "saved")
  before = contents(saved_model)
  for inner in ("saved_model.pb", "variables/made.pb"):
    place = os.path.join(saved_model, inner)
    arguments = {
      "freeze": [f"--saved_model={saved_model}", f"--output_graph={place}"],
      "transform": [
        f"--in_graph={saved_model}",
        f"--out_graph={place}",
        "--transforms=fold_constants",
      ],
    }[command]
    result = run(capsys, *arguments, "--overwrite", command=command)
    assert_refused(result, "the model is read from it")
  assert contents(saved_model) == before
