# SPDX-License-Identifier: Apache-2.0
"""Places that take exports: TensorFlow's versions, consumers, converters."""

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
# Loads the SavedModel as its loaders do, which TF Serving's and Java's are.
SAVED_MODEL = "saved_model"
# Programs with an environment of their own, and what runs them in it.
CONVERTERS = {"tfjs": "in_tensorflow_js.py", "coreml": "to_core_ml.py"}
PLACES = (*VERSIONS, NEWEST, SAVED_MODEL, *CONSUMERS, *CONVERTERS)
_HERE = os.path.dirname(os.path.abspath(__file__))


class Finding(NamedTuple):
  """The outcome of running a graph in one place.

  Attributes:
    off: the largest difference relative to the range of right answers; None
      where there is no answer.
    holds: whether that is rounding; where the place gives no answers, whether
      it takes the graph.
    fault: why there is no answer, or None.
  """

  off: Optional[float]
  holds: bool
  fault: Optional[str] = None

  def __str__(self):
    if self.fault is not None:
      return self.fault
    if self.off is None:
      return "converts"
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
    self._path, self._proof = path, report["proof"]
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
    return self._outside(_python(version), "load_graph.py", path)

  def in_converter(self, name):
    python = _environment("converter_venv", name)
    return self._outside(python, CONVERTERS[name], self._path)

  def in_loaders(self, path):
    """The worse Finding of a SavedModel in TF 1.15's and the newest loader."""
    found = [
      self._outside(python, "load_saved_model.py", path)
      for python in (_python(VERSIONS[-1]), sys.executable)
    ]
    return max(found, key=lambda one: (one.fault is not None, one.off))

  def _outside(self, python, program, path):
    """The Finding of a program of this folder, in a process of its own."""
    fed = os.path.join(self._folder, "feeds.npz")
    got = os.path.join(self._folder, "answers.npz")
    np.savez(fed, **self._feeds)
    if os.path.exists(got):
      os.remove(got)
    names = ["%s:%d" % (ref.node, ref.index) for ref in self._model.outputs]
    done = subprocess.run(
      [python, os.path.join(_HERE, program), path, fed, got, *names],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      universal_newlines=True,
      # It needs nothing of what is here.
      env=dict(os.environ, PYTHONPATH=""),
    )
    if done.returncode:
      lines = done.stderr.strip().splitlines() or ["it says nothing"]
      return Finding(None, False, lines[-1])
    if not os.path.exists(got):
      return Finding(None, True)
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
  return _environment("legacy_venv", version)


def _environment(script, name):
  done = subprocess.run(
    [os.path.join(ROOT, "scripts", script), name],
    stdout=subprocess.PIPE,
    universal_newlines=True,
  )
  if done.returncode:
    sys.exit(done.returncode)  # it has said why
  return done.stdout.strip()
