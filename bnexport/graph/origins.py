# SPDX-License-Identifier: Apache-2.0
"""Origins of tensors: the one walk up through first inputs.

A caller says by a set of ops how far a view may be from its origin: whether it
may have another shape or dtype, come out of a branch or a loop, or be read
from a variable's handle. Sets that several callers have are named here.
"""

from __future__ import annotations

from typing import Collection, Iterator, Optional, Set

from bnexport.graph import Graph, TensorRef, ops

# The same elements in their order, perhaps of another shape or dtype.
VIEWS = ops.IDENTITIES | ops.RESHAPES | {"Cast"}
# The same, also carried into loops, around in them and out of them.
LOOP_VIEWS = VIEWS | ops.CARRIERS
# The same elements, also read inside of conditionals.
BRANCH_VIEWS = VIEWS | ops.SWITCHES
# From what stores a value to its use, outside of conditionals.
STORED_VIEWS = LOOP_VIEWS | ops.RESOURCE_READS
# Ops through which a constant has the same value in every run.
CONSTANT_COPIES = ops.IDENTITIES | ops.ENTERS
# Ops that hand on a variable's reference, handle or value as it is.
HANDOVERS = ops.CARRIERS | ops.SWITCHES | ops.MERGES | ops.RESOURCE_READS
# Ops by which a loop hands on a value from turn to turn as it is.
CARRIERS_IN_LOOPS = ops.CARRIERS | ops.SWITCHES

_STORES = ops.VARIABLES | {"Const"}
_CHOICES = ops.MERGES | ops.SELECTS


def viewed(
  graph: Graph, ref: TensorRef, through: Collection[str]
) -> Iterator[TensorRef]:
  """Yields a tensor, the one that it is a view of, and so on up to the origin.

  Args:
    graph: the graph.
    ref: the tensor.
    through: ops whose outputs are views of their first input. A Merge's
      second output is none: it is a number.

  Returns:
    An iterator that comes by no node twice: loops have back edges.
  """
  seen: Set[str] = set()
  while ref.node not in seen:
    yield ref
    seen.add(ref.node)
    op = graph.op(ref.node)
    if op not in through or (ref.index and op in ops.MERGES):
      return
    refs = graph.data_inputs(ref.node)
    if not refs:
      return  # a malformed node, which others refuse
    ref = refs[0]


def origin_of(
  graph: Graph, ref: TensorRef, through: Collection[str]
) -> TensorRef:
  """The last of the tensors that a tensor is a view of.

  Its op is not among `through`, but where the walk comes back to itself.
  """
  for view in viewed(graph, ref, through):
    ref = view
  return ref


def holder_of(
  graph: Graph,
  ref: TensorRef,
  kinds: Collection[str],
  through: Collection[str],
) -> Optional[str]:
  """Name of the origin of a tensor where its op is among `kinds`, or None."""
  name = origin_of(graph, ref, through).node
  return name if graph.op(name) in kinds else None


def stored_name(
  graph: Graph, ref: TensorRef, through: Collection[str] = STORED_VIEWS
) -> Optional[str]:
  """Name of the variable or constant whose value a tensor is, or None."""
  return holder_of(graph, ref, _STORES, through)


def is_chosen(graph: Graph, ref: TensorRef) -> bool:
  """Tells whether a tensor is the result of a conditional."""
  return holder_of(graph, ref, _CHOICES, LOOP_VIEWS) is not None
