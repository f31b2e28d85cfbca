# SPDX-License-Identifier: Apache-2.0
"""Shared by all tests: paths, quiet TensorFlow, the zoo."""

import collections
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

# The oldest TensorFlow takes other parts of a sweep than the others.
IS_OLDEST = sys.version_info < (3, 8)
MARKS = (
  "part(count, which=0, oldest=count): one case of `count` is run, in strides",
  "newest(why): run on new TensorFlow only",
)


def pytest_addoption(parser):
  parser.addoption(
    "--whole",
    action="store_true",
    help="run all of the sweeps, and everything on each TensorFlow",
  )


def pytest_configure(config):
  for line in MARKS:
    config.addinivalue_line("markers", line)


def pytest_collection_modifyitems(config, items):
  """Thins the sweeps, but for what is asked for by its whole name."""
  if config.getoption("whole"):
    return
  asked, functions = set(config.args), collections.defaultdict(list)
  for item in items:
    functions[item.nodeid.partition("[")[0]].append(item)
  left = []
  for these in functions.values():
    taken = _taken(these)
    for place, item in enumerate(these):
      if place not in taken and not _is_asked(item, asked):
        left.append(item)
  config.hook.pytest_deselected(items=left)
  left = set(left)
  items[:] = [item for item in items if item not in left]
  for item in items:
    _skip_on_the_oldest(item, asked)


def _taken(items):
  """Places of a function's cases that are run."""
  from judges import sampling

  part = items[0].get_closest_marker("part")
  if part:
    return sampling.stride(len(items), *_stride(*part.args, **part.kwargs))
  return range(len(items))


def _stride(count, which=0, oldest=None):
  """How far apart cases are, and the first: others on the oldest TensorFlow."""
  if IS_OLDEST:
    count = oldest or count
    which += count // 2
  return count, which


def _is_asked(item, asked):
  return any(name.endswith(item.nodeid) for name in asked)


def _skip_on_the_oldest(item, asked):
  mark = item.get_closest_marker("newest")
  if IS_OLDEST and mark and not _is_asked(item, asked):
    why = f"on new TensorFlow only: {mark.args[0]}"
    item.add_marker(pytest.mark.skip(why))


@pytest.fixture(scope="session")
def part(request):
  """What the mark `part` is to cases, to names that one test goes over."""
  from judges import sampling

  def taken(names, *how, **others):
    if request.config.getoption("whole"):
      return list(names)
    places = sampling.stride(len(names), *_stride(*how, **others))
    return [names[place] for place in places]

  return taken


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
