# SPDX-License-Identifier: Apache-2.0
"""What bnexport/README.md says of how the package is built is so."""

import importlib
import os
import re

import pytest
from judges.commands import ROOT
from test_architecture import COMMANDS, ROOMS

with open(os.path.join(ROOT, "bnexport", "README.md")) as _file:
  GUIDE = _file.read()
# Rooms that are built by now are taken out here.
NOT_YET = set()


def paths(text):
  """Paths in backticks: with a slash or a file's extension."""
  quoted = re.findall(r"`([^`\s]+)`", text)
  kinds = re.compile(r".*/.*|.*\.(py|md|cfg|json)")
  return sorted({name for name in quoted if kinds.fullmatch(name)})


def names(text):
  """Dotted names that begin with a room or with the package."""
  rooms = "|".join(("bnexport", *ROOMS))
  found = set(re.findall(rf"(?<![\w/.-])(?:{rooms})(?:\.\w+)+", text))
  return sorted(name for name in found if not name.endswith((".py", ".md")))


def is_there(path):
  """Whether a path leads to a file, or to a folder if it ends in a slash."""
  of_project = path.startswith(("tests/", "scripts/", "setup."))
  full = os.path.join(ROOT, "" if of_project else "bnexport", path)
  return os.path.isdir(full) if path.endswith("/") else os.path.isfile(full)


def resolved(name):
  """The object of a dotted name.

  Raises:
    AttributeError: there is none.
  """
  parts = name.split(".")
  parts = parts if parts[0] == "bnexport" else ["bnexport", *parts]
  found = importlib.import_module(parts[0])
  for i, part in enumerate(parts[1:], 2):
    if not hasattr(found, part):
      importlib.import_module(".".join(parts[:i]))
    found = getattr(found, part)
  return found


@pytest.mark.parametrize("path", paths(GUIDE))
def test_path_is_there(path):
  assert is_there(path) or path in NOT_YET


@pytest.mark.parametrize("name", names(GUIDE))
def test_name_is_there(name):
  assert resolved(name) is not None


def test_what_is_not_there_is_noticed():
  guide = "`graph/graf.py`, `tests/zoo/`, graph.Graf and `graph/` of text.loads"
  assert [is_there(path) for path in paths(guide)] == [True, False, True]
  assert names(guide) == ["graph.Graf", "text.loads"]
  with pytest.raises(ImportError):
    resolved("graph.Graf")
  assert len(paths(GUIDE)) > 30
  assert len(names(GUIDE)) > 15


def test_rooms_are_told_in_their_order():
  table = GUIDE[GUIDE.index("## Rooms") : GUIDE.index("## Nouns")]
  rows = re.findall(r"^\| (`.*?) \|", table, re.M)
  rooms = re.findall(r"`(\w+)(?:/|\.py)`", " ".join(rows))
  assert [room for room in rooms if room not in COMMANDS] == [
    *ROOMS,
    "__main__",
  ]
