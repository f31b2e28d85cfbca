# SPDX-License-Identifier: Apache-2.0
"""Boxes and the lines between them, laid out so that data flows downwards."""

from __future__ import annotations

import dataclasses
import math
from typing import Dict, Hashable, Iterable, List, Sequence, Tuple

from grandalf import graphs, layouts

# Pixels: boxes, lanes of edges across layers, and the space between.
WIDTH, HEIGHT, _LANE = 156, 40, 14
_ACROSS, _DOWN = 10, 26
# Of sorting the layers, to and fro, so that fewer edges cross.
_ROUNDS = 6


@dataclasses.dataclass
class Box:
  """One node or block, as a view of a grandalf vertex.

  Attributes:
    name: its whole name.
    title: the line that is written large.
    text: the line below.
    kind: words that tell how it is drawn, classes of the page.
    note: a word on it for who does not see how it is drawn.
    marks: kinds of the small marks on it, and a number where there are more.
    link: the identity of the part of the page that it opens, or "".
    xy: its centre.
    w: its width.
    h: its height.
  """

  name: str
  title: str
  text: str
  kind: str = ""
  note: str = ""
  marks: Sequence[str] = ()
  link: str = ""
  xy: Tuple[float, float] = (0.0, 0.0)
  w: int = WIDTH
  h: int = HEIGHT

  @property
  def corner(self):
    """The upper left corner, in whole pixels."""
    return round(self.xy[0] - self.w / 2), round(self.xy[1] - self.h / 2)


class Line:
  """One edge, as a view of a grandalf edge.

  Attributes:
    path: SVG of the curves between layers, straight within a layer.
    is_back: whether data flows upwards along it.
  """

  def __init__(self, is_back, high):
    self.is_back = is_back
    self._high = high
    self.path = ""

  def setpath(self, points):
    """Takes the centres of the upper box, of lanes and of the lower one."""
    curves = []
    for (x, y), (x_next, y_next) in zip(points, points[1:]):
      y, y_next = y + self._high / 2, y_next - self._high / 2
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


def draw(
  boxes: Dict[Hashable, Box], edges: Iterable[Tuple[Hashable, Hashable]]
) -> Drawing:
  """Places boxes; they are in order of data flow and have one height.

  Args:
    boxes: the Boxes by keys.
    edges: pairs of keys, the source first. One whose source comes later
      closes a loop.
  """
  vertices = {key: graphs.Vertex() for key in boxes}
  for key, vertex in vertices.items():
    vertex.view = boxes[key]
  place = {key: i for i, key in enumerate(boxes)}
  joined = []
  for pair in dict.fromkeys(edges):
    upper, lower = sorted(pair, key=lambda key: place[key])
    if upper != lower:
      edge = graphs.Edge(vertices[upper], vertices[lower])
      edge.view = Line((upper, lower) != pair, boxes[upper].h)
      joined.append(edge)
  right, bottom = 0.0, 0.0
  for part in graphs.Graph(list(vertices.values()), joined).C:
    right, height = _lay_out(part, right + _ACROSS)
    bottom = max(bottom, height)
  return Drawing(
    list(boxes.values()),
    [edge.view for edge in joined],
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
  high = next(iter(part.sV)).view.h
  layout.xspace, layout.yspace = _ACROSS, _DOWN
  layout.dw, layout.dh = _LANE, high  # of the lanes
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
  return max(ends), layers[-1][0].xy[1] + high / 2
