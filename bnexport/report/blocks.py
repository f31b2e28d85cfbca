# SPDX-License-Identifier: Apache-2.0
"""A network as the blocks that a person would draw: its scopes, folded.

Where a scope has more parts than a drawing has room for, as networks without
scopes do, parts that follow each other become one block, cut where the fewest
tensors cross.
"""

from __future__ import annotations

import dataclasses
from typing import Dict, Iterable, List, Optional, Set, Tuple

from bnexport.graph import Graph, ops
from bnexport.proof.divergence import depend_on

# Boxes of the whole network, and parts of one block.
MOST = 30
_MOST_PARTS = 24
# Parts of a run, where there are enough.
_FEWEST = 4
# Scopes below this depth are one.
_DEPTH = 12
# Blocks of one scope that are nearly as large are opened together.
_ALIKE = 0.8
# Nodes of a norm that is spelled out, its activation among them.
_MOST_OF_NORM = 8
# Ops that stand for themselves; others may be named in the box before them.
_HEAVY = frozenset(
  "Conv2D Conv3D DepthwiseConv2dNative Conv2DBackpropInput MatMul BatchMatMul "
  "BatchMatMulV2 ConcatV2".split()
)


@dataclasses.dataclass(eq=False)
class Block:
  """A scope, a single node, or parts that follow each other.

  Attributes:
    name: the full name of the scope or node; of several parts "FIRST to LAST".
    nodes: the names of its nodes, in order of data flow.
    within: the Block that it is a part of, or None.
    children: Blocks by the next word of their names.
    node: the name of the node that is named as the scope is, or None.
    run: the parts that follow each other, where it is such.
    behind: single nodes that follow it, and are named in its box.
  """

  name: str
  nodes: List[str] = dataclasses.field(default_factory=list)
  within: Optional[Block] = None
  children: Dict[str, Block] = dataclasses.field(default_factory=dict)
  node: Optional[str] = None
  run: List[Block] = dataclasses.field(default_factory=list)
  behind: List[str] = dataclasses.field(default_factory=list)

  @property
  def label(self):
    """Its name without the scope that it is in."""
    if self.run or self.within is None:
      return self.name
    within = self.within.name
    return self.name[len(within) + 1 :] if within else self.name


