# SPDX-License-Identifier: Apache-2.0
"""Runs one test file, as the targets in BUILD do."""

import sys

import pytest

if __name__ == "__main__":
  sys.exit(pytest.main(sys.argv[1:]))
