# SPDX-License-Identifier: Apache-2.0
"""Outputs inside of a training loop: one turn of it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List, Set

from bnexport.errors import TransformError
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.contexts import Contexts, Frame
from bnexport.graph.origins import CARRIERS_IN_LOOPS, origin_of
from bnexport.model import Model

_NEXT = ("NextIteration", "RefNextIteration")


@dataclasses.dataclass(frozen=True)
class LeaveLoops:
  """Takes the body of a loop out of it where outputs lie inside.

  A program for a TPU has its training step in a loop. Nothing in a loop can be
  fetched, and an answer has no turns: what the loop carries in from outside is
  read there, as the weights are, and its own values are those of its first
  turn. Who reads the loop's results reads those of one turn. Loops inside of
  the body stay.

  Before: w = Const() {value=<float 2>}   x = Placeholder()
          i = Const() {value=<int32 0>}   n = Const() {value=<int32 9>}
          e = Enter(i) {frame_name="f"}   m = Merge(e, next)
          c = Enter(n) {frame_name="f", is_constant=true}
          less = Less(m, c)   loop = LoopCond(less)   s = Switch(m, loop)
          one = Const(^s) {value=<int32 1>}   more = Add(s:1, one)
          next = NextIteration(more)
          k = Enter(w) {frame_name="f", is_constant=true}   y = Mul(x, k)
  After:  w = Const() {value=<float 2>}   x = Placeholder()
          k = Identity(w)   y = Mul(x, k)

  Refuses outputs that depend on what is another value in each turn, and to
  feed a tensor in a loop whose results the outputs need.
  """

  name: ClassVar[str] = "leave_loops"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    if not any(node.op in ops.ENTERS for node in graph):
      return []
    contexts = Contexts(graph, graph.topological())
    _refuse_fed_loops(model, contexts)
    left = {
      contexts.frame(ref.node)[:depth]
      for ref in model.outputs
      for depth in range(1, len(contexts.frame(ref.node)) + 1)
    }
    if not left:
      return []
    varying = _take_apart(graph, contexts, left)
    for ref in model.outputs:
      behind = graph.ancestors([ref.node], control=False)
      for name in varying:
        if name in behind:
          raise TransformError(
            f"take '{ref}' out of its loop",
            f"it depends on '{name}', which is another value in every turn",
            f"name an output behind the loop, or pass --input_node={name}",
          )
    frames = sorted(frame[-1].decode(errors="replace") for frame in left)
    return [
      f"took one turn of the loop '{frame}', in which outputs lie"
      for frame in frames
    ]


def _refuse_fed_loops(model: Model, contexts: Contexts) -> None:
  """Refuses placeholders that a loop reads without carrying them in.

  A tensor of the loop was cut there. It would be the same in every turn.
  """
  graph, needed = model.graph, model.needed()
  frames = [contexts.frame(ref.node) for ref in model.outputs]
  for ref in model.inputs:
    for name in graph.readers_of(ref):
      frame = () if graph.op(name) in ops.ENTERS else contexts.frame(name)
      if name in needed and not any(
        frame == out[: len(frame)] for out in frames
      ):
        raise TransformError(
          f"feed '{ref}'",
          f"it lies in the loop '{frame[-1].decode(errors='replace')}', which "
          "would read the same value in every turn, and the outputs lie "
          "outside",
          "name an output inside of the loop, or feed what goes into it",
        )


def _take_apart(
  graph: Graph, contexts: Contexts, left: Set[Frame]
) -> List[str]:
  """Makes the nodes of some loops plain nodes, of one turn.

  Returns:
    Names of nodes that stand for what is another value in each turn.
  """
  nodes = [node for node in graph if contexts.frame(node.name) in left]
  merges = {
    node.name: _carried(graph, node.name)
    for node in nodes
    if node.op in ops.MERGES and _carried(graph, node.name)
  }
  varying = [
    name
    for name, after in merges.items()
    if origin_of(graph, after, CARRIERS_IN_LOOPS).node != name
  ]
  exits = {
    node.name: merges.get(_merge_of(graph, node.name))
    for node in graph
    if node.op in ops.EXITS
    and contexts.frame(graph.inputs(node.name)[0].node) in left
  }
  for name, after in exits.items():
    if after is not None:
      graph.become(name, "Identity", [after], _type(graph, name))
  for node in nodes:
    refs = graph.inputs(node.name)
    if node.op in ops.ENTERS:
      graph.become(node.name, "Identity", refs, _type(graph, node.name))
    elif node.name in merges:
      graph.become(node.name, "Identity", refs[:1], _type(graph, node.name))
    elif node.op in ops.SWITCHES and _is_of_loop(graph, node.name):
      graph.substitute({TensorRef(node.name, 1): TensorRef(node.name)})
      graph.become(node.name, "Identity", refs[:1], _type(graph, node.name))
  return varying


def _type(graph: Graph, name: str):
  return {"T": graph.node(name).attr["T"]}


def _is_of_loop(graph: Graph, switch: str) -> bool:
  return graph.op(graph.inputs(switch)[1].node) == "LoopCond"


def _carried(graph: Graph, merge: str):
  """The tensor that a loop carries into a Merge, or None."""
  for ref in graph.data_inputs(merge):
    if graph.op(ref.node) in _NEXT:
      return graph.inputs(ref.node)[0]
  return None


def _merge_of(graph: Graph, exit_: str) -> str:
  """Name of the Merge whose last value an Exit hands out."""
  switch = graph.inputs(exit_)[0].node
  return graph.inputs(switch)[0].node
