# SPDX-License-Identifier: Apache-2.0
"""Norms that are spelled out become one op each."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Dict, List

import numpy as np

from bnexport.analysis.dependence import Dependence
from bnexport.analysis.shapes import Shapes
from bnexport.batchnorm.folding import CannotFold, narrow, per_channel
from bnexport.batchnorm.forms import NORM_OPS, find_among
from bnexport.batchnorm.norm import BatchNorm
from bnexport.graph import TensorRef
from bnexport.graph.contexts import Contexts
from bnexport.graph.nodes import constant
from bnexport.model import Model
from bnexport.text import Emitter
from bnexport.tf1 import tf1
from bnexport.transforms.folding.runs import Run, Runs, operands_of
from bnexport.transforms.folding.steps import Steps
from bnexport.transforms.folding.values import Constants
from bnexport.transforms.tidying.names import protected
from bnexport.transforms.uses import Uses, controls

# Images whose channels are last: all that the op computes on every device.
_RANK, _AXIS = 4, 3


@dataclasses.dataclass(frozen=True)
class FuseBatchNorms:
  """Norms of several nodes become one FusedBatchNorm each.

  Its mean, variance and epsilon are the norm's; its scale and offset are what
  all that follows on the channels leaves of gamma and beta. For norms that
  fold_batch_norms finds nothing to take into, and consumers that know norms as
  one op.

  Before: x = Placeholder() {shape=[?,4,4,2]}
          m = Const() {value=<float [2] 1 2>}
          v = Const() {value=<float [2] 4 1>}
          e = Const() {value=<float 0.01>}      s = Add(v, e)   r = Rsqrt(s)
          c = Sub(x, m)   y = Mul(c, r)
  After:  m = Const() {value=<float [2] 1 2>}
          v = Const() {value=<float [2] 4 1>}
          y/scale = Const() {value=<float [2] 1 1>}
          y/offset = Const() {value=<float [2] 0 0>}
          y = FusedBatchNorm(x, y/scale, y/offset, m, v)
              {is_training=false, epsilon=0.01}

  Leaves alone norms of other than float images with their channels last, of
  statistics that are not constant, in a loop or branch, and those whose parts
  are outputs or read by others.
  Run first: freeze_variables, fold_batch_norms.
  """

  name: ClassVar[str] = "fuse_batch_norms"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    order = graph.topological(model.needed())
    fusing = _Fusing(model, order)
    norms: Dict[TensorRef, List[BatchNorm]] = {}
    for norm in find_among(graph, order, Dependence(graph, order)):
      is_one = graph.op(norm.name) in NORM_OPS
      if norm.x is not None and norm.mean is not None and not is_one:
        norms.setdefault(norm.x, []).append(norm)
    told = []
    for name in order:
      if name not in graph or not fusing.runs.ends_at(name):
        continue
      run = fusing.runs.ending(name)
      try:
        found = fusing.norm_of(run, norms)
        if found is not None:
          fusing.fuse(*found)
          told.append(f"'{name}' is one FusedBatchNorm")
      except CannotFold as why:
        told.append(f"'{name}' stays: {why}")
    return told


class _Fusing:
  """The norms of one graph."""

  def __init__(self, model, order):
    self._graph = model.graph
    self._constants = Constants(model, order)
    self._contexts = Contexts(model.graph, order)
    self._shapes = Shapes(model.graph.clone())
    self._uses = Uses(model)
    self._emitter = Emitter(model.graph, model.signatures)
    steps = Steps(model.graph, self._constants)
    self.runs = Runs(model.graph, steps, protected(model))

  def norm_of(self, run, norms):
    """The part of a run that is a norm, and the norm; None where none is."""
    inputs = (run.base, *map(TensorRef, run.names[:-1]))
    for place, x in enumerate(inputs):
      for norm in norms.get(x, ()):
        part = Run(x, run.names[place:])
        if norm.name in self._graph.ancestors(operands_of(self._graph, part)):
          return part, norm
    return None

  def fuse(self, run, norm):
    """Makes the end of a run one op.

    Raises:
      CannotFold: it is no norm that the op computes.
    """
    graph, shape = self._graph, self._shapes.of(run.base)
    if shape is None or len(shape) != _RANK or shape[_AXIS] < 0:
      raise CannotFold("its input is not known to be images of some channels")
    if graph.node(run.end).attr["T"].type != tf1.float32.as_datatype_enum:
      raise CannotFold("it is not of float")
    if self._contexts.is_inside(TensorRef(run.end)):
      raise CannotFold("it is part of a branch or loop")
    width = shape[_AXIS]
    mean, variance = (
      self._vector(ref, width) for ref in (norm.mean, norm.variance)
    )
    total = self.runs.affine(run, _RANK, _AXIS, width)
    deviation = np.sqrt(variance + norm.epsilon)
    if not np.isfinite(deviation).all() or not deviation.all():
      raise CannotFold("its variance has no root")
    self._write(
      run,
      norm,
      [
        self._operand(run.end, "scale", None, total.scale * deviation),
        self._operand(
          run.end, "offset", None, total.shift + total.scale * mean
        ),
        self._operand(run.end, "mean", norm.mean, mean),
        self._operand(run.end, "variance", norm.variance, variance),
      ],
    )

  def _vector(self, ref, width):
    value = self._constants.value(ref) if ref in self._constants else None
    if value is None:
      raise CannotFold(f"'{ref}' is not constant")
    return per_channel(value, _RANK, _AXIS, width)

  def _operand(self, end, what, ref, vector):
    """A tensor that is a vector: `ref` where it has that shape."""
    if ref is not None and self._constants.shape(ref) == vector.shape:
      return ref
    array = narrow(vector, "float32", None)
    return constant(self._graph, f"{end}/{what}", array)

  def _write(self, run, norm, operands):
    old = [*run.names[:-1], *operands_of(self._graph, run)]
    text = """
      y = FusedBatchNorm(x, operands, ^waits)
        {is_training=false, epsilon=$epsilon, data_format=NHWC}
    """
    self._emitter.become(
      run.end,
      text,
      x=run.base,
      operands=operands,
      epsilon=norm.epsilon,
      waits=controls(self._graph, *run.names),
    )
    self._uses.remove_unread(old)
