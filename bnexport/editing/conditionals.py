# SPDX-License-Identifier: Apache-2.0
"""Conditionals as TF1 writes them: Switches and Merges."""

from __future__ import annotations

from typing import Dict, List

from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.graph.origins import origin_of

_VIEWS = ops.IDENTITIES | ops.SWITCHES | ops.ENTERS


def open_branches(graph: Graph, predicate: str, contexts: Contexts) -> None:
  """Lets both branches of the conditionals of a predicate run in every run.

  Their Merges stay, for whoever calls this to replace: they take either.

  Args:
    graph: the graph.
    predicate: the node that computes it, outside of the conditionals.
    contexts: of the nodes in the branches.
  """
  switches = _switches(graph, predicate)
  pins = set()  # nodes of a branch wait for them to run in it
  for name in switches:
    data = graph.data_inputs(name)[0]
    for out in (TensorRef(name, 0), TensorRef(name, 1)):
      if _root(graph, data) == predicate:
        pins.update(graph.readers_of(out))
      graph.substitute({out: data})
  pins.update(switches)
  for name in {reader for pin in pins for reader in graph.readers(pin)}:
    refs = graph.inputs(name)
    left = [r for r in refs if not (r.control and r.node in pins)]
    if left == refs:
      continue
    if contexts.frame(name):
      left += _in_loop(graph, switches, predicate)
    graph.set_inputs(name, left)


def _switches(graph: Graph, predicate: str) -> List[str]:
  """Names of the Switches that a predicate decides."""
  stack = [predicate]
  found: Dict[str, None] = {}
  seen = set(stack)
  while stack:
    name = stack.pop()
    for reader in graph.readers(name):
      refs = graph.data_inputs(reader)
      if graph.op(reader) in ops.SWITCHES and refs[1].node == name:
        found[reader] = None
      if (
        reader not in seen
        and graph.op(reader) in _VIEWS
        and refs[0].node == name
      ):
        seen.add(reader)
        stack.append(reader)
  return list(found)


def _root(graph: Graph, ref: TensorRef) -> str:
  return origin_of(graph, ref, _VIEWS).node


def _in_loop(
  graph: Graph, switches: List[str], predicate: str
) -> List[TensorRef]:
  """A control input that keeps a node in the loop of a conditional."""
  for name in switches:
    data = graph.data_inputs(name)[0]
    if _root(graph, data) != predicate:
      return [TensorRef(data.node, 0, True)]
  return []
