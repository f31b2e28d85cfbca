# SPDX-License-Identifier: Apache-2.0
"""A norm and the nodes around it, laid out for a drawing.

Data flows downwards; a layer holds what needs nothing of its own layer. Edges
across several layers get a place in each of them, so that boxes stay free.
"""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Tuple

from bnexport.analysis.dependence import uses_batch
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import element_count
from bnexport.graph.variables import variable_of
from bnexport.tf1 import tf1

_MOST = 14
_RADIUS = 3
# A node with more readers than this belongs to the whole graph.
_MOST_READERS = 4
_WIDTH, _HEIGHT, _LANE = 156, 40, 14
_ACROSS, _DOWN, _MARGIN = 10, 26, 8
_SWEEPS = 6


@dataclasses.dataclass
class Box:
  """One node; x and y are its upper left corner.

  Attributes:
    name: the node's name.
    op: its op.
    mark: "", "added", "removed" or "changed".
    is_norm: whether it is the norm itself.
  """

  name: str
  op: str
  mark: str
  is_norm: bool
  x: float = 0.0
  y: float = 0.0


@dataclasses.dataclass
class Drawing:
  """Boxes and the SVG paths between them, in pixels."""

  boxes: List[Box]
  edges: List[str]
  width: int
  height: int
  box_width: int = _WIDTH
  box_height: int = _HEIGHT


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
      in model.averages
    ]
    self._shown.update(self._before.ancestors(updates, control=False))
    self._needed = model.needed()

  def of(self, name) -> Tuple[Drawing, Drawing]:
    """Returns the norm's surroundings before and after."""
    before = _near(self._before, self._centre(name, False), self._shown)
    after = _near(self._after, self._centre(name, True), self._needed)
    # What one shows, the other does too where it has it.
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
  """Axes, shapes, factors: they would hide the rest."""
  if node.op != "Const":
    return False
  tensor = node.attr["value"].tensor
  is_float = tf1.as_dtype(tensor.dtype).is_floating
  return not is_float or element_count(tensor) < 2


def _drawing(graph, names, marks, norm):
  order = [n for n in graph.topological(names)]
  edges = _edges(graph, order)
  layers, chains = _layers(order, edges)
  _arrange(layers, chains)
  places, width = _places(layers)
  boxes = [
    Box(name, graph.op(name), marks.get(name, ""), name == norm, *places[name])
    for name in order
  ]
  paths = [_path(chain, places) for chain in chains]
  bottom = max((box.y for box in boxes), default=0) + _HEIGHT + _MARGIN
  return Drawing(boxes, paths, int(width), int(bottom))


def _edges(graph, order):
  """Pairs (source, reader) among the nodes; none closes a loop."""
  place = {name: i for i, name in enumerate(order)}
  pairs = {}
  for name in order:
    for ref in graph.data_inputs(name):
      if place.get(ref.node, len(order)) < place[name]:
        pairs[ref.node, name] = None
  return list(pairs)


def _layers(order, edges):
  """Layers of nodes and lanes, and the chain of places of each edge."""
  inputs, readers = {}, {}
  for source, reader in edges:
    inputs.setdefault(reader, []).append(source)
    readers.setdefault(source, []).append(reader)
  level = {}
  for name in order:
    level[name] = 1 + max((level[i] for i in inputs.get(name, ())), default=-1)
  # What has no inputs here stands right above what reads it.
  for name in reversed(order):
    if name not in inputs and name in readers:
      level[name] = min(level[r] for r in readers[name]) - 1
  layers = [[] for _ in range(1 + max(level.values(), default=0))]
  for name in order:
    layers[level[name]].append(name)
  chains = []
  for source, reader in edges:
    lanes = [
      (source, reader, i) for i in range(level[source] + 1, level[reader])
    ]
    for lane in lanes:
      layers[lane[2]].append(lane)
    chains.append([source] + lanes + [reader])
  return layers, chains


def _arrange(layers, chains):
  """Sorts each layer so that few edges cross: barycentres, to and fro."""
  above, below = {}, {}
  for chain in chains:
    for a, b in zip(chain, chain[1:]):
      below.setdefault(a, []).append(b)
      above.setdefault(b, []).append(a)
  for sweep in range(_SWEEPS):
    down = sweep % 2 == 0
    neighbours = above if down else below
    place = {
      item: (i + 0.5) / len(layer)
      for layer in layers
      for i, item in enumerate(layer)
    }
    for layer in layers if down else reversed(layers):
      middle = {}
      for item in layer:
        near = [place[n] for n in neighbours.get(item, ())]
        middle[item] = sum(near) / len(near) if near else place[item]
      layer.sort(key=middle.__getitem__)
      for i, item in enumerate(layer):
        place[item] = (i + 0.5) / len(layer)


def _size(item):
  return _LANE if isinstance(item, tuple) else _WIDTH


def _places(layers):
  """Upper left corners by node or lane, and the width of all."""
  widths = [
    sum(map(_size, layer)) + _ACROSS * (len(layer) - 1) for layer in layers
  ]
  widest = max(widths)
  places = {}
  for i, (layer, width) in enumerate(zip(layers, widths)):
    x = _MARGIN + (widest - width) / 2
    for item in layer:
      places[item] = (x, _MARGIN + i * (_HEIGHT + _DOWN))
      x += _size(item) + _ACROSS
  return places, widest + 2 * _MARGIN


def _path(chain, places):
  points = []
  for item in chain:
    x, y = places[item]
    points.append((x + _size(item) / 2, y))
  x, y = points[0]
  path = f"M{x:.0f} {y + _HEIGHT:.0f}"
  for x_next, y_next in points[1:]:
    middle = y + _HEIGHT + _DOWN / 2
    path += (
      f"C{x:.0f} {middle:.0f} {x_next:.0f} {middle:.0f} "
      f"{x_next:.0f} {y_next:.0f}"
    )
    x, y = x_next, y_next
    if (x_next, y_next) != points[-1]:
      path += f"V{y + _HEIGHT:.0f}"
  return path
