# SPDX-License-Identifier: Apache-2.0
"""Faults that are edited into right inference graphs.

Each of FAULTS takes a right Graph, which it does not touch, and its BatchNorms
with stored statistics, and yields a graph for each place where it can be.
"""

import numpy as np

from bnexport.batchnorm.forms import op_form
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape, tensor_attr
from bnexport.text import Emitter

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative", "Conv3D", "MatMul")
_RELUS = ("Relu", "Relu6", "LeakyRelu", "Elu", "Selu")
# Five per cent, as of statistics that another run had.
_OFF = np.float32(1.05)


def _array(graph, ref):
  """The constant behind a tensor: its node's name and its value."""
  while graph.op(ref.node) != "Const":
    if graph.op(ref.node) not in ops.IDENTITIES | {"Reshape", "ExpandDims"}:
      return None, None
    ref = graph.inputs(ref.node)[0]
  return ref.node, constant_value(graph, ref)


def _set(graph, name, value):
  """A clone of the graph with another constant."""
  edited = graph.clone()
  node = edited.node(name)
  dtype = node.attr["dtype"].type
  old = constant_value(graph, TensorRef(name))
  node.attr["value"].CopyFrom(
    tensor_attr(np.asarray(value, old.dtype).reshape(old.shape), dtype)
  )
  return edited


def _statistics(graph, norms):
  """Yields name and value of the constants of each norm's mean and variance."""
  for norm in norms:
    mean, variance = (
      _array(graph, ref) if ref is not None else (None, None)
      for ref in (norm.mean, norm.variance)
    )
    if mean[0] is not None and variance[0] is not None:
      yield mean, variance


def wrong_average(graph, norms):
  found = list(_statistics(graph, norms))
  for (one, _), (other, _) in zip(found, found[1:] + found[:1]):
    if one[0] != other[0] and one[1].shape == other[1].shape:
      yield _set(graph, one[0], other[1])


def swapped_averages(graph, norms):
  for mean, variance in _statistics(graph, norms):
    if mean[1].shape == variance[1].shape:
      edited = _set(graph, mean[0], variance[1])
      yield _set(edited, variance[0], np.abs(mean[1]))


def mean_off(graph, norms):
  for mean, _ in _statistics(graph, norms):
    yield _set(graph, mean[0], mean[1] * _OFF)


def variance_off(graph, norms):
  for _, variance in _statistics(graph, norms):
    yield _set(graph, variance[0], variance[1] * _OFF)


def channels_shifted(graph, norms):
  for mean, variance in _statistics(graph, norms):
    edited = _set(graph, mean[0], np.roll(mean[1], 1, -1))
    yield _set(edited, variance[0], np.roll(variance[1], 1, -1))


def wrong_epsilon(graph, norms):
  for norm in norms:
    wrong = 1e-5 if norm.epsilon > 1e-4 else 1e-3
    if op_form(graph.op(norm.name)) is not None:
      edited = graph.clone()
      node = edited.node(norm.name)
      is_global = node.op == "BatchNormWithGlobalNormalization"
      node.attr["variance_epsilon" if is_global else "epsilon"].f = wrong
      yield edited
      continue
    for name in graph.ancestors([norm.name], control=False):
      if graph.op(name) == "Const" and graph.readers(name):
        value = constant_value(graph, TensorRef(name))
        if np.ndim(value) == 0 and np.float32(value) == np.float32(
          norm.epsilon
        ):
          yield _set(graph, name, wrong)
          break


def scale_dropped(graph, norms):
  for norm in norms:
    scale = norm.form.scale(graph, norm.name)
    name, value = (None, None) if scale is None else _array(graph, scale)
    if name is not None:
      yield _set(graph, name, np.ones_like(value))


def offset_dropped(graph, norms):
  for norm in norms:
    scale = norm.form.scale(graph, norm.name)
    for ref in norm.form.parameters(graph, norm.name):
      name, value = _array(graph, ref)
      if ref != scale and name is not None and value.dtype.kind == "f":
        yield _set(graph, name, np.zeros_like(value))


def batch_statistic_left(graph, norms):
  for norm in norms:
    form = op_form(graph.op(norm.name))
    if form is None:
      yield from _with_mean_of_batch(graph, norm)
    elif form.computes_statistics:
      edited = graph.clone()
      form.to_training(edited.node(norm.name))
      text = "none = Const() {value=<float [0]>}"
      empty = Emitter(edited).emit("empty", text)["none"]
      for which in ("mean", "variance"):
        edited.set_input(norm.name, form.slot(which), empty)
      yield edited


def _with_mean_of_batch(graph, norm):
  if norm.x is None or norm.mean is None:
    return
  name, value = _array(graph, norm.mean)
  shape = static_shape(graph, norm.x)
  if name is None or not shape:
    return
  edited, rank = graph.clone(), len(shape)
  kept = {rank - 1 - i for i, n in enumerate(value.shape[::-1]) if n > 1}
  made = Emitter(edited).emit(
    "fault",
    """
    axes = Const() {value=$axes}
    m = Mean(x, axes) {keep_dims=true}
    shape = Const() {value=$shape}
    mean = Reshape(m, shape)
    """,
    x=norm.x,
    axes=np.int32([i for i in range(rank) if i not in kept]),
    shape=np.int32(value.shape),
  )
  stored = TensorRef(name)
  edited.substitute({stored: made["mean"]}, graph.readers_of(stored))
  yield edited


def noise_left(graph, norms):
  for norm in norms:
    edited, y = graph.clone(), TensorRef(norm.name)
    readers = edited.readers_of(y)
    if not readers:
      continue
    made = Emitter(edited).emit(
      "fault",
      """
      shape = Shape(y)
      noise = RandomStandardNormal(shape) {dtype=float}
      amount = Const() {value=<float 0.1>}
      scaled = Mul(noise, amount)
      noisy = Add(y, scaled)
      """,
      y=y,
    )
    edited.substitute({y: made["noisy"]}, readers)
    yield edited


def relu_dropped(graph, norms):
  for node in graph:
    if node.op in _RELUS:
      edited = graph.clone()
      edited.become(
        node.name,
        "Identity",
        [graph.inputs(node.name)[0]],
        {"T": node.attr["T"]},
      )
      yield edited


def one_weight(graph, norms):
  for node in graph:
    if node.op in _CONVOLUTIONS:
      name, value = _array(graph, graph.data_inputs(node.name)[1])
      if name is not None and value.size:
        wrong = value.copy()
        wrong.flat[value.size // 2] += wrong.dtype.type(0.5) * np.std(
          value
        ).astype(value.dtype)
        yield _set(graph, name, wrong)


FAULTS = (
  wrong_average,
  swapped_averages,
  mean_off,
  variance_off,
  channels_shifted,
  wrong_epsilon,
  scale_dropped,
  offset_dropped,
  batch_statistic_left,
  noise_left,
  relu_dropped,
  one_weight,
)
