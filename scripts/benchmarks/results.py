# SPDX-License-Identifier: Apache-2.0
"""Results of the benchmark's parts, and their tables."""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional, Tuple


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of texts and numbers; numbers are written with three digits."""

  columns: Tuple[str, ...]
  rows: List[tuple]

  def markdown(self):
    # Numbers stand below each other at the right.
    last = self.rows[0] if self.rows else self.columns
    rules = ["---" if isinstance(cell, str) else "---:" for cell in last]
    lines = [self.columns, rules] + self.rows
    return "".join("| %s |\n" % " | ".join(map(_cell, row)) for row in lines)


def _cell(value):
  if not isinstance(value, float):
    return str(value)
  if value >= 100:
    return "%.0f" % value
  return "%.3g" % value if value < 0.1 else "%.2f" % value


@dataclasses.dataclass(frozen=True)
class Goal:
  """A ratio that is to be at most, or at least, a limit."""

  text: str
  ratio: float
  limit: float
  is_least: bool = False

  @property
  def holds(self):
    if self.is_least:
      return self.ratio >= self.limit
    return self.ratio <= self.limit

  def row(self):
    limit = "%s %g" % ("at least" if self.is_least else "at most", self.limit)
    verdict = "holds" if self.holds else "**does not hold**"
    return self.text, limit, self.ratio, verdict


@dataclasses.dataclass(frozen=True)
class Chart:
  """Values by series, one for each label."""

  title: str
  unit: str
  labels: List[str]
  series: Dict[str, List[float]]


@dataclasses.dataclass(frozen=True)
class Part:
  """The results of one part of the benchmark.

  Attributes:
    title: what was measured.
    notes: how, in Markdown.
    table: the measurements.
    goals: what they are to show.
    chart: the same for a plot.
  """

  title: str
  notes: str
  table: Table
  goals: List[Goal]
  chart: Optional[Chart] = None

  def markdown(self):
    text = "## %s\n\n%s\n\n%s" % (
      self.title,
      self.notes.strip(),
      self.table.markdown(),
    )
    if self.goals:
      columns = ("goal", "limit", "ratio", "verdict")
      rows = [goal.row() for goal in self.goals]
      text += "\n" + Table(columns, rows).markdown()
    return text
