"""An NCHW graph, so that it runs where only NHWC kernels are."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from bnexport.errors import TransformError
from bnexport.graph import TensorRef
from bnexport.nodes import constant, constant_value, static_shape, type_attr
from bnexport.tf1 import tf1
from bnexport.transforms import layout_rules as rules
from bnexport.variables import Frames


@dataclasses.dataclass(frozen=True)
class ConvertLayout:
  """Turns convolutions, pooling and norms to NHWC; what is between follows.

  Transposes are left where NCHW data comes in, goes out, or meets an op that
  is about the order of its elements, such as a flattening Reshape.

  Before: c = Conv2D(x, w) {data_format=NCHW}   r = Relu(c)   y = Identity(r)
  After:  t = Transpose(x, [0,2,3,1])   c = Conv2D(t, w) {data_format=NHWC}
          r = Relu(c)   y = Transpose(r, [0,3,1,2])

  Refuses NCHW ops that it does not know.

  Attributes:
    data_format: "NHWC".
  """

  name: ClassVar[str] = "convert_layout"
  data_format: str = "NHWC"

  def apply(self, model):
    return _Conversion(model).run()


class _Conversion:
  """The conversion of one model.

  A tensor in `rank` is channels last by now, though its readers were written
  for channels first.
  """

  def __init__(self, model):
    self.model = model
    self.graph = model.graph
    self.order = self.graph.topological(model.needed(control=True))
    self.frames = Frames(self.graph, self.order)
    self.rank = {}
    self._last = {}
    self._first = {}
    self.turned = 0

  def run(self):
    for name in self.order:
      node = self.graph.node(name)
      if rules.is_channels_first(node):
        self._turn(node)
      elif any(ref in self.rank for ref in self.graph.data_inputs(name)):
        self._follow(node)
    for output in self.model.outputs:
      if output in self.rank:
        self._restore_output(output)
    if not self.turned:
      return []
    return ["turned %d ops to NHWC" % self.turned]

  # Tensors in either order.

  def channels_last(self, ref, rank):
    """The tensor with its channels last."""
    if ref in self.rank:
      return ref
    if ref not in self._last:
      self._last[ref] = self._undone(ref, rank) or self._transpose(
        ref, rules.to_last(rank), "NHWC")
    return self._last[ref]

  def channels_first(self, ref):
    """The tensor as its readers were written for."""
    if ref not in self.rank:
      return ref
    if ref not in self._first:
      self._first[ref] = self._transpose(
        ref, rules.to_first(self.rank[ref]), "NCHW")
    return self._first[ref]

  def _undone(self, ref, rank):
    """What the model itself had transposed to channels first, or None."""
    if self.graph.op(ref.node) != "Transpose":
      return None
    x, perm = self.graph.data_inputs(ref.node)
    perm = constant_value(self.graph, perm, largest=8)
    if perm is not None and tuple(perm) == rules.to_first(rank):
      return None if x in self.rank else x
    return None

  def _transpose(self, ref, perm, label):
    graph = self.graph
    base = "%s/%s" % (ref.node, label)
    order = self.vector(ref, base + "/perm", perm)
    dtype = self._dtype(ref)
    return TensorRef(graph.add(
      "Transpose", base, [ref, order],
      {"T": type_attr(dtype), "Tperm": type_attr(tf1.int32)}).name)

  def vector(self, beside, name, values):
    """An int32 Const in the frame of another tensor."""
    control = []
    if self.frames.of(beside.node):
      control = [TensorRef(beside.node, 0, True)]
    return constant(self.graph, name, np.array(values, np.int32),
                    control=control)

  def _dtype(self, ref):
    return self.model.signatures.output_dtypes(
      self.graph.node(ref.node))[ref.index]

  def gathered(self, ref, order, label):
    """Elements, or rows, of a tensor in another order."""
    value = constant_value(self.graph, ref, largest=64)
    base = "%s/%s" % (ref.node, label)
    if value is not None and not self.graph.control_inputs(ref.node):
      return constant(self.graph, base, value[list(order)])
    indices = self.vector(ref, base + "/order", order)
    axis = self.vector(ref, base + "/axis", 0)
    return TensorRef(self.graph.add(
      "GatherV2", base, [ref, indices, axis],
      {"Tparams": type_attr(self._dtype(ref)),
       "Tindices": type_attr(tf1.int32), "Taxis": type_attr(tf1.int32)}).name)

  # Ops with a data format.

  def _turn(self, node):
    data = self.graph.data_inputs(node.name)
    slot = rules.DATA_SLOT.get(node.op)
    if slot is None:
      raise TransformError(
        "cannot turn node '%s' to NHWC: its op '%s' has no rule; export with "
        "the layout it was trained in" % (node.name, node.op))
    rank = self._rank_of(node, data[slot])
    if rank is None or rank < 3:
      node.attr["data_format"].s = b"NHWC"  # the same for rank 2
      return
    data[slot] = self.channels_last(data[slot], rank)
    if node.op in rules.SIZES_SLOT:
      sizes = rules.SIZES_SLOT[node.op]
      data[sizes] = self.gathered(data[sizes], rules.to_last(rank), "NHWC")
    self.graph.set_inputs(node.name,
                          data + self.graph.control_inputs(node.name))
    rules.turn_attributes(node, rank)
    self._mark(node, rank)
    self.turned += 1

  def _rank_of(self, node, ref):
    if node.op in rules.RANKS:
      return rules.RANKS[node.op]
    if ref in self.rank:
      return self.rank[ref]
    shape = static_shape(self.graph, ref)
    if shape is None:
      raise TransformError(
        "cannot turn node '%s' to NHWC: the rank of its input is not known; "
        "export from the .meta that Saver.save wrote" % node.name)
    return len(shape)

  def _mark(self, node, rank, outputs=1):
    for index in range(outputs):
      self.rank[TensorRef(node.name, index)] = rank
    node.attr.pop("_output_shapes", None)

  # Ops between them.

  def _follow(self, node):
    rule = rules.FOLLOWERS.get(node.op)
    if rule is None or not rule(self, node):
      self.read_channels_first(node)

  def read_channels_first(self, node):
    """Gives a node that can't follow what it was written for."""
    refs = self.graph.inputs(node.name)
    self.graph.set_inputs(node.name, [
      ref if ref.control else self.channels_first(ref) for ref in refs])

  def follow(self, node, inputs, rank, outputs=1):
    """Sets a follower's inputs; its outputs are channels last."""
    self.graph.set_inputs(node.name,
                          inputs + self.graph.control_inputs(node.name))
    self._mark(node, rank, outputs)
    return True

  def settle(self, node, inputs):
    """Sets the inputs of a node whose output has no channels to order."""
    self.graph.set_inputs(node.name,
                          inputs + self.graph.control_inputs(node.name))
    return True

  def operand(self, ref, rank):
    """An elementwise operand for a channels last partner, or None."""
    if ref in self.rank:
      return ref if self.rank[ref] == rank else None
    shape = static_shape(self.graph, ref)
    if shape is None:
      return None
    if not shape or all(size == 1 for size in shape):
      return ref
    if len(shape) == rank:
      return self.channels_last(ref, rank)
    if len(shape) == rank - 1:
      # [C, 1, 1]: the batch is left to broadcasting.
      perm = tuple(range(1, rank - 1)) + (0,)
      return self._transpose(ref, perm, "HWC")
    return None

  def _restore_output(self, output):
    """Lets the node of this name give channels first again."""
    graph = self.graph
    node = graph.node(output.node)
    twin = graph.add(node.op, node.name + "/channels_last",
                     graph.inputs(node.name), node.attr)
    for ref in [r for r in self.rank if r.node == node.name]:
      graph.redirect(ref, TensorRef(twin.name, ref.index))
    rank = self.rank[output]
    perm = self.vector(TensorRef(twin.name), twin.name + "/perm",
                       rules.to_first(rank))
    dtype = self.model.signatures.output_dtypes(twin)[output.index]
    graph.set_inputs(node.name, [TensorRef(twin.name, output.index), perm])
    node.op = "Transpose"
    node.attr.clear()
    node.attr["T"].CopyFrom(type_attr(dtype))
    node.attr["Tperm"].CopyFrom(type_attr(tf1.int32))


