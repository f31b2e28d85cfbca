# SPDX-License-Identifier: Apache-2.0
"""Lines of a report: how wide they are, and what is emphasized in them."""

from __future__ import annotations

import re
from typing import Any, Iterable, List, NamedTuple, Sequence

# Columns of a line where no terminal says otherwise.
WIDTH = 100
# Lines of a report that is not asked for in full.
HEIGHT = 40

# What is emphasized, as far as whoever shows it can.
GOOD, DOUBTFUL, BAD, TITLE = "good", "doubtful", "bad", "title"

_ALL = "--verbose shows all"
_INDENT = "  "
# A word of a command, as a shell reads it.
_ARGUMENT = re.compile(r"(?:'[^']*'|\"[^\"]*\"|\S)+")
# A name in quotes, or what is neither a path nor a flag.
_NAME = re.compile(r"\W*'[^'\s]*'\W*|(?!--)[^/]*")
_COMMAND = "python -m "


class Line(str):
  """A line, and what emphasizes it.

  Attributes:
    style: one of GOOD, DOUBTFUL, BAD and TITLE, or nothing.
  """

  style: str

  def __new__(cls, text: str, style: str = "") -> Line:
    made = super().__new__(cls, text)
    made.style = style
    return made


def wrapped(
  text: str, width: int = WIDTH, start: str = "", style: str = ""
) -> List[Line]:
  """A text as lines; those after the first are indented.

  Names and other words are cut to fit on a line; a path or a flag, which are to
  be copied, may be longer than that.

  Args:
    text: one line of any length.
    width: columns that a line has, with those of an indentation.
    start: stands ahead of the first line.
    style: of all lines.
  """
  is_command = text.startswith(_COMMAND)
  room = width - len(start) - (4 if is_command else 2)
  made: List[str] = []
  line = ""
  for word in _ARGUMENT.findall(text) if is_command else text.split():
    if len(word) > room and _NAME.fullmatch(word):
      word = shortened(word, room)
    if line and len(line) + 1 + len(word) > room + (not made) * 2:
      made.append(line)
      line = ""
    line += " " * bool(line) + word
  made.append(line)
  behind = " " * len(start) + _INDENT
  if is_command:  # so that it can be pasted
    made[:-1] = [part + " \\" for part in made[:-1]]
  return [Line((behind if i else start) + m, style) for i, m in enumerate(made)]


def shortened(text: str, most: int) -> str:
  """A text without its middle, where it is too long."""
  if len(text) <= most:
    return text
  left = max(0, most - 3)
  return text[: left - left // 2] + "..." + text[len(text) - left // 2 :]


class Section(NamedTuple):
  """A part of a report that may be cut.

  Attributes:
    title: its heading.
    entries: the lines of each of its entries.
    counts: how much each entry stands for; none for one each.
    least: how many entries stay as long as other sections have more.
    rank: sections of a higher one are cut below that after others; one below 0
      may lose all of its entries.
    most: how many entries are shown, however much room there is.
  """

  title: str
  entries: List[List[Line]]
  counts: Sequence[int] = ()
  least: int = 3
  rank: int = 0
  most: int = 16

  def lines(self, count: int) -> List[Line]:
    """The heading and the first entries; nothing where there is no entry."""
    if not self.entries:
      return []
    if not count:
      return [Line(""), Line(self.title, TITLE)]
    shown = self.entries[:count]
    left = len(self.entries) - count
    if left > 0:
      counts = self.counts[count:]
      shown = [*shown, more(sum(counts) if counts else left)]
    inner = [
      Line(_INDENT + line, line.style) for entry in shown for line in entry
    ]
    return [Line(""), Line(self.title, TITLE), *inner]


def more(count: int) -> List[Line]:
  """The entry that says how much is not shown."""
  return [Line(f"and {count} more; {_ALL}")]


def fitted(
  head: Sequence[Line], sections: Sequence[Section], height: int = HEIGHT
) -> List[Line]:
  """A report that has no more lines than a height, if it can.

  Entries go where the most lines are, and one of most sections stays.
  """
  shown = [min(len(s.entries), s.most) for s in sections]
  while True:
    parts = [s.lines(count) for s, count in zip(sections, shown)]
    ranks = [
      (
        count > section.least,
        count > (section.rank >= 0),
        -section.rank,
        len(p),
      )
      for count, section, p in zip(shown, sections, parts)
    ]
    worst = max(ranks, default=(False, False, 0, 0))
    if len(head) + sum(map(len, parts)) <= height or not worst[1]:
      return [*head, *(line for part in parts for line in part)]
    shown[ranks.index(worst)] -= 1


def columns(rows: Iterable[Sequence[Any]]) -> List[str]:
  """Rows of cells as lines whose columns stand below each other.

  Columns without any text are left out.
  """
  cells = [[str(cell) for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*cells)]
  return [
    "  ".join(
      cell.ljust(width) for cell, width in zip(row, widths) if width
    ).rstrip()
    for row in cells
  ]


def table(
  rows: Iterable[Sequence[Any]], width: int = WIDTH, styles: Sequence[str] = ()
) -> List[Line]:
  """The same, with cells of the first column cut so that all lines fit."""
  cells = [[str(cell) for cell in row] for row in rows]
  others = columns([row[1:] for row in cells])
  room = max(8, width - 2 - max(map(len, others), default=0))
  first = [shortened(row[0], room) for row in cells]
  made = columns([[name, rest] for name, rest in zip(first, others)])
  styles = styles or [""] * len(made)
  return [Line(line, style) for line, style in zip(made, styles)]


def size_of(count: float) -> str:
  """Bytes as a person says them."""
  units = ["GB", "MB", "KB", "bytes"]
  while count >= 1000 and len(units) > 1:
    count /= 1000.0
    units.pop()
  return f"{count:.3g} {units[-1]}"


def shape_of(sizes: Sequence[Any]) -> str:
  """A shape of plain values; None is unknown, of a size or of all."""
  if sizes is None:
    return "unknown shape"
  return f"[{', '.join('?' if size is None else str(size) for size in sizes)}]"
