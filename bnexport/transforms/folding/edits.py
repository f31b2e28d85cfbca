# SPDX-License-Identifier: Apache-2.0
"""The edits of folding: kernels, shifts, and nodes that go."""

from __future__ import annotations

from bnexport.batchnorm.folding import CannotFold, narrow
from bnexport.graph import TensorRef
from bnexport.graph.nodes import (
  DEFERRED,
  constant,
  deferred_attrs,
  tensor_attr,
  type_attr,
)
from bnexport.graph.origins import CONSTANT_COPIES, origin_of
from bnexport.tf1 import tf1
from bnexport.transforms.folding.runs import asks_for_shape, operands_of


def dtype_name(node):
  """Name of the dtype a node works in."""
  return tf1.as_dtype(node.attr["T"].type).name


def check_shift(vector, node):
  """Raises CannotFold where a node's dtype can't hold a shift."""
  narrow(vector, dtype_name(node), None)


class Edits:
  """Writes into one model's graph."""

  def __init__(self, model, constants, contexts, protected):
    self._model = model
    self._graph = model.graph
    self._constants = constants
    self._contexts = contexts
    self._protected = protected
    self._copies = {}  # kernels written beside others, by what they are
    self._keys = {}
    self._versions = {}  # how often a Const was written

  # Kernels.

  def kernel(self, name, slot):
    """A function that gives a linear op's kernel as it is now.

    Returns:
      The function, and whether the kernel is read where the graph is written.

    Raises:
      CannotFold: it is not computed here.
    """
    ref = self._graph.data_inputs(name)[slot]
    node = self._graph.node(self._source(ref))
    if DEFERRED in node.attr:
      return self._model.deferred[node.attr[DEFERRED].s.decode()], True
    if node.op == "Const":
      array = self._model.array(node.name)
    else:
      array = self._constants.value(ref)
    if array is None:
      raise CannotFold(f"the kernel '{ref}' is not computed here")
    return (lambda: array), False

  def replace_kernel(self, name, slot, kernel, key):
    """Gives a linear op another kernel; who shares the old one keeps it.

    Args:
      name: the op.
      slot: where it reads its kernel.
      kernel: the array; a function that gives it is called where the graph is
        written.
      key: tells kernels made of the same one apart.
    """
    ref = self._graph.data_inputs(name)[slot]
    source = self._source(ref)
    # Frames of loops need a copy each.
    frame = self._contexts.frame(name)
    key = (source, self._versions.get(source, 0), frame) + key
    own = self._own_const(ref, name)
    if own is not None and key not in self._copies:
      self._write(own, kernel)
      self._versions[own] = self._versions.get(own, 0) + 1
      self._copies.pop(self._keys.pop(own, None), None)
      return
    if key not in self._copies:
      copy = self._new_kernel(name, source, kernel)
      self._copies[key] = copy
      self._keys[self._source(copy)] = key
    self._graph.set_input(name, slot, self._copies[key])
    self.drop([ref.node])

  def _source(self, ref):
    """Name of the node whose value a kernel is, also inside of loops."""
    return origin_of(self._graph, ref, CONSTANT_COPIES).node

  def _own_const(self, ref, reader):
    """The Const whose value nobody but `reader` has, or None.

    Each node between the two has to be read by the next one alone: that is
    asked on the way, so that `origin_of` does not do.
    """
    while self._graph.readers(ref.node) == [reader] and (
      ref.node not in self._protected
      and [r.node for r in self._graph.inputs(reader)].count(ref.node) == 1
    ):
      op = self._graph.op(ref.node)
      if op == "Const":
        return ref.node
      if op not in CONSTANT_COPIES:
        return None
      reader, ref = ref.node, self._graph.data_inputs(ref.node)[0]
    return None

  def _write(self, name, kernel):
    node = self._graph.node(name)
    attrs = self._const_attrs(name, kernel, node.attr)
    inputs = self._graph.inputs(name)
    self._graph.become(name, "Const", inputs, attrs, is_fresh=True)
    self._constants.forget(name)

  def _const_attrs(self, name, kernel, like):
    """Attributes of a Const of this kernel; the old one's dtype and shape."""
    dtype = like["dtype"].type
    if not callable(kernel):
      return {"dtype": type_attr(dtype), "value": tensor_attr(kernel, dtype)}
    dims = like["value"].tensor.tensor_shape.dim
    key = f"{name}/folded{len(self._model.deferred)}"
    self._model.deferred[key] = kernel
    return deferred_attrs([dim.size for dim in dims], dtype, key)

  def _new_kernel(self, name, source, kernel):
    """A kernel beside the one that `source` has, for a linear op."""
    graph, node = self._graph, self._graph.node(source)
    dtype = graph.node(name).attr["T"].type
    if callable(kernel):
      attrs = self._const_attrs(name, kernel, node.attr)
      made = TensorRef(graph.add("Const", name + "/kernel", (), attrs).name)
    else:
      made = constant(graph, name + "/kernel", kernel, dtype)
    return self._contexts.carry(made, dtype, self._contexts.frame(name))

  # Shifts.

  def shift(self, run, vector, rank, axis):
    """Makes a run's end `base + vector`; the other steps go.

    Args:
      run: a Run.
      vector: float64, [channels].
      rank: of the run's base.
      axis: of its channels.
    """
    end = self._graph.node(run.end)
    controls = [
      ref for name in run.names for ref in self._graph.control_inputs(name)
    ]
    old = operands_of(self._graph, run)
    attrs = {"T": end.attr["T"]}
    if vector.any():
      op, inputs, attrs = self._adding(end, run.base, vector, rank, axis)
      self._graph.become(run.end, op, inputs + controls, attrs)
    elif not self._take_place(run, controls):
      self._graph.become(run.end, "Identity", [run.base] + controls, attrs)
    self._remove_inner(run)
    self.drop(old)

  def _take_place(self, run, controls):
    """Makes a run's end what its base is, if nobody else needs that."""
    base, graph = run.base.node, self._graph
    others = [
      r for r in graph.readers(base) if not asks_for_shape(graph, r, base)
    ]
    if base in self._protected or others != [run.names[0]]:
      return False
    node = graph.node(base)
    graph.become(run.end, node.op, graph.inputs(base) + controls, node.attr)
    self._remove_inner(run)
    self._serve_shapes(base, TensorRef(run.end))
    graph.remove([base])
    return True

  def _remove_inner(self, run):
    """Removes the steps before the last one, which nobody reads any more."""
    inner = [name for name in run.names[:-1] if name in self._graph]
    for name in inner:
      self._serve_shapes(name, run.base)
    self._graph.remove(inner)

  def _serve_shapes(self, name, ref):
    """Has readers of a node's shape read another node of that shape."""
    for reader in self._graph.readers(name):
      if asks_for_shape(self._graph, reader, name):
        self._graph.substitute({TensorRef(name): ref}, [reader])

  def _adding(self, like, x, vector, rank, axis):
    """Op, inputs and attributes of x + vector, for a node of this dtype."""
    dtype = like.attr["T"].type
    is_last = axis == rank - 1
    attrs = {"T": type_attr(dtype)}
    if is_last or (axis == 1 and rank == 4):
      op = "BiasAdd"
      attrs["data_format"] = tf1.AttrValue(s=b"NHWC" if is_last else b"NCHW")
    else:
      op = "Add"  # BiasAdd has no kernels for other axes everywhere
      vector = vector.reshape([-1] + [1] * (rank - 1 - axis))
    array = narrow(vector, dtype_name(like), None)
    bias = constant(self._graph, like.name + "/bias", array, dtype)
    return (
      op,
      [x, self._contexts.carry(bias, dtype, self._contexts.frame(like.name))],
      attrs,
    )

  def add_shift(self, name, vector, rank, axis):
    """Lets a linear op's readers read what it gives plus a vector.

    Returns:
      Name of the node that was added: what adds, or the op itself where its
      own name is taken by what adds.
    """
    graph, ref = self._graph, TensorRef(name)
    node = graph.node(name)
    if name not in self._protected:
      readers = [r for r in graph.readers_of(ref)]
      op, inputs, attrs = self._adding(node, ref, vector, rank, axis)
      added = graph.add(op, name + "/shifted", inputs, attrs).name
      graph.substitute({ref: TensorRef(added)}, readers)
      return added
    twin = graph.add(
      node.op, name + "/unshifted", graph.inputs(name), dict(node.attr)
    ).name
    op, inputs, attrs = self._adding(node, TensorRef(twin), vector, rank, axis)
    graph.become(name, op, inputs, attrs)
    return twin

  def read_base(self, run, name, slot):
    """Lets a linear op read a run's x in place of what the run gives."""
    refs = self._graph.inputs(name)
    refs[slot] = run.base
    for step in run.names:
      refs.extend(self._graph.control_inputs(step))
    self._graph.set_inputs(name, refs)

  # What goes.

  def remove(self, run):
    """Removes a run that nobody reads any more."""
    old = operands_of(self._graph, run)
    for name in run.names:
      self._serve_shapes(name, run.base)
    self._graph.remove(run.names)
    self.drop(old)

  def drop(self, names):
    """Removes constants that nobody reads, and what only they read."""
    waiting = list(dict.fromkeys(names))
    while waiting:
      name = waiting.pop()
      if (
        name in self._graph
        and name not in self._protected
        and not self._graph.readers(name)
        and TensorRef(name) in self._constants
      ):
        inputs = [ref.node for ref in self._graph.inputs(name)]
        self._graph.remove([name])
        waiting.extend(inputs)
