# SPDX-License-Identifier: Apache-2.0
"""TensorRef: a tensor, or an edge of control, by the name of its node."""

from __future__ import annotations

import functools
from typing import NamedTuple, Union


class TensorRef(NamedTuple):
  """One input as a NodeDef writes it: `a`, `a:1` or `^a`."""

  node: str
  # The field hides tuple.index, which nobody asks a reference for.
  index: int = 0  # type: ignore[assignment]
  control: bool = False

  @staticmethod
  @functools.lru_cache(maxsize=1 << 20)
  def parse(text: str) -> TensorRef:
    """Reads `a`, `a:0`, `a:1` or `^a`."""
    if text.startswith("^"):
      return TensorRef(text[1:], 0, True)
    node, colon, index = text.rpartition(":")
    if colon and index.isdigit() and index.isascii():
      return TensorRef(node, int(index))
    return TensorRef(text)

  def __str__(self) -> str:
    if self.control:
      return "^" + self.node
    return self.node if self.index == 0 else f"{self.node}:{self.index}"


# A tensor, or an edge of control, as verbs take it: text is parsed.
AnyRef = Union[TensorRef, str]


def as_ref(tensor: AnyRef) -> TensorRef:
  """A TensorRef of a TensorRef or of its text."""
  return TensorRef.parse(tensor) if isinstance(tensor, str) else tensor
