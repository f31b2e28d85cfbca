# SPDX-License-Identifier: Apache-2.0
"""As much as possible is computed on eight-bit integers."""

from __future__ import annotations

import collections
import dataclasses
from typing import ClassVar, List, NamedTuple, Optional, Tuple

import numpy as np

from bnexport.analysis.shapes import Shapes
from bnexport.errors import TransformError
from bnexport.graph import TensorRef
from bnexport.graph.nodes import constant, type_attr
from bnexport.model import Model
from bnexport.text import Emitter
from bnexport.tf1 import tf1
from bnexport.transforms.quantizing import fake_quantization, requantization
from bnexport.transforms.quantizing.quantized_ops import RULES
from bnexport.transforms.uses import Uses

_FLOAT = tf1.float32.as_datatype_enum


class _EightBit(NamedTuple):
  """A float tensor as quint8, and the range that its values stand for."""

  values: TensorRef
  low: TensorRef
  high: TensorRef

  @classmethod
  def outputs(cls, name):
    """The three outputs of a quantized op."""
    return cls(TensorRef(name), TensorRef(name, 1), TensorRef(name, 2))


@dataclasses.dataclass(frozen=True)
class QuantizeNodes:
  """Float ops that have an eight-bit form are computed in it.

  An input is quantized in the range its values have in each run, and the
  result is float again under the op's name; between two such ops, nothing
  is float. A result of 32 bits is cut to the range it has in each run, or to
  that of a FakeQuantWithMinMaxVars behind it, or to
  `fallback_min, fallback_max`. Add, AddV2, AvgPool, BiasAdd, Concat,
  ConcatV2, Conv2D, MatMul, MaxPool, Mul, Relu, Relu6, Reshape and
  ResizeBilinear are converted; constants are best quantized before, by
  quantize_weights. Answers differ by what eight bits can't tell apart.

  With:   quantize_nodes(input_min=-1, input_max=6)
  Before: x = Placeholder() {dtype=float}   a = Relu(x)   y = Relu6(a)
  After:  x = Placeholder() {dtype=quint8}
          a/eightbit = QuantizedRelu(x, x_eightbit/min, x_eightbit/max)
          y/eightbit = QuantizedRelu6(a/eightbit, a/eightbit:1, a/eightbit:2)
          y = Dequantize(y/eightbit, y/eightbit:1, y/eightbit:2)
              {T=quint8, mode="MIN_FIRST"}

  Leaves in float what the kernels, which are for CPUs only, would refuse or
  get wrong: NCHW, dilations, EXPLICIT padding, strides that differ, sums and
  products that broadcast otherwise than by repeating one input as a whole,
  or whose shapes are not known; fake quantization of other than 8 bits.

  Attributes:
    input_min: what a fed byte of 0 stands for; float placeholders take bytes
      from then on. Without it they stay.
    input_max: what a fed byte of 255 stands for.
    fallback_min: the range of 32-bit results, in place of measuring it.
    fallback_max: its other end.
    ignore_op: ops that stay float.
  """

  name: ClassVar[str] = "quantize_nodes"
  input_min: Optional[float] = None
  input_max: Optional[float] = None
  fallback_min: Optional[float] = None
  fallback_max: Optional[float] = None
  ignore_op: Tuple[str, ...] = ()

  def apply(self, model: Model) -> List[str]:
    inputs = self._range("input")
    fallback = self._range("fallback")
    work = _Quantizer(model, fallback, frozenset(self.ignore_op))
    if inputs:
      work.quantize_placeholders(*inputs)
    work.told += fake_quantization.hoist(model.graph, work.uses)
    work.told += requantization.merge(model.graph, work.uses)
    return work.run()

  def _range(self, what):
    """The range that is given for `what`, or None.

    Raises:
      TransformError: it is half a range, or empty.
    """
    low, high = (getattr(self, what + end) for end in ("_min", "_max"))
    if low is None and high is None:
      return None
    if low is None or high is None:
      raise TransformError(
        "quantize nodes",
        f"only one of {what}_min and {what}_max is given",
        "give both, or none",
      )
    if not -np.inf < low < high < np.inf:
      raise TransformError(
        "quantize nodes",
        f"{what}_min={low:g} is not below {what}_max={high:g}",
        "give a range",
      )
    return low, high


