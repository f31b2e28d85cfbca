# SPDX-License-Identifier: Apache-2.0
"""Runs the command; see compatibility.command."""

import sys

if __name__ == "__main__":
  # Only here: processes that are spawned read this file as well, and are to
  # have no TensorFlow where what they ask is another program.
  from compatibility import command

  sys.exit(command.main())
