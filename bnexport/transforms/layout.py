"""Tensors to be had in two layouts: channels first, and channels last."""

from __future__ import annotations

import numpy as np

from bnexport.graph import TensorRef
from bnexport.nodes import constant, constant_value, type_attr
from bnexport.tf1 import tf1
from bnexport.transforms.shapes import Shapes
from bnexport.variables import Frames

# Ranks of a batch of rows, images and volumes, channels included.
RANKS = (3, 4, 5)
_LARGEST_FOLDED = 1 << 22  # elements of a constant that is written once more


def last(rank):
  """The perm of a Transpose that moves axis 1, the channels, to the end."""
  return (0,) + tuple(range(2, rank)) + (1,)


def first(rank):
  """The perm of a Transpose that moves the channels back to axis 1."""
  return (0, rank - 1) + tuple(range(1, rank - 1))


def axis_last(axis, rank):
  """Where an axis stands after the channels have moved to the end."""
  return last(rank).index(axis % rank)


def keeps_order(shape, perm):
  """Whether a Transpose leaves the elements in their order."""
  wide = [axis for axis, size in enumerate(shape) if size != 1]
  return [axis for axis in perm if axis in wide] == wide


class Layout:
  """A graph on its way from channels first to channels last.

  Refs that are passed in name tensors by what they were before: a tensor in
  `changed` holds its channels last under the name it had, and every reader
  is given either that or a view that has them first.

  Attributes:
    graph: edited in place.
    order: the nodes that the outputs need, inputs first.
    shapes: of the tensors as they were, channels first.
    changed: an ordered set of TensorRefs.
    loops: NextIteration nodes whose Merge has its channels last.
    rewritten: names of the nodes whose stated shapes are stale.
  """

  def __init__(self, model):
    self.graph = model.graph
    self.order = model.graph.topological(model.needed(control=True))
    self.shapes = Shapes(self.graph, self.order)
    self.changed = {}
    self.loops = set()
    self.rewritten = set()
    self._signatures = model.signatures
    self._frames = Frames(self.graph, self.order)
    self._free = {}  # tensors whose twin with channels last costs nothing
    self._made = {}  # twins made where channels first meet channels last
    self._views = {}
    self._vectors = {}  # shapes in order of channels first, and their twins

  # Looking.

  def follows(self, ref):
    """Whether a tensor is there with its channels last at no cost."""
    return ref in self._free

  def dtype(self, ref):
    node = self.graph.node(ref.node)
    return self._signatures.output_dtypes(node)[ref.index]

  def output_count(self, node):
    return len(self._signatures.output_dtypes(node))

  # Reading.

  def last(self, ref):
    """A tensor of rank 3 to 5 with its channels last."""
    if ref in self._free:
      return self._free[ref]
    if ref not in self._made:
      shape = self.shapes.of(ref)
      self._made[ref] = self._move(
        ref, last(len(shape)), shape,
        "/NHWC" if len(shape) < 5 else "/NDHWC", ref.node)
    return self._made[ref]

  def first(self, ref):
    """A tensor as it was written: with its channels first."""
    if ref not in self.changed:
      return ref
    if ref not in self._views:
      shape = self.shapes.of(ref)
      self._views[ref] = self._move(
        ref, first(len(shape)), [shape[a] for a in last(len(shape))],
        "/NCHW" if len(shape) < 5 else "/NCDHW", ref.node)
    return self._views[ref]

  def operand(self, ref, rank):
    """What broadcasts against channels last as `ref` did against first."""
    shape = self.shapes.of(ref)
    if len(shape) == rank:
      return self.last(ref)
    if set(shape) <= {1}:
      return self.first(ref)
    key = (ref, rank)
    if key not in self._made:
      plain = self.first(ref)
      if len(shape) == rank - 1:
        perm = tuple(range(1, rank - 1)) + (0,)
        self._made[key] = self._move(plain, perm, shape, "/NHWC", ref.node)
      else:
        self._made[key] = self._with_channels(plain, ref.node)
    return self._made[key]

  def vector(self, ref, rank):
    """A vector, or rows, of one entry an axis, in order of channels last."""
    if ref in self._vectors:
      return self._vectors[ref]
    order = last(rank)
    node = self.graph.node(ref.node)
    value = constant_value(self.graph, ref)
    if value is not None:
      if len(value) == rank:
        value = value[list(order)]
      made = self.constant(ref.node + "/NHWC", value, value.dtype, ref.node)
    elif node.op == "Pack" and len(self.graph.data_inputs(ref.node)) == rank:
      parts = self.graph.data_inputs(ref.node)
      made = TensorRef(self.graph.add(
        "Pack", ref.node + "/NHWC", [parts[a] for a in order],
        dict(node.attr)).name)
      self.rewritten.add(made.node)
    else:
      made = self.gather(ref, order)
    if value is None:
      self._vectors[ref] = made
    return made

  # Making.

  def constant(self, name, value, dtype, near):
    """A Const for a reader of the node `near`, in that node's frame."""
    control = [TensorRef(near, 0, True)] if self._frames.of(near) else ()
    return constant(self.graph, name, np.asarray(value), dtype, control)

  def gather(self, ref, indices):
    """The rows of a tensor, or entries of a vector, in another order."""
    name = ref.node + "/NHWC"
    rows = self.constant(name + "/indices", indices, tf1.int32, ref.node)
    attrs = {"Tparams": type_attr(self.dtype(ref)),
             "Tindices": type_attr(tf1.int32)}
    return TensorRef(
      self.graph.add("Gather", name, [ref, rows], attrs).name)

  def rewrite(self, node, inputs, changed=()):
    """Gives a node inputs that have their channels last.

    Args:
      node: keeps its control inputs.
      inputs: its new data inputs.
      changed: indices of the outputs that have their channels last from here
        on; the others are what they were.
    """
    controls = self.graph.control_inputs(node.name)
    self.graph.set_inputs(node.name, list(inputs) + controls)
    self.rewritten.add(node.name)
    for index in changed:
      ref = TensorRef(node.name, index)
      self._free[ref] = ref
      self.changed[ref] = None

  def read_first(self, name):
    """Makes a node that is left alone read its tensors as it always did."""
    refs = self.graph.inputs(name)
    plain = [ref if ref.control else self.first(ref) for ref in refs]
    if plain != refs:
      self.graph.set_inputs(name, plain)

  def stands_for(self, ref, twin):
    """Says that `twin` holds the tensor `ref` with its channels last."""
    self._free[ref] = twin

  def shape_stands_for(self, ref, twin):
    """Says the same of two vectors of sizes."""
    self._vectors[ref] = twin

  def _move(self, ref, perm, shape, suffix, near):
    """Moves axes: in a constant, by a Reshape where that does, or for real."""
    name = ref.node + suffix
    folded = self._folded(ref, perm, name)
    if folded is not None:
      return folded
    attrs = {"T": type_attr(self.dtype(ref))}
    if keeps_order(shape, perm) and list(shape).count(-1) <= 1:
      op, key, value = "Reshape", "Tshape", [shape[axis] for axis in perm]
    else:
      op, key, value = "Transpose", "Tperm", perm
    attrs[key] = type_attr(tf1.int32)
    how = self.constant(name + "/" + key[1:], value, tf1.int32, near)
    return TensorRef(self.graph.add(op, name, [ref, how], attrs).name)

  def _folded(self, ref, perm, name):
    """The constant with its axes moved; None where `ref` is not constant."""
    controls, source = [], ref.node
    while self.graph.op(source) == "Identity":
      controls.extend(self.graph.control_inputs(source))
      source = self.graph.data_inputs(source)[0].node
    if self.graph.op(source) != "Const":
      return None
    value = constant_value(self.graph, ref, _LARGEST_FOLDED)
    if value is None:
      return None
    # They place a constant in a branch or a frame.
    controls.extend(self.graph.control_inputs(source))
    dtype = self.graph.node(source).attr["dtype"].type
    return constant(
      self.graph, name, np.transpose(value, perm), dtype, controls)

  def _with_channels(self, ref, near):
    """A tensor of spatial axes only, with an axis for the channels added."""
    name = ref.node + "/NHWC"
    axis = self.constant(name + "/dim", -1, tf1.int32, near)
    attrs = {"T": type_attr(self.dtype(ref)), "Tdim": type_attr(tf1.int32)}
    return TensorRef(
      self.graph.add("ExpandDims", name, [ref, axis], attrs).name)
