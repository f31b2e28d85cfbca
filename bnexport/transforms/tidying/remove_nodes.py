# SPDX-License-Identifier: Apache-2.0
"""Nodes that hand on their input go."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List, Tuple

from bnexport.errors import TransformError
from bnexport.graph import ops
from bnexport.mending.faults import gives_reference
from bnexport.model import Model
from bnexport.tf1 import tf1
from bnexport.transforms.tidying.names import protected
from bnexport.transforms.uses import Uses


@dataclasses.dataclass(frozen=True)
class RemoveNodes:
  """Lets whoever reads a node of some op read the node's first input instead.

  What a removed node waits for, its readers wait for; for constants nobody
  has to. What only a removed node read goes with it. Inputs and outputs of the
  model stay, also what nobody reads. So do these, which is said:

  - a node that others wait for and that reads one side of a Switch: that they
    run in one branch only hangs on it;
  - the read of a variable, whose time would change;
  - a node of which another output than the first is read, and one with
    control inputs that a Merge reads.

  In the bodies of functions, nodes go that wait for nothing and that nobody
  waits for.

  With:   remove_nodes(op=Identity, op=CheckNumerics)
  Before: a = CheckNumerics(x)   b = Identity(a, ^c)   y = Relu(b)
  After:  y = Relu(x, ^c)

  Refuses ops that direct control flow, and nodes that turn their input to
  another type.

  Attributes:
    op: ops to remove.
    max_inputs: nodes with more data inputs than this stay.
  """

  name: ClassVar[str] = "remove_nodes"
  op: Tuple[str, ...]
  max_inputs: int = 1

  def apply(self, model: Model) -> List[str]:
    for op in self.op:
      if op in ops.CONTROL_FLOW:
        raise TransformError(
          f"remove nodes of op '{op}'",
          "what they hand on depends on a branch or a loop",
          "run decide, which settles branches",
        )
    graph = model.graph
    kept = protected(model)
    found = [
      name
      for name in graph.topological()
      if graph.op(name) in self.op
      and name not in kept
      and graph.readers(name)
      and 1 <= len(graph.data_inputs(name)) <= self.max_inputs
    ]
    for name in found:
      _refuse_cast(model, graph.node(name))
    told, removed, uses = [], 0, Uses(model)
    for name in found:
      reason = _reason_to_stay(model, name)
      if reason:
        told.append(f"kept '{name}' ({graph.op(name)}): {reason}")
      else:
        read = [ref.node for ref in graph.inputs(name)]
        _splice(graph, name)
        uses.remove_unread(read)
        removed += 1
    removed += sum(self._strip_body(f) for f in graph.library.values())
    if removed:
      told.insert(0, f"removed {removed} nodes")
    return told

  def _strip_body(self, function):
    """Removes nodes of a function; returns how many."""
    awaited = {
      text[1:]
      for node in function.node_def
      for text in node.input
      if text.startswith("^")
    } | set(function.control_ret.values() if _has_control_ret(function) else ())
    sources, going = {}, []
    for node in function.node_def:
      if (
        node.op in self.op
        and 1 <= len(node.input) <= self.max_inputs
        and not any(text.startswith("^") for text in node.input)
        and node.name not in awaited
        and not _is_resource(node)
      ):
        sources[node.name] = node.input[0]
        going.append(node)
    for node in function.node_def:
      node.input[:] = [_source(text, sources) for text in node.input]
    for key, text in function.ret.items():
      function.ret[key] = _source(text, sources)
    for node in going:
      function.node_def.remove(node)
    return len(going)


def _has_control_ret(function):
  return "control_ret" in function.DESCRIPTOR.fields_by_name


def _is_resource(node):
  return "T" in node.attr and node.attr["T"].type == tf1.resource


def _source(text, sources):
  """The origin of a body's `node:output:index`."""
  while not text.startswith("^") and text.partition(":")[0] in sources:
    text = sources[text.partition(":")[0]]
  return text


def _refuse_cast(model, node):
  if node.op not in model.signatures:
    return
  taken = model.signatures.input_dtypes(node)
  given = model.signatures.output_dtypes(node)
  if not given or taken[0] != given[0]:
    raise TransformError(
      f"remove node '{node.name}' ({node.op})",
      "its readers take %s, and its input is %s"
      % (
        tf1.as_dtype(given[0]).name if given else "no value",
        tf1.as_dtype(taken[0]).name,
      ),
      f"leave op={node.op} out",
    )


def _reason_to_stay(model, name):
  """The reason why a node can't go, or None."""
  graph = model.graph
  source = graph.data_inputs(name)[0]
  reads = graph.reads(name)
  if any(ref.index for ref in reads):
    return "not only its first output is read"
  if (
    any(ref.control for ref in reads) and graph.op(source.node) in ops.SWITCHES
  ):
    return "nodes that wait for it run in that branch only"
  before = graph.node(source.node)
  if before.op in ops.VARIABLES or (
    before.op in model.signatures
    and gives_reference(before, model.signatures, source.index)
  ):
    return f"it reads variable '{source.node}'"
  if graph.control_inputs(name) and any(
    graph.op(reader) in ops.MERGES for reader in graph.readers(name)
  ):
    return "a Merge, which waits for one input only, would wait for all of its"
  return None


def _splice(graph, name):
  """Takes a node out between its first input and its readers."""
  source = graph.data_inputs(name)[0]
  # A constant that waits for nothing is always there.
  waits = [
    ref
    for ref in graph.control_inputs(name)
    if graph.op(ref.node) != "Const" or graph.inputs(ref.node)
  ]
  graph.substitute(
    {
      ref: [source._replace(control=ref.control), *waits]
      for ref in graph.reads(name)
    }
  )
  graph.remove([name])
