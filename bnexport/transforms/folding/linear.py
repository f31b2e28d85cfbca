# SPDX-License-Identifier: Apache-2.0
"""The ops that are linear in their data, and where channels are in kernels."""

from __future__ import annotations

from typing import NamedTuple, Tuple

from bnexport.analysis.shapes import data_format, flag
from bnexport.graph.nodes import FLOATS


class Linear(NamedTuple):
  """The place and layout of a linear op's kernel.

  Attributes:
    data: slot of the data.
    kernel: slot of the kernel.
    rank: of data and answer.
    in_axis: the kernel's axis for the data's channels.
    out_axes: the kernel's axes that, flattened, are the answer's channels.
    is_scattering: whether it sets each input down at several places, so that
      some places get fewer than others.
  """

  data: int
  kernel: int
  rank: int
  in_axis: int
  out_axes: Tuple[int, ...]
  is_scattering: bool = False


_OPS = {
  "Conv2D": Linear(0, 1, 4, 2, (3,)),
  "Conv2DBackpropInput": Linear(2, 1, 4, 3, (2,), True),
  "Conv3D": Linear(0, 1, 5, 3, (4,)),
  "Conv3DBackpropInputV2": Linear(2, 1, 5, 4, (3,), True),
  "DepthwiseConv2dNative": Linear(0, 1, 4, 2, (2, 3)),
  "MatMul": Linear(0, 1, 2, 0, (1,)),
}
_FORMATS = frozenset((None, b"NHWC", b"NDHWC", b"NCHW", b"NCDHW"))


def is_float(node):
  """Whether a node works on floating numbers that folding can round to."""
  return "T" in node.attr and node.attr["T"].type in FLOATS


def linear(graph, constants, name):
  """A Linear of a node with a constant kernel, or None."""
  node = graph.node(name)
  found = _OPS.get(node.op)
  if found is None or not is_float(node) or data_format(node) not in _FORMATS:
    return None
  refs = graph.data_inputs(name)
  if refs[found.kernel] not in constants:
    return None
  if node.op == "MatMul" and flag(node, "transpose_b"):
    found = found._replace(in_axis=1, out_axes=(0,))
  shape = constants.shape(refs[found.kernel])
  if shape is None or len(shape) != max(2, found.rank):
    return None
  return found


def is_linear(op):
  return op in _OPS


def takes_shift(node, found, kernel_shape):
  """Whether a constant in x is a constant in the answer, also at its border."""
  if found.is_scattering:
    return False
  if node.op == "MatMul":
    return True
  padding = node.attr["padding"].s
  if padding == b"VALID":
    return True
  if padding == b"EXPLICIT":
    return not any(node.attr["explicit_paddings"].list.i)
  # SAME puts nothing around x for kernels of one place.
  return padding == b"SAME" and all(
    size == 1 for size in kernel_shape[: found.rank - 2]
  )
