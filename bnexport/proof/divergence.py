# SPDX-License-Identifier: Apache-2.0
"""The first tensors at which two graphs part, on the same feeds."""

from __future__ import annotations

import dataclasses
import functools
from typing import Iterable, Iterator, List, Optional, Tuple

import numpy as np

from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.graph.nodes import Signatures
from bnexport.proof import stages
from bnexport.proof.differences import Difference, difference
from bnexport.proof.rounding import changed, movement
from bnexport.proof.runs import ImportedGraph, Run
from bnexport.tf1 import tf1

# Tensors of one run stay below this, so that a batch of large images fits.
_BYTES = 256 << 20
_FEWEST, _MOST = 8, 128
# No session hands these out.
_HANDLES = (tf1.resource, tf1.variant)


@dataclasses.dataclass
class Parting:
  """Tensors of two runs on the same feeds, and the first that differs.

  Attributes:
    what: names what the first run was held against.
    differences: one a tensor, in order of execution.
    first: the first that differs by more than rounding, or None.
    op: that node's op.
    norm: the BatchNorm that it lies at or behind, or None.
    values: shape, dtype and range of the first run's values there.
    reference_values: the same of the second run's.
    note: why nothing was compared; empty where it was.
  """

  what: str = ""
  differences: List[Difference] = dataclasses.field(default_factory=list)
  first: Optional[Difference] = None
  op: str = ""
  norm: Optional[object] = None
  values: str = ""
  reference_values: str = ""
  note: str = ""


def part(a: ImportedGraph, b: Run, feeds, norms=()) -> Parting:
  """Walks two runs tensor by tensor; tells where they part.

  Where a norm was folded, a layer has other values and what reads it agrees
  again: only a difference that reaches an output of `a` counts.

  Args:
    a: the run that may be wrong.
    b: its reference. Tensors of the same names are compared, and `a`'s outputs.
    feeds: arrays by node name, for both.
    norms: BatchNorms of `a`, in order of execution.

  Raises:
    ComparisonError: one of them can't be run.
  """
  graph = a.graph
  fed = depend_on(graph, feeds)
  names = [name for name in matched(graph, b.graph) if name in fed]
  names += [name for name in a.outputs if name not in names]
  found = Parting(b.what, list(walk(a, b, feeds, names)))
  reaching = _reaching(graph, a.outputs, found.differences)
  first = next(
    (
      one
      for one in found.differences
      if not one.holds and _node(one.output) in reaching
    ),
    None,
  )
  if first is not None:
    found.first, found.op = first, graph.op(_node(first.output))
    found.norm = norm_behind(graph, norms, found.differences, first)
    found.values, found.reference_values = (
      _words(side.fetch([first.output], feeds)[0]) for side in (a, b)
    )
  return found


def _reaching(graph, outputs, differences):
  """Nodes whose differences reach an output."""
  agree = {_node(one.output) for one in differences if one.holds}
  stack = [_node(name) for name in outputs if _node(name) not in agree]
  seen = set(stack)
  while stack:
    for ref in graph.inputs(stack.pop()):
      if ref.node not in seen and ref.node not in agree:
        seen.add(ref.node)
        stack.append(ref.node)
  return seen


def _node(name):
  return TensorRef.parse(name).node


def _words(array):
  """Shape, dtype and range of values, for people."""
  array = np.asarray(array)
  said = f"{array.dtype.name} {list(array.shape)}"
  if array.size and array.dtype.kind in "fiu":
    said += f" from {array.min():.3g} to {array.max():.3g}"
  return said


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
    first: one of them.
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
  contexts = Contexts(graph, order)
  return {
    name
    for name in order
    if not contexts.is_inside(TensorRef(name))
    and not ops.is_data_source(graph.op(name))
    and graph.op(name) not in ops.VARIABLES
    and _hands_out_value(graph.node(name), signatures)
  }


def _hands_out_value(node, signatures):
  if node.op not in signatures:
    return False
  dtypes = signatures.output_dtypes(node)
  return bool(dtypes) and tf1.as_dtype(dtypes[0]).base_dtype not in _HANDLES


def stream(running, names, feeds) -> Iterator[Tuple[str, np.ndarray]]:
  """Yields tensors by name, some at a time, so that memory stays bounded.

  Args:
    running: a Run.
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
    a: an ImportedGraph.
    b: a Run.
    feeds: arrays by node name, for both.
    names: the tensors, in order of execution; see `matched`.

  Raises:
    ComparisonError: TensorFlow can't run one of them.
  """
  names = list(names)
  beside = [stream(a, names, other) for other in changed(a, names, feeds)]
  beside = [stream(a, names, feeds), stream(b, names, feeds), *beside]
  for (name, value), (_, expected), *others in stages.each(
    "comparing tensor by tensor", zip(*beside), len(names)
  ):
    moved = [movement(value, other) for _, other in others]
    yield difference(
      name, value, expected, a.rounding, functools.reduce(np.maximum, moved)
    )
