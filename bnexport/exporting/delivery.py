# SPDX-License-Identifier: Apache-2.0
"""Writing an export, proven by what was written before it gets its name."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import Callable, Mapping, Optional

from bnexport.batchnorm.norm import BATCH
from bnexport.errors import ComparisonError, GraphError, OutOfTime
from bnexport.exporting import saved_model, writing
from bnexport.graph import TensorRef
from bnexport.graph.nodes import static_shape
from bnexport.mending import faults
from bnexport.model import stream
from bnexport.proof import alternatives, comparison, fixed_point
from bnexport.proof.comparison import Comparison
from bnexport.proof.fixed_point import FixedPoint
from bnexport.proof.runs import ImportedGraph, restore_variables
from bnexport.proof.sensitivity import Sensitivity
from bnexport.sources import files
from bnexport.tf1 import tf1, time_limit

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


def _as_they_are(data):
  return data


def _in_silence(text):
  pass


@dataclasses.dataclass(frozen=True)
class Delivery:
  """Where an export goes, and what is asked of it there.

  Attributes:
    path: a file for a GraphDef, or a directory for a SavedModel.
    as_text: whether a GraphDef is written as text.
    overwrite: whether what is there may be replaced.
    proof: how much is done to prove it, one of PROOFS.
    proof_timeout: seconds that the runs of the proof take at most.
    feeds: arrays by input name; made up where it is None.
    data: the graph's bytes, piece by piece; None for those of the export.
    watched: is handed the graph's bytes, and hands them on.
    progress: called with what is being done.
  """

  path: str
  as_text: bool = False
  overwrite: bool = False
  proof: str = AUTO
  proof_timeout: float = PROOF_TIMEOUT
  feeds: Optional[Mapping] = None
  data: Optional[object] = None
  watched: Callable = _as_they_are
  progress: Callable = _in_silence


@dataclasses.dataclass(frozen=True)
class Delivered:
  """What was written.

  Attributes:
    path: the file, or the directory of a SavedModel.
    proof: the Comparison; None where none was asked for.
  """

  path: str
  proof: Optional[Comparison]

  @property
  def holds(self) -> bool:
    """Whether nothing stands against it."""
    return self.proof is None or self.proof.holds


@dataclasses.dataclass(frozen=True)
class Written:
  """A graph that is in its file, and has not got its name yet.

  Attributes:
    read: reads its GraphDef again.
    restore: gives a session's variables their values, or None.
  """

  read: Callable
  restore: Optional[Callable] = None

  def reason_against(self):
    """Why TensorFlow does not import it, or None."""
    try:
      ImportedGraph(self.read(), (), restore=self.restore).close()
    except ComparisonError as error:
      return error.fact
    return None


@contextlib.contextmanager
def written(model, path, as_text=False, data=None, is_served=False):
  """Writes a model; it gets its name when the block has ended well.

  Args:
    model: a Model.
    path: the file, or the directory of a SavedModel.
    as_text: whether a GraphDef is written as text.
    data: the graph's bytes, piece by piece; None for those of the model.
    is_served: whether it becomes a SavedModel.

  Yields:
    A Written.

  Raises:
    SourceError: it can't be written. Nothing is left then.
  """
  if is_served:
    with saved_model.written(model, path) as (meta, prefix):
      restore = None
      if meta.HasField("saver_def"):
        restore = saved_model.restorer(meta, prefix)
      yield Written(lambda: meta.graph_def, restore)
    return
  if data is None:
    data = writing.serialize(model, as_text)
  with writing.whole_file(path, data) as part:
    yield Written(lambda: files.read_proto(part, tf1.GraphDef, "the graph"))


def deliver(export, delivery) -> Delivered:
  """Writes an export, and proves what was written.

  Args:
    export: an Export.
    delivery: a Delivery.

  Raises:
    SourceError: it can't be written, or something is there.
    ComparisonError: TensorFlow does not import it, or feeds do not fit it.
  """
  path, is_served = delivery.path, export.is_served
  if is_served:
    saved_model.refuse_directory(path, delivery.overwrite)
  else:
    writing.refuse_existing(path, delivery.overwrite)
  if delivery.proof == NONE:
    _refuse_faulty(export.model, path)
  data = None
  if not is_served:
    data = delivery.watched(
      delivery.data or writing.serialize(export.model, delivery.as_text)
    )
  proof = None
  with written(export.model, path, data=data, is_served=is_served) as file:
    if delivery.proof != NONE:
      delivery.progress("importing it again and comparing")
      proof = prove(
        export,
        file.read,
        delivery.feeds,
        file.restore,
        delivery.proof,
        delivery.proof_timeout,
      )
  return Delivered(path, proof)


def _refuse_faulty(model, path):
  """Raises GraphError where TensorFlow is sure not to import a graph.

  Where there is a proof, TensorFlow imports it.
  """
  for fault in faults.of_graph(model.graph, model.signatures):
    raise GraphError(
      f"write '{path}'",
      f"'{fault.node}' {fault.fact}",
      "give the training graph, or mend it with python -m bnexport.repair",
    )


def prove(
  export,
  read,
  feeds=None,
  restore=None,
  effort=FULL,
  seconds=PROOF_TIMEOUT,
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
  model = export.model
  unknown = comparison.unknown_op(model.graph)
  if unknown is not None:
    return unknown
  size = stream.weight_bytes(model)
  if size > _MOST_PROVEN and effort == AUTO and not feeds:
    return comparison.import_only(stream.skeleton(model))
  if restore is None:
    restore = functools.partial(restore_variables, model)
  is_thorough = effort == FULL or (effort == AUTO and size <= _MOST_SETTLED)
  with time_limit(seconds):
    proof = comparison.prove(
      read(),
      model.outputs,
      export.reference,
      feeds,
      model.initializers,
      export.keeps_batch,
      restore,
      model.is_trusted,
      seconds * _PATIENCE,
      functools.partial(Sensitivity, export),
      export.second if is_thorough else None,
    )
    if model.decisions.stored and not export.recalibrated:
      _beside_fed_averages(export, proof, effort, is_thorough)
    if model.decisions.stored and not export.kept and not proof.missing:
      proof.missing = _half_replaced(export)
    if proof.is_joint and not proof.missing and _lacks_training(model, proof):
      proof.missing = (
        "it was frozen before, and its rows depend on each other; whether they "
        "should, its training graph tells: pass --checkpoint=PREFIX with its "
        ".meta beside it"
      )
    if is_thorough and proof.arrays is not None and not export.recalibrated:
      _try_decisions(export, proof)
  return proof


def _half_replaced(export):
  """Says which norm uses the batch where others use averages, or nothing."""
  for norm in export.norms:
    if norm.statistics == BATCH:
      return (
        f"norm '{norm.name}' uses the batch where others have averages; pass "
        f"--keep_batch_statistics={norm.name} if it means to"
      )
  return ""


def _lacks_training(model, proof):
  """Whether a graph was frozen, which pruned updates, and is all there is.

  Of inputs whose rank is open it is not known what their rows are.
  """
  asked = model.request
  return (
    asked is not None
    and asked.kind == "frozen_graph"
    and not asked.training
    and all(
      static_shape(model.graph, TensorRef(name)) is not None
      for name in proof.feeds
    )
  )


def _try_decisions(export, proof):
  """Says what other decisions would have led to.

  An input that is gone may not have been part of the answer.
  """
  with contextlib.suppress(ComparisonError, OutOfTime):
    proof.alternatives = alternatives.examine(export, proof.arrays)
  for one in proof.alternatives:
    if one.lost and one.matters and not proof.missing:
      proof.missing = (
        f"answers of the training graph depend on '{one.lost}', which is no "
        "input of the export"
      )
      proof.notes.append(f"keep it as an input with --input_node={one.lost}")


def _beside_fed_averages(export, proof, effort, is_thorough):
  """What is to be said where the reference was fed the stored averages.

  It shares with the export which tensors they stand for. The updates' fixed
  point does not.
  """
  if proof.arrays is not None and not proof.stands_against:
    if is_thorough:
      proof.fixed_point = fixed_point.examine(export, proof.arrays)
    elif effort == QUICK:
      proof.fixed_point = FixedPoint(why_not="--proof=full looks for it")
    else:
      proof.fixed_point = FixedPoint(
        why_not=f"above {_MOST_SETTLED >> 20} MiB of weights only --proof=full "
        "looks for it"
      )
  if proof.is_joint and not export.keeps_batch:
    proof.missing = (
      "the reference was fed the stored averages, and its rows depend on each "
      "other all the same; compare the export with the rebuilt model: "
      "--model=FILE.py:FUNCTION"
    )
