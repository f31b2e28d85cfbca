# SPDX-License-Identifier: Apache-2.0
"""A rule of the catalogue, its examples and its findings."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Callable, Iterable, List, Mapping, Optional, Tuple

from bnexport.checks.fix import Fix
from bnexport.shown import Shown

# A NOTE does not stand against using the graph; the others do.
ERROR = "error"
WARNING = "warning"
NOTE = "note"


@dataclasses.dataclass(frozen=True)
class Finding(Shown):
  """One thing that is wrong with a graph.

  Attributes:
    code: the rule's, such as "BN101"; stays the same in later versions.
    severity: ERROR, WARNING or NOTE.
    node: name of the node; "" where it is the whole file.
    message: the fact, and what follows from it.
    fix: the Fix that clears it.
  """

  code: str
  severity: str
  node: str
  message: str
  fix: Fix


class Findings(List[Finding], Shown):
  """Findings, in the order of the catalogue."""


@dataclasses.dataclass(frozen=True)
class Example:
  """A graph that shows a finding, or does not.

  Attributes:
    graph: the nodes, in the notation of `bnexport.text`.
    outputs: names of the outputs.
    checkpoint: values in its checkpoint, nested lists by key; None without.
    training: the training graph beside the checkpoint, in the same notation;
      None without.
    is_training: whether the graph is the .meta of that checkpoint, and not a
      frozen graph beside it.
    data: shapes of calibration data, by input, which a fix may read.
    target_tf: version of the TensorFlow that is to read it, or None.
  """

  graph: str
  outputs: Tuple[str, ...] = ("y",)
  checkpoint: Optional[Mapping[str, object]] = None
  training: Optional[str] = None
  is_training: bool = False
  data: Optional[Mapping[str, Tuple[int, ...]]] = None
  target_tf: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Rule:
  """One kind of finding.

  Attributes:
    code: its name, which no later version changes.
    severity: ERROR, WARNING or NOTE.
    title: the defect, in a few words.
    why: the reason it is one, and its consequence for the graph's user.
    code_sample: two lines of user code that lead to it.
    cure: the way to get rid of it.
    look: yields (node, message, fix) for a Subject.
    bad: an Example with this finding and no other.
    good: an Example without findings.
  """

  code: str
  severity: str
  title: str
  why: str
  code_sample: str
  cure: str
  look: Callable[..., Iterable[Tuple[str, str, Fix]]]
  bad: Example
  good: Example

  def page(self) -> str:
    """The rule's page of the catalogue, as text."""
    return "\n".join(
      [
        f"{self.code} {self.title} ({self.severity})",
        "",
        _paragraph(self.why),
        "",
        "How it comes about:",
        "",
        _block(self.code_sample),
        "",
        "How to fix it:",
        "",
        _paragraph(self.cure),
        "",
        "Bad:",
        "",
        _block(self.bad.graph),
        "",
        "Good:",
        "",
        _block(self.good.graph),
      ]
    )


def _paragraph(text: str) -> str:
  return textwrap.fill(" ".join(text.split()), 79)


def _block(text: str) -> str:
  return textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")
