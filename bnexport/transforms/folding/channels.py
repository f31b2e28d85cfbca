# SPDX-License-Identifier: Apache-2.0
"""The channels of tensors behind linear ops: their axis and number."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from bnexport.analysis.shapes import BROADCASTING, UNARY, channel_axis
from bnexport.batchnorm.folding import CannotFold, per_channel
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import static_shape
from bnexport.graph.origins import viewed
from bnexport.transforms.folding.linear import linear

_POOLS = frozenset(("AvgPool", "AvgPool3D", "MaxPool", "MaxPool3D"))
# So many ops that keep channels are looked through.
_FARTHEST = 100


class Layout(NamedTuple):
  """The channels of a tensor.

  Attributes:
    rank: of the tensor.
    axis: of its channels.
    width: number of its channels.
    is_linear: whether it comes from linear ops alone, by steps and ops that
      move numbers about.
  """

  rank: int
  axis: int
  width: int
  is_linear: bool


class Channels:
  """Layouts of first outputs, by node name; None where not known."""

  def __init__(self, graph, order, constants, steps):
    """Sweeps over `order`, names of nodes with inputs first."""
    self._graph = graph
    self._constants = constants
    self._steps = steps
    self._of = {}
    for name in order:
      self._of[name] = self._layout(graph.node(name))

  def of(self, ref):
    return None if ref.index else self._of.get(ref.node)

  def set(self, name, layout):
    """States the layout of a node that was added."""
    self._of[name] = layout

  def _layout(self, node):
    name, op = node.name, node.op
    found = linear(self._graph, self._constants, name)
    if found is not None:
      return self._of_linear(node, found)
    x = self._steps.input_of(name)
    if x is not None:
      return self._of_step(name, self.of(x))
    if op in CARRIERS:
      return CARRIERS[op](self, node)
    refs = self._graph.data_inputs(name)
    if op in UNARY or op in _POOLS:
      layout = self.of(refs[0])
    elif op in BROADCASTING:
      layouts = {self.of(ref) for ref in refs}
      layout = layouts.pop() if len(layouts) == 1 else None
    else:
      return None
    return layout and layout._replace(is_linear=False)

  def _of_linear(self, node, found):
    shape = self._constants.shape(
      self._graph.data_inputs(node.name)[found.kernel]
    )
    width = 1
    for axis in found.out_axes:
      width *= shape[axis]
    axis = channel_axis(node, found.rank)
    if found.is_scattering:
      # A kernel tells the channels of one group; they are as stated here.
      sizes = self._graph.data_inputs(node.name)[0]
      if self._element(sizes, axis, found.rank) != width:
        return None
    return Layout(found.rank, axis, width, True)

  def _of_step(self, name, layout):
    """A step that broadcasts x to more channels is none of ours."""
    if layout is None:
      return None
    try:
      for array in self._steps.affine(name, layout.rank)[:2]:
        per_channel(array, *layout[:3])
    except CannotFold:
      return None
    return layout

  def parts(self, node):
    """The inputs of a carrier, with a slice of its channels for each."""
    refs = self._graph.data_inputs(node.name)
    if node.op != "ConcatV2":
      return [(refs[0], slice(None))]
    found, begin = [], 0
    layout = self._of[node.name]
    (axis,) = self._constants.ints(refs[-1])
    is_along = axis % layout.rank == layout.axis
    for ref in refs[:-1]:
      end = begin + self.of(ref).width
      found.append((ref, slice(begin, end) if is_along else slice(None)))
      begin = end
    return found

  # Ops that move numbers about.

  def _concat(self, node):
    refs = self._graph.data_inputs(node.name)
    layouts = [self.of(ref) for ref in refs[:-1]]
    axes = self._constants.ints(refs[-1])
    if None in layouts or not axes:
      return None
    first = layouts[0]
    if any(other[:2] != first[:2] for other in layouts):
      return None
    is_linear = all(layout.is_linear for layout in layouts)
    if axes[0] % first.rank == first.axis:
      width = sum(layout.width for layout in layouts)
    elif len({layout.width for layout in layouts}) == 1:
      width = first.width
    else:
      return None
    return Layout(first.rank, first.axis, width, is_linear)

  def _batch_to_space(self, node):
    refs = self._graph.data_inputs(node.name)
    layout, block = self.of(refs[0]), self._constants.ints(refs[1])
    if layout is None or block is None:
      return None
    blocks = [1] + block + [1] * layout.rank
    return layout if blocks[layout.axis] == 1 else None

  def _squeeze(self, node):
    layout = self.of(self._graph.data_inputs(node.name)[0])
    axes = (
      node.attr["squeeze_dims"].list.i if "squeeze_dims" in node.attr else ()
    )
    if layout is None or not axes:
      return None
    axes = {axis % layout.rank for axis in axes}
    if layout.axis in axes:
      return None
    return layout._replace(
      rank=layout.rank - len(axes),
      axis=layout.axis - sum(axis < layout.axis for axis in axes),
    )

  def _expand_dims(self, node):
    x, axis = self._graph.data_inputs(node.name)
    layout, axes = self.of(x), self._constants.ints(axis)
    if layout is None or not axes:
      return None
    axis = axes[0] % (layout.rank + 1)
    return layout._replace(
      rank=layout.rank + 1, axis=layout.axis + (axis <= layout.axis)
    )

  def _transpose(self, node):
    x, order = self._graph.data_inputs(node.name)
    layout, order = self.of(x), self._constants.ints(order)
    if layout is None or order is None or len(order) != layout.rank:
      return None
    return layout._replace(
      axis=[a % layout.rank for a in order].index(layout.axis)
    )

  def _reshape(self, node):
    """Channels that stay last stay together."""
    x, sizes = self._graph.data_inputs(node.name)
    layout, rank = self.of(x), self._length(sizes)
    if layout is None or not rank or layout.axis != layout.rank - 1:
      return None
    if self._element(sizes, rank - 1, rank) != layout.width:
      return None
    return layout._replace(rank=rank, axis=rank - 1)

  def _length(self, ref):
    """The number of a shape tensor's elements, or None."""
    node = self._graph.node(ref.node)
    refs = self._graph.data_inputs(ref.node)
    if ref in self._constants:
      value = self._constants.ints(ref)
      return None if value is None else len(value)
    if node.op == "Pack":
      return len(refs)
    if node.op == "ConcatV2":
      lengths = [self._length(r) for r in refs[:-1]]
      return None if None in lengths else sum(lengths)
    if node.op in ("Gather", "GatherV2"):
      return self._length(refs[1])
    if node.op == "Shape":
      layout = self.of(refs[0])
      shape = static_shape(self._graph, refs[0])
      return layout.rank if layout else len(shape) if shape else None
    return None

  def _element(self, ref, index, length):
    """One number of a shape tensor of known length, or None."""
    node = self._graph.node(ref.node)
    refs = self._graph.data_inputs(ref.node)
    if ref in self._constants:
      value = self._constants.ints(ref)
      return value[index] if value and len(value) == length else None
    if node.op == "Pack" and len(refs) == length:
      value = self._constants.ints(refs[index])
      return value[0] if value else None
    if node.op == "ConcatV2" and index == length - 1:
      last = self._constants.ints(refs[-2])
      return last[-1] if last else None
    if node.op == "Shape":
      return width_of(self._graph, self, refs[0], length, index)
    return None


CARRIERS = {
  "BatchToSpaceND": Channels._batch_to_space,
  "ConcatV2": Channels._concat,
  "ExpandDims": Channels._expand_dims,
  "Reshape": Channels._reshape,
  "Squeeze": Channels._squeeze,
  "Transpose": Channels._transpose,
}


def width_of(graph, channels, ref, rank, axis):
  """Number of channels of any tensor, or None where nothing proves it.

  Args:
    graph: the graph.
    channels: its Channels.
    ref: the tensor.
    rank: of the tensor.
    axis: of its channels.
  """
  views = viewed(graph, ref, UNARY | _POOLS)
  for view in itertools.islice(views, _FARTHEST):
    layout = channels.of(view)
    if layout is not None and layout[:2] == (rank, axis):
      return layout.width
    if graph.op(view.node) in ops.PLACEHOLDERS:
      shape = static_shape(graph, TensorRef(view.node))
      if shape is not None and len(shape) == rank and shape[axis] >= 0:
        return shape[axis]
  return None
