# SPDX-License-Identifier: Apache-2.0
"""Edits that make a malformed GraphDef open, as far as the outputs need it."""

from __future__ import annotations

from typing import Callable, Collection, Dict, Iterable, List, Mapping, Optional

from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures
from bnexport.graph.placeholders import placeholder_attrs, placeholder_name
from bnexport.mending import faults as faulty
from bnexport.mending.faults import Fault
from bnexport.tf1 import tf1


def mend(
  graph_def: tf1.GraphDef,
  signatures: Signatures,
  outputs: Iterable[TensorRef] = (),
  inputs: Collection[TensorRef] = (),
  found: Optional[Iterable[Fault]] = None,
) -> List[str]:
  """Mends a GraphDef in place, so that `Graph` opens it.

  Repeated nodes go where they are equal. Control inputs move behind data
  inputs, and go where they wait for nothing. A missing input that the user
  feeds becomes a placeholder. What can't be used, and what reads it, goes as
  long as no output needs it. Returns what was done, a line each.

  Args:
    graph_def: a GraphDef; is edited.
    signatures: OpDefs by name.
    outputs: TensorRefs that have to be kept.
    inputs: TensorRefs that the user feeds.
    found: its Faults, where they have been looked for.

  Raises:
    GraphError: an output needs a node that can't be mended, or two nodes of
      one name are different ones.
  """
  if found is None:
    found = faulty.find(graph_def, signatures)
  told = _drop_repeated(graph_def, found)
  nodes = {node.name: node for node in graph_def.node}
  fed = {ref.node for ref in inputs}
  unusable: Dict[str, Fault] = {}
  for fault in found:
    done = _mend_inputs(graph_def, nodes, signatures, fault, inputs)
    if done is not None:
      told += done
    elif fault.node in fed:
      del nodes[fault.node].input[:]  # what it was computed from is cut away
    else:
      unusable.setdefault(fault.node, fault)
  return told + _drop_unusable(graph_def, unusable, outputs, fed)


def _mend_inputs(
  graph_def: tf1.GraphDef,
  nodes: Dict[str, tf1.NodeDef],
  signatures: Signatures,
  fault: Fault,
  inputs: Collection[TensorRef],
) -> Optional[List[str]]:
  """Mends inputs of a node that are out of order or missing.

  Returns:
    What was done, a line each; None where the node can't be used as it is.
  """
  node, ref = nodes[fault.node], TensorRef.parse(fault.subject)
  is_missing = fault.kind == faulty.DANGLING
  if fault.kind == faulty.ORDER or (is_missing and ref.control):
    return _mend_controls(node, nodes)
  is_fed = is_missing and ref in inputs
  if is_fed and _feed(graph_def, nodes, signatures, node, ref):
    return [f"'{node.name}' {fault.fact}; it is a placeholder now"]
  return None if fault.kind in faulty.UNUSABLE else []


def set_aside(
  graph: Graph,
  signatures: Signatures,
  outputs: Iterable[TensorRef],
  inputs: Collection[TensorRef],
) -> List[str]:
  """Removes nodes that can't be used from a Graph, and what reads them.

  Returns what was done, a line each.

  Args:
    graph: is edited.
    signatures: OpDefs by name.
    outputs: TensorRefs that have to be kept.
    inputs: TensorRefs that the user feeds; they need not be computed.

  Raises:
    GraphError: an output needs such a node.
  """
  found = faulty.unusable(graph, signatures)
  fed = {ref.node for ref in inputs}
  unusable = {name: fault for name, fault in found.items() if name not in fed}
  if not unusable:
    return []

  def readers(name: str) -> List[str]:
    read = [ref for ref in graph.reads(name) if not ref.control]
    found = [reader for ref in read for reader in graph.readers_of(ref)]
    return [reader for reader in found if reader not in fed]

  cause = _with_readers(unusable, readers)
  for ref in outputs:
    if ref.node in cause:
      _refuse_output(ref, cause[ref.node])
  _remove(graph, cause, fed)
  return _removed(unusable)


def _refuse_output(output: TensorRef, fault: Fault) -> None:
  raise GraphError(
    f"use output '{output}'",
    f"'{fault.node}', which it needs, {fault.fact}",
    f"cut behind it with --input_node={fault.node}",
  )


def _remove(graph: Graph, names: Collection[str], fed: Iterable[str]) -> None:
  """Removes nodes that nothing reads but what is fed, and only waits for."""
  graph.substitute({TensorRef(name, 0, True): () for name in names})
  for name in [name for name in fed if name in graph]:
    left = [ref for ref in graph.inputs(name) if ref.node not in names]
    graph.set_inputs(name, left)
  graph.remove(names)


def _with_readers(
  unusable: Mapping[str, Fault], readers: Callable[[str], Iterable[str]]
) -> Dict[str, Fault]:
  """Nodes that can't be used, and all that read them, each with its Fault."""
  cause = dict(unusable)
  stack = list(cause)
  for name in stack:
    for reader in readers(name):
      if reader not in cause:
        cause[reader] = cause[name]
        stack.append(reader)
  return cause


