# SPDX-License-Identifier: Apache-2.0
"""Faults in how training graphs keep their averages.

A fault changes what an update tracks, and what is stored in its variable as
training with that fault would have left it.
"""

from typing import Dict, List, NamedTuple, Tuple

import numpy as np

from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import output_dtypes, type_attr
from bnexport.graph.variables import variable_of
from bnexport.text import Emitter
from bnexport.tf1 import tf1

_TIMES = 6.0


def planted(kind, load):
  """Yields a Model with a fault for each average that can have it.

  Args:
    kind: one of FAULTS.
    load: gives the right Model anew, each time that it is called.
  """
  tracked = _tracked(load())
  for index, one in enumerate(tracked):
    model = load()
    if not one.helps and kind(model, tracked, index):
      yield model


class Tracked(NamedTuple):
  """An average, and where statistics come into its updates.

  Attributes:
    variable: the node of the average.
    updates: the nodes that write it.
    edges: (node, slot) of what only updates need, that reads a statistic of
      the forward pass, by that statistic.
    helps: whether another average of the statistic is computed from it.
  """

  variable: str
  updates: List[str]
  edges: Dict[TensorRef, List[Tuple[str, int]]]
  helps: bool = False


def _tracked(model):
  """The averages whose updates each read one statistic of the forward pass."""
  graph = model.graph
  ends = [ref.node for ref in model.outputs]
  forward = set(graph.ancestors(ends, control=False))
  inputs = [ref.node for ref in model.inputs]
  fed = _behind(graph, inputs or model.placeholders())
  found = {}
  for node in graph:
    if node.op not in ops.ASSIGN | ops.ASSIGN_ADD | ops.ASSIGN_SUB:
      continue
    variable = variable_of(graph, graph.inputs(node.name)[0])
    if variable is None or variable not in model.values:
      continue
    edges = list(_crossing(graph, node.name, forward, fed))
    statistics = {graph.inputs(name)[slot] for name, slot in edges}
    # A gradient reads many tensors of the forward pass.
    if len(statistics) == 1 and model.values[variable].dtype == np.float32:
      one = found.setdefault(variable, Tracked(variable, [], {}))
      one.updates.append(node.name)
      one.edges.setdefault(statistics.pop(), []).extend(edges)
  every = list(found.values())
  return [one._replace(helps=_helps(graph, every, one)) for one in every]


def _helps(graph, tracked, one):
  others = [u for o in _alike(tracked, one) if o != one for u in o.updates]
  return any(u in graph.ancestors(others, control=False) for u in one.updates)


def _behind(graph, names):
  seen, stack = set(names), list(names)
  while stack:
    for reader in graph.readers(stack.pop()):
      if reader not in seen:
        seen.add(reader)
        stack.append(reader)
  return seen


def _crossing(graph, update, forward, fed):
  """Yields (node, slot) where an update reads data of the forward pass."""
  stack, seen = [update], {update}
  while stack:
    name = stack.pop()
    for slot, ref in enumerate(graph.data_inputs(name)):
      if ref.node not in fed or graph.op(ref.node) in ops.SHAPES:
        continue
      if ref.node in forward:
        yield name, slot
      elif ref.node not in seen:
        seen.add(ref.node)
        stack.append(ref.node)


def _hold(model, variable, value):
  old = model.values[variable]
  value = np.asarray(value, old.dtype)
  model.values.hold(variable, tf1.make_tensor_proto(value, shape=old.shape))


def _alike(tracked, one):
  """The averages that updates make of the same as another one's, with it."""
  edges = {edge for found in one.edges.values() for edge in found}
  return [
    other
    for other in tracked
    if any(edges.intersection(found) for found in other.edges.values())
  ]


def _instead(model, tracked, index, text, change, **more):
  """Has updates track what a text makes of their statistic `s`."""
  graph, one = model.graph, tracked[index]
  for statistic, edges in one.edges.items():
    dtypes = output_dtypes(graph, statistic.node, model.signatures)
    if tf1.as_dtype(dtypes[statistic.index]) != tf1.float32:
      return False
    made = Emitter(graph).emit("fault", text, s=statistic, **more)
    for name, slot in edges:
      graph.set_input(name, slot, made["t"])
  for other in _alike(tracked, one):
    _hold(model, other.variable, change(model.values[other.variable]))
  return True


def negated(model, tracked, index):
  return _instead(model, tracked, index, "t = Neg(s)", np.negative)


def twice(model, tracked, index):
  text = "two = Const() {value=<float 2>}\nt = Mul(s, two)"
  return _instead(model, tracked, index, text, lambda v: 2 * v)


def half_of_it(model, tracked, index):
  text = "half = Const() {value=<float 0.5>}\nt = Mul(s, half)"
  return _instead(model, tracked, index, text, lambda v: v / 2)


def squared(model, tracked, index):
  return _instead(model, tracked, index, "t = Square(s)", np.square)


def root(model, tracked, index):
  if np.min(model.values[tracked[index].variable]) < 0:
    return False
  return _instead(model, tracked, index, "t = Sqrt(s)", np.sqrt)


