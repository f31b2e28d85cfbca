# SPDX-License-Identifier: Apache-2.0
"""Runs the command; see fuzzing.command."""

import sys

from fuzzing import command

if __name__ == "__main__":
  sys.exit(command.main())
