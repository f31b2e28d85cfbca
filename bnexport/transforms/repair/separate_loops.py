# SPDX-License-Identifier: Apache-2.0
"""Loops of joined graphs get frames of their own."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.graph.frames import separate_frames
from bnexport.model import Model


@dataclasses.dataclass(frozen=True)
class SeparateLoops:
  """Gives loops that share the name of a frame names of their own.

  import_graph_def renames nodes and no frames: where two graphs with loops are
  joined, TensorFlow takes loops of one name for one, and runs neither.

  Before: a = Enter(x) {frame_name="f"}     b = Merge(a, d)
          p = LoopCond(no)                  no = Less(b, b)
          c = Switch(b, p)                  d = NextIteration(c:1)
          e = Exit(c)                       x = Placeholder()
          g = Enter(e) {frame_name="f"}     h = Merge(g, j)
          q = LoopCond(never)               never = Less(h, h)
          i = Switch(h, q)                  j = NextIteration(i:1)
          y = Exit(i)
  After:  a = Enter(x) {frame_name="f"}     b = Merge(a, d)
          p = LoopCond(no)                  no = Less(b, b)
          c = Switch(b, p)                  d = NextIteration(c:1)
          e = Exit(c)                       x = Placeholder()
          g = Enter(e) {frame_name="f_1"}   h = Merge(g, j)
          q = LoopCond(never)               never = Less(h, h)
          i = Switch(h, q)                  j = NextIteration(i:1)
          y = Exit(i)
  """

  name: ClassVar[str] = "separate_loops"

  def apply(self, model: Model) -> List[str]:
    return [
      f"gave the loop that '{enter}' enters the frame '{name}' of its own"
      for enter, name in separate_frames(model.graph).items()
    ]