def logarithm(model, tracked, index):
  if np.min(model.values[tracked[index].variable]) <= 0:
    return False
  return _instead(model, tracked, index, "t = Log(s)", np.log)


def reciprocal(model, tracked, index):
  if np.min(np.abs(model.values[tracked[index].variable])) < 1e-3:
    return False
  return _instead(model, tracked, index, "t = Reciprocal(s)", np.reciprocal)


def shifted_by_one(model, tracked, index):
  text = "one = Const() {value=<float 1>}\nt = Add(s, one)"
  return _instead(model, tracked, index, text, lambda v: v + 1)


def sum_for_mean(model, tracked, index):
  """Times the rows that were fed, which nobody knows afterwards."""
  name = next(iter(model.placeholders()), None)
  if name is None or not model.graph.node(name).attr["shape"].shape.dim:
    return False
  text = """
  shape = Shape(x)
  zero = Const() {value=<int32 [1] 0>}
  one = Const() {value=<int32 [1] 1>}
  rows = StridedSlice(shape, zero, one, one) {shrink_axis_mask=1}
  n = Cast(rows) {DstT=float}
  t = Mul(s, n)
  """
  x = TensorRef(name)
  return _instead(model, tracked, index, text, lambda v: _TIMES * v, x=x)


_FIRST_HALF = """
  shape = Shape(x)
  zero = Const() {value=<int32 [1] 0>}
  one = Const() {value=<int32 [1] 1>}
  two = Const() {value=<int32 2>}
  rows = StridedSlice(shape, zero, one, one) {shrink_axis_mask=1}
  half = FloorDiv(rows, two)
  end = Pack(half)
  part = StridedSlice(x, zero, end, one)
"""


def half_of_the_batch(model, tracked, index):
  """Each statistic is taken of the first half of what it was taken of.

  What is stored is as good: a half has the mean that the whole has, on average.
  """
  graph, one = model.graph, tracked[index]
  for statistic, edges in one.edges.items():
    views = [graph.node(statistic.node)]
    while views[-1].op in ("Squeeze", "Reshape"):
      views.append(graph.node(graph.inputs(views[-1].name)[0].node))
    reduced = views[-1]
    is_norm = reduced.op in ops.FUSED_NORMS
    if reduced.attr["data_format"].s == b"NCHW" or not (
      is_norm or reduced.op in ("Mean", "Sum")
    ):
      return False
    x = graph.inputs(reduced.name)[0]
    made = Emitter(graph).emit("fault", _FIRST_HALF, x=x)["part"]
    for node in reversed(views):
      refs = [made, *graph.inputs(node.name)[1:]]
      copy = graph.add(node.op, f"fault/{node.name}", refs, dict(node.attr))
      made = TensorRef(copy.name, statistic.index if node is reduced else 0)
    for name, slot in edges:
      graph.set_input(name, slot, made)
  return True


def _partner(model, tracked, index):
  """Another average of the same shape, of another statistic."""
  own = tracked[index]
  for other in tracked[index + 1 :] + tracked[:index]:
    values = [model.values[one.variable] for one in (own, other)]
    is_other = not set(own.edges) & set(other.edges) and not other.helps
    if values[0].shape == values[1].shape and is_other:
      return other
  return None


def _track(model, one, other):
  """Has the updates of an average track what another one does."""
  statistics = list(other.edges)
  for number, edges in enumerate(one.edges.values()):
    for name, slot in edges:
      model.graph.set_input(name, slot, statistics[number % len(statistics)])


def other_statistic(model, tracked, index):
  own, other = tracked[index], _partner(model, tracked, index)
  if other is None:
    return False
  value = model.values[other.variable]
  _track(model, own, other)
  for one in _alike(tracked, own):
    _hold(model, one.variable, value)
  return True


def swapped(model, tracked, index):
  own, other = tracked[index], _partner(model, tracked, index)
  if other is None:
    return False
  values = model.values[own.variable], model.values[other.variable]
  _track(model, own, other)
  _track(model, other, own)
  for one, value in ((own, values[1]), (other, values[0])):
    for alike in _alike(tracked, one):
      _hold(model, alike.variable, value)
  return True


def dropped(model, tracked, index):
  graph = model.graph
  for update in tracked[index].updates:
    value = graph.data_inputs(update)[1]
    kind = {"T": type_attr(tf1.float32)}
    graph.become(update, "Identity", [value], kind)
  return True


def backwards(model, tracked, index):
  """The decay has the other sign."""
  graph, updates = model.graph, tracked[index].updates
  if not all(graph.op(update) in ops.ASSIGN_SUB for update in updates):
    return False
  for update in updates:
    graph.node(update).op = graph.op(update).replace("Sub", "Add")
  return True


FAULTS = (
  negated,
  twice,
  half_of_it,
  squared,
  root,
  logarithm,
  reciprocal,
  shifted_by_one,
  sum_for_mean,
  half_of_the_batch,
  other_statistic,
  swapped,
  dropped,
  backwards,
)
