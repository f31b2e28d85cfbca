# SPDX-License-Identifier: Apache-2.0
"""The ends of a SavedModel's graph, called as its signature calls them."""

from __future__ import annotations

import dataclasses
import re

from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import identity

# What TensorFlow takes for the name of a node.
_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


def by_signature(saved, outputs=(), inputs=()):
  """A SavedModel with the ends that a user means.

  TensorFlow 2 writes graphs whose outputs are `StatefulPartitionedCall:1` and
  whose inputs `serving_default_x`; the signature calls them `logits` and `x`,
  and so do the nodes afterwards. Ends that a user names as the graph does stay
  as they are, and so do all those of TensorFlow 1.

  Args:
    saved: a SavedModel; its GraphDef is taken over.
    outputs: names of tensors or what the signature calls them; none for all
      outputs of the signature.
    inputs: the same of the tensors to feed.

  Returns:
    A SavedModel whose `outputs` and `inputs` are these, by their names.
  """
  outputs, inputs = ([n.strip() for n in names] for names in (outputs, inputs))
  nodes = {node.name: node for node in saved.graph_def.node}
  is_signature = _are_keys(outputs, saved.outputs, nodes)
  given = _chosen(outputs, saved.outputs, is_signature)
  # Who speaks of the graph's outputs knows the graph's inputs.
  is_fed = _are_keys(inputs, saved.inputs, nodes) and (inputs or is_signature)
  fed = _chosen(inputs, saved.inputs, is_fed)
  called = [
    text
    for text in (given.values() if is_signature else ())
    if _op(nodes, text) in ops.CALLS
  ]
  renamed = [text for text in (fed.values() if is_fed else ()) if called]
  if called or renamed:
    graph = Graph(saved.graph_def, copy=False)
    for key, text in fed.items():
      if text in renamed and _op(nodes, text) in ops.PLACEHOLDERS:
        fed[key] = _rename(graph, saved.signature, key, text)
    for key, text in given.items():
      if text in called:
        given[key] = _hand_on(graph, saved, key, text)
    saved = dataclasses.replace(saved, graph_def=graph.to_graph_def())
  return dataclasses.replace(saved, outputs=given, inputs=fed)


def _are_keys(names, keys, nodes):
  return all(n in keys and TensorRef.parse(n).node not in nodes for n in names)


def _chosen(names, ends, are_keys):
  """Tensors by what they are called; those of the signature for no names."""
  if names and not are_keys:
    return {name: name for name in names}
  return {key: ends[key] for key in names or ends}


def _op(nodes, text):
  node = nodes.get(TensorRef.parse(text).node)
  return None if node is None else node.op


def _rename(graph, signature, key, text):
  """Gives a placeholder the signature's name, where that is free."""
  old = TensorRef.parse(text).node
  new = _free(graph, signature, key)
  if new is None:
    return text
  graph.rename({old: new})
  return new


def _hand_on(graph, saved, key, text):
  """Adds a node of the signature's name that gives a call's output."""
  ref = TensorRef.parse(text)
  name = _free(graph, saved.signature, key)
  if name is None:
    return text
  dtypes = saved.signatures.output_dtypes(graph.node(ref.node))
  return identity(graph, name, ref, dtypes[ref.index]).node


def _free(graph, signature, key):
  for name in (key, f"{signature}_{key}"):
    if _NAME.fullmatch(name) and name not in graph:
      return name
  return None
