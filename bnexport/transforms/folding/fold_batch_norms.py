# SPDX-License-Identifier: Apache-2.0
"""Batch norms become part of the convolutions beside them."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List, NamedTuple

import numpy as np

from bnexport.analysis.dependence import DATA, Dependence
from bnexport.analysis.shapes import channel_axis, flag
from bnexport.batchnorm import folding
from bnexport.batchnorm.folding import CannotFold
from bnexport.batchnorm.forms import NORM_OPS, find_among
from bnexport.batchnorm.norm import STORED
from bnexport.graph import TensorRef
from bnexport.graph.contexts import Contexts
from bnexport.model import Model
from bnexport.transforms.folding import scaled
from bnexport.transforms.folding.channels import CARRIERS, Channels, width_of
from bnexport.transforms.folding.edits import Edits, check_shift, dtype_name
from bnexport.transforms.folding.linear import is_linear, linear, takes_shift
from bnexport.transforms.folding.runs import Runs
from bnexport.transforms.folding.steps import SHIFTS, TRIVIAL, Steps
from bnexport.transforms.folding.values import Constants

_ROOTS = frozenset(("Pow", "Rsqrt", "Sqrt"))


@dataclasses.dataclass(frozen=True)
class FoldBatchNorms:
  """Takes norms into the kernels of convolutions and matrix products.

  A norm at inference is scale * x + shift for each channel, however it is
  written. So is all else with one constant a channel: Mul, Add, BiasAdd. The
  scale goes into the kernel of the op that gives x, also over a concatenation,
  a Squeeze and the like, and the shift into one BiasAdd, which has the norm's
  name. Where x comes from no such op, scale and shift go into the one that
  reads the norm, if that puts no zeros around its input or nothing is shifted.

  Before: w = Const() {value=<float [1,1,1,2] 1 2>}   c = Conv2D(x, w)
          g = Const() {value=<float [2] 1 1>}
          m = Const() {value=<float [2] 1 3>}
          b = Const() {value=<float [2] 0 0>}
          v = Const() {value=<float [2] 4 1>}
          y = FusedBatchNorm(c, g, b, m, v) {is_training=false, epsilon=0}
  After:  w = Const() {value=<float [1,1,1,2] 0.5 2>}   c = Conv2D(x, w)
          y/bias = Const() {value=<float [2] -0.5 -3>}   y = BiasAdd(c, y/bias)

  Leaves, and says why: a norm in training mode, or of statistics that are not
  constant or not finite; one where the convolution is an output itself or is
  read by others too (a kernel that others read is copied); one whose numbers
  are not one a channel; and where the dtype can't hold the kernel.
  Run first: freeze_variables, strip_unused_nodes.
  """

  name: ClassVar[str] = "fold_batch_norms"

  def apply(self, model: Model) -> List[str]:
    return _Folding(model).run()


class FoldOldBatchNorms(FoldBatchNorms):
  """The Graph Transform Tool's name for folding norms that are one node.

  Does what fold_batch_norms does.

  Before: w = Const() {value=<float [1,1,1,2] 1 2>}   c = Conv2D(x, w)
          s = Const() {value=<float [2] 0.5 1>}   y = Mul(c, s)
  After:  w = Const() {value=<float [1,1,1,2] 0.5 2>}   y = Conv2D(x, w)
  """

  name: ClassVar[str] = "fold_old_batch_norms"


class _Plan(NamedTuple):
  """The edits of a fold that can be done whole.

  Attributes:
    kernels: names of linear ops, slots, kernels and their keys.
    shifts: runs with the shift that is left of each, and x's layout.
    absorbed: the same for linear ops behind: the shift to add to each.
  """

  kernels: List
  shifts: List
  absorbed: List


class _Folding:
  """The folding of one model's norms."""

  def __init__(self, model):
    self.model, self.graph = model, model.graph
    self.order = self.graph.topological(model.needed())
    self.constants = Constants(model, self.order)
    self.steps = Steps(self.graph, self.constants)
    self.channels = Channels(self.graph, self.order, self.constants, self.steps)
    protected = {ref.node for ref in model.outputs + model.inputs}
    protected.update(model.initializers)
    self.runs = Runs(self.graph, self.steps, protected)
    self.dependence = Dependence(self.graph, self.order)
    contexts = Contexts(self.graph, self.order)
    self.edits = Edits(model, self.constants, contexts, protected)
    self.made = set()  # shifts behind linear ops
    self.told = []

  def run(self):
    unknown = self._of_unknown_statistics()
    for name in self.order:
      if name not in self.graph:
        continue
      node = self.graph.node(name)
      if self.runs.ends_at(name):
        self._visit(self.runs.ending(name))
      elif node.op in NORM_OPS and self.steps.input_of(name) is None:
        self._tell_staying([name], self.steps.why_none(node))
    self.told.extend(unknown)
    return self.told

  def _of_unknown_statistics(self):
    """Lines on norms of several ops whose statistics are not constant."""
    told = []
    for norm in find_among(self.graph, self.order, self.dependence):
      is_op = self.graph.op(norm.name) in NORM_OPS
      if not is_op and norm.variance not in self.constants:
        reason = f"its variance '{norm.variance}' is not constant"
        if norm.statistics != STORED:
          reason = "its statistics are not stored ones"
        told.append(f"'{norm.name}' stays: {reason}")
    return told

  def _tell_staying(self, names, reason):
    self.told.extend(f"'{name}' stays: {reason}" for name in names)

  # One run.

  def _visit(self, run):
    """Folds a run into what is before it, else into what is behind it."""
    layout = self.channels.of(run.base)
    is_behind = layout is not None and layout.is_linear
    if is_behind and self.runs.is_lone_shift(run):
      return  # the bias of a linear op: nothing is left to fold
    names = self._names_of_norms(run, is_behind)
    plan = _Plan([], [], [])
    try:
      self._check_other_outputs(run.end)
      into = self._backward(run, layout, plan)
    except CannotFold as why:
      reason = str(why)
      plan = _Plan([], [], [])
      try:
        into = self._forward(run, plan)
      except CannotFold as why:
        reasons = [reason] + [str(why)] * bool(str(why))
        self._tell_staying(names, ", and ".join(dict.fromkeys(reasons)))
        return
    if not names and not self._is_own_bias(run):
      names = [run.end]
    self._write(plan)
    for name in names:
      into_all = ", ".join(f"'{other}'" for other in into)
      self.told.append(f"folded '{name}' into {into_all}")

  def _is_own_bias(self, run):
    """Whether a run is a bias, and a shift that was put before it here."""
    real = self.runs.real(run)
    left = [name for name in real if name not in self.made]
    return (
      len(left) < len(real)
      and len(left) == 1
      and self.graph.op(left[0]) in SHIFTS
    )

  def _names_of_norms(self, run, is_behind):
    """Names that stand for a run's norms; none where it holds no norm.

    What has a scale for each channel is taken for one, if a square root is in
    the scale or it is beside a linear op; layer norms have scales, too.
    """
    norms = [name for name in run.names if self.graph.op(name) in NORM_OPS]
    if norms:
      return norms
    scales = [name for name in run.names if self.steps.is_scale(name)]
    if not scales or self.dependence(run.base) != DATA:
      return []
    is_near = is_behind or any(
      is_linear(self.graph.op(reader)) for reader in self.runs.readers(run.end)
    )
    operands = [
      ref.node
      for name in scales
      for ref in self.graph.data_inputs(name)
      if ref in self.constants
    ]
    if is_near or any(
      self.graph.op(name) in _ROOTS for name in self.graph.ancestors(operands)
    ):
      return [run.end]
    return []

  def _check_other_outputs(self, name):
    """A fused norm also gives its statistics, which nothing else would."""
    outputs = [ref for ref in self.model.outputs if ref.node == name]
    for ref in outputs + self.graph.reads(name):
      if ref.index:
        raise CannotFold(f"'{ref}' is needed, too")

  def _write(self, plan):
    for edit in plan.kernels:
      self.edits.replace_kernel(*edit)
    for run, vector, layout in plan.shifts:
      self.edits.shift(run, vector, layout.rank, layout.axis)
    for run, name, slot, vector in plan.absorbed:
      self.edits.read_base(run, name, slot)
      if vector.any():
        layout = self.channels.of(TensorRef(name))
        made = self.edits.add_shift(name, vector, layout.rank, layout.axis)
        self.channels.set(made, layout)
        self.made.add(made)
    if plan.absorbed:
      self.edits.remove(plan.absorbed[0][0])

  # Into what is before it.

  def _backward(self, run, layout, plan):
    """Plans to scale what gives x; returns names of the linear ops."""
    if layout is None or not layout.is_linear:
      raise CannotFold(self._why_not_linear(run.base.node))
    total = self.runs.affine(run, *layout[:3])
    check_shift(total.shift, self.graph.node(run.end))
    pushed = None
    if total.shift.any() and self._all_have_shifts(run):
      pushed = total.shift
    left = np.zeros_like(total.shift) if pushed is not None else total.shift
    into = []
    waiting = [(run.base, run.names[0], total.scale, pushed)]
    while waiting:
      self._plan_scale(plan, into, waiting, *waiting.pop())
    plan.shifts.append((run, left, layout))
    return into

  def _plan_scale(self, plan, into, waiting, ref, reader, scale, shift):
    """Plans that a tensor becomes scale * itself + shift.

    Args:
      plan: what to write is added to it.
      into: linear ops are added to it.
      waiting: what is to be planned next is added to it.
      ref: the tensor.
      reader: its only reader.
      scale: float64, [channels].
      shift: the same, or None for none.
    """
    name, is_same = ref.node, shift is None and (scale == 1).all()
    if not is_same:
      self.runs.check_sole(ref, reader)
    if linear(self.graph, self.constants, name) is not None:
      into.append(name)
      if not is_same:
        plan.kernels.append(self._scaled(name, scale))
      return
    if self.steps.input_of(name) is None:
      for part, channels in self.channels.parts(self.graph.node(name)):
        shifts = None if shift is None else shift[channels]
        waiting.append((part, name, scale[channels], shifts))
      return
    run = self.runs.ending(name)
    layout = self.channels.of(run.base)
    own = self.runs.affine(run, *layout[:3])
    vector = own.shift * scale + (0.0 if shift is None else shift)
    if not is_same:
      check_shift(vector, self.graph.node(name))
      plan.shifts.append((run, vector, layout))
      scale = own.scale * scale
    waiting.append((run.base, run.names[0], scale, None))

  def _all_have_shifts(self, run):
    """Whether each linear op before a run is shifted already, further up."""
    waiting = [(run.base, run.names[0])]
    while waiting:
      ref, reader = waiting.pop()
      if self.runs.sole_reader(ref.node) != reader:
        return False
      if self.steps.input_of(ref.node) is None:
        if self.graph.op(ref.node) not in CARRIERS:
          return False
        parts = self.channels.parts(self.graph.node(ref.node))
        waiting.extend((part, ref.node) for part, _ in parts)
    return True

  def _scaled(self, name, scale):
    """The kernel of a linear op whose answers are `scale` times as large."""
    found = linear(self.graph, self.constants, name)
    old, is_deferred = self.edits.kernel(name, found.kernel)
    dtype, axes = dtype_name(self.graph.node(name)), found.out_axes
    rank = len(self.constants.shape(self.graph.data_inputs(name)[found.kernel]))
    is_last = axes == (rank - 1,)
    kernel = scaled.kernel(old, is_deferred, axes, is_last, scale, dtype)
    return name, found.kernel, kernel, ("outputs", axes, scale.tobytes())

  def _why_not_linear(self, name):
    """A clause: the obstacle to scaling a tensor by its kernels."""
    op = self.graph.op(name)
    while op in CARRIERS or op in TRIVIAL:
      layouts = [
        (ref.node, self.channels.of(ref))
        for ref in self.graph.data_inputs(name)
        if ref not in self.constants
      ]
      others = [n for n, at in layouts if at is None or not at.is_linear]
      if not others:
        return f"'{name}' ({op}) mixes channels"
      name, op = others[0], self.graph.op(others[0])
    if not is_linear(op):
      return f"x comes from '{name}' ({op}), which has no kernel"
    if linear(self.graph, self.constants, name) is None:
      return f"the kernel of '{name}' is not constant"
    return f"'{name}' does not state how many channels it gives"

  # Into what is behind it.

  def _forward(self, run, plan):
    """Plans that linear ops take a run's x; returns their names."""
    readers = self.runs.readers(run.end)
    into = [r for r in readers if is_linear(self.graph.op(r))]
    if not into:
      raise CannotFold("")
    if self.runs.is_protected(run.end):
      raise CannotFold("it is an output itself")
    for reader in readers:
      if reader not in into:
        raise CannotFold(f"'{reader}' behind it is not linear")
    for name in into:
      self._absorb(run, name, plan)
    return into

  def _absorb(self, run, name, plan):
    graph, node = self.graph, self.graph.node(name)
    found = linear(graph, self.constants, name)
    if found is None:
      raise CannotFold(f"the kernel of '{name}' is not constant")
    x = TensorRef(run.end)
    edges = [r for r in graph.inputs(name) if r.node == run.end]
    if edges != [x] or graph.data_inputs(name)[found.data] != x:
      raise CannotFold(f"'{name}' reads more of it than its data")
    shape = self.constants.shape(graph.data_inputs(name)[found.kernel])
    affine = self._on_channels(run, node, found, shape)
    dtype = dtype_name(node)
    if affine.shift.any():
      folding.check_cancellation(affine, dtype)
      if not takes_shift(node, found, shape):
        raise CannotFold(
          f"'{name}' puts zeros around what it reads, and they are not shifted"
        )
    old, is_deferred = self.edits.kernel(name, found.kernel)

    def make():
      return folding.absorb_inputs(
        old(), found.in_axis, found.out_axes, affine, dtype
      )

    kernel, lacking = make()
    check_shift(lacking, node)
    key = ("inputs", found.in_axis, affine.scale.tobytes())
    if is_deferred:

      def kernel():
        return make()[0]

    if not (affine.scale == 1).all():
      plan.kernels.append((name, found.kernel, kernel, key))
    plan.absorbed.append((run, name, found.data, lacking))

  def _on_channels(self, run, node, found, kernel_shape):
    """A run's scale and shift of each channel that a linear op reads.

    Raises:
      CannotFold: it may turn one channel into several by broadcasting.
    """
    axis = channel_axis(node, found.rank)
    if node.op == "MatMul" and flag(node, "transpose_a"):
      axis = 0
    width = width_of(self.graph, self.channels, run.base, found.rank, axis)
    longest = self.runs.longest_vector(run, found.rank)
    if width is None and longest == 1:
      width = kernel_shape[found.in_axis]  # as well as any other
    elif width is None and self.graph.op(self.runs.real(run)[0]) in NORM_OPS:
      width = longest
    if width is None:
      raise CannotFold(f"how many channels '{run.base.node}' has is not known")
    return self.runs.affine(run, found.rank, axis, width)
