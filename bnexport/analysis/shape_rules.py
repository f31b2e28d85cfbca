# SPDX-License-Identifier: Apache-2.0
"""Shapes of tensors where TensorFlow tells none, as what ops do tells them.

That is in loops, whose Merges are of unknown rank to it, behind ops that it
does not know, and where the graph alone states a shape.
"""

from __future__ import annotations

from bnexport.analysis.shapes import (
  BROADCASTING,
  REDUCTIONS,
  UNARY,
  Shapes,
  broadcast,
  data_format,
  flag,
  slice_parts,
  squeezed,
)
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape

_RANKS = {
  "AvgPool": 4,
  "Conv2D": 4,
  "Conv2DBackpropInput": 4,
  "DepthToSpace": 4,
  "DepthwiseConv2dNative": 4,
  "DepthwiseConv2dNativeBackpropInput": 4,
  "LRN": 4,
  "MaxPool": 4,
  "MaxPoolV2": 4,
  "ResizeArea": 4,
  "ResizeBicubic": 4,
  "ResizeBilinear": 4,
  "ResizeNearestNeighbor": 4,
  "SpaceToDepth": 4,
  "AvgPool3D": 5,
  "Conv3D": 5,
  "Conv3DBackpropInputV2": 5,
  "MaxPool3D": 5,
  "MatMul": 2,
  "Rank": 0,
  "Shape": 1,
  "Size": 0,
}
# The output has the rank of this input.
_RANK_OF = dict.fromkeys(
  (
    "BatchToSpaceND",
    "BiasAdd",
    "BiasAddV1",
    "Cumprod",
    "Cumsum",
    "EnsureShape",
    "Enter",
    "Exit",
    "LogSoftmax",
    "MirrorPad",
    "NextIteration",
    "Pad",
    "PadV2",
    "ReverseV2",
    "Roll",
    "Slice",
    "Softmax",
    "SpaceToBatchND",
    "SplitV",
    "Switch",
    "Tile",
  ),
  0,
)
_RANK_OF.update(Split=1, Concat=1, ConcatV2=0)


