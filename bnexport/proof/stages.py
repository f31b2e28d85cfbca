# SPDX-License-Identifier: Apache-2.0
"""How far the long loops of a proof are, for whoever shows it."""

from __future__ import annotations

import contextlib
from typing import Callable, Iterable, Iterator, List, Optional, TypeVar

T = TypeVar("T")

# Called with what is done, how often it was done, and how often it will be.
Listener = Callable[[str, int, int], None]
_LISTENERS: List[Listener] = []


@contextlib.contextmanager
def told_to(listener: Listener) -> Iterator[None]:
  """Has a listener told of the loops that run in the block."""
  _LISTENERS.append(listener)
  try:
    yield
  finally:
    _LISTENERS.remove(listener)


def each(
  what: str, items: Iterable[T], total: Optional[int] = None
) -> Iterator[T]:
  """Yields items, and tells how many of them are done.

  However the loop ends, it is told to be done.

  Args:
    what: what is done to each.
    items: a list, or any items of which the number is given.
    total: that number; None where the items are a list.
  """
  if total is None:
    items = list(items)
    total = len(items)
  try:
    for done, item in enumerate(items):
      _tell(what, done, total)
      yield item
  finally:
    _tell(what, total, total)


def _tell(what: str, done: int, total: int) -> None:
  for listener in _LISTENERS:
    listener(what, done, total)
