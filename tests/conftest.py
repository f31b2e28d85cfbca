# SPDX-License-Identifier: Apache-2.0
"""Shared by all tests: paths, quiet TensorFlow, the zoo."""

import functools
import multiprocessing
import os
import signal
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if ROOT not in sys.path:
  sys.path.insert(0, ROOT)
# Read when TensorFlow is imported, here and in the processes started here.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The kernels of oneDNN round by what the CPU has, eight-bit ones by much, and
# its Conv2D gives empty batches as many channels as it takes.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# A shell's background job ignores it, and so would every process started here.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cases(tmp_path_factory):
  """Loads zoo cases by name, each unpacked once."""
  import zoo

  folder = str(tmp_path_factory.mktemp("zoo"))
  loaded = {}

  def load(name):
    if name not in loaded:
      loaded[name] = zoo.load(name, folder)
    return loaded[name]

  return load


@pytest.fixture(scope="session")
def exports(cases):
  """Exports zoo cases by name; who edits one takes a clone.

  The latest are kept. Each holds its weights, and its checkpoint open where
  TensorFlow reads that.
  """
  from judges.exporting import export

  return functools.lru_cache(maxsize=64)(lambda name: export(cases(name)))


@pytest.fixture
def prefix(case, tmp_path):
  """A copy of a file's `case` in an own directory; its checkpoint's prefix."""
  from judges.commands import copy_of

  folder = tmp_path / "run"
  folder.mkdir()
  return copy_of(case, folder)


@pytest.fixture
def forked_workers(monkeypatch):
  """Lets worker processes be forks of one that has TensorFlow.

  They are spawned otherwise, and import it one by one.
  """
  monkeypatch.setenv("PYTHONPATH", ROOT)
  context = multiprocessing.get_context("forkserver")
  context.set_forkserver_preload(["bnexport.tf1.full"])
  monkeypatch.setattr(multiprocessing, "get_context", lambda method: context)