def _removed(unusable: Mapping[str, Fault]) -> List[str]:
  return [
    f"removed '{name}', which {fault.fact}; no output needs it"
    for name, fault in unusable.items()
  ]


def missing(graph_def: tf1.GraphDef, inputs: Iterable[str]) -> Dict[str, str]:
  """New names of fed tensors that `mend` makes placeholders, by their text."""
  nodes = {node.name for node in graph_def.node}
  refs = {text: TensorRef.parse(text) for text in inputs}
  return {
    text: placeholder_name(ref)
    for text, ref in refs.items()
    if ref.node not in nodes
  }


def _drop_repeated(
  graph_def: tf1.GraphDef, found: Iterable[Fault]
) -> List[str]:
  """Keeps one of the equal nodes that share a name."""
  repeated = {f.node for f in found if f.kind == faulty.DUPLICATE}
  if not repeated:
    return []
  first: Dict[str, tf1.NodeDef] = {}
  kept = []
  for node in graph_def.node:
    same = first.setdefault(node.name, node)
    if same is not node and same != node:
      raise GraphError(
        "use the graph",
        f"two different nodes are named '{node.name}' ({same.op} and "
        f"{node.op})",
        "rename one where the graphs were joined, as import_graph_def's "
        "name= does",
      )
    if same is node:
      kept.append(node)
  _keep(graph_def, kept)
  return [
    f"'{name}' was there more than once; one is kept"
    for name in sorted(repeated)
  ]


def _keep(graph_def: tf1.GraphDef, kept: Iterable[tf1.NodeDef]) -> None:
  own = type(graph_def)()
  own.node.extend(kept)
  del graph_def.node[:]
  graph_def.node.extend(own.node)


def _mend_controls(
  node: tf1.NodeDef, nodes: Mapping[str, tf1.NodeDef]
) -> List[str]:
  refs = [TensorRef.parse(text) for text in node.input]
  data = [str(ref) for ref in refs if not ref.control]
  control = [str(ref) for ref in refs if ref.control and ref.node in nodes]
  missing = [ref.node for ref in refs if ref.control and ref.node not in nodes]
  if list(node.input) == data + control:
    return []  # by an earlier fault of the same node
  del node.input[:]
  node.input.extend(data + control)
  if missing:
    return [
      "'%s' waits no more for '%s', which is not in the graph"
      % (node.name, "', '".join(missing))
    ]
  return [f"'{node.name}' has its control inputs behind its data inputs"]


def _feed(
  graph_def: tf1.GraphDef,
  nodes: Dict[str, tf1.NodeDef],
  signatures: Signatures,
  reader: tf1.NodeDef,
  ref: TensorRef,
) -> bool:
  """Makes a missing tensor a placeholder of the dtype that its reader takes.

  Returns:
    Whether that could be told.
  """
  dtype = signatures.read_dtype(reader, ref)
  if dtype is None:
    return False
  name = placeholder_name(ref)
  if name not in nodes:
    attrs = placeholder_attrs(dtype)
    nodes[name] = graph_def.node.add(name=name, op="Placeholder", attr=attrs)
  for slot, text in enumerate(reader.input):
    if TensorRef.parse(text) == ref:
      reader.input[slot] = name
  return True


def _drop_unusable(
  graph_def: tf1.GraphDef,
  unusable: Mapping[str, Fault],
  outputs: Iterable[TensorRef],
  fed: Collection[str],
) -> List[str]:
  """Removes nodes that can't be used, and those that read them.

  What is fed stays; it need not be computed.
  """
  if not unusable:
    return []
  readers: Dict[str, List[str]] = {}
  for node in graph_def.node:
    for text in node.input if node.name not in fed else ():
      ref = TensorRef.parse(text)
      if not ref.control:
        readers.setdefault(ref.node, []).append(node.name)
  cause = _with_readers(unusable, lambda name: readers.get(name, ()))
  for ref in outputs:
    if ref.node in cause:
      _refuse(ref, cause[ref.node])
  kept = [node for node in graph_def.node if node.name not in cause]
  for node in kept:
    if any(TensorRef.parse(text).node in cause for text in node.input):
      left = [t for t in node.input if TensorRef.parse(t).node not in cause]
      del node.input[:]
      node.input.extend(left)
  _keep(graph_def, kept)
  return _removed(unusable)


def _refuse(output: TensorRef, fault: Fault) -> None:
  is_gone = fault.kind == faulty.DANGLING
  raise GraphError(
    f"mend output '{output}'",
    f"'{fault.node}', which it needs, {fault.fact}",
    "give the .meta of the training graph with --meta_graph, or %s with "
    "--input_node=%s"
    % (
      "feed it" if is_gone else "cut behind it",
      fault.subject if is_gone else fault.node,
    ),
  )
