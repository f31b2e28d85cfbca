# SPDX-License-Identifier: Apache-2.0
"""Errors of bnexport: one line each, `cannot WHAT: FACT; NEXT STEP`.

A doubt about the user's model is a Finding, not an error; a broken invariant
of our own is an assert.
"""

from __future__ import annotations

import re
from typing import (
  Dict,
  Iterable,
  List,
  Mapping,
  Match,
  NamedTuple,
  Optional,
  Sequence,
)


class Offer(NamedTuple):
  """A command that can be given instead.

  Attributes:
    flags: values by the flags that change; None takes a flag away.
    command: `freeze`, `repair`, ...; empty for the one that was given.
    adds: whether a value goes behind those that its flag has.
  """

  flags: Mapping[str, Optional[str]]
  command: str = ""
  adds: bool = False


class Error(Exception):
  """Something that was asked for can't be done.

  Attributes:
    what: the deed, such as `freeze variable 'v'`.
    fact: why it can't be done, such as `the checkpoint lacks it`.
    step: what to do next, such as `pass --checkpoint=PREFIX`; empty where the
      fact says it.
    offers: the step as changes of the command, best first.
  """

  def __init__(
    self,
    what: str,
    fact: object,
    step: str = "",
    offers: Sequence[Offer] = (),
  ):
    super().__init__(what, fact, step)
    self.what, self.fact, self.step = what, str(fact), step
    self.offers = tuple(offers)

  def __str__(self) -> str:
    step = self.step and f"; {self.step}"
    return f"cannot {self.what}: {self.fact}{step}"


class SourceError(Error):
  """A file, directory, checkpoint or model function can't be used."""


class GraphError(Error):
  """A graph is malformed, or an edit would make it so."""


class TransformError(Error):
  """A rewriting is refused because its result could be wrong."""


class ComparisonError(Error):
  """A graph can't be run, so nothing can be said about its answers."""


class OutOfTime(Error):
  """Runs were ended by a limit of time, so nothing can be said about them."""


# Words of more characters are cut where a line is printed.
_LONGEST = 400
_WORD = re.compile(r"\S{401,}")


def printable(text: object, is_cut: bool = True) -> str:
  """One line of text that means to a terminal what it says.

  Control characters, line breaks, marks that turn the direction of text and
  what no encoding has are escaped; names may hold them. Long words are cut in
  their middle.
  """
  line = str(text)
  if not line.isprintable():
    line = "".join(
      c if c.isprintable() else c.encode("unicode_escape").decode()
      for c in line
    )
  return _WORD.sub(_cut, line) if is_cut else line


def _cut(match: Match[str]) -> str:
  word, part = match.group(), _LONGEST // 2
  left_out = len(word) - 2 * part
  return f"{word[:part]}...({left_out} more)...{word[-part:]}"


# The step where a graph does not run.
FEED = "pass inputs that it runs on with --feeds=FILE.npz"
# What TF 2 says ahead of the reason: where the node is and who made it.
_NO_REASON = ("Graph execution error", "Detected at node", "Node: ", 'File "')


def first_line(error: BaseException) -> str:
  """The first line of an exception's message that says something."""
  for line in map(str.strip, str(error).splitlines()):
    if line and not line.startswith(_NO_REASON):
      return line
  return type(error).__name__


def near(name: str, names: Sequence[str], most: int = 3) -> List[str]:
  """The names that are most like one that a user wrote."""
  # A name's last part is what people remember; a whole-name match alone would
  # miss `logits` for `tower_0/net/logits`.
  import difflib  # only now: few processes end with an error

  by_tail: Dict[str, str] = {}
  for other in names:
    by_tail.setdefault(other.rsplit("/", 1)[-1], other)
  found = difflib.get_close_matches(name, names, n=most, cutoff=0.6)
  tail = difflib.get_close_matches(
    name.rsplit("/", 1)[-1], by_tail, n=most, cutoff=0.7
  )
  found += [by_tail[t] for t in tail if by_tail[t] not in found]
  return found[:most]


def nearest(
  name: str, names: Iterable[str], otherwise: str = "check the name"
) -> str:
  """Returns the step `did you mean 'a' or 'b'?`.

  Args:
    name: what a user wrote.
    names: what there is.
    otherwise: the next step where no name is near.
  """
  offers = " or ".join(f"'{other}'" for other in near(name, list(names)))
  return f"did you mean {offers}?" if offers else otherwise
