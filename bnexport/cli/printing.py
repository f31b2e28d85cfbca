# SPDX-License-Identifier: Apache-2.0
"""Reports on stdout: in colours where that is a terminal, plain elsewhere."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from typing import Callable, Sequence

from bnexport import cli
from bnexport.report.layout import BAD, DOUBTFUL, GOOD, TITLE, WIDTH, Line

# Narrower terminals wrap lines by themselves.
_NARROWEST = 60
# Colours that can be read on light and on dark ground.
_STYLES = {
  GOOD: "bold green",
  DOUBTFUL: "yellow",
  BAD: "bold red",
  TITLE: "bold",
}


def show(
  short: Callable[[int], Sequence[Line]], full: Callable[[], str]
) -> None:
  """Prints a report: in short, or in full where --verbose says so.

  Args:
    short: makes its Lines of a width.
    full: makes all of its text.
  """
  if cli.VERBOSE.value:
    print(full())
    return
  lines = short(_width())
  if not _is_coloured():
    print("\n".join(lines))
    return
  from rich.console import Console
  from rich.text import Text

  console = Console(highlight=False, soft_wrap=True)
  for line in lines:
    console.print(Text(line, style=_STYLES.get(line.style, "")))


def _width() -> int:
  """The terminal's columns; what is no terminal has WIDTH."""
  if not sys.stdout.isatty():
    return WIDTH
  return max(_NARROWEST, shutil.get_terminal_size((WIDTH, 24)).columns)


def _is_coloured() -> bool:
  """Whether stdout is a terminal that has colours, and may be given them."""
  return (
    sys.stdout.isatty()
    and not os.environ.get("NO_COLOR")  # see no-color.org
    and os.environ.get("TERM") != "dumb"
    and importlib.util.find_spec("rich") is not None
  )
