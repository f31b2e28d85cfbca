# SPDX-License-Identifier: Apache-2.0
"""Verdicts on many checkpoints: lines, a summary, JSON."""

from __future__ import annotations

import collections
import json
from typing import Counter, Dict, List, NamedTuple, Tuple

from bnexport.errors import printable
from bnexport.exporting import writing

# The words of verdicts, in the order of the summary.
OK, DIFFERS, REFUSED = "ok", "differs", "refused"
FAILED, SKIPPED = "failed", "skipped"
WORDS = (OK, DIFFERS, REFUSED, FAILED, SKIPPED)
_TROUBLES = (DIFFERS, REFUSED, FAILED)

# How many of the slowest are named, and from how many exports on.
_SLOWEST = 3
_MANY = 20


class Verdict(NamedTuple):
  """The outcome of one checkpoint.

  Attributes:
    word: one of WORDS.
    says: the rest of its line.
    reason: the fact that stands against it, or nothing.
    seconds: how long it took.
  """

  word: str
  says: str
  reason: str = ""
  seconds: float = 0.0


class Tally:
  """The verdicts of a run, said as they come and summed up at its end.

  Attributes:
    counts: how often each word was said.
  """

  def __init__(self, total: int):
    self._total = total
    self.counts: Counter[str] = collections.Counter()
    self._verdicts: Dict[str, Verdict] = {}

  @property
  def finished(self) -> int:
    return sum(self.counts.values())

  @property
  def troubles(self) -> List[str]:
    """Counts of what stands against it, such as "2 refused"."""
    return [f"{self.counts[w]} {w}" for w in _TROUBLES if self.counts[w]]

  def say(self, checkpoint: str, verdict: Verdict) -> None:
    """Prints the line of a checkpoint."""
    self.counts[verdict.word] += 1
    self._verdicts[checkpoint] = verdict
    line = f"{verdict.word} {checkpoint}: {verdict.says}"
    print(printable(line), flush=True)

  def sum_up(self) -> None:
    """Prints reasons that several share, the slowest, and the counts."""
    for (word, reason), checkpoints in self._reasons():
      if checkpoints[1:]:
        print(
          printable(f"{len(checkpoints)} {word}: {reason}; {checkpoints[0]}")
        )
    if len(self._exported()) >= _MANY:
      slowest = ", ".join(
        f"{checkpoint} {seconds:.1f} s" for checkpoint, seconds in self._slow()
      )
      print(printable(f"slowest: {slowest}"))
    said = [f"{self.counts[w]} {w}" for w in WORDS if self.counts[w]]
    print(f"{self._total} checkpoints: {', '.join(said) or 'none looked at'}")

  def write(self, path: str) -> None:
    """Writes the summary as JSON, whole or not at all.

    Raises:
      SourceError: it can't be written.
    """
    summary = {
      "checkpoints": self._total,
      "counts": {word: self.counts[word] for word in WORDS},
      "slowest": [
        {"checkpoint": checkpoint, "seconds": round(seconds, 3)}
        for checkpoint, seconds in self._slow()
      ],
      "reasons": [
        {"word": word, "reason": reason, "checkpoints": checkpoints}
        for (word, reason), checkpoints in self._reasons()
      ],
      "verdicts": [
        {
          "checkpoint": checkpoint,
          "word": verdict.word,
          "says": verdict.says,
          "seconds": round(verdict.seconds, 3),
        }
        for checkpoint, verdict in sorted(self._verdicts.items())
      ],
    }
    text = json.dumps(summary, indent=1) + "\n"
    with writing.whole_file(path, [text.encode()]):
      pass

  def _exported(self) -> List[str]:
    return [c for c, v in self._verdicts.items() if v.seconds]

  def _slow(self) -> List[Tuple[str, float]]:
    seconds = [(c, self._verdicts[c].seconds) for c in self._exported()]
    return sorted(seconds, key=lambda pair: -pair[1])[:_SLOWEST]

  def _reasons(self) -> List[Tuple[Tuple[str, str], List[str]]]:
    """Checkpoints by word and reason, the most frequent first."""
    found: Dict[Tuple[str, str], List[str]] = {}
    for checkpoint, verdict in self._verdicts.items():
      if verdict.word in _TROUBLES:
        key = verdict.word, verdict.reason
        found.setdefault(key, []).append(checkpoint)
    return sorted(found.items(), key=lambda item: -len(item[1]))
