# SPDX-License-Identifier: Apache-2.0
"""Faults that are edited into right inference graphs."""

import numpy as np

from bnexport.batchnorm.forms import op_form
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape, tensor_attr
from bnexport.text import Emitter

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative", "Conv3D", "MatMul")
_RELUS = ("Relu", "Relu6", "LeakyRelu", "Elu", "Selu")
# Five per cent, as of statistics that another run had.
_OFF = np.float32(1.05)


def planted(graph, norms):
  """Yields what a fault is, and a graph that has it, for each that can be.

  Args:
    graph: a right Graph with constants for its statistics; it is not touched.
    norms: its BatchNorms with stored statistics.
  """
  for plant in FAULTS:
    for place, edited in plant(graph, norms):
      yield f"{plant.__name__[1:]} {place}", edited


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
  """Yields each norm with the constants of its mean and variance."""
  for norm in norms:
    mean, variance = (
      _array(graph, ref) if ref is not None else (None, None)
      for ref in (norm.mean, norm.variance)
    )
    if mean[0] is not None and variance[0] is not None:
      yield norm, mean, variance


def _wrong_average(graph, norms):
  found = list(_statistics(graph, norms))
  for (norm, one, _), (_, other, _) in zip(found, found[1:] + found[:1]):
    if one[0] != other[0] and one[1].shape == other[1].shape:
      yield norm.name, _set(graph, one[0], other[1])


def _swapped_averages(graph, norms):
  for norm, mean, variance in _statistics(graph, norms):
    if mean[1].shape == variance[1].shape:
      edited = _set(graph, mean[0], variance[1])
      yield norm.name, _set(edited, variance[0], np.abs(mean[1]))


def _mean_off(graph, norms):
  for norm, mean, _ in _statistics(graph, norms):
    yield norm.name, _set(graph, mean[0], mean[1] * _OFF)


def _variance_off(graph, norms):
  for norm, _, variance in _statistics(graph, norms):
    yield norm.name, _set(graph, variance[0], variance[1] * _OFF)


def _channels_shifted(graph, norms):
  for norm, mean, variance in _statistics(graph, norms):
    edited = _set(graph, mean[0], np.roll(mean[1], 1, -1))
    yield norm.name, _set(edited, variance[0], np.roll(variance[1], 1, -1))


def _wrong_epsilon(graph, norms):
  for norm in norms:
    wrong = 1e-5 if norm.epsilon > 1e-4 else 1e-3
    if op_form(graph.op(norm.name)) is not None:
      edited = graph.clone()
      edited.node(norm.name).attr["epsilon"].f = wrong
      yield norm.name, edited
      continue
    for name in graph.ancestors([norm.name], control=False):
      if graph.op(name) == "Const" and graph.readers(name):
        value = constant_value(graph, TensorRef(name))
        if np.ndim(value) == 0 and np.float32(value) == np.float32(
          norm.epsilon
        ):
          yield norm.name, _set(graph, name, wrong)
          break


def _scale_dropped(graph, norms):
  for norm in norms:
    scale = norm.form.scale(graph, norm.name)
    name, value = (None, None) if scale is None else _array(graph, scale)
    if name is not None:
      yield norm.name, _set(graph, name, np.ones_like(value))


def _offset_dropped(graph, norms):
  for norm in norms:
    scale = norm.form.scale(graph, norm.name)
    for ref in norm.form.parameters(graph, norm.name):
      name, value = _array(graph, ref)
      if ref != scale and name is not None and value.dtype.kind == "f":
        yield norm.name, _set(graph, name, np.zeros_like(value))


def _batch_statistic_left(graph, norms):
  for norm in norms:
    form, edited = op_form(graph.op(norm.name)), graph.clone()
    if form is not None and form.computes_statistics:
      form.to_training(edited.node(norm.name))
      empty = Emitter(edited).emit(
        "empty", "none = Const() {value=<float [0]>}"
      )
      for which in ("mean", "variance"):
        edited.set_input(norm.name, form.slot(which), empty["none"])
      yield norm.name, edited
    elif form is None and norm.x is not None and norm.mean is not None:
      name, value = _array(graph, norm.mean)
      shape = static_shape(graph, norm.x)
      if name is None or not shape:
        continue
      varying = {
        len(shape) - 1 - i for i, n in enumerate(value.shape[::-1]) if n > 1
      }
      axes = np.int32([i for i in range(len(shape)) if i not in varying])
      made = Emitter(edited).emit(
        "fault",
        "axes = Const() {value=$axes}\nm = Mean(x, axes) {keep_dims=true}\n"
        "shape = Const() {value=$shape}\nmean = Reshape(m, shape)",
        x=norm.x,
        axes=axes,
        shape=np.int32(value.shape),
      )
      readers = graph.readers_of(TensorRef(name))
      edited.substitute({TensorRef(name): made["mean"]}, readers)
      yield norm.name, edited


def _noise_left(graph, norms):
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
    yield norm.name, edited


def _relu_dropped(graph, norms):
  for node in graph:
    if node.op in _RELUS:
      edited = graph.clone()
      edited.become(
        node.name,
        "Identity",
        [graph.inputs(node.name)[0]],
        {"T": node.attr["T"]},
      )
      yield node.name, edited


def _one_weight(graph, norms):
  for node in graph:
    if node.op in _CONVOLUTIONS:
      name, value = _array(graph, graph.data_inputs(node.name)[1])
      if name is not None and value.size:
        wrong = value.copy()
        wrong.flat[value.size // 2] += wrong.dtype.type(0.5) * np.std(
          value
        ).astype(value.dtype)
        yield node.name, _set(graph, name, wrong)


FAULTS = (
  _wrong_average,
  _swapped_averages,
  _mean_off,
  _variance_off,
  _channels_shifted,
  _wrong_epsilon,
  _scale_dropped,
  _offset_dropped,
  _batch_statistic_left,
  _noise_left,
  _relu_dropped,
  _one_weight,
)
