# SPDX-License-Identifier: Apache-2.0
"""Colocation: the nodes named in `_class`, as `loc:@NAME`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, Iterable, List, Optional

if TYPE_CHECKING:  # importing TensorFlow takes seconds
  from bnexport.tf1 import tf1

_PREFIX = b"loc:@"


def move(node: tf1.NodeDef, name_of: Callable[[str], Optional[str]]) -> None:
  """Renames or drops the nodes that a node is colocated with.

  Args:
    node: a NodeDef.
    name_of: gives the name from now on of a name until now, or None where the
      node is placed without it from now on.
  """
  if "_class" not in node.attr:
    return
  old = list(node.attr["_class"].list.s)
  new = []
  for text in old:
    if text.startswith(_PREFIX):
      name = name_of(text[len(_PREFIX) :].decode())
      text = None if name is None else _PREFIX + name.encode()
    if text is not None:
      new.append(text)
  if not new:
    del node.attr["_class"]
  elif new != old:
    node.attr["_class"].list.s[:] = new


class Placements:
  """Names of nodes by the names that they are placed with.

  A node whose `_class` was deleted in place may still be listed.
  """

  def __init__(self) -> None:
    self._placed: Dict[str, Dict[str, None]] = {}

  def note(self, node: tf1.NodeDef) -> None:
    for name in _partners(node):
      self._placed.setdefault(name, {})[node.name] = None

  def forget(self, node: tf1.NodeDef) -> None:
    for name in _partners(node):
      placed = self._placed.get(name, {})
      placed.pop(node.name, None)
      if not placed:
        self._placed.pop(name, None)

  def partners(self) -> List[str]:
    """Names that nodes are placed with, whether or not they are there."""
    return list(self._placed)

  def placed_with(self, names: Iterable[str]) -> Dict[str, None]:
    """Names of the nodes that are placed with one of these."""
    return dict.fromkeys(
      n for name in names for n in self._placed.get(name, ())
    )


def _partners(node: tf1.NodeDef) -> List[str]:
  if "_class" not in node.attr:
    return []
  return [
    text[len(_PREFIX) :].decode()
    for text in node.attr["_class"].list.s
    if text.startswith(_PREFIX)
  ]
