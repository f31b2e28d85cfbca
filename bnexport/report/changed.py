# SPDX-License-Identifier: Apache-2.0
"""What an export changed, grouped by kind and by scope."""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Tuple

from bnexport.report import sentences
from bnexport.report.grouping import groups

# Lines of one kind that are listed, and patterns of scopes; JSON has them all.
_MOST_LINES = 200
_MOST_SCOPES = 12


@dataclasses.dataclass
class Kind:
  """Changes of one kind.

  Attributes:
    title: the kind, in words.
    of_norms: whether each is of one norm.
    count: how many changes there are.
    nodes: names of the nodes that were changed, in order of the changes.
    lines: every change, or the first of many.
  """

  title: str
  of_norms: bool = False
  count: int = 0
  nodes: List[str] = dataclasses.field(default_factory=list)
  lines: List[str] = dataclasses.field(default_factory=list)

  def add(self, line, node):
    """Counts one more change, to a node or to the whole graph."""
    self.count += 1
    if len(self.lines) < _MOST_LINES:
      self.lines.append(line)
    if node:
      self.nodes.append(node)

  def scopes(self) -> List[Tuple[str, int]]:
    """Patterns of the changed nodes' names, and how many each stands for."""
    found = groups(self.nodes, _MOST_SCOPES)
    return [(str(group), len(group.items)) for group in found]


def changed(said) -> List[Kind]:
  """The changes of an export by kind; those of norms come first.

  Args:
    said: its facts, of which the changes are Changes still.
  """
  found: Dict[str, Kind] = {}
  for norm in said["batch_norms"]:
    why = sentences.why(norm)
    kind = found.setdefault(why, Kind(why, of_norms=True))
    kind.add(norm["name"], norm["name"])
  for change in said["changes_beside_norms"]:
    title = getattr(change, "transform", "") or "other steps"
    kind = found.setdefault(title, Kind(title.replace("_", " ")))
    kind.add(str(change), getattr(change, "node", None))
  return list(found.values())
