# SPDX-License-Identifier: Apache-2.0
"""The five commands as one: `python -m bnexport freeze ...`, or `bnexport`.

A command runs exactly as `python -m bnexport.COMMAND` runs it, with its own
flags, help and exit status.
"""

from __future__ import annotations

import importlib
import runpy
import sys

from bnexport.cli import process
from bnexport.errors import Error, nearest

COMMANDS = ("freeze", "inspect", "repair", "transform", "validate")
_HELP = ("--help", "--helpfull", "--helpshort", "-h", "-help", "help")


def main() -> None:
  """Runs the command that the first argument names; exits with its status."""
  name = sys.argv[1] if sys.argv[1:] else ""
  if name in _HELP:
    print(usage())
  elif name not in COMMANDS:
    sys.exit(process.fail(_refusal(name)))
  else:
    del sys.argv[1]
    # As the main module: absl prints the flags and the docstring of that one,
    # and the processes that it starts import it again by its name.
    runpy.run_module(f"bnexport.{name}", run_name="__main__", alter_sys=True)


def _refusal(name: str) -> Error:
  known = f"the commands are {', '.join(COMMANDS)}"
  if not name:
    return Error("run bnexport", "no command is named", known)
  fact = "there is no such command"
  return Error(f"run '{name}'", fact, nearest(name, COMMANDS, known))


def usage() -> str:
  """The commands, a line each."""
  lines = ["bnexport COMMAND [--flags]", ""]
  for name in COMMANDS:
    page = importlib.import_module(f"bnexport.{name}").__doc__ or ""
    lines.append(f"  {name:9}  {page.splitlines()[0]}")
  lines += ["", "bnexport COMMAND --help tells the flags of one."]
  return "\n".join(lines)


if __name__ == "__main__":
  main()
