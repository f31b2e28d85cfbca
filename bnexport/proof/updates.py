# SPDX-License-Identifier: Apache-2.0
"""The updates of averages in a training graph, and how they are run alone."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Dict, List, Set

from bnexport.analysis.flow import Flow
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.writes import are_apart, write_of, written_variable
from bnexport.text import Emitter
from bnexport.tf1 import tf1

# An Identity of a handle hands it on to whatever may write.
_READS = {True: ops.RESOURCE_READS, False: frozenset(("Identity",))}


@dataclasses.dataclass
class Updates:
  """Updates that carry data into variables.

  Attributes:
    of: names of update nodes, by the variable that they write.
    run: names of the nodes to run for all of them: an update in a loop is run
      by what leaves the loop.
    mixed: variables that are updated several times in a run, so that they
      settle at a statistic only where it is the same each time.
  """

  of: Dict[str, List[str]]
  run: List[str] = dataclasses.field(default_factory=list)
  mixed: List[str] = dataclasses.field(default_factory=list)

  def levels(self, graph: Graph) -> List[List[str]]:
    """Variables in groups: updates of one read those before and itself."""
    read = {}
    for variable, updates in self.of.items():
      behind = graph.ancestors(updates, control=False)
      read[variable] = {v for v in self.of if v in behind} - {variable}
    levels = []
    while read:
      level = [v for v, others in read.items() if not others & set(read)]
      level = level or list(read)  # they read each other
      levels.append(level)
      for variable in level:
        del read[variable]
    return levels


def find(original, by_data, averages) -> Updates:
  """The Updates of a training Model; what they wait for goes from its graph.

  The weights stay: what gradients are part of is no update of an average.
  Initialisers and restores carry no data. A counter moves by itself; it
  matters where an average's update reads it, or a sum is divided by it. What
  the outputs read from an update, such as the range of weights that are
  quantized, settles as well.

  Args:
    original: a Model; its graph is edited.
    by_data: names of the nodes that read what is fed.
    averages: names of variables that are moving averages.
  """
  graph = original.graph
  flow = Flow(graph)
  found = _candidates(original, flow, averages)
  carrying = [u for us in found.values() for u in us if u in by_data]
  behind = graph.ancestors(carrying, control=False)
  needed = original.needed() if carrying else ()
  chosen = {}
  for variable, updates in found.items():
    own = [u for u in updates if u in by_data or _is_read(graph, u, needed)]
    if not own and (variable in behind or variable in averages):
      own = [u for u in updates if _starts_from(graph, u, variable)]
    if own:
      chosen[variable] = own
  _add_averaged(graph, chosen, {v: found[v] for v in found if v in averages})
  _stop_waiting(graph, behind, flow.derived)
  contexts = flow.contexts
  run = _to_run(graph, contexts, [u for us in chosen.values() for u in us])
  left = graph.ancestors(run)
  chosen = {v: [u for u in us if u in left] for v, us in chosen.items()}
  chosen = {
    variable: updates for variable, updates in chosen.items() if updates
  }
  mixed = [v for v, us in chosen.items() if _are_mixed(graph, contexts, us)]
  return Updates(chosen, run, mixed)


def constants(graph: Graph) -> Set[str]:
  """Variables that nothing in a graph can write: all that reads them reads."""
  return {
    node.name
    for node in graph
    if node.op in ops.VARIABLES
    and all(
      graph.op(reader) in _READS[node.op == "VarHandleOp"]
      for reader in graph.readers(node.name)
    )
  }


def _add_averaged(graph, chosen, found):
  """Adds updates that average another variable, as what the last batch left."""
  for variable in [v for v in found if v not in chosen]:
    own = [u for u in found[variable] if _reads_any(graph, u, chosen)]
    if own:
      chosen[variable] = own


def _candidates(original, flow, averages):
  """Updates that no gradient is part of, by the variable."""
  graph = original.graph
  found: Dict[str, List[str]] = {}
  for node in graph:
    if node.op not in ops.UPDATES or node.name in flow.derived:
      continue
    variable = written_variable(graph, node.name)
    if variable is None or variable not in original.values:
      continue
    dtype = tf1.as_dtype(graph.node(variable).attr["dtype"].type)
    if dtype.is_floating or variable in averages:
      found.setdefault(variable, []).append(node.name)
  return found


def _are_mixed(graph, contexts, updates):
  """Whether updates of one variable may write the same part in one run."""
  parts = [write_of(graph, update).part for update in updates]
  return any(map(contexts.frame, updates)) or not all(
    are_apart(graph, a, b) for a, b in itertools.combinations(parts, 2)
  )


def _to_run(graph, contexts, updates):
  """Names of nodes to run for some updates; none of them is in a loop."""
  loops = {contexts.frame(update)[:1] for update in updates} - {()}
  exits = [
    name
    for name in graph.names()
    if graph.op(name) in ops.EXITS
    and contexts.frame(graph.inputs(name)[0].node) in loops
  ]
  return [u for u in updates if not contexts.frame(u)] + exits


def _starts_from(graph, update, variable):
  """Whether an update changes what a variable holds, as no initialiser does."""
  if graph.op(update) not in ops.ASSIGN:
    return graph.op(update) in ops.ASSIGN_ADD | ops.ASSIGN_SUB
  value = write_of(graph, update).value.node
  return variable in graph.ancestors([value], control=False)


def _is_read(graph, update, needed):
  """Whether the outputs need what an update writes."""
  return update in needed or any(
    reader in needed and graph.op(reader) in ops.RESOURCE_READS
    for reader in graph.readers(update)
  )


def _reads_any(graph, update, variables):
  read = graph.ancestors([update], control=False)
  return any(variable in read for variable in variables)


def _stop_waiting(graph, names, gradients):
  """Lets updates run without the training step that they come behind."""
  for name in names:
    refs = graph.inputs(name)
    left = [r for r in refs if not (r.control and r.node in gradients)]
    if left != refs:
      graph.set_inputs(name, left)


def fed_nodes(graph, original):
  """Names of the nodes that read what is fed."""
  stack = [n for n in original.placeholders()] + [
    ref.node for ref in original.inputs
  ]
  seen = set(stack)
  while stack:
    name = stack.pop()
    for reader in graph.readers(name):
      if reader in seen or graph.op(reader) in ops.SHAPES:
        continue
      if any(ref.node == name for ref in graph.data_inputs(reader)):
        seen.add(reader)
        stack.append(reader)
  return seen


# The variance that a fused norm normalises with, of the one that it hands out:
# with n the rows times the size of the image, that is n / (n - 1) times it
# (Bessel's correction; core/kernels/fused_batch_norm_op.cc of TensorFlow).
_BIASED = """
  biased/size = Size(x) {out_type=int32}
  biased/width = Size(mean) {out_type=int32}
  biased/size/float = Cast(biased/size) {DstT=float}
  biased/width/float = Cast(biased/width) {DstT=float}
  biased/rows = RealDiv(biased/size/float, biased/width/float)
  biased/one = Const() {value=<float 1>}
  biased/less = Sub(biased/rows, biased/one)
  biased/factor = RealDiv(biased/less, biased/rows)
  biased = Mul(variance, biased/factor)
"""


# A FakeQuant op without its rounding, which turns the last bit of x into a
# whole step.
_CLIPPED = """
  below = Minimum(x, high)
  y = Maximum(below, low)
"""


def round_nothing(graph):
  """Lets FakeQuant ops clip, and no more, in a graph that is compared so."""
  emitter = Emitter(graph)
  for node in list(graph):
    if node.op in ops.FAKE_QUANTS:
      x, low, high = graph.data_inputs(node.name)
      emitter.become(node.name, _CLIPPED, x=x, low=low, high=high)


def divide_by_rows(graph, needed):
  """Lets updates store the variance that fused norms normalise with.

  What the outputs need of a variance handed out is theirs to correct.
  """
  emitter = Emitter(graph)
  for node in graph:
    if node.op not in ops.FUSED_NORMS or not node.attr["is_training"].b:
      continue
    variance = TensorRef(node.name, 2)
    readers = [n for n in graph.readers_of(variance) if n not in needed]
    if readers:
      x, mean = graph.inputs(node.name)[0], TensorRef(node.name, 1)
      made = emitter.emit(node.name, _BIASED, x=x, mean=mean, variance=variance)
      graph.substitute({variance: made["biased"]}, readers)
