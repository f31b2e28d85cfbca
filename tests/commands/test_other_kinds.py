# SPDX-License-Identifier: Apache-2.0
"""A file by another kind's flag: the message is the right command."""

import re
import shlex
import shutil

import pytest
import saved
from judges.commands import assert_refused, copy_of, run


@pytest.fixture(scope="module")
def paths(cases, tmp_path_factory):
  folder = tmp_path_factory.mktemp("a folder")
  case = cases("layers_fused_literal")
  prefix = copy_of(case, folder)
  shutil.copy(case.naive, str(folder / "naive.pb"))
  kept, _ = saved.load("keras3", folder)
  return {
    "prefix": prefix,
    "meta": prefix + ".meta",
    "index": prefix + ".index",
    "frozen": str(folder / "naive.pb"),
    "saved": kept + "/saved",
    "keras": kept + "/model.h5",
    "arrays": kept + "/truth.npz",
  }


def offered(result):
  """The words of the command that an error prints."""
  assert_refused(result, "; run python -m bnexport.")
  return shlex.split(re.search("; run (.*)$", result.err.strip()).group(1))


@pytest.mark.parametrize(
  "command, flag, kind, right",
  [
    ("freeze", "checkpoint", "saved", "freeze --saved_model={saved}"),
    ("freeze", "checkpoint", "keras", "freeze --keras={keras}"),
    ("freeze", "checkpoint", "frozen", "repair --graph_def={frozen}"),
    ("freeze", "graph_def", "frozen", "repair --graph_def={frozen}"),
    ("freeze", "graph_def", "meta", "freeze --checkpoint={prefix}"),
    ("freeze", "graph_def", "saved", "freeze --saved_model={saved}"),
    ("freeze", "meta_graph", "meta", "freeze --checkpoint={prefix}"),
    ("freeze", "saved_model", "prefix", "freeze --checkpoint={prefix}"),
    ("freeze", "saved_model", "keras", "freeze --keras={keras}"),
    ("freeze", "keras", "index", "freeze --checkpoint={prefix}"),
    ("freeze", "hub_module", "saved", "freeze --saved_model={saved}"),
    ("repair", "graph_def", "prefix", "freeze --checkpoint={prefix}"),
    ("repair", "graph_def", "saved", "freeze --saved_model={saved}"),
    ("inspect", "graph_def", "keras", "inspect --keras={keras}"),
    ("inspect", "keras", "frozen", "inspect --graph_def={frozen}"),
    ("inspect", "saved_model", "meta", "inspect --checkpoint={prefix}"),
  ],
)
def test_right_command_is_printed(capsys, paths, command, flag, kind, right):
  result = run(capsys, f"--{flag}={paths[kind]}", command=command)
  verb, option = right.split(" ")
  assert offered(result) == [
    *("python", "-m", f"bnexport.{verb}", option.format(**paths))
  ]


def test_other_flags_stay(capsys, paths):
  given = ("--output_node_names=logits", "--novalidate", "--set=a=1")
  result = run(capsys, f"--saved_model={paths['prefix']}", *given)
  assert set(offered(result)[3:]) == {
    *("--output_node=logits", "--novalidate", "--set=a=1"),
    f"--checkpoint={paths['prefix']}",
  }


def test_printed_command_runs(capsys, paths):
  words = offered(run(capsys, f"--keras={paths['prefix']}"))
  result = run(capsys, *words[3:], "--proof=none")
  assert result.status == 0, result.err


def test_what_no_flag_takes(capsys, paths):
  result = run(capsys, f"--saved_model={paths['arrays']}")
  assert_refused(result, "it is NumPy arrays")


def test_any_file_of_a_checkpoint_will_do(capsys, paths):
  given = (f"--checkpoint={paths['meta']}", "--proof=none", "--overwrite")
  assert run(capsys, *given).status == 0


def test_a_directory_of_several_checkpoints(capsys, paths, tmp_path):
  """Where no `checkpoint` file names the latest."""
  for step in ("3", "12"):
    for end in (".meta", ".index", ".data-00000-of-00001"):
      shutil.copy(paths["prefix"] + end, str(tmp_path / f"m-{step}{end}"))
  result = run(capsys, f"--checkpoint={tmp_path}", "--proof=none")
  assert_refused(result, "give the prefix of one", "-m bnexport.freeze ")
  words = shlex.split(re.search("(python .*), or", result.err).group(1))
  assert f"--checkpoint={tmp_path}/m-12" in words
  assert run(capsys, *words[3:]).status == 0
