# SPDX-License-Identifier: Apache-2.0
"""The contents of a graph, as plain values."""

from __future__ import annotations

from bnexport.analysis import ends
from bnexport.analysis.flow import Flow
from bnexport.batchnorm import norms
from bnexport.errors import GraphError
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import (
  Signatures,
  element_count,
  missing_attribute,
  op_histogram,
  static_shape,
)
from bnexport.tf1 import tf1
from bnexport.transforms.inference.inlining import inlined

_FLOW_OPS = frozenset(
  "Switch RefSwitch Merge RefMerge Enter RefEnter LoopCond If StatelessIf Case "
  "StatelessCase While StatelessWhile PartitionedCall "
  "StatefulPartitionedCall".split()
)


def overview(
  graph,
  values=None,
  signatures=None,
  inputs=(),
  outputs=(),
  flow=None,
  norms_of=norms.batch_norms,
):
  """The contents of a graph, which inspect prints besides findings.

  Args:
    graph: a Graph; stays as it is. Nothing of it is run.
    values: Values of a checkpoint, or None.
    signatures: OpDefs the file brings along, or None.
    inputs: names of the input tensors, where a signature says them.
    outputs: names of the output tensors, where they are known.
    flow: the graph's Flow; None makes one.
    norms_of: gives the BatchNorms of a Flow and of the names of outputs.

  Returns:
    A dict of plain values; None is what the graph does not tell.
  """
  signatures = signatures or Signatures()
  flow = flow or _flow(graph)
  found = _ends(graph, flow, signatures, inputs, outputs)
  needed = _needed(graph, [entry["name"] for entry in found["outputs"]])
  there = op_histogram(graph, graph.library.values())
  return dict(
    kind=kind_of(graph),
    file=None,
    size=None,
    producer=graph.versions.producer,
    nodes=len(graph),
    functions=len(graph.library),
    **found,
    parameters=_parameters(graph, needed, values),
    variables=_variables(graph, needed, values),
    ops=there,
    control_flow={op: n for op, n in there.items() if op in _FLOW_OPS},
    batch_norms=_batch_norms(
      flow, signatures, values, found["outputs"], norms_of
    ),
  )


def _flow(graph):
  """The Flow of a graph, or None where a cycle leaves no order to follow."""
  try:
    return Flow(graph)
  except GraphError:
    return None


def kind_of(graph):
  """The kind of a graph, in a few words."""
  names = {node.op for node in graph}
  if not names & ops.VARIABLES:
    return "frozen graph" if names else "empty graph"
  if any("Apply" in op for op in names) or names & ops.UPDATES:
    return "training graph"
  return "graph with variables"


# Inputs and outputs.


def _ends(graph, flow, signatures, inputs, outputs):
  settings = []
  if not outputs and flow is not None:
    outputs = ends.outputs(flow)
  if not inputs and flow is not None:
    roots = [TensorRef.parse(name).node for name in outputs]
    inputs = ends.inputs(flow, roots)
    settings = ends.settings(flow, roots)
  if not inputs:
    inputs = [n.name for n in graph if n.op in ops.PLACEHOLDERS][: ends.MOST]
  if not outputs:
    outputs = [
      n.name for n in graph if not graph.readers(n.name) and _is_answer(n)
    ][: ends.MOST]
  listed = [_end(graph, signatures, name, role="data") for name in inputs]
  listed += [
    _end(graph, signatures, name, role="setting")
    for name in settings
    if name not in inputs
  ]
  return {
    "inputs": listed,
    "outputs": [
      _end(graph, signatures, name, op=graph.op(TensorRef.parse(name).node))
      for name in outputs
    ],
  }


def _is_answer(node):
  return node.op not in ops.UPDATES | ops.PLACEHOLDERS | {"Const", "NoOp"}


def _end(graph, signatures, name, **more):
  ref = TensorRef.parse(name)
  return dict(
    {
      "name": str(ref),
      "dtype": dtype_of(graph, signatures, ref),
      "shape": shape_facts(static_shape(graph, ref)),
    },
    **more,
  )


def dtype_of(graph, signatures, ref):
  """Name of a tensor's dtype; None where the graph does not tell it."""
  node = graph.node(ref.node)
  if node.op in ops.PLACEHOLDERS or node.op in ops.VARIABLES:
    return tf1.as_dtype(node.attr["dtype"].type).name
  if (
    node.op in signatures
    and missing_attribute(node, signatures[node.op]) is None
  ):
    dtypes = signatures.output_dtypes(node)
    if ref.index < len(dtypes) and dtypes[ref.index]:
      return tf1.as_dtype(dtypes[ref.index]).name
  return None


def shape_facts(shape):
  """A shape as plain values; None is what is open or unknown."""
  if shape is None:
    return None
  return [None if size < 0 else int(size) for size in shape]


# Parameters and ops.


def _needed(graph, outputs):
  roots = [TensorRef.parse(name).node for name in outputs]
  return graph.ancestors(roots) if roots else dict.fromkeys(graph.names())


def _parameters(graph, needed, values):
  """Count of the elements of constants and variables that are needed."""
  count = 0
  for name in needed:
    node = graph.node(name)
    if node.op == "Const":
      count += element_count(node.attr["value"].tensor)
    elif node.op in ops.VARIABLES:
      count += _size(_variable_shape(graph, node, values)) or 0
  return count


def _variable_shape(graph, node, values):
  shape = static_shape(graph, TensorRef(node.name))
  if (shape is None or -1 in shape) and values is not None:
    shape = values.shape(node.name) or shape
  return shape_facts(shape)


def _size(shape):
  if shape is None or None in shape:
    return None
  count = 1
  for size in shape:
    count *= size
  return count


def _variables(graph, needed, values):
  """Facts of variables; those that the outputs need come first."""
  found = [
    {
      "name": node.name,
      "dtype": tf1.as_dtype(node.attr["dtype"].type).name,
      "shape": _variable_shape(graph, node, values),
      "needed": node.name in needed,
      "in_checkpoint": None if values is None else node.name in values,
    }
    for node in graph
    if node.op in ops.VARIABLES
  ]
  return sorted(found, key=lambda variable: not variable["needed"])


# Batch norms.


def _batch_norms(flow, signatures, values, outputs, norms_of):
  if flow is None:
    return []
  wanted = [TensorRef.parse(entry["name"]).node for entry in outputs]
  graph = inlined(flow.graph, signatures, flow.gradients)
  if graph is not flow.graph:
    flow = Flow(graph)
  return [
    _norm(graph, norm, values)
    for norm in norms_of(flow, [n for n in wanted if n in graph])
  ]


def _norm(graph, norm, values):
  return {
    "name": norm.name,
    "form": norm.form.name,
    "statistics": norm.statistics,
    "epsilon": float(f"{norm.epsilon:.6g}"),  # 0.001, not its float32
    "channels": norms.channels_of(graph, norm, values),
    "moving_mean": norm.moving_mean,
    "moving_variance": norm.moving_variance,
    "health": norms.health_of(graph, norm, values),
  }
