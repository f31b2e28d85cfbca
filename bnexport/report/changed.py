# SPDX-License-Identifier: Apache-2.0
"""What an export changed, grouped by kind and by scope."""

from __future__ import annotations

import dataclasses
import re
from typing import Dict, List

from bnexport.report import sentences

# Lines of one group that are listed; JSON has them all.
_MOST_LINES = 200


@dataclasses.dataclass
class Group:
  """Changes of one kind.

  Attributes:
    title: the kind, in words.
    of_norms: whether each is of one norm.
    count: how many changes there are.
    scopes: counts by scope pattern, in order of data flow.
    lines: every change, or the first of many.
  """

  title: str
  of_norms: bool = False
  count: int = 0
  scopes: Dict[str, int] = dataclasses.field(default_factory=dict)
  lines: List[str] = dataclasses.field(default_factory=list)

  def add(self, line, node):
    """Counts one more change, to a node or to the whole graph."""
    self.count += 1
    if len(self.lines) < _MOST_LINES:
      self.lines.append(line)
    if node:
      pattern = scope_pattern(node)
      self.scopes[pattern] = self.scopes.get(pattern, 0) + 1


def changed(said) -> List[Group]:
  """Groups of the changes of an export; those of norms come first.

  Args:
    said: its facts, of which the changes are Changes still.
  """
  found: Dict[str, Group] = {}
  for norm in said["batch_norms"]:
    why = sentences.why(norm)
    group = found.setdefault(why, Group(why, of_norms=True))
    group.add(norm["name"], norm["name"])
  for change in said["changes_beside_norms"]:
    title = getattr(change, "transform", "") or "other steps"
    group = found.setdefault(title, Group(title.replace("_", " ")))
    group.add(str(change), getattr(change, "node", None))
  return list(found.values())


def scope_pattern(name):
  """The scope of a node, with `*` for its numbers."""
  scope = name.rpartition("/")[0] or name
  return re.sub(r"\d+", "*", scope)
