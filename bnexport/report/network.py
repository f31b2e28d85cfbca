# SPDX-License-Identifier: Apache-2.0
"""The network as one drawing of blocks, and a drawing of each block."""

from __future__ import annotations

import collections
import dataclasses
from typing import Dict, List, Mapping, Tuple

from bnexport.errors import printable
from bnexport.graph import ops
from bnexport.report.blocks import Block, Blocks
from bnexport.report.drawing import Box, Drawing, draw

# Boxes of all drawings together: the page stays small.
_MOST_BOXES = 1200
# Neighbours of one block that are drawn, above and below it.
_MOST_AROUND = 4
# Marks on one box, and ops that its text names.
_MOST_MARKS = 8
_MOST_OPS = 3
_WIDTH, _HIGH = 204, 46
# Kinds of norms, the worst first, and what they are called.
_KINDS = {"bad": "parts here", "doubt": "to look at", "good": "fine"}


@dataclasses.dataclass(frozen=True)
class Mark:
  """A norm as the drawings show it.

  Attributes:
    name: of the norm, escaped.
    kind: "good", "doubt" or "bad".
    link: the identity of its part of the page, or "".
  """

  name: str
  kind: str
  link: str


@dataclasses.dataclass
class Panel:
  """One block that is opened.

  Attributes:
    link: its identity on the page.
    name: the full name of the block.
    text: what it holds, in words.
    marks: Marks of its norms.
    drawing: its parts, with its neighbours.
    inner: Panels of its parts.
  """

  link: str
  name: str
  text: str
  marks: List[Mark]
  drawing: Drawing
  inner: List[Panel]


class Network:
  """Drawings of a network.

  Attributes:
    drawing: its blocks.
    panels: a Panel for each block that has parts, in order of data flow.
  """

  def __init__(
    self,
    blocks: Blocks,
    marks: Mapping[str, Mark],
    outputs: Tuple[str, ...] = (),
    parting: str = "",
  ):
    """Draws it.

    Args:
      blocks: the Blocks of the graph.
      marks: of the norms, by their names.
      outputs: names of nodes.
      parting: the name of the node where numbers part, or "".
    """
    self._blocks, self._marks = blocks, marks
    self._outputs, self._parting = frozenset(outputs), parting
    self._links: Dict[Block, str] = {}
    shown = blocks.outline()
    self._count = len(shown)
    self._choose(shown)
    self._owner = {name: block for block in shown for name in block.nodes}
    self.drawing = self._draw(shown, [], is_whole=True)
    self.panels = [self._panel(b, ()) for b in shown if b in self._links]

  def _choose(self, shown):
    """Gives links to the blocks that are opened, the outer ones first."""
    queue = list(shown)
    for block in queue:
      parts = self._blocks.parts(block)
      if len(parts) < 2 or self._count + len(parts) > _MOST_BOXES:
        continue
      self._count += len(parts) + 2 * _MOST_AROUND
      self._links[block] = f"block-{len(self._links) + 1}"
      queue += parts

  def _panel(self, block, siblings):
    parts = self._blocks.parts(block)
    return Panel(
      self._links[block],
      printable(block.name, is_cut=False),
      self._words(block),
      [self._marks[n] for n in block.nodes if n in self._marks],
      self._draw(parts, self._around(block, parts, siblings)),
      [self._panel(b, parts) for b in parts if b in self._links],
    )

  def _around(self, block, parts, siblings):
    """Edges to neighbours: (neighbour's Block, its name, place, is above)."""
    place = {name: i for i, part in enumerate(parts) for name in part.nodes}
    beside = {name: part for part in siblings for name in part.nodes}
    graph, found = self._blocks.graph, {}
    for name, i in place.items():
      for ref in graph.data_inputs(name):
        if ref.node not in place and ref.node in self._owner:
          found[self._named(ref.node, beside), i, True] = None
      for reader in graph.readers(name):
        if reader not in place and reader in self._owner:
          found[self._named(reader, beside), i, False] = None
    return list(found)

  def _named(self, name, beside):
    """The neighbour that a node outside of a block belongs to."""
    return beside.get(name) or self._owner[name]

  def _draw(self, blocks, around, is_whole=False):
    """A Drawing of blocks; of the whole network, with their full names."""
    above = dict.fromkeys(b for b, _, is_above in around if is_above)
    below = dict.fromkeys(b for b, _, is_above in around if not is_above)
    above = dict.fromkeys(list(above)[:_MOST_AROUND])
    below = dict.fromkeys(list(below)[:_MOST_AROUND])
    boxes = {("above", b): self._neighbour(b, "is read by it") for b in above}
    for i, block in enumerate(blocks):
      boxes[i] = self._box(block, block.name if is_whole else block.label)
    boxes.update((("below", b), self._neighbour(b, "reads it")) for b in below)
    edges = sorted(self._blocks.edges(blocks))
    for other, i, is_above in around:
      if is_above and other in above:
        edges.append((("above", other), i))
      elif not is_above and other in below:
        edges.append((i, ("below", other)))
    return draw(boxes, edges)

  def _neighbour(self, block, text):
    name = printable(block.name, is_cut=False)
    return Box(
      name,
      printable(block.name, is_cut=False),
      text,
      "around",
      link=self._links.get(block, ""),
      w=_WIDTH,
      h=_HIGH,
    )

  def _box(self, block, title):
    kinds = sorted(
      (self._marks[n].kind for n in block.nodes if n in self._marks),
      key=list(_KINDS).index,
    )
    notes = [f"{kinds.count(k)} {_KINDS[k]}" for k in _KINDS if k in kinds]
    kind = kinds[0] if kinds else ""
    if self._parting in block.nodes:
      kind, notes = "bad", notes + ["numbers part here"]
    if self._outputs.intersection(block.nodes) or self._is_input(block):
      kind += " end"
    return Box(
      printable(block.name, is_cut=False),
      printable(title, is_cut=False),
      self._words(block, _MOST_OPS),
      kind.strip(),
      ", ".join(notes),
      kinds[:_MOST_MARKS],
      self._link(block),
      w=_WIDTH,
      h=_HIGH,
    )

  def _is_input(self, block):
    return self._blocks.graph.op(block.nodes[0]) in ops.PLACEHOLDERS

  def _link(self, block):
    """The part of the page for a block, or for the one norm that it is."""
    if block in self._links:
      return self._links[block]
    found = [self._marks[n].link for n in block.nodes if n in self._marks]
    return found[0] if len(found) == 1 else ""

  def _words(self, block, most=8):
    """Norms and ops of a block, the most frequent first."""
    graph = self._blocks.graph
    if len(block.nodes) - len(block.behind) == 1:
      return ", ".join(graph.op(name) for name in block.nodes)
    norms = sum(name in self._marks for name in block.nodes)
    words = [f"{norms} norm{'s' * (norms > 1)}"] if norms else []
    counted = collections.Counter(
      graph.op(name) for name in block.nodes if name not in self._marks
    )
    for op, count in counted.most_common(most - len(words)):
      words.append(f"{count} {op}" if count > 1 else op)
    if len(counted) + bool(norms) > most:
      words.append("\N{HORIZONTAL ELLIPSIS}")
    return ", ".join(words)
