# SPDX-License-Identifier: Apache-2.0
"""Tensors to be had in two orders of their axes: channels first, and last."""

from __future__ import annotations

import numpy as np

from bnexport.analysis.shape_rules import DerivedShapes
from bnexport.graph import TensorRef
from bnexport.graph.contexts import Contexts
from bnexport.graph.nodes import constant, constant_value
from bnexport.graph.origins import viewed
from bnexport.text import Emitter
from bnexport.tf1 import tf1

# A batch of rows, of images, of volumes: where there are spatial axes.
RANKS = frozenset((3, 4, 5))
_LARGEST_FOLDED = 1 << 22  # elements of a constant that is written once more


def to_last(rank):
  """Permutation from channels first to channels last."""
  return (0,) + tuple(range(2, rank)) + (1,)


def to_first(rank):
  """Permutation from channels last to channels first."""
  return (0, rank - 1) + tuple(range(1, rank - 1))


def keeps_order(shape, perm):
  """Whether a Transpose leaves the elements in their order."""
  wide = [axis for axis, size in enumerate(shape) if size != 1]
  return [axis for axis in perm if axis in wide] == wide


class Twins:
  """The tensors of a model on its way from channels first to last.

  A TensorRef stands for the tensor that it named before; one that is in
  `turned` holds its channels last by now, though its readers were written
  for channels first.

  Attributes:
    model: what is converted.
    graph: its graph, edited in place.
    emitter: adds nodes to the graph.
    order: the nodes that the outputs need, inputs first.
    shapes: of the tensors as they were.
    fed: names of nodes whose tensors are fed: those stay what they are.
    rank: ranks of the tensors whose channels last twin costs nothing.
    turned: an ordered set of tensors that are their own twin.
    loops: names of NextIteration nodes whose Merge is channels last.
    rewritten: names of nodes whose stated shapes are stale.
    added: names of new nodes.
  """

  def __init__(self, model):
    self.model = model
    self.graph = model.graph
    self.emitter = Emitter(model.graph, model.signatures)
    self.order = self.graph.topological(model.needed(control=True))
    self.shapes = DerivedShapes(self.graph, self.order)
    self.fed = {ref.node for ref in model.inputs}
    self.rank = {}
    self.turned = {}
    self.loops = set()
    self.rewritten = set()
    self.added = set()
    self._contexts = Contexts(self.graph, self.order)
    self._last = {}
    self._first = {}
    self._gathered = {}

  # Reading.

  def channels_last(self, ref, rank):
    """The tensor with its channels last."""
    if ref not in self._last:
      shape = self.shapes.of(ref) or (-1,) * rank
      self._last[ref] = self._moved(
        ref, to_last(rank), shape, "NHWC" if rank < 5 else "NDHWC", ref
      )
    return self._last[ref]

  def channels_first(self, ref):
    """The tensor as its readers were written for."""
    if ref not in self.turned:
      return ref
    if ref not in self._first:
      rank = self.rank[ref]
      shape = self.shapes.of(ref) or (-1,) * rank
      self._first[ref] = self._moved(
        ref,
        to_first(rank),
        [shape[axis] for axis in to_last(rank)],
        "NCHW" if rank < 5 else "NCDHW",
        ref,
      )
    return self._first[ref]

  def inputs(self, node, slots=(0,)):
    """A node's data inputs, channels last in `slots`, else first."""
    return [
      self.channels_last(ref, self.shapes.rank(ref))
      if i in slots
      else self.channels_first(ref)
      for i, ref in enumerate(self.graph.data_inputs(node.name))
    ]

  def operand(self, ref, rank):
    """An operand that broadcasts, channels last, as `ref` did, channels first.

    Args:
      ref: a tensor of known rank.
      rank: of the result, at least that.
    """
    shape = self.shapes.of(ref)
    if len(shape) == rank:
      return self.channels_last(ref, rank)
    if set(shape) <= {1}:
      return self.channels_first(ref)
    key = (ref, rank)
    if key not in self._last:
      plain = self.channels_first(ref)
      if len(shape) == rank - 1:
        # [C, 1, 1]: the batch is left to broadcasting.
        perm = tuple(range(1, rank - 1)) + (0,)
        self._last[key] = self._moved(plain, perm, shape, "HWC", ref)
      else:
        self._last[key] = self._with_channels(plain, ref)
    return self._last[key]

  def gathered(self, ref, order):
    """Elements, or rows, of a tensor in another order."""
    key = (ref, order)
    if key not in self._gathered:
      self._gathered[key] = self._in_order(ref, order)
    return self._gathered[key]

  def _in_order(self, ref, order):
    name = ref.node + "/NHWC"
    value = constant_value(self.graph, ref)
    if value is not None:
      # Some sizes may be of the spatial axes alone.
      if len(value) == len(order):
        value = value[list(order)]
      return self.vector(ref, name, value, value.dtype)
    node = self.graph.node(ref.node)
    parts = self.graph.data_inputs(ref.node)
    if node.op == "Pack" and len(parts) == len(order):
      return self.add(
        "Pack", name, [parts[axis] for axis in order], dict(node.attr)
      )
    text = """
      NHWC/indices = Const(^beside) {value=$order}
      NHWC = Gather(x, NHWC/indices)
    """
    made = self.emit(
      ref.node, text, x=ref, beside=self.beside(ref), order=np.int32(order)
    )
    return made["NHWC"]

  # Making.

  def dtype(self, ref):
    """DataType enum of a tensor."""
    return self.model.dtype(ref).as_datatype_enum

  def output_count(self, node):
    return len(self.model.signatures.output_dtypes(node))

  def add(self, op, name, inputs, attrs):
    """Adds a node that reads what the refs name by now."""
    made = self.emitter.add(op, name, inputs, attrs)
    self.graph.node(made.node).attr.pop("_output_shapes", None)
    self.added.add(made.node)
    return made

  def emit(self, scope, notation, **bindings):
    """Adds nodes that read what the refs name by now; see Emitter.emit."""
    made = self.emitter.emit(scope, notation, **bindings)
    self.added.update(ref.node for ref in made.values())
    return made

  def beside(self, ref):
    """Control inputs that put a constant into the frame of a tensor."""
    in_loop = self._contexts.frame(ref.node)
    return [TensorRef(ref.node, 0, True)] if in_loop else []

  def vector(self, beside, name, values, dtype=tf1.int32):
    """A Const in the frame of another tensor."""
    values, control = np.asarray(values), self.beside(beside)
    return constant(self.graph, name, values, dtype, control)

  def follow(self, node, inputs, rank, outputs=(0,)):
    """Sets a node's data inputs; these outputs of it are channels last."""
    for index in outputs:
      ref = TensorRef(node.name, index)
      self.rank[ref] = rank
      self.turned[ref] = None
      self._last[ref] = ref
    return self.settle(node, inputs)

  def settle(self, node, inputs):
    """Sets the data inputs of a node whose output is what it was."""
    controls = self.graph.control_inputs(node.name)
    self.graph.set_inputs(node.name, list(inputs) + controls)
    self.rewritten.add(node.name)
    return True

  def stands_for(self, ref, twin, rank):
    """Says that `twin` is the tensor `ref` with its channels last."""
    self.rank[ref] = rank
    self._last[ref] = twin

  def sizes_stand_for(self, ref, order, twin):
    """Says that `twin` holds the elements of `ref` in that order."""
    self._gathered[ref, order] = twin

  def read_channels_first(self, node):
    """Gives a node that can't follow what it was written for."""
    refs = self.graph.inputs(node.name)
    plain = [ref if ref.control else self.channels_first(ref) for ref in refs]
    if plain != refs:
      self.graph.set_inputs(node.name, plain)

  def _moved(self, ref, perm, shape, label, beside):
    """Moves axes: in a constant, by a Reshape where that does, or for real.

    Args:
      ref: the tensor.
      perm: how they are moved.
      shape: of the tensor.
      label: what the result is called below the tensor's node.
      beside: a tensor of the same frame that was there before.
    """
    folded = self._folded(ref, perm, f"{ref.node}/{label}")
    if folded is not None:
      return folded
    op, argument, value = "Transpose", "perm", perm
    if keeps_order(shape, perm) and list(shape).count(-1) <= 1:
      op, argument, value = "Reshape", "shape", [shape[a] for a in perm]
    text = f"""
      {label}/{argument} = Const(^beside) {{value=$value}}
      {label} = {op}(x, {label}/{argument})
    """
    made = self.emit(
      ref.node, text, x=ref, beside=self.beside(beside), value=np.int32(value)
    )
    return made[label]

  def _folded(self, ref, perm, name):
    """The constant with its axes moved; None where `ref` is not constant."""
    views = [view.node for view in viewed(self.graph, ref, ("Identity",))]
    source = self.graph.node(views[-1])
    if source.op != "Const":
      return None
    value = constant_value(self.graph, ref, _LARGEST_FOLDED)
    if value is None:
      return None
    # They place a constant in a branch or a frame.
    controls = [r for view in views for r in self.graph.control_inputs(view)]
    dtype = source.attr["dtype"].type
    return constant(
      self.graph, name, np.transpose(value, perm), dtype, controls
    )

  def _with_channels(self, ref, beside):
    """A tensor of spatial axes only, with an axis for the channels added."""
    text = """
      HWC/dim = Const(^beside) {value=<int32 -1>}
      HWC = ExpandDims(x, HWC/dim)
    """
    return self.emit(ref.node, text, x=ref, beside=self.beside(beside))["HWC"]
