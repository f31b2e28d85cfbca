# SPDX-License-Identifier: Apache-2.0
"""The names of loops' frames, by which TensorFlow tells loops apart.

Two loops of one name, in one loop or outside of all, are one broken loop to
TensorFlow: it does not run a graph that has them ("more than one LoopCond").
"""

from __future__ import annotations

from typing import Collection, Dict, List, Set

from bnexport.graph import Graph, ops
from bnexport.graph.contexts import Contexts, Frame


def shared_frames(graph: Graph) -> List[List[List[str]]]:
  """Loops that share the name of a frame.

  Returns:
    For each frame that several loops are in, the names of the Enter nodes of
    each of them, in the order of the loops' LoopConds.
  """
  conditions = [node.name for node in graph if node.op == "LoopCond"]
  if len(conditions) < 2:
    return []
  order = graph.topological()
  contexts = Contexts(graph, order)
  places = {name: place for place, name in enumerate(order)}
  by_frame: Dict[Frame, List[str]] = {}
  for name in sorted(conditions, key=places.__getitem__):
    by_frame.setdefault(contexts.frame(name), []).append(name)
  found = []
  for frame, names in by_frame.items():
    loops: List[List[str]] = []
    seen: Set[str] = set()
    for name in names if frame else ():
      # What is joined within the frame is one loop, and no two.
      if name not in seen:
        loop = _loop_of(graph, contexts, name, frame)
        seen |= loop
        enters = [n for n in loop if graph.op(n) in ops.ENTERS]
        enters = [n for n in enters if contexts.frame(n) == frame]
        loops.append(sorted(enters, key=places.__getitem__))
    if len(loops) > 1:
      found.append(loops)
  return found


def separate_copied_frames(
  graph: Graph, names: Collection[str], scope: str
) -> None:
  """Gives loops that were copied frames of their own; see `separate_frames`."""
  if any(graph.op(name) in ops.ENTERS for name in names):
    separate_frames(graph, names, scope)


def separate_frames(
  graph: Graph, names: Collection[str] = (), scope: str = ""
) -> Dict[str, str]:
  """Gives loops that share the name of a frame frames of their own.

  Args:
    graph: is edited.
    names: nodes, of which the Enters' loops get other names; where there are
      none, the first loop of each frame keeps its name.
    scope: goes before the new names.

  Returns:
    The new names of the frames, by an Enter of each that got one.
  """
  taken = {node.attr["frame_name"].s for node in graph if node.op in ops.ENTERS}
  own, made = set(names), {}
  counts: Dict[str, int] = {}
  for loops in shared_frames(graph):
    for enters in loops if own else loops[1:]:
      if own and not own & set(enters):
        continue
      old = graph.node(enters[0]).attr["frame_name"].s.decode()
      name = base = f"{scope.rstrip('/')}/{old}" if scope else old
      while name.encode() in taken:
        counts[base] = counts.get(base, 0) + 1
        name = f"{base}_{counts[base]}"
      taken.add(name.encode())
      for enter in enters:
        graph.node(enter).attr["frame_name"].s = name.encode()
      made[enters[0]] = name
  return made


def _loop_of(
  graph: Graph, contexts: Contexts, start: str, frame: Frame
) -> Set[str]:
  """Names of the nodes in a frame that are connected with one, within it."""
  found, stack = {start}, [start]
  while stack:
    name = stack.pop()
    for other in [r.node for r in graph.inputs(name)] + list(
      graph.readers(name)
    ):
      inside = contexts.frame(other)[: len(frame)] == frame
      if inside and other not in found:
        found.add(other)
        stack.append(other)
  return found
