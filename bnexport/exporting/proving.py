# SPDX-License-Identifier: Apache-2.0
"""The proof of an export: the runs that it takes, and its verdict."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from bnexport.errors import ComparisonError, OutOfTime
from bnexport.exporting import reasons
from bnexport.model import stream
from bnexport.proof.runs import restore_variables
from bnexport.tf1 import time_limit

if TYPE_CHECKING:  # what proves is imported where something is proven
  from bnexport.proof.verdict import Comparison

# How much is done for a proof. `quick` compares with the reference, `full` also
# solves for the fixed point of the updates; `auto` does either where the
# weights are small enough for it.
AUTO, FULL, QUICK, NONE = PROOFS = ("auto", "full", "quick", "none")
# Seconds that the runs of a proof take at most, where nobody says so.
PROOF_TIMEOUT = 300.0
# The part of them after which made-up feeds give way to others.
_PATIENCE = 0.1
# Bytes of weights up to which a graph is run beside its reference unasked, and
# up to which the fixed point is solved for: it takes runs of training.
_MOST_PROVEN = 1 << 29
_MOST_SETTLED = 1 << 27


def prove(
  export, read, feeds=None, restore=None, effort=FULL, seconds=PROOF_TIMEOUT
) -> Comparison:
  """A Comparison of an export with its reference.

  Args:
    export: an Export.
    read: gives the GraphDef to import.
    feeds: arrays by input name; made up where it is None.
    restore: gives a session's variables their values, or None.
    effort: AUTO, FULL or QUICK.
    seconds: how long its runs take at most.

  Raises:
    ComparisonError: TensorFlow does not import it, or feeds do not fit it.
  """
  from bnexport.proof import comparison

  model = export.model
  unknown = comparison.unknown_op(model.graph)
  if unknown is not None:
    return unknown
  size = stream.weight_bytes(model)
  if size > _MOST_PROVEN and effort == AUTO and not feeds:
    return comparison.import_only(stream.skeleton(model))
  is_thorough = effort == FULL or (effort == AUTO and size <= _MOST_SETTLED)
  with time_limit(seconds):
    proof = _compare(export, read, feeds, restore, seconds, is_thorough)
    if not export.recalibrated:
      if model.decisions.stored:
        _look_at_fixed_point(export, proof, effort, is_thorough)
      if is_thorough:
        _try_decisions(export, proof)
  reason = reasons.find(export, proof)
  if reason is not None:
    proof.missing = reason.fact
    if reason.note:
      proof.notes.append(reason.note)
  return proof


def _compare(export, read, feeds, restore, seconds, is_thorough):
  from bnexport.proof import comparison
  from bnexport.proof.sensitivity import Sensitivity

  model = export.model
  return comparison.prove(
    read(),
    model.outputs,
    export.reference,
    feeds,
    model.initializers,
    export.keeps_batch,
    restore or functools.partial(restore_variables, model),
    model.is_trusted,
    seconds * _PATIENCE,
    functools.partial(Sensitivity, export),
    export.second if is_thorough else None,
    model.decisions.random_kept,
  )


def _look_at_fixed_point(export, proof, effort, is_thorough):
  """Asks the updates' fixed point, where the reference was fed the averages.

  The reference shares with the export which tensors they stand for. The fixed
  point does not.
  """
  from bnexport.proof import fixed_point

  if proof.arrays is None or proof.stands_against:
    return
  if is_thorough:
    proof.fixed_point = fixed_point.examine(export, proof.arrays)
  elif effort == QUICK:
    why = "--proof=full looks for it"
    proof.fixed_point = fixed_point.FixedPoint(why_not=why)
  else:
    proof.fixed_point = fixed_point.FixedPoint(
      why_not=f"above {_MOST_SETTLED >> 20} MiB of weights only --proof=full "
      "looks for it"
    )


def _try_decisions(export, proof):
  """Says what other decisions would have led to."""
  from bnexport.proof import alternatives

  if proof.arrays is None:
    return
  with contextlib.suppress(ComparisonError, OutOfTime):
    proof.alternatives = alternatives.examine(export, proof.arrays)
