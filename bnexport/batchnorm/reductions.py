# SPDX-License-Identifier: Apache-2.0
"""Reductions behind what updates write, of which an average may be kept."""

from __future__ import annotations

import itertools
from typing import Callable, Collection, List, Optional, Set

from bnexport.analysis.dependence import DATA, STATISTIC, Dependence
from bnexport.batchnorm.fixed_points import KNOWN
from bnexport.batchnorm.settling import MOST_BEHIND, is_taken_of_data
from bnexport.graph import Graph, TensorRef
from bnexport.graph.origins import VIEWS, origin_of
from bnexport.graph.writes import write_of

# What may take a batch together that is not told by axis 0: of one tensor, or
# of two.
_REDUCTIONS = frozenset(("Mean", "Sum"))
_CONTRACTIONS = frozenset(("BatchMatMul", "BatchMatMulV2", "Einsum", "MatMul"))
# What is computed of a covariance to whiten with it.
_MATRIX_OPS = frozenset(
  (
    "Cholesky",
    "MatrixInverse",
    "MatrixSolve",
    "MatrixSquareRoot",
    "MatrixTriangularSolve",
    "SelfAdjointEigV2",
    "Svd",
    "Transpose",
  )
)


def reductions_behind(
  graph: Graph, dependence: Dependence, update: str
) -> Set[str]:
  """Names of reductions that may take the batch together, by any axis."""
  ends = ends_behind(
    graph,
    update,
    lambda ref: dependence(ref) == DATA,
    lambda ref: (
      graph.op(ref.node) in _REDUCTIONS
      or (
        graph.op(ref.node) in _CONTRACTIONS
        and all(dependence(r) == DATA for r in graph.data_inputs(ref.node))
      )
    ),
    lambda ref: _known_operands(graph, ref),
    MOST_BEHIND,
  )
  return {ref.node for ref in ends}


def groups_behind(
  graph: Graph,
  dependence: Dependence,
  update: str,
  needed: Collection[str],
) -> Set[str]:
  """Names of means and variances of groups of rows that are averaged again.

  The outputs need those of the groups, and not the mean of all groups.

  Args:
    graph: with the update.
    dependence: covers it.
    update: name of the node that writes an average.
    needed: names of the nodes that the outputs need.
  """
  ends = ends_behind(
    graph,
    update,
    lambda ref: dependence(ref) == STATISTIC,
    lambda ref: (
      graph.op(ref.node) == "Mean" and is_taken_of_data(graph, dependence, ref)
    ),
    lambda ref: _known_operands(graph, ref),
    MOST_BEHIND,
  )
  found = set()
  for ref in ends:
    inner = origin_of(graph, graph.data_inputs(ref.node)[0], VIEWS).node
    if ref.node not in needed and inner in needed and _is_of_norm(graph, inner):
      found.add(inner)
  return found


def _known_operands(graph: Graph, ref: TensorRef) -> List[TensorRef]:
  op = graph.op(ref.node)
  is_known = op in KNOWN or op in _MATRIX_OPS | _CONTRACTIONS
  return graph.data_inputs(ref.node) if is_known else []


def ends_behind(
  graph: Graph,
  update: str,
  is_followed: Callable[[TensorRef], bool],
  is_end: Callable[[TensorRef], bool],
  operands: Callable[[TensorRef], List[TensorRef]],
  most: Optional[int] = None,
) -> List[TensorRef]:
  """The ends of a walk back from a written value.

  Args:
    graph: with the update.
    update: name of the node that writes the value.
    is_followed: whether a tensor has a part in the walk.
    is_end: whether one that has is an end of it.
    operands: where the walk goes from one that is none.
    most: how many tensors to look at, the nearest first; None for all.
  """
  found = []
  stack = [write_of(graph, update).value]
  seen = set(stack)
  for ref in itertools.islice(stack, most):
    if not is_followed(ref):
      continue
    if is_end(ref):
      found.append(ref)
      continue
    new = [r for r in operands(ref) if r not in seen]
    seen.update(new)
    stack.extend(new)
  return found


def _is_of_norm(graph: Graph, name: str) -> bool:
  """Whether a reduction is the mean of what it is subtracted from, or so.

  That is the mean or the variance of a norm; a pooled feature is neither.
  """
  if graph.op(name) != "Mean":
    return False
  x = origin_of(graph, graph.data_inputs(name)[0], VIEWS)
  if graph.op(x.node) in ("Square", "SquaredDifference"):
    return True
  views = [name]
  for view in views:
    for reader in graph.readers(view):
      refs = graph.data_inputs(reader)
      if graph.op(reader) in VIEWS:
        views.append(reader)
      elif graph.op(reader) in ("Sub", "SquaredDifference") and x in [
        origin_of(graph, ref, VIEWS) for ref in refs
      ]:
        return True
  return False
