# SPDX-License-Identifier: Apache-2.0
"""Where two graphs part: their tensors on the same feeds, in order."""

from __future__ import annotations

from typing import Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np

from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import Signatures
from bnexport.graph.variables import Frames
from bnexport.proof.comparison import Difference, difference
from bnexport.tf1 import tf1

# Tensors of one run stay below this, so that a batch of large images fits.
_BYTES = 256 << 20
_FEWEST, _MOST = 8, 128
# No session hands these out.
_HANDLES = (tf1.resource, tf1.variant)
# A small tensor is suspected where it is apart by this many tolerances of its
# own magnitude; cancellation makes less of rounding.
_SUSPECT = 100


def matched(a: Graph, b: Graph) -> List[str]:
  """Names of the nodes whose first outputs can be compared.

  Args:
    a: a graph; its order of execution is the order of the result.
    b: the other graph.

  Returns:
    Nodes of both that always run and hand out a value; no inputs.
  """
  runs = always_run(b)
  return [name for name in a.topological(always_run(a)) if name in runs]


def depend_on(graph: Graph, feeds):
  """Names of the nodes that read values of what is fed, directly or not."""
  stack = [name for name in feeds if name in graph]
  seen = set(stack)
  while stack:
    for reader in graph.readers(stack.pop()):
      if reader not in seen and graph.op(reader) not in ops.SHAPES:
        seen.add(reader)
        stack.append(reader)
  return seen


def norm_behind(graph: Graph, norms, differences, first):
  """The first norm between what still agrees and what does not, or None.

  Args:
    graph: the graph that was walked.
    norms: its BatchNorms, in order of execution.
    differences: as they were walked; see `walk`.
    first: one of them; see `first_real`.
  """
  agree = []
  for one in differences:
    if one is first:
      break
    agree.append(TensorRef.parse(one.output).node)
  reached = graph.ancestors([TensorRef.parse(first.output).node])
  new = set(reached) - set(graph.ancestors(agree))
  for norm in norms:
    # The mean may be taken away before the node that gives the norm its name.
    refs = [norm.mean, norm.variance]
    names = [norm.name] + [ref.node for ref in refs if ref is not None]
    if not new.isdisjoint(names):
      return norm
  return None


def always_run(graph: Graph):
  """Names of the nodes whose first output any run hands out.

  What lies within a conditional or a loop does not always run.
  """
  signatures = Signatures()
  order = graph.topological()
  frames = Frames(graph, order)
  depth = conditional_depth(graph, order)
  return {
    name
    for name in order
    if depth[name] == 0
    and not frames.of(name)
    and not ops.is_data_source(graph.op(name))
    and graph.op(name) not in ops.VARIABLES
    and _hands_out_value(graph.node(name), signatures)
  }


def conditional_depth(graph: Graph, order):
  """In how many conditionals each node of `order` lies; loops count too."""
  depth: Dict[str, int] = {}
  for name in order:
    op = graph.op(name)
    depth[name] = max(
      (depth.get(ref.node, 0) for ref in graph.inputs(name)), default=0
    )
    if op in ops.SWITCHES:
      depth[name] += 1
    elif op in ops.MERGES or op in ops.EXITS:
      depth[name] = max(0, depth[name] - 1)
  return depth


def _hands_out_value(node, signatures):
  if node.op not in signatures:
    return False
  dtypes = signatures.output_dtypes(node)
  return bool(dtypes) and tf1.as_dtype(dtypes[0]).base_dtype not in _HANDLES


def stream(running, names, feeds) -> Iterator[Tuple[str, np.ndarray]]:
  """Yields tensors by name, some at a time, so that memory stays bounded.

  Args:
    running: has `fetch(names, feeds)`, as comparison.Runner has.
    names: of nodes or tensors.
    feeds: arrays by node name.

  Raises:
    ComparisonError: TensorFlow can't run the graph.
  """
  names, count, begin = list(names), _FEWEST, 0
  while begin < len(names):
    some = names[begin : begin + count]
    arrays = [np.asarray(a) for a in running.fetch(some, feeds)]
    for name, array in zip(some, arrays):
      yield name, array
    begin += len(some)
    largest = max(array.nbytes for array in arrays)
    count = max(1, min(_MOST, 2 * count, _BYTES // max(largest, 1)))


def walk(a, b, feeds, names: Iterable[str]) -> Iterator[Difference]:
  """Yields how far the tensors of two graphs are apart, in order.

  Args:
    a: what runs a graph: has `fetch(names, feeds)`.
    b: what runs the reference.
    feeds: arrays by node name, for both.
    names: the tensors, in order of execution; see `matched`.

  Raises:
    ComparisonError: TensorFlow can't run one of them.
  """
  names = list(names)
  for (name, value), (_, expected) in zip(
    stream(a, names, feeds), stream(b, names, feeds)
  ):
    yield difference(name, value, expected)


def first_real(
  differences: Iterable[Difference], graph: Graph
) -> Optional[Difference]:
  """The first difference that is no rounding, or None.

  A difference is real where it exceeds its limit. It may have grown from a
  tensor of small values, in which it stays below: then that one is named.

  Args:
    differences: in order of execution; see `walk`.
    graph: tells which tensor feeds which.
  """
  suspects: List[Difference] = []
  for one in differences:
    if not one.holds:
      behind = graph.ancestors([TensorRef.parse(one.output).node], False)
      for suspect in suspects:
        if TensorRef.parse(suspect.output).node in behind:
          return suspect
      return one
    if _is_suspect(one):
      suspects.append(one)
  return None


def _is_suspect(one):
  # The limit is the tolerance times the scale; both are known to be positive.
  allowed = one.limit / one.scale * one.magnitude
  return one.largest > _SUSPECT * allowed and one.largest > 0
