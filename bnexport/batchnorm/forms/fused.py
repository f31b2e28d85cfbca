# SPDX-License-Identifier: Apache-2.0
"""Norms that are a FusedBatchNorm of any version."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from bnexport.analysis.dependence import uses_batch
from bnexport.analysis.shapes import data_format
from bnexport.batchnorm.form import Match, OpForm
from bnexport.graph import ops
from bnexport.graph.nodes import bool_attr, constant_value, static_shape

# The OpDef's default.
_EPSILON = 1e-4


@dataclasses.dataclass(frozen=True)
class Fused(OpForm):
  """y = FusedBatchNorm(x, scale, offset, mean, variance)

  In training mode the op computes the mean and variance of the batch, and
  its inputs of these names do not count, unless TF 2 moves averages in them.
  """

  name: ClassVar = "fused"
  ops: ClassVar = ops.FUSED_NORMS
  inputs: ClassVar = ("x", "scale", "offset", "mean", "variance")
  gamma: ClassVar = "scale"
  beta: ClassVar = "offset"
  outputs: ClassVar = ("y", "mean", "variance")
  ddof: ClassVar = 1  # Bessel's correction

  def epsilon(self, node):
    return node.attr["epsilon"].f if "epsilon" in node.attr else _EPSILON

  def match(self, graph, node, dependence, members):
    """See Form; the mean and variance of the batch are the op's outputs."""
    if not uses_batch(node):
      return super().match(graph, node, dependence, members)
    if _is_of_rows(graph, node):
      return None
    return Match(
      self.input(graph, node.name, "x"),
      self.output(node.name, "mean"),
      self.output(node.name, "variance"),
      self.epsilon(node),
    )

  def to_inference(self, node):
    node.attr["is_training"].CopyFrom(bool_attr(False))
    # Counts in training only, and TensorFlow 1 does not know it.
    node.attr.pop("exponential_avg_factor", None)

  def to_training(self, node):
    node.attr["is_training"].CopyFrom(bool_attr(True))


def _is_of_rows(graph, node):
  """Whether a fused norm takes the statistics of single rows.

  Layer, group and instance norms let the op take the rows for channels: they
  reshape [N, ...] to [1, N * groups, ...], or transpose.
  """
  axis = 1 if (data_format(node) or b"").startswith(b"NC") else -1
  ref = graph.inputs(node.name)[0]
  while graph.op(ref.node) in ops.IDENTITIES or graph.op(ref.node) == (
    "Transpose"
  ):
    if graph.op(ref.node) == "Transpose":
      order = constant_value(graph, graph.inputs(ref.node)[1], largest=16)
      if order is None:
        return False
      axis = order[axis]
    ref = graph.inputs(ref.node)[0]
  if graph.op(ref.node) != "Reshape":
    return axis == 0
  x, target = graph.data_inputs(ref.node)
  sizes = _sizes(graph, target)
  if not sizes or sizes[0] != 1:
    return axis == 0
  if sizes[axis] is None:
    return True
  shape = static_shape(graph, x)  # of a batch whose size is fixed
  return bool(shape) and shape[0] > 1 and sizes[axis] % shape[0] == 0


def _sizes(graph, ref):
  """A shape tensor's elements, None where one isn't constant; or None."""
  node = graph.node(ref.node)
  if node.op == "Pack":
    values = [
      constant_value(graph, r, largest=1) for r in graph.data_inputs(ref.node)
    ]
  else:
    value = constant_value(graph, ref, largest=16)
    if value is None:
      return None
    values = list(value.reshape(-1))
  return [None if v is None or v < 0 else int(v) for v in values]
