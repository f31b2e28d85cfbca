# SPDX-License-Identifier: Apache-2.0
"""Changes of a graph and doubts about it: words with facts."""

from __future__ import annotations

from typing import Iterable, List, Optional


class Change(str):
  """One thing that was done, in words.

  Attributes:
    transform: name of the transform or step that did it.
    node: the node or norm that it was done to, or None.
  """

  transform: str
  node: Optional[str]

  def __new__(
    cls, text: str, transform: str = "", node: Optional[str] = None
  ) -> Change:
    made = super().__new__(cls, text)
    made.transform, made.node = transform, node
    return made


class Doubt(str):
  """One thing to tell the user about, in words.

  Attributes:
    node: the node or norm that it is about, or None.
  """

  node: Optional[str]

  def __new__(cls, text: str, node: Optional[str] = None) -> Doubt:
    made = super().__new__(cls, text)
    made.node = node
    return made


def changes_by(transform: str, told: Iterable[str]) -> List[Change]:
  """The Changes that a transform tells, by its name."""
  return [Change(line, transform, getattr(line, "node", None)) for line in told]
