# SPDX-License-Identifier: Apache-2.0
"""The five commands as one: `python -m bnexport COMMAND`, and `bnexport`."""

import os
import shutil
import subprocess
import sys

import pytest
from judges.commands import (
  COMMANDS,
  ROOT,
  assert_refused,
  run_forked,
  run_process,
)

from bnexport import __main__ as main
from bnexport import text

CASE = "layers_dense_literal"


@pytest.fixture
def case(cases):
  return cases(CASE)


def test_all_commands_are_there():
  assert set(main.COMMANDS) == set(COMMANDS)


def test_help_lists_the_commands():
  result = run_process("-m", "bnexport", "--help")
  assert result.status == 0, result.err
  for name, module in COMMANDS.items():
    assert f"  {name:9}  {module.__doc__.splitlines()[0]}\n" in result.out


@pytest.mark.parametrize("name", main.COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "--helpfull"])
def test_help_is_that_of_the_command(name, flag):
  own = run_process("-m", f"bnexport.{name}", flag)
  assert COMMANDS[name].__doc__.splitlines()[0] in own.out
  assert "--checkpoint" in own.out
  assert run_process("-m", "bnexport", name, flag) == own


@pytest.mark.parametrize(
  "arguments, words",
  [
    ((), "no command is named; the commands are freeze, inspect, repair, "),
    (
      ("freze", "--output_node=y"),
      "'freze': there is no such command or file; did ",
    ),
    (("freze",), "did you mean 'freeze'?"),
    (("--output_node=y",), "the commands are freeze, "),
    (("freeze",), "no values are given for the variables"),
  ],
)
def test_refusals(arguments, words):
  assert_refused(run_forked("-m", "bnexport", *arguments), words)


def test_flags_are_those_of_the_command():
  result = run_process("-m", "bnexport", "transform", "--explain=BN101")
  assert result.status == 1
  assert "Unknown command line flag 'explain'" in result.err


def test_freezes_one(case, prefix):
  arguments = f"--checkpoint={prefix}", f"--output_node={case.output}"
  result = run_forked("-m", "bnexport", "freeze", *arguments)
  assert result.status == 0, result.err
  assert "largest difference" in result.out


def test_freezes_several_in_processes(case, prefix, tmp_path):
  other = tmp_path / "other"
  shutil.copytree(prefix[: -len("/model.ckpt")], str(other))
  arguments = (
    f"--checkpoint={prefix},{other}/model.ckpt",
    f"--output_node={case.output}",
  )
  result = run_process("-m", "bnexport", "freeze", *arguments)
  assert result.status == 0, result.err
  assert result.out.count("ok ") == 2, result.out


def test_nobody_takes_what_is_printed(tmp_path):
  path = tmp_path / "graph.pb"
  graph = text.loads("x = Placeholder() {shape=[?]}\ny = Relu(x)")
  path.write_bytes(graph.SerializeToString())
  with open("/dev/full", "w") as full:
    done = subprocess.run(
      [sys.executable, "-m", "bnexport", "inspect", f"--graph_def={path}"],
      stdout=full,
      stderr=subprocess.PIPE,
      universal_newlines=True,
      env=dict(os.environ, PYTHONPATH=ROOT, TF_CPP_MIN_LOG_LEVEL="3"),
    )
  assert done.returncode == 3
  assert "Traceback" not in done.stderr
  assert done.stderr.splitlines()[-1].startswith("bnexport: cannot print")
