# SPDX-License-Identifier: Apache-2.0
"""Proof: an exported graph, imported again, against a reference."""

from __future__ import annotations

import numpy as np

from bnexport.errors import OutOfTime
from bnexport.graph import Graph, ops
from bnexport.proof import feeding, rows, steadiness
from bnexport.proof.draws import Draws
from bnexport.proof.runs import ImportedGraph, refuse_unimportable
from bnexport.proof.sides import Sides
from bnexport.proof.trust import ALLOW, unsafe_op
from bnexport.proof.verdict import DIFFERS, NOT_PROVEN, PROVEN, Comparison
from bnexport.tf1 import op_def

__all__ = [
  "DIFFERS",
  "NOT_PROVEN",
  "PROVEN",
  "Comparison",
  "examine",
  "import_only",
  "prove",
  "unknown_op",
]

# Seconds that a run on made-up feeds may take before others are tried.
_PATIENCE = 30.0


def prove(
  graph_def,
  outputs,
  reference,
  feeds=None,
  initializers=(),
  keeps_batch=False,
  restore=None,
  is_trusted=False,
  patience=_PATIENCE,
  sensitivity=None,
  second=None,
  kept=(),
):
  """Imports a graph again and compares what it answers.

  Args:
    graph_def: the exported graph, as read from its file.
    outputs: TensorRefs to compare.
    reference: has `what`, a text, and `answers(feeds)`; or None.
    feeds: arrays by node name; made up where it is None.
    initializers: nodes to run first.
    keeps_batch: whether norms use the batch on purpose.
    restore: gives a session's variables their values, or None.
    is_trusted: whether to run it also where ops reach out of the graph.
    patience: seconds that made-up feeds may take before others are tried.
    sensitivity: makes a sensitivity.Sensitivity of the graph, given the names
      of what is compared; None where no norm's statistics are looked for.
    second: another reference, a Run; or None.
    kept: random ops that are part of the model: both sides draw the same.

  Raises:
    ComparisonError: the exported graph can't be imported.
  """
  if not is_trusted:
    graph = Graph(graph_def, copy=False)
    unsafe = unsafe_op(graph, outputs, initializers)
    if unsafe is not None:
      refuse_unimportable(graph_def)
      return Comparison(missing=f"{unsafe}; {ALLOW}", is_run=False)
  refuse_unimportable(graph_def)
  proof = Comparison()
  with ImportedGraph(graph_def, outputs, initializers, restore) as runner:
    sides = Sides(runner, reference, outputs)
    try:
      feeds, answers = _first(proof, sides, graph_def, feeds, patience)
      if answers is None:
        return proof
      is_steady = _is_steady_beside(proof, sides, feeds, kept)
      if is_steady is None:
        return proof
      if proof.drawn:
        answers = runner.run(feeds)
      _ask(proof, sides, feeds, answers, keeps_batch)
      if not is_steady:
        proof.repeats = False
      _ask_more(proof, sides, sensitivity, second)
    except OutOfTime as error:
      proof.missing = error.fact
      proof.notes.append(error.step)
  return proof


def _ask_more(proof, sides, sensitivity, second):
  """Looks for what the first comparison was blind to."""
  if proof.is_made_up and proof.verdict == PROVEN:
    sides.look_wider(proof)
  if sensitivity is not None and proof.verdict == PROVEN:
    sides.reach(proof, sensitivity)
  if second is not None and not proof.stands_against:
    sides = sides.with_second(proof, second)
  if not all(d.holds for d in proof.differences):
    proof.parting = sides.parting(proof.arrays)


def _first(proof, sides, graph_def, feeds, patience):
  """Feeds and the graph's answers to them; None where it runs on none."""
  runner = sides.runner
  if feeds:
    feeding.refuse_other_names(graph_def, feeds)
    answers = feeding.run_given(runner, feeds)
  else:
    feeds, answers = feeding.find(
      graph_def, runner, sides.reference, proof, patience
    )
    proof.is_made_up = True
  if answers is not None and not feeding.is_alive(feeds, answers):
    proof.missing = "every row that was fed has the same answer"
    proof.notes.append(
      "what lies before dead or saturated activations is not seen; pass real "
      "rows with --feeds=FILE.npz"
    )
  return feeds, answers


