# SPDX-License-Identifier: Apache-2.0
"""Long lists as few groups: facts whose names, or lines whose words, are alike.

  >>> names = [f"net/block{i}/{part}/norm" for i in (1, 2) for part in "ab"]
  >>> [(str(group), len(group.items)) for group in groups(names, most=2)]
  [('net/block*/a/norm', 2), ('net/block*/b/norm', 2)]
  >>> [(str(group), len(group.items)) for group in groups(names, most=1)]
  [('net/block*/*/norm', 4)]
  >>> lines([f"folded '{name}' (8 channels)" for name in names], most=1)
  [("folded 'net/block*/*/norm' (8 channels) (4 alike)", 4)]

Cost is linear in the characters of the names.
"""

from __future__ import annotations

import re
from typing import (
  Any,
  Callable,
  Dict,
  Hashable,
  Iterable,
  List,
  NamedTuple,
  Sequence,
  Tuple,
)

ANY, BETWEEN = "*", "..."

# Digits, and a letter of a list behind them, as in res2a_branch2b.
_NUMBER = re.compile(r"\d+(?:[a-z](?![a-zA-Z]))?")
# What TensorFlow puts behind a name that is taken; the first has nothing.
_TAKEN = re.compile(r"_\d+$")
_WORD = re.compile(r"([_.\-])")
# A scope that is deeper is one part below this.
_MOST_PARTS = 12

# A name in quotes, or a number that stands by itself.
_SLOT = re.compile(r"'[^'\s]+'|(?<![\w.])-?\d+(?:\.\d+)*(?:e[+-]?\d+)?(?!\w)")


class Group(NamedTuple):
  """Items that are alike, in their order.

  Attributes:
    names: of the items, in their order.
    items: the items themselves.
  """

  names: List[str]
  items: List[Any]

  def __str__(self) -> str:
    """A pattern that fits all of the names, or the only one."""
    return pattern(self.names)


def itself(item: Any) -> Any:
  return item


def nothing(item: Any) -> Hashable:
  return None


def groups(
  items: Iterable[Any],
  most: int,
  name: Callable[[Any], str] = itself,
  kind: Callable[[Any], Hashable] = nothing,
) -> List[Group]:
  """Groups items by their names, as finely as a number of groups allows.

  Each is by itself where that many are allowed. Else names are alike that
  differ in numbers; then those that differ in one part of their scopes as well,
  or in all below some depth; then all of a kind.

  Args:
    items: in their order.
    most: how many groups there are at most, if there are no more kinds.
    name: gives an item's name, with parts between slashes.
    kind: tells apart items that are never in one group.

  Returns:
    Groups in the order of their first items.
  """
  items = list(items)
  if len(items) <= most:
    return [Group([name(item)], [item]) for item in items]
  keys: List[Any] = [
    (kind(item), tuple(map(_key, _parts(name(item))))) for item in items
  ]
  if len(set(keys)) > most:
    keys = list(map(_coarser(dict.fromkeys(keys), most), keys))
  found: Dict[Hashable, List[Any]] = {}
  for key, item in zip(keys, items):
    found.setdefault(key, []).append(item)
  return [Group(list(map(name, one)), one) for one in found.values()]


def _coarser(keys: Iterable[Tuple], most: int) -> Callable[[Tuple], Hashable]:
  """The way to look at keys under which they are most, and few enough."""
  best, count = _ways()[-1], 0
  for way in _ways():
    seen = set()
    for key in keys:
      seen.add(way(key))
      if len(seen) > most:
        break
    else:
      if len(seen) > count:
        best, count = way, len(seen)
  return best


def _ways() -> List[Callable[[Tuple], Hashable]]:
  """Ways to look at a key, the one that leaves only its kind last."""

  def without(i: int) -> Callable[[Tuple], Hashable]:
    return lambda key: (key[0], len(key[1]), key[1][:i] + key[1][i + 1 :])

  def above(depth: int) -> Callable[[Tuple], Hashable]:
    return lambda key: (key[0], key[1][:depth])

  return [
    *map(without, range(_MOST_PARTS)),
    *map(above, range(_MOST_PARTS - 1, -1, -1)),
  ]


# Patterns.


