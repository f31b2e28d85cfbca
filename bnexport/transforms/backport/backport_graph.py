# SPDX-License-Identifier: Apache-2.0
"""A graph that is made to suit an older TensorFlow, as its rules see it."""

from __future__ import annotations

from bnexport.analysis.shapes import BROADCASTING, UNARY, inferred
from bnexport.graph import TensorRef
from bnexport.graph.nodes import constant, int_attr, type_attr
from bnexport.tf1 import tf1


class Site:
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
    # A constant in a loop has to be made there.
    self._has_loops = any(node.op == "Enter" for node in self.graph)

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

  def add(self, op, name, inputs, **attrs):
    """Adds a node and returns its first output."""
    return TensorRef(self.graph.add(op, name, inputs, attrs).name)

  def constant(self, name, value, dtype, beside):
    """Adds a constant that is made where the tensor `beside` is."""
    wait = [TensorRef(beside.node, 0, True)] if self._has_loops else []
    return constant(self.graph, name, value, dtype, wait)

  def shape_of(self, name, ref):
    """Adds the shape of a tensor, as int32."""
    dtype = type_attr(self.dtype(ref))
    return self.add(
      "Shape", name, [ref], T=dtype, out_type=type_attr(tf1.int32)
    )

  def part(self, name, vector, begin, end, is_index=False):
    """Adds vector[begin:end] of an int32 vector; vector[begin] as an index."""
    ends = [
      self.constant(f"{name}/{key}", [value], tf1.int32, vector)
      for key, value in (("begin", begin), ("end", end), ("strides", 1))
    ]
    masks = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask")
    return self.add(
      "StridedSlice",
      name,
      [vector] + ends,
      T=type_attr(tf1.int32),
      Index=type_attr(tf1.int32),
      shrink_axis_mask=int_attr(int(is_index)),
      **{mask: int_attr(0) for mask in masks},
    )

  def joined(self, name, vectors):
    """Adds the int32 vectors, one after the other."""
    axis = self.constant(name + "/axis", 0, tf1.int32, vectors[0])
    return self.add(
      "ConcatV2",
      name,
      list(vectors) + [axis],
      N=int_attr(len(vectors)),
      T=type_attr(tf1.int32),
      Tidx=type_attr(tf1.int32),
    )

  def broadcast(self, name, ref, dtype, shape):
    """Adds a tensor as it is broadcast to a shape; bit for bit.

    Returns:
      The node's attributes as become() takes them: op, inputs, attributes.
    """
    is_bool = dtype == tf1.bool
    ones = self.add(
      "Fill",
      name + "/ones",
      [
        shape,
        self.constant(name + "/one", True if is_bool else 1, dtype, shape),
      ],
      T=type_attr(dtype),
    )
    if is_bool:
      return "LogicalAnd", [ref, ones], {}
    return "Mul", [ref, ones], {"T": type_attr(dtype)}

  def add_broadcast(self, name, ref, dtype, shape):
    op, inputs, attrs = self.broadcast(name, ref, dtype, shape)
    return self.add(op, name, inputs, **attrs)

  def become(self, node, op, inputs, **attrs):
    """Makes a node another op; it waits for what it waited for."""
    inputs = list(inputs) + self.graph.control_inputs(node.name)
    kept = {key: v for key, v in node.attr.items() if key.startswith("_")}
    self.graph.become(node.name, op, inputs, dict(kept, **attrs))
    return True


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
