# SPDX-License-Identifier: Apache-2.0
"""The questions that each form of a batch norm answers for itself."""

from __future__ import annotations

from typing import ClassVar, FrozenSet, NamedTuple, Optional, Tuple

import numpy as np

from bnexport.analysis.shapes import channel_axis
from bnexport.batchnorm import folding
from bnexport.batchnorm.folding import Affine, CannotFold
from bnexport.graph import TensorRef


class Match(NamedTuple):
  """The tensors of a norm that was recognised.

  Attributes:
    x: what is normalised, or None where it is not told.
    mean: what is subtracted, or None where it is not told.
    variance: what x is divided by the root of.
    epsilon: what is added to the variance.
  """

  x: Optional[TensorRef]
  mean: Optional[TensorRef]
  variance: TensorRef
  epsilon: float


class Slot(NamedTuple):
  """One data input of a node."""

  node: str
  # The field hides tuple.index, which nobody asks a slot for.
  index: int  # type: ignore[assignment]


class Place(NamedTuple):
  """The inputs at which a norm reads its statistics.

  Attributes:
    mean: slots that read its mean.
    variance: slots that read its variance.
    scale: the tensor that x is multiplied with, or divided by; None where
      it is inside of an op.
  """

  mean: Tuple[Slot, ...]
  variance: Tuple[Slot, ...]
  scale: Optional[TensorRef] = None


class Form:
  """One way in which batch norms are written.

  A form tells how a norm is written, and nothing of where its mean and
  variance come from: any form may use stored statistics or the batch's.

  Attributes:
    name: the form in reports.
    ops: ops of the nodes that a norm may have its name from.
  """

  name: ClassVar[str]
  ops: ClassVar[FrozenSet[str]]

  def match(self, graph, node, dependence, members) -> Optional[Match]:
    """The norm that a node of one of `ops` stands for, or None.

    Args:
      graph: stays as it is.
      node: a NodeDef.
      dependence: a Dependence that covers `members`.
      members: names of the nodes among which to look.
    """
    raise NotImplementedError

  def place(self, graph, norm) -> Optional[Place]:
    """The Place of a norm; None where nothing reads its statistics so.

    A norm uses other statistics once these slots read them and `to_inference`
    was called with its node.
    """
    raise NotImplementedError

  def to_inference(self, node):
    """Makes a norm's node use the statistics at its Place.

    Args:
      node: the NodeDef that has the norm's name; it may be of any GraphDef.
    """

  def shape_tensors(self, norm, place) -> Tuple[TensorRef, ...]:
    """The tensors whose shapes `channel_axes` has to know.

    Args:
      norm: the norm; its x and mean are known.
      place: its Place, or None.
    """
    raise NotImplementedError

  def channel_axes(self, node, shape, statistics) -> Optional[Tuple[int, ...]]:
    """Ascending axes of x along which a norm's statistics vary.

    Args:
      node: the NodeDef that has the norm's name.
      shape: of x.
      statistics: shapes of the `shape_tensors`, in their order.

    Returns:
      The axes; None where the shapes do not fit each other.
    """
    raise NotImplementedError

  def scale(self, graph, name) -> Optional[TensorRef]:
    """The tensor of one number a channel that scales a norm, or None.

    Args:
      graph: holds the norm.
      name: the norm's.
    """
    raise NotImplementedError

  def parameters(self, graph, name) -> Tuple[TensorRef, ...]:
    """The tensors that scale and shift a norm.

    Args:
      graph: holds the norm.
      name: the norm's.
    """
    raise NotImplementedError


class OpForm(Form):
  """A norm that is one op; all but x are vectors of one number a channel.

  Attributes:
    inputs: what each data input of the op is; "x", "mean" and "variance" are
      among these.
    gamma: which of the inputs scales.
    beta: which of the inputs shifts.
    outputs: what each output is; the mean and variance of the batch are
      called "mean" and "variance", where the op hands them out.
    ddof: what the number of values is reduced by where the op divides by it
      for the variance of the batch that it hands out.
  """

  inputs: ClassVar[Tuple[str, ...]]
  gamma: ClassVar[str]
  beta: ClassVar[str]
  outputs: ClassVar[Tuple[str, ...]] = ("y",)
  ddof: ClassVar[int] = 0

  def epsilon(self, node) -> float:
    """The number that is added to the variance."""
    raise NotImplementedError

  def input(self, graph, name, what) -> TensorRef:
    """The tensor that a node reads as one of `inputs`."""
    return graph.inputs(name)[self.slot(what)]

  def slot(self, what) -> int:
    """The index of one of `inputs`."""
    return self.inputs.index(what)

  def output(self, name, what) -> TensorRef:
    """The tensor that a node hands out as one of `outputs`."""
    return TensorRef(name, self.outputs.index(what))

  def match(self, graph, node, dependence, members):
    return Match(
      *(self.input(graph, node.name, w) for w in ("x", "mean", "variance")),
      self.epsilon(node),
    )

  def place(self, graph, norm):
    return Place(
      (Slot(norm.name, self.slot("mean")),),
      (Slot(norm.name, self.slot("variance")),),
    )

  def shape_tensors(self, norm, place):
    return ()

  def channel_axes(self, node, shape, statistics):
    return (channel_axis(node, len(shape)),)

  @property
  def computes_statistics(self) -> bool:
    """Whether there is a training mode, with the statistics of the batch."""
    return "mean" in self.outputs

  def to_training(self, node):
    """Makes a norm's node use the statistics of the batch."""
    raise NotImplementedError

  def has_scale(self, node) -> bool:
    """Whether an op multiplies with its gamma."""
    return True

  def scale(self, graph, name):
    if not self.has_scale(graph.node(name)):
      return None
    return self.input(graph, name, self.gamma)

  def parameters(self, graph, name):
    refs = (self.scale(graph, name), self.input(graph, name, self.beta))
    return tuple(ref for ref in refs if ref is not None)

  def affine(self, node, values, rank) -> Affine:
    """The scale and shift of x in an op that uses stored statistics.

    Args:
      node: its NodeDef.
      values: float64 arrays of all inputs but x, in their order.
      rank: of x.

    Returns:
      An Affine of arrays that broadcast against x.

    Raises:
      CannotFold: the vectors are of several lengths.
    """
    given = dict(zip([what for what in self.inputs if what != "x"], values))
    if not self.has_scale(node):
      given[self.gamma] = np.ones_like(given["mean"])
    shapes = {value.shape for value in given.values()}
    if len(shapes) > 1:
      raise CannotFold(f"its vectors have the shapes {sorted(shapes)}")
    found = folding.norm(
      given[self.gamma],
      given[self.beta],
      given["mean"],
      given["variance"],
      self.epsilon(node),
    )
    sizes = [-1] + [1] * (rank - 1 - channel_axis(node, rank))

    def shaped(array):
      return array.reshape(sizes)

    return Affine(*map(shaped, found))
