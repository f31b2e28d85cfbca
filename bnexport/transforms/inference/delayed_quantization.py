# SPDX-License-Identifier: Apache-2.0
"""Quantization that training was to begin with later, and has not."""

from __future__ import annotations

from typing import Collection, Iterable

from bnexport.analysis.partial_evaluation import PartialEvaluation
from bnexport.analysis.phase import leaves_of
from bnexport.errors import TransformError
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.origins import BRANCH_VIEWS, LOOP_VIEWS, origin_of


def refuse_not_begun(
  graph: Graph,
  order: Iterable[str],
  evaluation: PartialEvaluation,
  counted: Collection[str],
) -> None:
  """Refuses where a step in the checkpoint leaves FakeQuant ops out.

  `tf.contrib.quantize` quantizes from a step of training on, and always in
  its evaluation graph. Nothing in a training graph tells which is meant where
  the step of the checkpoint is an earlier one.

  Args:
    graph: as it was before the phase was decided.
    order: names of the nodes that the outputs need.
    evaluation: what follows from what was decided.
    counted: variables that were decided by the checkpoint.

  Raises:
    TransformError: a FakeQuant op is on the side that is not taken.
  """
  for name in order if counted else ():
    if graph.op(name) not in ops.MERGES:
      continue
    refs = graph.data_inputs(name)
    left_out = [r for r in refs if evaluation.is_dead(r)]
    if len(left_out) != 1 or not _is_quantized(graph, left_out[0]):
      continue
    for step in counted:
      if step in leaves_of(graph, _predicate(graph, left_out[0])):
        raise TransformError(
          f"tell whether '{name}' is quantized",
          f"by '{step}' = {evaluation.known[step]} in the checkpoint, the "
          "quantization of training has not begun",
          f"pass --set={step}=VALUE, with a step of training that quantizes "
          "or with this one",
        )


def _is_quantized(graph, ref):
  through = BRANCH_VIEWS | LOOP_VIEWS
  return graph.op(origin_of(graph, ref, through).node) in ops.FAKE_QUANTS


def _predicate(graph: Graph, ref: TensorRef) -> TensorRef:
  """The predicate of the nearest Switch towards a side of a Merge."""
  switch = origin_of(graph, ref, LOOP_VIEWS)
  refs = graph.data_inputs(switch.node)
  return refs[1] if graph.op(switch.node) in ops.SWITCHES else switch
