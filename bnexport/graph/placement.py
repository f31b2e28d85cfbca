# SPDX-License-Identifier: Apache-2.0
"""Colocation: the nodes named in `_class`, as `loc:@NAME`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional

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