def _is_steady_beside(proof, sides, feeds, kept):
  """Whether the graph answers twice the same; what is kept random draws so.

  None where neither it nor its reference does: there is nothing to compare.
  """
  runner, reference = sides.runner, sides.reference
  random = [node.name for node in runner.graph if ops.is_random(node.op)]
  if not random:
    return True
  if set(random) <= set(kept) and _draw_alike(sides, feeds, random):
    proof.drawn = random
    names = ", ".join(f"'{name}'" for name in random)
    proof.notes.append(
      f"random on purpose, as asked: {names}; both sides had the same draws"
    )
    return True
  if steadiness.is_unmoved(runner, feeds, random):
    return True
  proof.notes.append(
    f"answers differ from run to run: there are random ops like '{random[0]}'"
  )
  if steadiness.is_steady(reference, feeds):
    return False
  proof.note_feeds(feeds)
  proof.missing = "the graph draws random numbers"
  left = [name for name in random if name not in kept]
  if left:
    proof.notes.append(
      f"pass --keep_random={left[0]} if the model draws it at inference, too"
    )
  return None


def _draw_alike(sides, feeds, random):
  """Has both sides draw the same, if both answer twice the same then."""
  runner, reference = sides.runner, sides.reference
  if reference is None:
    return False
  runner.draws = reference.draws = Draws(random, runner.fetch)
  if all(steadiness.is_steady(run, feeds) for run in (runner, reference)):
    return True
  runner.draws = reference.draws = None
  return False


def examine(
  proof,
  runner,
  outputs,
  reference,
  feeds,
  answers,
  keeps_batch=False,
  is_strict=False,
):
  """Asks all questions of a graph that runs.

  Args:
    proof: a Comparison; gets the answers.
    runner: an ImportedGraph.
    outputs: TensorRefs to compare.
    reference: see `prove`.
    feeds: arrays by node name.
    answers: the runner's answers for them.
    keeps_batch: whether norms use the batch on purpose.
    is_strict: whether rows that depend on the rest of their batch count
      against the graph also where there is nothing to compare with.
  """
  sides = Sides(runner, reference, outputs)
  _ask(proof, sides, feeds, answers, keeps_batch, is_strict)


def _ask(proof, sides, feeds, answers, keeps_batch, is_strict=False):
  """Gives a Comparison the answers to all questions; see `examine`."""
  runner, reference = sides.runner, sides.reference
  proof.note_feeds(feeds)
  floats = [a for a in map(np.asarray, answers) if a.dtype.kind == "f"]
  if not all(np.isfinite(a).all() for a in floats):
    proof.notes.append(
      "some answers are not finite for these inputs; pass "
      "real ones with --feeds=FILE.npz"
    )
  if any(map(_tells_nothing, floats)):
    proof.missing = (
      "answers that are no numbers prove nothing; look for statistics or "
      "weights that are not finite, or pass real inputs with --feeds=FILE.npz"
    )
  proof.repeats = steadiness.repeats(runner, feeds, answers)
  sides.compare(proof, feeds, answers)
  if keeps_batch:
    proof.notes.append(
      "rows were not looked at alone: norms keep their batch statistics"
    )
  else:
    rows.look_at(proof, runner, reference, sides.outputs, answers, is_strict)
  if reference is not None and not proof.batch and not proof.missing:
    proof.missing = rows.note(runner, reference, feeds)


def _tells_nothing(answer):
  """Whether a column of an answer is nowhere a number; a mask may be -inf."""
  columns = answer.reshape(-1, answer.shape[-1] if answer.ndim else 1)
  return answer.size > 0 and bool(
    np.isnan(columns).all(0).any() or not np.isfinite(columns).any()
  )


def unknown_op(graph):
  """A Comparison of a Graph with an op that is not registered, or None."""
  for node in graph:
    if node.op not in graph.library and op_def(node.op) is None:
      return Comparison(
        missing=f"this TensorFlow does not know op {node.op} of "
        f"'{node.name}'; prove the graph with python -m bnexport.validate "
        "where it is registered",
        is_run=False,
      )
  return None


def import_only(graph_def):
  """A Comparison of a graph that is too large to run beside its reference.

  Raises:
    ComparisonError: the graph can't be imported.
  """
  refuse_unimportable(graph_def)
  return Comparison(
    missing="it was imported, without its weights, and not run; "
    "--proof=quick proves it, in some nine times the memory of its weights"
  )
