"""Making a malformed GraphDef one that opens, for what is asked of it."""

from __future__ import annotations

from bnexport import faults as faulty
from bnexport.errors import GraphError
from bnexport.graph import TensorRef
from bnexport.nodes import type_attr

# A node with one of these can't be used; the others are mended in place, or,
# as clashes of references, by the transforms.
_UNUSABLE = (faulty.DANGLING, faulty.ARITY, faulty.PORT, faulty.FUNCTION)


def mend(graph_def, signatures, outputs=(), inputs=()):
  """Mends a GraphDef in place, so that `Graph` opens it.

  Repeated nodes go where they are equal. Control inputs move behind data
  inputs, and go where they wait for nothing. A missing input that the user
  feeds becomes a placeholder. What can't be used, and what reads it, goes as
  long as no output needs it.

  Args:
    graph_def: a GraphDef; is edited.
    signatures: OpDefs by name.
    outputs: TensorRefs that have to be kept.
    inputs: TensorRefs that the user feeds.

  Returns:
    What was done, a line each.

  Raises:
    GraphError: an output needs a node that can't be mended, or two nodes of
      one name are different ones.
  """
  found = faulty.find(graph_def, signatures)
  told = _drop_repeated(graph_def, found)
  nodes = {node.name: node for node in graph_def.node}
  fed = {ref.node for ref in inputs}
  unusable = {}
  for fault in found:
    node = nodes[fault.node]
    ref = TensorRef.parse(fault.subject)
    if fault.kind == faulty.ORDER or (
      fault.kind == faulty.DANGLING and ref.control
    ):
      told.append(_mend_controls(node, nodes))
    elif fault.kind == faulty.DANGLING and ref.node in fed:
      if ref.node not in nodes:
        nodes[ref.node] = _add_placeholder(graph_def, signatures, node, ref)
        told.append(
          "'%s' %s; it is a placeholder now" % (node.name, fault.fact)
        )
    elif fault.kind in _UNUSABLE and node.name not in fed:
      unusable.setdefault(node.name, fault)
  for name in fed & set(nodes):
    del nodes[name].input[:]  # what it was computed from is cut away
  return told + _drop_unusable(graph_def, unusable, outputs)


def _drop_repeated(graph_def, found):
  """Of nodes with one name, keeps one."""
  repeated = {f.node for f in found if f.kind == faulty.DUPLICATE}
  if not repeated:
    return []
  first, kept = {}, []
  for node in graph_def.node:
    same = first.setdefault(node.name, node)
    if same is not node and same != node:
      raise GraphError(
        "cannot use the graph: two different nodes are named '%s' (%s and "
        "%s); rename one where the graphs were joined, as import_graph_def's "
        "name= does" % (node.name, same.op, node.op)
      )
    if same is node:
      kept.append(node)
  _keep(graph_def, kept)
  return [
    "'%s' was there more than once; one is kept" % name
    for name in sorted(repeated)
  ]


def _keep(graph_def, kept):
  own = type(graph_def)()
  own.node.extend(kept)
  del graph_def.node[:]
  graph_def.node.extend(own.node)


def _mend_controls(node, nodes):
  refs = [TensorRef.parse(text) for text in node.input]
  data = [str(ref) for ref in refs if not ref.control]
  control = [str(ref) for ref in refs if ref.control and ref.node in nodes]
  missing = [ref.node for ref in refs if ref.control and ref.node not in nodes]
  del node.input[:]
  node.input.extend(data + control)
  if missing:
    return "'%s' waits no more for '%s', which is not in the graph" % (
      node.name,
      "', '".join(missing),
    )
  return "'%s' has its control inputs behind its data inputs" % node.name


def _add_placeholder(graph_def, signatures, reader, ref):
  """A placeholder of the dtype that the reader takes there."""
  placeholder = graph_def.node.add()
  placeholder.name, placeholder.op = ref.node, "Placeholder"
  placeholder.attr["dtype"].CopyFrom(
    type_attr(read_dtype(reader, ref, signatures))
  )
  return placeholder


def read_dtype(reader, ref, signatures):
  """DataType enum that a node reads a tensor as.

  Raises:
    GraphError: the reader's op is not known either.
  """
  dtypes = [dtype for _, dtype in faulty.slots_of(reader, signatures)]
  data = [TensorRef.parse(t) for t in reader.input if not t.startswith("^")]
  return dtypes[data.index(ref)]


def _drop_unusable(graph_def, unusable, outputs):
  """Removes nodes that can't be used, and those that read them."""
  if not unusable:
    return []
  readers = {}
  for node in graph_def.node:
    for text in node.input:
      ref = TensorRef.parse(text)
      if not ref.control:
        readers.setdefault(ref.node, []).append(node.name)
  cause = dict(unusable)
  stack = list(cause)
  for name in stack:
    for reader in readers.get(name, ()):
      if reader not in cause:
        cause[reader] = cause[name]
        stack.append(reader)
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
  return [
    "removed '%s', which %s; no output needs it" % (name, fault.fact)
    for name, fault in unusable.items()
  ]


def _refuse(output, fault):
  if fault.kind == faulty.FUNCTION:
    way = "give the .meta that holds it with --meta_graph"
  elif fault.kind == faulty.DANGLING:
    way = (
      "give the .meta that holds it with --meta_graph, or feed it with "
      "--input_node=%s" % fault.subject
    )
  else:
    way = (
      "give the .meta of the training graph with --meta_graph, or cut "
      "behind it with --input_node=%s" % fault.node
    )
  raise GraphError(
    "cannot mend output '%s': '%s', which it needs, %s; %s"
    % (output, fault.node, fault.fact, way)
  )