class _Quantizer:
  """Quantizes the nodes of one graph, inputs first."""

  def __init__(self, model, fallback, ignored):
    self.told = []
    self.uses = Uses(model)
    self._model = model
    self._graph = model.graph
    self._emitter = Emitter(model.graph, model.signatures)
    self._fallback = fallback
    self._ignored = ignored
    self._shapes = Shapes(model.graph)
    self._known = {}  # eight-bit forms of float tensors
    self._wide = {}  # 32-bit results, by what they are as float
    self._floats = []  # nodes that may turn out to be read by nobody
    self._count = collections.Counter()

  def quantize_placeholders(self, low, high):
    """Lets float placeholders be fed with bytes that stand for a range."""
    graph = self._graph
    outputs = {ref.node for ref in self._model.outputs}
    for node in graph:
      name = node.name
      if node.op != "Placeholder" or node.attr["dtype"].type != _FLOAT:
        continue
      if name in outputs:
        self.told.append(f"left input '{name}' float: it is an output")
        continue
      readers = graph.readers(name)
      text = """
        min = Const() {value=$low}
        max = Const() {value=$high}
        dequantize = Dequantize(x, min, max) {T=quint8, mode=MIN_FIRST}
      """
      as_float = self._emitter.emit(
        f"{name}_eightbit",
        text,
        x=name,
        low=np.float32(low),
        high=np.float32(high),
      )["dequantize"]
      node.attr["dtype"].CopyFrom(type_attr(tf1.quint8))
      graph.substitute({TensorRef(name): as_float}, readers)
      self._floats.append(as_float.node)
      self.told.append(
        f"input '{name}' takes quint8: 0 is {low:g} and 255 is {high:g}"
      )

  def run(self):
    graph = self._graph
    for name in graph.topological():
      node = graph.node(name)
      if node.op == fake_quantization.OP:
        reason = fake_quantization.obstacle(graph, node)
        self._convert(node, reason, self._requantize_fake)
      elif node.op in RULES and node.op not in self._ignored:
        if node.attr["T"].type == _FLOAT:
          reason = RULES[node.op].obstacle(graph, node, self._shapes.of)
          self._convert(node, reason, self._replace)
    self.uses.remove_unread(self._floats)
    if self._count:
      self.told.append(
        "quantized %s"
        % ", ".join(f"{n} {op}" for op, n in sorted(self._count.items()))
      )
    return self.told

  def _convert(self, node, reason, how):
    if reason is None:
      self._count[node.op] += 1
      how(node)
    elif reason:
      self.told.append(f"left '{node.name}' float: {reason}")

  # One node.

  def _replace(self, node):
    """Makes a float op its quantized form, and a Dequantize of its name."""
    graph, name, rule = self._graph, node.name, RULES[node.op]
    refs = graph.data_inputs(name)
    if node.op == "ConcatV2":
      refs = refs[-1:] + refs[:-1]
    forms = [
      self._eight_bit(ref, name)
      for slot, ref in enumerate(refs)
      if slot != rule.plain
    ]
    ranges = [end for form in forms for end in (form.low, form.high)]
    if rule.op == "QuantizedConcat":  # all minima, then all maxima
      ranges = ranges[::2] + ranges[1::2]
    values = [form.values for form in forms]
    if rule.plain is not None:
      values.insert(rule.plain, refs[rule.plain])
    attrs = {key: node.attr[key] for key in rule.attrs if key in node.attr}
    if rule.result:
      attrs[rule.result] = type_attr(tf1.qint32)
    inputs = values + ranges + graph.control_inputs(name)
    main = self._emitter.add(rule.op, name + "/eightbit", inputs, attrs).node
    result = _EightBit.outputs(main)
    if rule.result:
      result = self._requantize(main, result, *self._range_of(main, refs[0]))
      if not self._fallback:
        self._wide[TensorRef(name)] = main
    self._finish(name, result)

  def _range_of(self, main, beside):
    """Two tensors: the range that a 32-bit result is cut to."""
    graph = self._graph
    if self._fallback:
      control = self.uses.beside(beside)
      return [
        constant(graph, f"{main}/fallback_{end}", value, control=control)
        for end, value in zip(("min", "max"), np.float32(self._fallback))
      ]
    wide = _EightBit.outputs(main)
    text = "requant_range = RequantizationRange(wide)"
    low = self._emitter.emit(main, text, wide=list(wide))["requant_range"]
    return low, low._replace(index=1)

  def _requantize(self, scope, wide, low, high):
    text = "requantize = Requantize(wide, low, high) {out_type=quint8}"
    made = self._emitter.emit(scope, text, wide=list(wide), low=low, high=high)
    return _EightBit.outputs(made["requantize"].node)

  def _requantize_fake(self, node):
    """Cuts 32 bits to the range of a fake quantization."""
    name, scope = node.name, node.name + "_eightbit"
    x, low, high = self._graph.data_inputs(name)
    if x in self._wide:
      wide = self._wide[x]
    else:
      text = "quantize = QuantizeV2(inputs) {T=qint32, mode=MIN_FIRST}"
      inputs = self._graph.inputs(name)
      made = self._emitter.emit(scope, text, inputs=inputs)
      wide = made["quantize"].node
    result = self._requantize(scope, _EightBit.outputs(wide), low, high)
    self._finish(name, result)

  def _finish(self, name, result):
    text = "result = Dequantize(eight_bit, ^waits) {T=quint8, mode=MIN_FIRST}"
    self._emitter.become(name, text, eight_bit=list(result))
    self._known[TensorRef(name)] = result
    self._floats.append(name)

  # Its inputs.

  def _eight_bit(self, ref, reader):
    """The eight-bit form of a float tensor; it is quantized at need."""
    if ref not in self._known:
      node = self._graph.node(ref.node)
      if requantization.is_eight_bit(node):
        self._known[ref] = _EightBit(*self._graph.data_inputs(ref.node))
        self._floats.append(ref.node)
      else:
        self._known[ref] = self._quantize(ref, reader)
    return self._known[ref]

  def _quantize(self, ref, reader):
    """Quantizes a tensor in the range it has when the graph runs."""
    port = f"__port__{ref.index}" if ref.index else ""
    text = """
      reshape_dims = Const(^beside) {value=<int32 [1] -1>}
      reshape = Reshape(x, reshape_dims)
      reduction_dims = Const(^beside) {value=<int32 [1] 0>}
      min = Min(reshape, reduction_dims) {keep_dims=false}
      max = Max(reshape, reduction_dims) {keep_dims=false}
      quantize = QuantizeV2(x, min, max) {T=quint8, mode=MIN_FIRST}
    """
    made = self._emitter.emit(
      f"{reader}_eightbit/{ref.node}{port}",
      text,
      x=ref,
      beside=self.uses.beside(ref),
    )
    return _EightBit.outputs(made["quantize"].node)
