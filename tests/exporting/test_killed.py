# SPDX-License-Identifier: Apache-2.0
"""Processes that are killed as they write: the old file, or the new one whole."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from bnexport.exporting import writing

OLD, NEW = b"old" * 5000, b"new" * 700000
TIMES = 20


def write_for_ever(path):
  """Writes old and new in turn, until somebody ends the process."""
  while True:
    for data in (NEW, OLD):
      pieces = (data[i : i + 4096] for i in range(0, len(data), 4096))
      with writing.whole_file(path, pieces):
        pass


def written(path, data):
  with writing.whole_file(path, [data]):
    pass


def killed(work, seconds, how):
  """Ends a process that does some work, after so many seconds."""
  child = os.fork()
  if not child:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
      work()
    finally:
      writing.remove_parts()  # as commands do: it may come amid removing
      os._exit(1)
  time.sleep(seconds)
  os.kill(child, how)
  os.waitpid(child, 0)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_lost(tmp_path, how):
  path, draw = str(tmp_path / "out"), random.Random(7)
  written(path, OLD)
  for _ in range(TIMES):
    killed(lambda: write_for_ever(path), draw.uniform(0, 0.05), how)
    with open(path, "rb") as f:
      assert f.read() in (OLD, NEW)
    others = [name for name in os.listdir(str(tmp_path)) if name != "out"]
    assert len(others) <= 1
    assert how == signal.SIGKILL or not others
  killed(lambda: written(path, NEW), 2, signal.SIGKILL)
  assert os.listdir(str(tmp_path)) == ["out"]


def test_two_writers_leave_one_whole_file(tmp_path):
  path = str(tmp_path / "out")
  written(path, OLD)
  other = os.fork()
  if not other:
    write_for_ever(path)
  try:
    for _ in range(TIMES):
      written(path, NEW)
      with open(path, "rb") as f:
        assert f.read() in (OLD, NEW)
  finally:
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
