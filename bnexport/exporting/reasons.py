# SPDX-License-Identifier: Apache-2.0
"""Reasons for which an export is NOT PROVEN, whatever was compared.

A reason is one rule and one entry of RULES. A rule looks at the Export and at
the Comparison of it, runs nothing, and gives a Reason or None. The first one
counts.
"""

from __future__ import annotations

import dataclasses
from typing import Callable, Optional, Tuple

from bnexport.batchnorm.health import NEVER_UPDATED
from bnexport.batchnorm.norm import BATCH, STORED
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape
from bnexport.graph.origins import VIEWS, origin_of
from bnexport.graph.writes import written_variable


@dataclasses.dataclass(frozen=True)
class Reason:
  """A reason for NOT PROVEN.

  Attributes:
    fact: why it is not proven, and what to pass so that it can be.
    note: a line more on what to do, or empty.
  """

  fact: str
  note: str = ""


def joint_beside_stored(export, proof) -> Optional[Reason]:
  """Rows depend on each other in a reference that was fed the averages.

  The reference shares with the export which tensors the averages stand for.
  """
  is_fed = export.model.decisions.stored and not export.recalibrated
  if not is_fed or not proof.is_joint or export.keeps_batch:
    return None
  return Reason(
    "the reference was fed the stored averages, and its rows depend on each "
    "other all the same; compare the export with the rebuilt model: "
    "--model=FILE.py:FUNCTION"
  )


def said_before(export, proof) -> Optional[Reason]:
  """The comparison itself has said why it proves nothing."""
  del export
  return Reason(proof.missing) if proof.missing else None


def half_replaced(export, proof) -> Optional[Reason]:
  """One norm uses the batch where others use stored averages."""
  del proof
  if not export.model.decisions.stored or export.kept:
    return None
  for norm in export.norms:
    if norm.statistics == BATCH:
      return Reason(
        f"norm '{norm.name}' uses the batch where others have averages; pass "
        f"--keep_batch_statistics={norm.name} if it means to"
      )
  return None


def joint_without_training(export, proof) -> Optional[Reason]:
  """Rows depend on each other in a frozen graph, which is all there is.

  Freezing pruned the updates. Of inputs whose rank is open it is not known
  what their rows are.
  """
  model = export.model
  asked = model.request
  is_all_there_is = (
    asked is not None and asked.kind == "frozen_graph" and not asked.training
  )
  if not is_all_there_is or not proof.is_joint:
    return None
  refs = map(TensorRef, proof.feeds)
  if any(static_shape(model.graph, ref) is None for ref in refs):
    return None
  return Reason(
    "it was frozen before, and its rows depend on each other; whether they "
    "should, its training graph tells: pass --checkpoint=PREFIX with its "
    ".meta beside it"
  )


def swayed_by_the_batch(export, proof) -> Optional[Reason]:
  """A batch chooses a range or a branch, and the updates are gone.

  Whether inference means that is told by no name.
  """
  named = export.model.decisions.named
  if not named or not proof.is_swayed:
    return None
  return Reason(
    "an answer changes beside rows far beyond it, and the file has no updates "
    "that tell whether it should; give the training graph with "
    "--meta_graph=FILE"
  )


def lost_input(export, proof) -> Optional[Reason]:
  """An input is gone on which answers of the training graph depend."""
  del export
  for one in proof.alternatives:
    if one.lost and one.matters:
      return Reason(
        f"answers of the training graph depend on '{one.lost}', which is no "
        "input of the export",
        f"keep it as an input with --input_node={one.lost}",
      )
  return None


def updates_never_run(export, proof) -> Optional[Reason]:
  """Training runs no update of averages, which are as they began.

  Inference with them answers as no training did; who leaves them so may mean
  the batch at inference, too.
  """
  del proof
  stored = [norm for norm in export.norms if norm.statistics == STORED]
  states = [export.health.get(norm.name) for norm in stored]
  if export.original is None or not stored or set(states) != {NEVER_UPDATED}:
    return None
  graph = export.original.graph
  kept = {one.variable for one in export.model.decisions.stored.values()}
  updates = [
    node.name
    for node in graph
    if node.op in ops.UPDATES and written_variable(graph, node.name) in kept
  ]
  trains = any(ops.is_optimizer(node.op) for node in graph)
  # An initializer and a Saver's are read by what runs them all.
  if not trains or not any(not graph.readers(name) for name in updates):
    return None
  return Reason(
    f"the averages of norm '{stored[0].name}' are as they began, and no step "
    "of training runs their updates",
    f"pass --keep_batch_statistics={stored[0].name} if inference uses the "
    "batch, too, or compare with the rebuilt model: --model=FILE.py:FUNCTION",
  )


def part_of_the_rows(export, proof) -> Optional[Reason]:
  """One device of several answers, among which the rows are split."""
  graph, needed = export.model.graph, export.model.needed()
  for name in needed:
    source, parts = _split_rows(graph, name)
    if source is None or source.node not in proof.feeds:
      continue
    readers = [reader for reader in graph.readers(name) if reader in needed]
    refs = [ref for reader in readers for ref in graph.data_inputs(reader)]
    if len({ref.index for ref in refs if ref.node == name}) == 1 < parts:
      return Reason(
        f"'{name}' splits the rows of '{source.node}' into {parts} parts, and "
        "one of them is answered",
        f"name an output that joins them, or feed one: --input_node={name}",
      )
  return None


def _split_rows(graph, name):
  """What a node splits along its first axis, and into how many; or None, 0."""
  refs = graph.data_inputs(name)
  if graph.op(name) == "Split":
    axis, x = refs
  elif graph.op(name) == "SplitV":
    x, _, axis = refs
  else:
    return None, 0
  value = constant_value(graph, axis)
  if value is None or value.any():
    return None, 0
  parts = graph.node(name).attr["num_split"].i
  return origin_of(graph, x, VIEWS), parts


Rule = Callable[..., Optional[Reason]]

RULES: Tuple[Rule, ...] = (
  joint_beside_stored,
  said_before,
  half_replaced,
  joint_without_training,
  swayed_by_the_batch,
  lost_input,
  updates_never_run,
  part_of_the_rows,
)


def find(export, proof) -> Optional[Reason]:
  """The first Reason for which an export is not proven, or None.

  Args:
    export: an Export.
    proof: the Comparison of it.
  """
  found = (rule(export, proof) for rule in RULES)
  return next((reason for reason in found if reason is not None), None)
