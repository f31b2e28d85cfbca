# SPDX-License-Identifier: Apache-2.0
"""The norms of a training graph, and the updates of their averages."""

from __future__ import annotations

import dataclasses
import re
from typing import Dict, FrozenSet, Iterable, List, Sequence, Tuple

from bnexport.analysis import ends
from bnexport.analysis.flow import Flow
from bnexport.batchnorm.norm import BATCH, SWITCHED, BatchNorm
from bnexport.batchnorm.norms import batch_norms
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.writes import written_variable

_NUMBER = re.compile(r"\d+")


@dataclasses.dataclass(frozen=True)
class Watched:
  """A norm that trains, with averages of its own.

  Attributes:
    norm: the BatchNorm.
    updates: names of the nodes that write its averages.
  """

  norm: BatchNorm
  updates: FrozenSet[str]

  @property
  def name(self) -> str:
    return self.norm.name

  @property
  def averages(self) -> Tuple[str, ...]:
    """Names of the variables, mean and variance, where they are known."""
    both = (self.norm.moving_mean, self.norm.moving_variance)
    return tuple(name for name in both if name is not None)


class TrainingNorms:
  """The norms of a training graph that compute with the batch.

  Attributes:
    graph: the Graph, a copy of the user's.
    outputs: TensorRefs of the outputs that are named, or of the likely one.
    watched: a Watched for each norm that has averages.
    without: the BatchNorms that have none.
  """

  def __init__(self, graph_def, outputs: Sequence[str] = ()):
    """Reads a training graph; nothing of it is run.

    Args:
      graph_def: a GraphDef, which is taken over.
      outputs: names of the model's outputs; likely ones where there are none.
    """
    self.graph = Graph(graph_def, copy=False)
    flow = Flow(self.graph)
    names = list(outputs) or ends.outputs(flow)[:1]
    self.outputs = [TensorRef.parse(name) for name in names]
    found = batch_norms(flow, [ref.node for ref in self.outputs])
    writes = _writes(self.graph)
    self.watched: List[Watched] = []
    self.without: List[BatchNorm] = []
    for norm in found:
      if norm.statistics not in (BATCH, SWITCHED):
        continue
      if norm.moving_mean is None and norm.moving_variance is None:
        self.without.append(norm)
        continue
      updates = frozenset(
        update
        for variable in (norm.moving_mean, norm.moving_variance)
        for update in writes.get(variable, ())
      )
      self.watched.append(Watched(norm, updates))


def _writes(graph: Graph) -> Dict[str, List[str]]:
  """Names of the updates that write each variable, but for initializers.

  What an initializer or a Saver assigns comes from no batch.
  """
  # Names of the nodes that any data reaches.
  reached = {node.name: None for node in graph if ops.is_data_source(node.op)}
  stack = list(reached)
  while stack:
    for reader, ref, _ in graph.edges(stack.pop()):
      if reader not in reached and not ref.control:
        reached[reader] = None
        stack.append(reader)
  found: Dict[str, List[str]] = {}
  for node in graph:
    if node.op in ops.UPDATES and node.name in reached:
      variable = written_variable(graph, node.name)
      if variable is not None:
        found.setdefault(variable, []).append(node.name)
  return found


def grouped(names: Iterable[str]) -> List[str]:
  """Names by the pattern of their scopes, each with a count.

  >>> grouped(["net/block1/bn", "net/block2/bn", "net/last/bn"])
  ['net/block*/bn (2)', 'net/last/bn']
  """
  found: Dict[str, List[str]] = {}
  for name in names:
    found.setdefault(_NUMBER.sub("*", name), []).append(name)
  return [
    f"{pattern} ({len(members)})" if members[1:] else members[0]
    for pattern, members in found.items()
  ]


def listed(names: Sequence[str]) -> str:
  """Names in a sentence, grouped and cut."""
  groups = grouped(names)
  more = f" and {len(groups) - 3} more" if groups[3:] else ""
  return ", ".join(f"'{group}'" for group in groups[:3]) + more
