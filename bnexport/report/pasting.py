# SPDX-License-Identifier: Apache-2.0
"""Lines of an answer on a terminal, and commands in it that can be pasted."""

from __future__ import annotations

import shlex
from typing import List, NamedTuple, Sequence

from bnexport.errors import printable
from bnexport.report.layout import WIDTH, size_of
from bnexport.tf1 import tf1


class Way(NamedTuple):
  """A deed in a few words, and its command."""

  deed: str
  command: str


def lines_of(ways: Sequence[Way]) -> List[str]:
  lines: List[str] = []
  for deed, command in ways:
    lines += ["", f"{deed}:", *_broken(command)]
  return lines


def _broken(command: str) -> List[str]:
  """A command in lines that a shell joins."""
  words = [printable(shlex.quote(w), False) for w in shlex.split(command)]
  lines, line = [], "  " + " ".join(words[:3])
  for word in words[3:]:
    if len(line) + len(word) + 3 > WIDTH:
      lines.append(line + " \\")
      line = "   "
    line += f" {word}"
  return [*lines, line]


def cut(line: str) -> str:
  line = printable(line)
  return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def run(name: str, **flags: str) -> str:
  words = [f"--{flag}={value}" for flag, value in flags.items() if value]
  return " ".join([f"python -m bnexport.{name}", *map(shlex.quote, words)])


def heading(path: str, what: str, *facts: str) -> str:
  size = ""
  if not tf1.gfile.IsDirectory(path) and tf1.gfile.Exists(path):
    size = size_of(tf1.gfile.Stat(path).length)
  return f"{path}: {', '.join(filter(None, (what, size, *facts)))}"
