# SPDX-License-Identifier: Apache-2.0
"""Running the freeze command in this process, and judging what it said."""

import collections
import os
import shutil
import subprocess
import sys

from absl import flags
from absl.testing import flagsaver
from judges import forking

from bnexport import freeze, inspect, repair, transform, validate
from bnexport.cli import process

ROOT = os.path.dirname(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)

Result = collections.namedtuple("Result", "status out err")


COMMANDS = {
  "freeze": freeze,
  "inspect": inspect,
  "repair": repair,
  "transform": transform,
  "validate": validate,
}


def run(capsys, *arguments, **options):
  """Calls a command as `python -m bnexport.COMMAND` does; returns a Result."""
  command = options.pop("command", "freeze")
  assert not options
  capsys.readouterr()
  with flagsaver.flagsaver():
    argv = flags.FLAGS([command] + list(arguments))
    status = process.status_of(COMMANDS[command].main, argv)
  said = capsys.readouterr()
  return Result(status, said.out, said.err)


def run_process(*arguments, **options):
  """Runs Python in a process of its own; returns a Result."""
  environment = dict(os.environ, PYTHONPATH=ROOT, TF_CPP_MIN_LOG_LEVEL="3")
  done = subprocess.run(
    [sys.executable] + list(arguments),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    universal_newlines=True,
    env=environment,
    timeout=300,
    **options,
  )
  return Result(done.returncode, done.stdout, done.stderr)


def run_forked(*arguments, **options):
  """The same in a fork of a process that has TensorFlow, quickly.

  Options are those of `forking.run`. What TensorFlow's import prints and costs
  is for `run_process`.
  """
  return Result(*forking.run(arguments, **options))


def on_one_line(text):
  """What a report says, on one line."""
  return " ".join(text.replace("\\\n", " ").split())


def assert_refused(result, *words):
  """Asserts status 3 and one line that says why and what to do."""
  assert result.status == 3, result
  lines = result.err.splitlines()
  errors = [line for line in lines if line.startswith("bnexport: cannot ")]
  assert len(errors) == 1, result.err
  assert lines[-1] == errors[0]
  assert all(line.startswith("bnexport: ") for line in lines), result.err
  assert "Traceback" not in result.err
  assert result.out == ""
  for word in words:
    assert word in errors[0]
  assert any(sign in errors[0] for sign in ("; ", ": write ")), (
    "no next step: " + errors[0]
  )


def contents(folder):
  """Bytes of all files below a folder, by relative path."""
  found = {}
  for where, _, names in os.walk(str(folder)):
    for name in names:
      path = os.path.join(where, name)
      with open(path, "rb") as f:
        found[os.path.relpath(path, str(folder))] = f.read()
  return found


def copy_of(case, folder):
  """Copies a zoo case's graph and checkpoint; returns the prefix."""
  for name in sorted(os.listdir(case.folder)):
    if name.startswith("model.ckpt"):
      shutil.copy(os.path.join(case.folder, name), str(folder))
  return os.path.join(str(folder), "model.ckpt")
