# SPDX-License-Identifier: Apache-2.0
"""The five commands as one: `python -m bnexport freeze ...`, or `bnexport`."""

from __future__ import annotations

import importlib
import sys

_COMMANDS = ("freeze", "inspect", "repair", "transform", "validate")


def main():
  """Runs the command that the first argument names."""
  name = sys.argv[1] if len(sys.argv) > 1 else None
  if name not in _COMMANDS:
    usage = f"bnexport {{{','.join(_COMMANDS)}}} [--flags]"
    if name in ("--help", "-h", "help"):
      print(f"{usage}\n\nbnexport COMMAND --help tells the flags of each.")
      return
    asked = "no command is named" if name is None else f"no command '{name}'"
    print(
      f"bnexport: cannot run: {asked}; run {usage}",
      file=sys.stderr,
    )
    sys.exit(3)
  del sys.argv[1]
  module = importlib.import_module(f"bnexport.{name}")
  from bnexport import cli

  cli.run(module.main)


if __name__ == "__main__":
  main()
