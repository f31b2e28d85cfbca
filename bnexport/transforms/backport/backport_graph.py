# SPDX-License-Identifier: Apache-2.0
"""A graph that is made to suit an older TensorFlow, as its rules see it."""

from __future__ import annotations

from bnexport.analysis.shapes import BROADCASTING, UNARY, inferred
from bnexport.graph.nodes import tensor_attr
from bnexport.text import Emitter
from bnexport.tf1 import tf1


class BackportGraph:
  """The graph that is rewritten, and what rules ask about it.

  Attributes:
    refused: why a rule left a node alone, by the node's name.
  """

  def __init__(self, model, version):
    self.graph = model.graph
    self.version = version
    self.refused = {}
    self._model = model
    self._shapes = None
    has_loops = any(node.op == "Enter" for node in self.graph)
    self._emitter = Emitter(self.graph, model.signatures, pins=has_loops)

  def refuse(self, node, why):
    self.refused[node.name] = why
    return False

  def is_read(self, ref):
    """Whether a node or the user asks for this tensor."""
    return ref in self._model.outputs or bool(self.graph.readers_of(ref))

  def is_output(self, ref):
    return ref in self._model.outputs

  def dtype(self, ref):
    return self._model.dtype(ref)

  def shape(self, ref):
    """Shape as TensorFlow infers it, -1 for unknown sizes; None if unknown.

    It was inferred before the first rule asked, so it is None for nodes that
    rules have made.
    """
    if self._shapes is None:
      self._shapes = _inferred_shapes(self.graph)
    return self._shapes.get(ref)

  def has_shapes(self):
    """Whether shapes could be inferred; not where an op isn't registered."""
    return bool(self._shapes)

  def same_shape(self, refs):
    """Whether tensors are known to have one shape."""
    shapes = [self.shape(ref) for ref in refs]
    if shapes[0] is not None and -1 not in shapes[0]:
      return all(shape == shapes[0] for shape in shapes)
    return len({self._shape_source(ref) for ref in refs}) == 1

  def widest(self, refs):
    """A tensor that all are known to be broadcast to, or None."""
    for wide in refs:
      if all(
        covers(self.shape(wide), self.shape(ref))
        or self.same_shape([wide, ref])
        for ref in refs
      ):
        return wide
    return None

  def _shape_source(self, ref):
    """A tensor further up that is known to have the shape of this one."""
    while True:
      node = self.graph.node(ref.node)
      data = self.graph.data_inputs(ref.node)
      if node.op in BROADCASTING:
        data = [r for r in data if self.shape(r) != ()]
      elif node.op not in UNARY:
        return ref
      if len(data) != 1:
        return ref
      ref = data[0]

  # Rewriting.

  def emit(self, node, notation, **bindings):
    """Adds what a text says below a node; see Emitter.emit."""
    return self._emitter.emit(node.name, notation, **bindings)

  def become(self, node, notation, **bindings):
    """Makes a node what the `result` of a text is; see Emitter.become.

    Returns:
      True, as a rule that has rewritten its node does.
    """
    kept = {key: v for key, v in node.attr.items() if key.startswith("_")}
    self._emitter.become(node.name, notation, result=kept, **bindings)
    return True

  def broadcast(self, node, word, ref, dtype, shape):
    """Adds a tensor as it is broadcast to a shape, as `word` below a node."""
    operands = broadcast_operands(ref, dtype, shape)
    return self.emit(node, broadcast(word), **operands)[word]


# Statements for several rules. Where one op broadcasts, old ones do not.


def part(word, vector, begin, end, is_index=False):
  """`word` is vector[begin:end] of int32; vector[begin] as an index."""
  return f"""
    {word}/begin = Const(^{vector}) {{value=<int32 [1] {begin}>}}
    {word}/end = Const(^{vector}) {{value=<int32 [1] {end}>}}
    {word}/strides = Const(^{vector}) {{value=<int32 [1] 1>}}
    {word} = StridedSlice({vector}, {word}/begin, {word}/end, {word}/strides)
      {{begin_mask=0, ellipsis_mask=0, end_mask=0, new_axis_mask=0,
       shrink_axis_mask={int(is_index)}}}
  """


def joined(word, first, second):
  """`word` is one vector behind the other."""
  return f"""
    {word}/axis = Const(^{first}) {{value=<int32 0>}}
    {word} = ConcatV2({first}, {second}, {word}/axis)
  """


def broadcast(word):
  """`word` is `x` as it is broadcast to `shape`, bit for bit."""
  return f"""
    {word}/one = Const(^shape) {{value=$one}}
    {word}/ones = Fill(shape, {word}/one)
    {word} = times(x, {word}/ones)
  """


def broadcast_operands(x, dtype, shape):
  """The bindings of `broadcast`; `times` is LogicalAnd for bools."""
  is_bool = dtype == tf1.bool
  return {
    "x": x,
    "shape": shape,
    "one": tensor_attr(True if is_bool else 1, dtype),
    "times": "LogicalAnd" if is_bool else "Mul",
  }


def covers(wide, shape):
  """Whether a tensor of one shape is known to be broadcast to another."""
  if wide is None or shape is None or len(wide) < len(shape):
    return False
  aligned = zip(reversed(wide), reversed(shape))
  return all(size == 1 or size == full != -1 for full, size in aligned)


def _inferred_shapes(graph):
  # Ops that are not registered here: rules do without shapes.
  return {
    ref: tuple(-1 if size is None else size for size in shape.as_list())
    for ref, shape in (inferred(graph) or {}).items()
    if shape.ndims is not None
  }
