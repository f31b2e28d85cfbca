# SPDX-License-Identifier: Apache-2.0
"""Floats behind whole numbers, and behind probabilities near 0 or 1.

An argmax, or a softmax that is sure, answers alike for a wrong network.
"""

from __future__ import annotations

import dataclasses
from typing import List

from bnexport.errors import ComparisonError
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import Signatures, output_dtypes
from bnexport.graph.origins import VIEWS, origin_of
from bnexport.proof.divergence import always_run, depend_on
from bnexport.tf1 import tf1

# Floats that a small difference of what they are computed from leaves alike.
_STEPS = frozenset(("Ceil", "Floor", "FloorDiv", "Rint", "Round", "Sign"))
# The same of an output that is near its bounds.
_SATURATES = frozenset(("Sigmoid", "Softmax"))
# So many are compared, those nearest to the outputs.
_MOST = 32


@dataclasses.dataclass
class Behind:
  """Tensors to compare beside the outputs of a graph.

  Attributes:
    own: tensors of the graph.
    other: those of its reference, in the same order.
    hidden: outputs that are whole numbers of floats, none of which is in the
      reference.
  """

  own: List[TensorRef] = dataclasses.field(default_factory=list)
  other: List[TensorRef] = dataclasses.field(default_factory=list)
  hidden: List[str] = dataclasses.field(default_factory=list)


def _add_drawn_by(found, graph, other, runs, fed, names):
  """Adds what random ops draw by, such as a sampler's logits.

  What they draw is given to both sides.
  """
  for name in names:
    for slot, read in enumerate(graph.data_inputs(name)):
      pair = _pair(graph, other, runs, name, slot)
      if pair is not None and read.node in fed and _is_float(graph, read):
        found.own.append(pair[0])
        found.other.append(pair[1])


def behind(a, b, outputs, feeds) -> Behind:
  """The floats that whole numbers and probabilities are computed from.

  Where both have an op of the same name, what it reads there is compared.

  Args:
    a: a Run.
    b: its reference, another Run.
    outputs: TensorRefs of `a`.
    feeds: arrays by node name, for both.
  """
  graph, found = a.graph, Behind()
  fed = depend_on(graph, feeds)
  reads = {ref: list(_reads(graph, ref, fed)) for ref in outputs}
  if not any(reads.values()) and a.draws is None:
    return found
  try:
    other = b.graph
  except ComparisonError:
    found.hidden = [
      str(ref) for ref in outputs if reads[ref] and not _is_float(graph, ref)
    ]
    return found
  runs = always_run(graph), always_run(other)
  if a.draws is not None:
    _add_drawn_by(found, graph, other, runs, fed, a.draws.names)
  for ref, slots in reads.items():
    pairs = [_pair(graph, other, runs, *slot) for slot in slots]
    pairs = [pair for pair in pairs if pair is not None]
    if slots and not pairs and not _is_float(graph, ref):
      found.hidden.append(str(ref))
    for own, its in pairs[:_MOST]:
      if own not in found.own:
        found.own.append(own)
        found.other.append(its)
  return found


def _reads(graph: Graph, output: TensorRef, fed):
  """Yields (node, slot) where floats become whole numbers, nearest first.

  Also where they become probabilities that the graph answers.
  """
  queue, seen = [output], {output}
  origin = origin_of(graph, output, VIEWS)
  for ref in queue:
    if ref.node not in fed or graph.op(ref.node) in ops.SHAPES:
      continue
    steps = _STEPS | _SATURATES if ref == origin else _STEPS
    is_step = graph.op(ref.node) in steps or not _is_float(graph, ref)
    for slot, read in enumerate(graph.data_inputs(ref.node)):
      if graph.op(read.node) in ops.PLACEHOLDERS:
        continue  # the same in both
      if is_step and read.node in fed and _is_float(graph, read):
        yield ref.node, slot
      elif read not in seen:
        seen.add(read)
        queue.append(read)


def _is_float(graph, ref):
  dtypes = output_dtypes(graph, ref.node, Signatures())
  if dtypes is None:
    return False
  dtype = tf1.as_dtype(dtypes[ref.index]).base_dtype
  return dtype.is_floating or dtype.is_complex


def _pair(graph, other, runs, name, slot):
  """A node's operands in both graphs; None where that can't be told."""
  if name not in other or other.op(name) != graph.op(name):
    return None
  pair = graph.data_inputs(name)[slot], other.data_inputs(name)[slot]
  if any(ref.node not in names for ref, names in zip(pair, runs)):
    return None
  return pair