class DerivedShapes(Shapes):
  """Shapes of the tensors of a graph as it was when this was made.

  TensorFlow's own go first, then what the graph states. What follows from the
  ops fills in ranks, and sizes where a broadcast against them matters: those
  of 1.
  """

  def __init__(self, graph: Graph, order):
    """Sweeps over `order`, names of nodes with inputs first."""
    super().__init__(graph)
    self._of = {}
    for name in order:
      shape = self._known(TensorRef(name))
      self._of[name] = self._infer(name) if shape is None else shape

  def of(self, ref: TensorRef):
    shape, op = None, self._graph.op(ref.node)
    if ref.index:
      shape = self._known(ref)
      if shape is None and op in ops.MERGES:
        return ()
      if shape is None and op in ops.FUSED_NORMS:
        return (-1,)
    return self._of.get(ref.node) if shape is None else shape

  def _known(self, ref):
    shape = super().of(ref)
    return static_shape(self._graph, ref) if shape is None else shape

  def _infer(self, name):
    node, refs = self._graph.node(name), self._graph.data_inputs(name)
    rule = _RULES.get(node.op)
    return None if rule is None else rule(self, node, refs)

  def _fixed_rank(self, node, refs):
    return (-1,) * _RANKS[node.op]

  def _norm(self, node, refs):
    is_volume = data_format(node) in (b"NDHWC", b"NCDHW")
    return (-1,) * (5 if is_volume else 4)

  def _same(self, node, refs):
    return self.of(refs[0])

  def _broadcast(self, node, refs):
    return broadcast([self.of(ref) for ref in refs])

  def _merge(self, node, refs):
    known = [self.rank(ref) for ref in refs]
    # A loop may change sizes at its Merge.
    return next(((-1,) * r for r in known if r is not None), None)

  def _pack(self, node, refs):
    rank = self.rank(refs[0])
    change = 1 if node.op == "Pack" else -1
    return None if rank is None else (-1,) * (rank + change)

  def _squeeze(self, node, refs):
    shape = self.of(refs[0])
    axes = None if shape is None else squeezed(node, shape)
    if axes is None:
      return None
    return tuple(s for a, s in enumerate(shape) if a not in axes)

  def _expand_dims(self, node, refs):
    shape = self.of(refs[0])
    axis = constant_value(self._graph, refs[1], largest=1)
    if shape is None or axis is None:
      return None if shape is None else (-1,) * (len(shape) + 1)
    axis = int(axis.reshape(-1)[0]) % (len(shape) + 1)
    return shape[:axis] + (1,) + shape[axis:]

  def _reduce(self, node, refs):
    shape = self.of(refs[0])
    axes = constant_value(self._graph, refs[1], largest=16)
    keep = flag(node, "keep_dims")
    if shape is None or axes is None:
      return shape and (-1,) * len(shape) if keep else None
    axes = {int(axis) % len(shape) for axis in axes.reshape(-1)}
    sizes = [1 if a in axes else s for a, s in enumerate(shape)]
    return tuple(s for a, s in enumerate(sizes) if keep or a not in axes)

  def _reshape(self, node, refs):
    return self._vector(refs[0 if node.op == "Fill" else 1])

  def _gather(self, node, refs):
    ranks = [self.rank(ref) for ref in refs[:2]]
    return None if None in ranks else (-1,) * (sum(ranks) - 1)

  def _slice(self, node, refs):
    shape = self.of(refs[0])
    strides = constant_value(self._graph, refs[3], largest=16)
    if shape is None or strides is None:
      return None
    sizes, axes = [], iter(shape)
    for part in slice_parts(node, (strides.tolist(),) * 3, len(shape)):
      size = 1 if part.begin is None else next(axes)
      is_whole = (
        part.is_open_begin and part.is_open_end and abs(part.stride) == 1
      )
      if not part.is_index:
        sizes.append(size if is_whole or part.begin is None else -1)
    return tuple(sizes)

  def _transpose(self, node, refs):
    perm = self._vector(refs[1])
    return (-1,) * len(perm) if perm else self.of(refs[0])

  def _rank_of(self, node, refs):
    rank = self.rank(refs[_RANK_OF[node.op]])
    return None if rank is None else (-1,) * rank

  def _vector(self, ref):
    """The ints in a vector, -1 for unknown ones; None for unknown lengths."""
    value = constant_value(self._graph, ref, largest=16)
    if value is not None:
      return tuple(int(v) for v in value.reshape(-1))
    node = self._graph.node(ref.node)
    refs = self._graph.data_inputs(ref.node)
    if node.op == "Pack":
      scalars = [constant_value(self._graph, r, largest=1) for r in refs]
      return tuple(-1 if s is None else int(s.reshape(-1)[0]) for s in scalars)
    if node.op == "Shape":
      return self.of(refs[0])
    shape = self.of(ref)
    if shape is None or len(shape) != 1 or shape[0] < 0:
      return None
    return (-1,) * shape[0]


_RULES = {
  **dict.fromkeys(_RANK_OF, DerivedShapes._rank_of),
  **dict.fromkeys(UNARY | ops.RESOURCE_READS, DerivedShapes._same),
  **dict.fromkeys(BROADCASTING, DerivedShapes._broadcast),
  **dict.fromkeys(REDUCTIONS, DerivedShapes._reduce),
  **dict.fromkeys(_RANKS, DerivedShapes._fixed_rank),
  **dict.fromkeys(ops.FUSED_NORMS, DerivedShapes._norm),
  **dict.fromkeys(ops.MERGES, DerivedShapes._merge),
  **dict.fromkeys(("Pack", "Unpack"), DerivedShapes._pack),
  **dict.fromkeys(("Gather", "GatherV2"), DerivedShapes._gather),
  **dict.fromkeys(("Reshape", "BroadcastTo", "Fill"), DerivedShapes._reshape),
  "ExpandDims": DerivedShapes._expand_dims,
  "Squeeze": DerivedShapes._squeeze,
  "StridedSlice": DerivedShapes._slice,
  "Transpose": DerivedShapes._transpose,
}
