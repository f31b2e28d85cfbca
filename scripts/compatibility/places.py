# SPDX-License-Identifier: Apache-2.0
"""Places that run exported graphs: TensorFlow's versions, and consumers."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple, Optional

import numpy as np
from benchmarks.timing import ROOT

from bnexport.errors import ComparisonError
from bnexport.model.request import Request
from bnexport.proof.differences import difference
from bnexport.proof.feeding import first_that_runs
from bnexport.proof.made_up import made_up_feeds
from bnexport.validation import opening
from bnexport.validation.consumers import CONSUMERS, verdicts

VERSIONS = ("1.4.1", "1.8.0", "1.12.3", "1.15.5")
NEWEST = "newest"
PLACES = (*VERSIONS, NEWEST, *CONSUMERS)
_LOADER = os.path.join(os.path.dirname(__file__), "load_graph.py")


class Finding(NamedTuple):
  """The outcome of running a graph in one place.

  Attributes:
    off: the largest difference relative to the range of right answers; None
      where there is no answer.
    holds: whether that is rounding.
    fault: why there is no answer, or None.
  """

  off: Optional[float]
  holds: bool
  fault: Optional[str] = None

  def __str__(self):
    if self.fault is not None:
      return self.fault
    return "%.0e off%s" % (self.off, "" if self.holds else ", which is too far")


class Exported:
  """An exported graph with made-up input and the newest TensorFlow's answers.

  Each `in_...` returns a Finding.
  """

  def __init__(self, path, report):
    """Runs the graph here.

    Args:
      path: its file.
      report: what freeze has reported of it, as plain values.
    """
    self._proof = report["proof"]
    self._folder = os.path.dirname(path)
    self._model, self._graph_def, _ = opening.open_graph(
      Request("graph_def", path, outputs=tuple(report["outputs"]))
    )
    self._runner = opening.imported(self._model, self._graph_def, {})
    try:
      self._feeds, self._answers = first_that_runs(
        self._runner, made_up_feeds(self._graph_def)
      )
    except ComparisonError as error:
      sys.exit(f"compat: {error}")

  def in_newest(self):
    """The Finding of freeze's own proof against the training graph."""
    apart = [one["largest_difference"] for one in self._proof["outputs"]]
    return self._finding(apart, self._proof["holds"])

  def in_version(self, version, path):
    """The Finding of a file for an old version, against the newest one."""
    fed = os.path.join(self._folder, "feeds.npz")
    got = os.path.join(self._folder, "answers.npz")
    np.savez(fed, **self._feeds)
    names = ["%s:%d" % (ref.node, ref.index) for ref in self._model.outputs]
    done = subprocess.run(
      [_python(version), _LOADER, path, fed, got, *names],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      universal_newlines=True,
      # It needs nothing of what is here.
      env=dict(os.environ, PYTHONPATH=""),
    )
    if done.returncode:
      lines = done.stderr.strip().splitlines() or ["it says nothing"]
      return Finding(None, False, lines[-1])
    with np.load(got) as found:
      values = [found[str(i)] for i in range(len(names))]
    apart = [difference("", *pair) for pair in zip(values, self._answers)]
    return self._finding(
      [one.largest for one in apart], all(one.holds for one in apart)
    )

  def in_consumer(self, name):
    [one] = verdicts.ask(
      [name],
      self._model,
      self._graph_def,
      self._runner,
      [self._feeds],
      lambda text: None,
    )
    if one.fault is not None:
      return Finding(None, False, one.fault)
    return self._finding([d.largest for d in one.differences], one.holds)

  def _finding(self, apart, holds):
    ranges = [float(np.ptp(a.astype(np.float64))) for a in self._answers]
    off = max(one / (size or 1.0) for one, size in zip(apart, ranges))
    return Finding(off, holds)


def _python(version):
  """The interpreter that has a version; it is installed where it is not."""
  done = subprocess.run(
    [os.path.join(ROOT, "scripts", "legacy_venv"), version],
    stdout=subprocess.PIPE,
    universal_newlines=True,
  )
  if done.returncode:
    sys.exit(done.returncode)  # it has said why
  return done.stdout.strip()
