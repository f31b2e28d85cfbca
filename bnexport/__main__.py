# SPDX-License-Identifier: Apache-2.0
"""The five commands as one: `python -m bnexport freeze ...`, or `bnexport`.

A command runs exactly as `python -m bnexport.COMMAND` runs it, with its own
flags, help and exit status. `bnexport FILE_OR_DIR` says what that is, and which
command is for it: status 0 where it is something, 3 where not.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from typing import Sequence

from bnexport.cli import process
from bnexport.errors import Error, SourceError, near, nearest

COMMANDS = ("freeze", "inspect", "repair", "transform", "validate")
_HELP = ("--help", "--helpfull", "--helpshort", "-h", "-help", "help")


def main() -> None:
  """Runs the command that the first argument names; exits with its status."""
  name = sys.argv[1] if sys.argv[1:] else ""
  if name in _HELP:
    print(usage())
  elif name not in COMMANDS:
    sys.exit(process.answer(lambda: _look(sys.argv[1:]), sys.argv[0]))
  else:
    del sys.argv[1]
    # As the main module: absl prints the flags and the docstring of that one,
    # and the processes that it starts import it again by its name.
    runpy.run_module(f"bnexport.{name}", run_name="__main__", alter_sys=True)


def _look(arguments: Sequence[str]) -> None:
  """Prints what a path leads to.

  Raises:
    Error: it is not one path, or leads to nothing of a model.
  """
  name = arguments[0] if arguments else ""
  if not name or name.startswith("-"):
    raise _refusal(name)
  from bnexport.report import guide
  from bnexport.sources import identity

  try:
    identity.identify(name)
  except SourceError:
    # With flags behind it, a command was meant.
    if arguments[1:] or (os.sep not in name and near(name, COMMANDS)):
      raise _refusal(name) from None
    raise
  if arguments[1:]:
    raise SourceError(
      f"look at '{name}'",
      "there is more than one argument",
      "give one file or directory, or begin with a command: "
      f"{', '.join(COMMANDS)}",
    )
  print(guide.guide(name))


def _refusal(name: str) -> Error:
  known = f"the commands are {', '.join(COMMANDS)}"
  if not name:
    return Error("run bnexport", "no command is named", known)
  fact = "there is no such command or file"
  return Error(f"run '{name}'", fact, nearest(name, COMMANDS, known))


def usage() -> str:
  """The commands, a line each."""
  lines = ["bnexport COMMAND [--flags]", ""]
  for name in COMMANDS:
    page = importlib.import_module(f"bnexport.{name}").__doc__ or ""
    lines.append(f"  {name:9}  {page.splitlines()[0]}")
  lines += [
    "",
    "bnexport COMMAND --help tells the flags of one,",
    "bnexport FILE_OR_DIR what that is and what to do with it.",
  ]
  return "\n".join(lines)


if __name__ == "__main__":
  main()