class Blocks:
  """The blocks of a graph.

  Attributes:
    order: the names of the nodes that compute on what is fed, in order of
      data flow; constants and what is computed of them alone are left out.
    seen_at: the first node in that order behind each one that is to stand
      apart, such as the product behind a reciprocal root; that node itself
      where it is in the order.
    root: the Block of them all.
  """

  def __init__(self, graph: Graph, needed: Iterable[str], apart=()):
    """Reads the graph once.

    Args:
      graph: a Graph without circles other than loops.
      needed: names of the nodes that its outputs need.
      apart: names of nodes that are never named in the box of another.
    """
    self.graph = graph
    needed = dict.fromkeys(needed)
    fed = [name for name in needed if graph.op(name) in ops.PLACEHOLDERS]
    seen = depend_on(graph, fed) if fed else set(needed)
    kept = [n for n in needed if n in seen and graph.op(n) != "Const"]
    self.order = graph.topological(kept)
    self.seen_at = self._seen_at(dict.fromkeys(kept), apart)
    self._apart = frozenset(self.seen_at.values())
    self._place = {name: i for i, name in enumerate(self.order)}
    self.root = Block("")
    for name in self.order:
      self._enter(name)
    self._parts: Dict[Block, List[Block]] = {}

  def _seen_at(self, kept, apart):
    """See `seen_at`; a few steps are taken from each."""
    found = {}
    for start in apart:
      queue = [start]
      for name in queue:
        if name in kept:
          found[start] = name
          break
        if len(queue) < _MOST_OF_NORM:
          queue += self.graph.readers(name)[:_MOST_OF_NORM]
    return found

  def _enter(self, name):
    block = self.root
    block.nodes.append(name)
    for word in name.split("/", _DEPTH):
      if word not in block.children:
        full = f"{block.name}/{word}" if block.name else word
        block.children[word] = Block(full, within=block)
      block = block.children[word]
      block.nodes.append(name)
    block.node = name

  def parts(self, block: Block) -> List[Block]:
    """The parts of a block, in order of data flow; none of a single node."""
    if block not in self._parts:
      found = self._within(block)
      if len(found) > _MOST_PARTS:
        found = self._runs(block, found)
      self._parts[block] = found
    return self._parts[block]

  def _within(self, block):
    """Its children and its own node; a scope of one part is that part."""
    if block.run:
      return block.run
    while len(block.children) == 1 and block.node is None:
      (block,) = block.children.values()
    found = list(block.children.values())
    if not found:
      return []
    if block.node is not None:
      found.append(
        Block(block.name, [block.node], block.within, {}, block.node)
      )
    return sorted(found, key=lambda part: self._place[part.nodes[0]])

  def _runs(self, block, parts):
    """Fewer blocks, each of parts that follow each other."""
    crossing = [0] * len(parts)
    for a, b in self.edges(parts):
      crossing[min(a, b)] += 1
      crossing[max(a, b)] -= 1
    for i in range(1, len(parts)):
      crossing[i] += crossing[i - 1]
    count = min(_MOST_PARTS * 3 // 4, len(parts) // _FEWEST)
    size = len(parts) / count
    cuts = [0]
    for i in range(1, count):
      middle = round(i * size)
      near = range(
        max(cuts[-1] + 1, round(middle - size / 2)),
        min(len(parts) - 1, round(middle + size / 2)) + 1,
      )
      if near:
        cuts.append(min(near, key=lambda at: (crossing[at - 1], -at)))
    found = []
    for start, end in zip(cuts, cuts[1:] + [len(parts)]):
      few = parts[start:end]
      found.append(few[0] if len(few) == 1 else _run(block, few))
    return found

  def edges(self, blocks: List[Block]) -> Set[Tuple[int, int]]:
    """Pairs of the places of blocks of which one reads the other."""
    owner = {name: i for i, block in enumerate(blocks) for name in block.nodes}
    return {
      (owner[ref.node], reader)
      for name, reader in owner.items()
      for ref in self.graph.data_inputs(name)
      if owner.get(ref.node, reader) != reader
    }

  def outline(self) -> List[Block]:
    """The blocks of a drawing of the whole network, in order of data flow."""
    shown = self.parts(self.root) or [self.root]
    least = 2 * len(self.order) // MOST
    refused: Set[Block] = set()
    while True:
      large = [
        block
        for block in shown
        if block not in refused
        and not block.run
        and len(block.nodes) > least
        and not self._is_one_norm(block)
        and len(self.parts(block)) > 1
      ]
      if not large:
        return self._named(shown)
      largest = max(large, key=lambda block: len(block.nodes))
      together = [
        block
        for block in large
        if block.within is largest.within
        and len(block.nodes) >= _ALIKE * len(largest.nodes)
      ]
      more = sum(len(self.parts(block)) - 1 for block in together)
      if len(shown) + more > MOST:
        refused.update(together)
        continue
      shown = [
        part
        for block in shown
        for part in (self.parts(block) if block in together else [block])
      ]

  def _named(self, blocks):
    """Names single light nodes in the box before them, where there is one."""
    blocks = sorted(blocks, key=lambda block: self._place[block.nodes[0]])
    before: Dict[int, List[int]] = {i: [] for i in range(len(blocks))}
    behind: Dict[int, List[int]] = {i: [] for i in range(len(blocks))}
    for a, b in self.edges(blocks):
      before[b].append(a)
      behind[a].append(b)
    stands = list(range(len(blocks)))  # the box in which a block is named
    for i, block in enumerate(blocks):
      if not self._is_light(block) or len(before[i]) != 1:
        continue
      (a,) = before[i]
      if a < i and len(behind[a]) == 1 and behind[i]:
        stands[i] = stands[a]
    found: Dict[int, Block] = {}
    for i, block in enumerate(blocks):
      if stands[i] == i:
        found[i] = dataclasses.replace(
          block, nodes=list(block.nodes), behind=[]
        )
        self._parts[found[i]] = self.parts(block)
      else:
        found[stands[i]].behind += block.nodes
        found[stands[i]].nodes += block.nodes
    return list(found.values())

  def _is_one_norm(self, block):
    """Whether a block is hardly more than what computes one norm."""
    return (
      len(block.nodes) <= _MOST_OF_NORM
      and len(self._apart.intersection(block.nodes)) == 1
      and not any(self.graph.op(name) in _HEAVY for name in block.nodes)
    )

  def _is_light(self, block):
    """Whether a block is one node that hardly needs a box of its own."""
    if len(block.nodes) != 1:
      return False
    (name,) = block.nodes
    op = self.graph.op(name)
    return (
      op not in _HEAVY
      and op not in ops.PLACEHOLDERS
      and name not in self._apart
    )


def _run(within, parts):
  """A Block of parts that follow each other."""
  return Block(
    f"{parts[0].label} to {parts[-1].label}",
    [name for part in parts for name in part.nodes],
    within,
    run=parts,
  )
