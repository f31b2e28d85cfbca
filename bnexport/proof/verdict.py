# SPDX-License-Identifier: Apache-2.0
"""The outcome of proving an exported graph, and the verdict on it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Dict, List, Optional

import numpy as np

from bnexport.shown import Shown

if TYPE_CHECKING:  # who writes a graph unproven runs none of it
  from bnexport.proof.alternatives import Alternative
  from bnexport.proof.differences import Difference
  from bnexport.proof.divergence import Parting
  from bnexport.proof.fixed_point import FixedPoint

# The verdicts, and there is no fourth.
PROVEN, NOT_PROVEN, DIFFERS = "PROVEN", "NOT PROVEN", "DIFFERS"


@dataclasses.dataclass
class Comparison(Shown):
  """The outcome of proving an exported graph.

  Attributes:
    reference: names what it was compared with; empty where that is nothing.
    second: names a second reference that it was compared with, or empty.
    missing: why it is not proven by what it was compared with, or why that is
      nothing; empty where neither is so.
    is_joint: whether rows of the reference depend on each other too.
    is_swayed: whether a row answers otherwise beside others that are far beyond
      what was fed, as where the batch chooses a range or a branch.
    differences: one for each output.
    batch: whether one row answers alone as it does within a batch; None
      where it was not looked at, with the reason in `notes`.
    repeats: whether a second run answered the same.
    feeds: shapes of what was fed.
    arrays: what was fed, by node name; None where nothing was.
    is_made_up: whether it was made up rather than given.
    is_run: whether the graph was imported and may be run here.
    fixed_point: the FixedPoint of the training graph's updates, or None where
      it was not asked for.
    parting: where the graph parts from its reference; None where it does not.
    drawn: random ops that stay on purpose, whose draws both sides were given.
    blind: stored statistics that no answer depends on, as texts.
    statistics: how many stored statistics were looked at for that.
    further: how many feeds more were compared for their sake.
    alternatives: what other decisions would have led to, each an Alternative.
    notes: what else to know, a line each.
  """

  reference: str = ""
  second: str = ""
  missing: str = ""
  is_joint: bool = False
  is_swayed: bool = False
  differences: List[Difference] = dataclasses.field(default_factory=list)
  batch: Optional[bool] = None
  repeats: Optional[bool] = None
  feeds: Dict[str, tuple] = dataclasses.field(default_factory=dict)
  arrays: Optional[Dict[str, np.ndarray]] = None
  is_made_up: bool = False
  is_run: bool = True
  fixed_point: Optional[FixedPoint] = None
  parting: Optional[Parting] = None
  drawn: List[str] = dataclasses.field(default_factory=list)
  blind: List[str] = dataclasses.field(default_factory=list)
  statistics: int = 0
  further: int = 0
  alternatives: List[Alternative] = dataclasses.field(default_factory=list)
  notes: List[str] = dataclasses.field(default_factory=list)

  @property
  def verdict(self) -> str:
    """PROVEN, NOT_PROVEN or DIFFERS."""
    if self.stands_against:
      return DIFFERS
    is_compared = self.is_run and self.differences and not self.missing
    return PROVEN if is_compared else NOT_PROVEN

  @property
  def holds(self) -> bool:
    """Whether it is proven."""
    return self.verdict == PROVEN

  @property
  def stands_against(self) -> bool:
    """Whether something was found that a right graph would not do."""
    return (
      not all(d.holds for d in self.differences)
      or self.batch is False
      or self.repeats is False
      or (self.fixed_point is not None and not self.fixed_point.holds)
    )

  def note_feeds(self, feeds) -> None:
    """Takes arrays by node name for those that the verdict is about."""
    self.arrays = feeds
    self.feeds = {name: np.shape(value) for name, value in feeds.items()}
