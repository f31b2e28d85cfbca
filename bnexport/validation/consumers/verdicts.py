# SPDX-License-Identifier: Apache-2.0
"""Verdicts on consumers' answers, by those of TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import time
from typing import List, Optional

import numpy as np

from bnexport.errors import SourceError
from bnexport.exporting import workers
from bnexport.graph import TensorRef, ops
from bnexport.graph.origins import viewed
from bnexport.proof.differences import Difference, difference
from bnexport.validation import consumers

# Loading the largest networks takes minutes; a consumer that takes this hangs.
_SECONDS = 900


@dataclasses.dataclass(frozen=True)
class Verdict:
  """The verdict on one consumer's answers.

  Attributes:
    name: the consumer's.
    version: its name and version as its makers write them.
    fault: the reason that it has no answers, or None.
    differences: from TensorFlow's answers, one for each output.
  """

  name: str
  version: str
  fault: Optional[str] = None
  differences: List[Difference] = dataclasses.field(default_factory=list)

  @property
  def holds(self):
    return self.fault is None and all(one.holds for one in self.differences)


def refuse_variables(model):
  """Raises SourceError where a model is more than its graph."""
  for name in model.needed(control=True):
    if model.graph.op(name) in ops.VARIABLES:
      raise SourceError(
        f"ask consumers about '{model.origin}'",
        f"it has variables, like '{name}', and they take frozen graphs",
        "freeze it first with python -m bnexport.freeze",
      )


def ask(names, model, graph_def, runner, batches, progress):
  """Has consumers load and run a graph, each in a process of its own.

  Args:
    names: of the consumers.
    model: the Model of the graph; see `refuse_variables`.
    graph_def: the graph.
    runner: an opening.Running of the graph.
    batches: feeds, each a dict of arrays by node name.
    progress: called with words for each step.

  Returns:
    A Verdict for each name.
  """
  batches = [dict(runner.settings, **feeds) for feeds in batches]
  outputs = [_names(model.graph, ref) for ref in model.outputs]
  expected = [runner.run(feeds) for feeds in batches]
  verdicts = []
  with tempfile.TemporaryDirectory(prefix="bnexport-") as folder:
    path = os.path.join(folder, "graph.pb")
    with open(path, "wb") as f:
      f.write(graph_def.SerializeToString())
    for name in names:
      progress(f"asking {name}")
      question = consumers.Question(name, path, outputs, batches)
      said = _answer(question)
      verdicts.append(_verdict(question, said, expected, runner.rounding))
  return verdicts


def _names(graph, ref):
  """The names that a tensor goes by where copies and biases are merged."""
  merged = ops.IDENTITIES | {"BiasAdd"}
  return [f"{r.node}:{r.index}" for r in viewed(graph, ref, merged)]


def _answer(question):
  """The consumer's Answer; also where it brings its process down."""
  end = time.monotonic() + _SECONDS
  with contextlib.closing(
    workers.run([question], consumers.answer, 1, lambda *dead: None)
  ) as events:
    for event in events:
      if event is not None:
        return _answer_of(question, event[1])
      if time.monotonic() > end:
        fault = f"takes longer than {_SECONDS} seconds"
        return consumers.Answer(question.name, fault, [])


def _answer_of(question, result):
  if not isinstance(result, workers.Died):
    return result
  fault = f"ends its process with {result.how}: {result.last_words}"
  return consumers.Answer(question.name, fault.rstrip(": "), [])


def _verdict(question, said, expected, rounding):
  if said.fault is not None:
    return Verdict(question.name, said.version, said.fault)
  outputs = [str(TensorRef.parse(names[0])) for names in question.outputs]
  worst = {}
  for arrays, right in zip(said.arrays, expected):
    for name, value, other in zip(outputs, arrays, right):
      one = _difference(name, np.asarray(value), np.asarray(other), rounding)
      worst[name] = max(worst.get(name, one), one, key=_excess)
  return Verdict(question.name, said.version, None, list(worst.values()))


def _difference(name, value, expected, rounding):
  # Some consumers know only float32; the question is about the numbers.
  if value.dtype.kind in "fiu" and expected.dtype.kind in "fiu":
    value = value.astype(expected.dtype)
  return difference(name, value, expected, rounding)


def _excess(one):
  return one.largest - one.limit
