# SPDX-License-Identifier: Apache-2.0
r"""Transforms as text: `name(param=value, param="quo,ted \"value\"") name2`.

This is what the Graph Transform Tool's --transforms took, and:

- Transforms stand next to each other; blanks and line ends between parts are
  free, and a backslash may stand at the end of a line.
- A comma between parameters may be left out.
- A value is bare where it has letters, digits and `_./:*?+-` only, else in
  double or single quotes. `\"`, `\'` and `\\` in quotes mean the character.
- A parameter that takes several values is repeated: `op=Identity, op=Cast`.
- `ignore_errors` may be given to every transform and changes nothing: what a
  transform can't do it refuses before the graph is touched.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Dict, List, NamedTuple, NoReturn

from bnexport.errors import TransformError

_BLANK = re.compile(r"(?:\s|\\\r?\n)*")
_WORD = re.compile(r"[A-Za-z0-9_]+")
_BARE = re.compile(r"[A-Za-z0-9_./:*?+-]+")
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'", re.S)
_ESCAPED = re.compile(r"\\([\"'\\])")


class Value(NamedTuple):
  """A parameter's value as it is written, and where in the text it stands."""

  text: str
  at: int


@dataclasses.dataclass
class Call:
  """One transform as it is written."""

  name: str
  at: int
  parameters: Dict[str, List[Value]] = dataclasses.field(default_factory=dict)
  places: Dict[str, int] = dataclasses.field(default_factory=dict)


def read(text: str) -> List[Call]:
  """Reads a list of transforms; which there are is not looked at.

  Raises:
    TransformError: the text is no such list; the message says where.
  """
  return _Reader(text).calls()


def refuse(text: str, at: int, fact: str, way: str) -> NoReturn:
  """Raises TransformError about a place in a text.

  Args:
    text: the whole text.
    at: index of the character.
    fact: what is wrong there.
    way: what to do, or a list of offers from `nearest`.
  """
  line = text.count("\n", 0, at) + 1
  column = at - text.rfind("\n", 0, at)
  where = f"column {column}"
  if "\n" in text.strip():
    where = f"line {line}, {where}"
  raise TransformError(
    f"read the transforms at {where}",
    fact,
    way,
  )


def spelled(text: str) -> str:
  """A value as a text writes it: bare where it can be, else in quotes."""
  if _BARE.fullmatch(text):
    return text
  return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"')


class _Reader:
  """A text and a place in it."""

  def __init__(self, text):
    self._text = text
    self._at = 0

  def calls(self):
    found = []
    self._skip_blanks()
    while self._at < len(self._text):
      found.append(self._call())
      self._skip_blanks()
    return found

  def _call(self):
    at = self._at
    call = Call(self._word("a transform's name"), at)
    self._skip_blanks()
    opened = self._at
    if not self._take("("):
      return call
    self._skip_blanks()
    while not self._take(")"):
      self._refuse_end(f"'(' of '{call.name}' is not closed", opened)
      if call.parameters and self._take(","):
        self._skip_blanks()
      self._parameter(call)
      self._skip_blanks()
    return call

  def _parameter(self, call):
    at = self._at
    key = self._word("a parameter's name or ')'")
    self._skip_blanks()
    if not self._take("="):
      self._refuse("'=' and a value")
    self._skip_blanks()
    start = self._at
    call.parameters.setdefault(key, []).append(Value(self._value(), start))
    call.places.setdefault(key, at)

  def _value(self):
    start = self._at
    quoted = _QUOTED.match(self._text, start)
    if quoted:
      self._at = quoted.end()
      inner = quoted.group(1) if quoted.group(2) is None else quoted.group(2)
      return _ESCAPED.sub(r"\1", inner)
    if self._text[start : start + 1] in ('"', "'"):
      refuse(self._text, start, "the quote is not closed", "close it")
    bare = _BARE.match(self._text, start)
    if not bare:
      self._refuse("a value; other characters go in double quotes")
    self._at = bare.end()
    return bare.group()

  def _skip_blanks(self):
    self._at = _BLANK.match(self._text, self._at).end()

  def _take(self, character):
    if self._text.startswith(character, self._at):
      self._at += 1
      return True
    return False

  def _word(self, what):
    match = _WORD.match(self._text, self._at)
    if not match:
      self._refuse(what)
    self._at = match.end()
    return match.group()

  def _refuse_end(self, fact, at):
    if self._at >= len(self._text):
      refuse(self._text, at, fact, "write ')' behind the last parameter")

  def _refuse(self, wanted):
    there = self._text[self._at : self._at + 1]
    fact = f"there is '{there}'" if there else "the text ends"
    refuse(self._text, self._at, fact, f"write {wanted} there")