def pattern(names: Sequence[str]) -> str:
  """The text that all names have, with `*` and `...` for what they differ in.

  `*` stands for a number, a word or a part of a scope, `...` for several parts
  or none.
  """
  rows = [_parts(name) for name in names]
  shortest = min(map(len, rows))
  if all(len(row) == shortest for row in rows):
    return "/".join(map(_fitting, zip(*rows)))
  start = _in_common(rows, shortest)
  end = _in_common([row[::-1] for row in rows], shortest - start)
  left = [_fitting([row[i] for row in rows]) for i in range(start)]
  right = [_fitting([row[-i] for row in rows]) for i in range(end, 0, -1)]
  return "/".join([*left, BETWEEN, *right])


def _parts(name: str) -> List[str]:
  return name.split("/", _MOST_PARTS - 1)


def _in_common(rows: Sequence[Sequence[str]], most: int) -> int:
  """How many parts all rows begin with, but for their numbers."""
  for i in range(most):
    if len({_key(row[i]) for row in rows}) > 1:
      return i
  return most


def _key(part: str) -> str:
  """A part without its numbers."""
  return _NUMBER.sub("\0", _TAKEN.sub("", part))


def _fitting(parts: Sequence[str]) -> str:
  """The pattern of one part of names."""
  if len(set(parts)) == 1:
    return parts[0]
  if len({_key(part) for part in parts}) > 1:
    return _by_words(parts)
  stems = [_TAKEN.sub("", part) for part in parts]
  ends = {part[len(stem) :] for part, stem in zip(parts, stems)}
  numbers = iter([set(column) for column in zip(*map(_NUMBER.findall, stems))])

  def number(_: Any) -> str:
    there = next(numbers)
    return there.pop() if len(there) == 1 else ANY

  stem = _NUMBER.sub(number, stems[0])
  if len(ends) == 1:
    return stem + ends.pop()
  return stem + (ANY if "" in ends else "_" + ANY)


def _by_words(parts: Sequence[str]) -> str:
  """The words that parts begin and end with, and `*` between them."""
  rows = [_WORD.split(part) for part in parts]
  most = min(map(len, rows)) - 1
  start = _in_common(rows, most)
  end = _in_common([row[::-1] for row in rows], most - start)
  words = list(zip(*[row[:start] for row in rows]))
  tail = list(zip(*[row[len(row) - end :] for row in rows]))
  return "".join([*map(_fitting, words), ANY, *map(_fitting, tail)])


# Lines.


def lines(
  items: Iterable[Any],
  most: int,
  text: Callable[[Any], str] = itself,
  kind: Callable[[Any], Hashable] = nothing,
) -> List[Tuple[str, int]]:
  """Lines that say the same of other names and numbers, each said once.

  Args:
    items: lines, or what lines are made of.
    most: how many lines there are at most, if there are no more kinds.
    text: gives an item's line, which names things in single quotes.
    kind: tells apart items that are never in one line, beside their words.

  Returns:
    Lines in the order of the first of each, and how many items each is for.
  """
  found = groups(
    items,
    most,
    lambda item: _first_name(text(item)),
    lambda item: (kind(item), _words(text(item))),
  )
  return [
    (_line([text(item) for item in group.items]), len(group.items))
    for group in found
  ]


def _words(text: str) -> str:
  """A text without its names and numbers."""
  return _SLOT.sub(lambda slot: "''" if slot.group()[0] == "'" else "0", text)


def _first_name(text: str) -> str:
  for found in _SLOT.findall(text):
    if found.startswith("'"):
      return found[1:-1]
  return ""


def _line(texts: Sequence[str]) -> str:
  """What texts with the same words say, and how many they are."""
  if len(texts) == 1:
    return texts[0]
  slots = iter([_slot(column) for column in zip(*map(_SLOT.findall, texts))])
  said = _SLOT.sub(lambda _: next(slots), texts[0])
  return f"{said} ({len(texts)} alike)"


def _slot(values: Sequence[str]) -> str:
  """A name or number of alike texts: the pattern, or the range."""
  if len(set(values)) == 1:
    return values[0]
  if values[0].startswith("'"):
    return f"'{pattern([value[1:-1] for value in values])}'"
  numbers = [value for value in values if value.count(".") < 2]
  if len(numbers) < len(values):
    return ANY
  return f"{min(numbers, key=float)} to {max(numbers, key=float)}"
