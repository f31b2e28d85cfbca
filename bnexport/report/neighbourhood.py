# SPDX-License-Identifier: Apache-2.0
"""Drawings of a norm and the nodes around it; data flows downwards."""

from __future__ import annotations

from typing import Dict, Tuple

from bnexport.analysis.dependence import uses_batch
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import element_count
from bnexport.graph.variables import variable_of
from bnexport.report.drawing import Box, Drawing, draw
from bnexport.tf1 import tf1

# Nodes of one drawing, and edges between the norm and the furthest of them.
_MOST = 14
_RADIUS = 3
# A node with more readers than this belongs to the whole graph.
_MOST_READERS = 4


class Neighbourhoods:
  """Draws the neighbourhoods of one export's norms, before and after."""

  def __init__(self, original, model, norms, norms_before):
    """Looks at both graphs once.

    Args:
      original: the Model before.
      model: the exported Model.
      norms: BatchNorms of the exported graph.
      norms_before: BatchNorms of the graph before.
    """
    self._before, self._after = original.graph, model.graph
    self._norms = {norm.name: norm for norm in norms}
    self._norms_before = {norm.name: norm for norm in norms_before}
    self._shown = original.needed()
    # Gradients read the forward pass too; of training only updates are shown.
    updates = [
      node.name
      for node in self._before
      if node.op in ops.UPDATES
      and variable_of(self._before, self._before.inputs(node.name)[0])
      in model.decisions.averages
    ]
    self._shown.update(self._before.ancestors(updates, control=False))
    self._needed = model.needed()

  def of(self, name) -> Tuple[Drawing, Drawing]:
    """Returns the norm's surroundings before and after."""
    before = _near(self._before, self._centre(name, False), self._shown)
    after = _near(self._after, self._centre(name, True), self._needed)
    # A node that one of them shows is in the other too, if its graph has it.
    both = dict.fromkeys(before + after)
    before = [n for n in both if n in before or n in self._shown]
    after = [n for n in both if n in after or n in self._needed]
    return (
      _drawing(self._before, before, self._marks(before, False), name),
      _drawing(self._after, after, self._marks(after, True), name),
    )

  def _centre(self, name, is_after):
    graph = self._after if is_after else self._before
    norm = (self._norms if is_after else self._norms_before).get(name)
    refs = [] if norm is None else [norm.mean, norm.variance]
    names = [name] + [ref.node for ref in refs if ref is not None]
    return [n for n in dict.fromkeys(names) if n in graph]

  def _marks(self, names, is_after) -> Dict[str, str]:
    own, other = self._before, self._after
    if is_after:
      own, other = other, own
    marks = {}
    for name in names:
      if name not in other:
        marks[name] = "added" if is_after else "removed"
      elif _differ(own.node(name), other.node(name)):
        marks[name] = "changed"
    return marks


def _differ(a, b):
  if a.op == b.op == "Const":
    return a.attr["value"] != b.attr["value"]
  return a.op != b.op or _data(a) != _data(b) or uses_batch(a) != uses_batch(b)


def _data(node):
  return [text for text in node.input if not text.startswith("^")]


def _near(graph, centre, shown):
  """Names of the nodes around `centre`, the nearest first, limited."""
  distance = dict.fromkeys(centre, 0)
  queue = list(centre)
  for name in queue:
    if distance[name] == _RADIUS or len(distance) >= _MOST:
      continue
    around = [ref.node for ref in graph.data_inputs(name)]
    readers = [
      r
      for r in graph.readers(name)
      if r in shown and TensorRef(name, 0, True) not in graph.inputs(r)
    ]
    if len(readers) <= _MOST_READERS or name in centre:
      around += readers[: 2 * _MOST_READERS]
    for other in around:
      if (
        other not in distance
        and len(distance) < _MOST
        and not _is_detail(graph.node(other))
      ):
        distance[other] = distance[name] + 1
        queue.append(other)
  return list(distance)


def _is_detail(node):
  """Whether a node is a constant of axes, a shape or a factor."""
  if node.op != "Const":
    return False
  tensor = node.attr["value"].tensor
  is_float = tf1.as_dtype(tensor.dtype).is_floating
  return not is_float or element_count(tensor) < 2


# What a mark is written as before the op.
_SIGNS = {"added": "+ ", "removed": "\N{MINUS SIGN} ", "changed": "~ ", "": ""}


def _drawing(graph, names, marks, norm):
  """A Drawing of some nodes; `marks` has "added" and so on by name."""
  boxes, edges = {}, []
  for name in graph.topological(names):
    mark = marks.get(name, "")
    boxes[name] = Box(
      name,
      _SIGNS[mark] + graph.op(name),
      name,
      f"{mark} norm" if name == norm else mark,
      mark,
    )
  for name in boxes:
    edges += [
      (ref.node, name) for ref in graph.data_inputs(name) if ref.node in boxes
    ]
  return draw(boxes, edges)
