# SPDX-License-Identifier: Apache-2.0
"""Drawings of a norm and the nodes around it; data flows downwards."""

from __future__ import annotations

import dataclasses
import math
from typing import Dict, List, Tuple

from grandalf import graphs, layouts

from bnexport.analysis.dependence import uses_batch
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import element_count
from bnexport.graph.variables import variable_of
from bnexport.tf1 import tf1

# Nodes of one drawing, and edges between the norm and the furthest of them.
_MOST = 14
_RADIUS = 3
# A node with more readers than this belongs to the whole graph.
_MOST_READERS = 4
# Pixels: boxes, lanes of edges across layers, and the space between.
_WIDTH, _HEIGHT, _LANE = 156, 40, 14
_ACROSS, _DOWN = 10, 26
# Of sorting the layers, to and fro, so that fewer edges cross.
_ROUNDS = 6


@dataclasses.dataclass
class Box:
  """One node, as a view of a grandalf vertex.

  Attributes:
    name: the node's name.
    op: its op.
    mark: "", "added", "removed" or "changed".
    is_norm: whether it is the norm itself.
    xy: its centre.
    w: its width.
    h: its height.
  """

  name: str
  op: str
  mark: str
  is_norm: bool
  xy: Tuple[float, float] = (0.0, 0.0)
  w: int = _WIDTH
  h: int = _HEIGHT

  @property
  def corner(self):
    """The upper left corner, in whole pixels."""
    return round(self.xy[0] - self.w / 2), round(self.xy[1] - self.h / 2)


class Line:
  """One edge, as a view of a grandalf edge.

  Attributes:
    path: SVG of the curves between layers, straight within a layer.
  """

  def setpath(self, points):
    """Takes the centres of the source, of lanes and of the reader."""
    curves = []
    for (x, y), (x_next, y_next) in zip(points, points[1:]):
      y, y_next = y + _HEIGHT / 2, y_next - _HEIGHT / 2
      middle = y + _DOWN / 2
      curves.append(
        f"{x:.0f} {y:.0f}C{x:.0f} {middle:.0f} {x_next:.0f} {middle:.0f} "
        f"{x_next:.0f} {y_next:.0f}"
      )
    self.path = "M" + "L".join(curves)


@dataclasses.dataclass
class Drawing:
  """Boxes and lines, in pixels."""

  boxes: List[Box]
  lines: List[Line]
  width: int
  height: int


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


def _drawing(graph, names, marks, norm):
  """A Drawing of some nodes; `marks` has those of Box by name."""
  vertices, edges = {}, []
  for name in graph.topological(names):
    vertex = vertices[name] = graphs.Vertex()
    vertex.view = Box(name, graph.op(name), marks.get(name, ""), name == norm)
    sources = dict.fromkeys(ref.node for ref in graph.data_inputs(name))
    for source in sources:
      # The source of an edge that closes a loop comes later in the order.
      if source in vertices and source != name:
        edge = graphs.Edge(vertices[source], vertex)
        edge.view = Line()
        edges.append(edge)
  right, bottom = 0, 0
  for part in graphs.Graph(list(vertices.values()), edges).C:
    right, height = _lay_out(part, right + _ACROSS)
    bottom = max(bottom, height)
  return Drawing(
    [vertex.view for vertex in vertices.values()],
    [edge.view for edge in edges],
    math.ceil(right + _ACROSS),
    math.ceil(bottom + _ACROSS),
  )


def _lay_out(part, left):
  """Places a connected part of the graph; returns its right and lower end.

  The layers are Sugiyama's: no edge lies within one, and an edge across
  several gets a lane in each of them.

  Args:
    part: a graph_core of grandalf's; its views get their places.
    left: where it is to begin.
  """
  layout = layouts.SugiyamaLayout(part)
  layout.xspace, layout.yspace = _ACROSS, _DOWN
  layout.dw, layout.dh = _LANE, _HEIGHT  # of the lanes
  layout.init_all(inverted_edges=[], optimize=True)
  layout.draw(_ROUNDS)
  layers = [[vertex.view for vertex in layer] for layer in layout.layers]
  shift = left - min(v.xy[0] - v.w / 2 for layer in layers for v in layer)
  ends = []
  for layer in layers:
    end = -math.inf
    for view in layer:
      # Blocks of Brandes and Koepf's may overlap; boxes may not.
      x = max(view.xy[0] + shift, end + _ACROSS + view.w / 2)
      view.xy, end = (x, view.xy[1] + _ACROSS), x + view.w / 2
    ends.append(end)
  layout.draw_edges()
  return max(ends), layers[-1][0].xy[1] + _HEIGHT / 2
