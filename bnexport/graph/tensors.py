# SPDX-License-Identifier: Apache-2.0
"""TensorProtos: whether they hold what they declare, and their arrays.

A TensorProto declares a dtype and a shape, and holds bytes, or lists values of
which the last stands for all elements that are not listed. A few bytes may so
declare any size.
"""

from __future__ import annotations

from typing import Iterable, Iterator, Optional

import numpy as np

from bnexport.errors import GraphError
from bnexport.tf1 import TensorShapeProto, tf1

# The field that lists values, by the name of the dtype.
_LISTED = {
  "float32": "float_val",
  "float64": "double_val",
  "float16": "half_val",
  "bfloat16": "half_val",
  "int64": "int64_val",
  "uint32": "uint32_val",
  "uint64": "uint64_val",
  "bool": "bool_val",
  "complex64": "scomplex_val",
  "complex128": "dcomplex_val",
  "string": "string_val",
}
_LISTED.update(
  dict.fromkeys(
    (
      *("int8", "int16", "int32", "uint8", "uint16"),
      *("qint8", "qint16", "qint32", "quint8", "quint16"),
    ),
    "int_val",
  )
)
# Bytes that a value which stands for others may fill; what a file holds byte
# by byte has no limit here.
_MOST_REPEATED = 1 << 28


def shape_proto(
  sizes: Optional[Iterable[Optional[int]]],
) -> TensorShapeProto:
  """A TensorShapeProto; open sizes are None or negative, no sizes no rank."""
  if sizes is None:
    return TensorShapeProto(unknown_rank=True)
  made = TensorShapeProto()
  for size in sizes:
    made.dim.add(size=-1 if size is None else max(size, -1))
  return made


def element_count(tensor: tf1.TensorProto) -> int:
  """Number of elements a TensorProto declares, without decoding it."""
  count = 1
  for dim in tensor.tensor_shape.dim:
    count *= dim.size
  return count


def misfit(tensor: tf1.TensorProto) -> Iterator[str]:
  """Yields how a TensorProto does not hold what it declares."""
  dims = [dim.size for dim in tensor.tensor_shape.dim]
  if tensor.tensor_shape.unknown_rank or any(size < 0 for size in dims):
    yield "is a tensor of no shape"
    return
  if element_count(tensor) >= 1 << 62:
    yield f"is a tensor of {element_count(tensor)} elements"
    return
  dtype = _dtype(tensor)
  if dtype is None:
    yield f"is a tensor of type {tensor.dtype}, which has no values"
    return
  held = len(tensor.tensor_content)
  if held:
    size = element_count(tensor) * dtype.size
    if dtype == tf1.string or (dtype.name in _LISTED and held != size):
      yield f"is a tensor of {size} bytes that holds {held}"


def array_of(tensor: tf1.TensorProto) -> np.ndarray:
  """The array of a TensorProto that has no `misfit`.

  Raises:
    GraphError: it would be many times as large as what the file holds, or
      TensorFlow does not decode it.
  """
  dtype, count = _dtype(tensor), element_count(tensor)
  listed = _LISTED.get(dtype.name if dtype else "", "int_val")
  size = count * (dtype.size if dtype else 0)
  held = len(getattr(tensor, listed))
  if not tensor.tensor_content and count > 2 * held and size > _MOST_REPEATED:
    raise GraphError(
      "decode a constant",
      f"it states {size} bytes, all of one value",
      "cut it away with --input_node",
    )
  width = 2 if dtype and dtype.is_complex else 1
  try:
    return tf1.make_ndarray(_without_surplus(tensor, listed, count * width))
  except (TypeError, ValueError, IndexError) as error:
    raise GraphError(
      "decode a constant", error, "cut it away with --input_node"
    ) from error


def _dtype(tensor: tf1.TensorProto) -> Optional[tf1.DType]:
  """The DType of a TensorProto; None where it has none, or no values."""
  try:
    dtype = tf1.as_dtype(tensor.dtype)
  except TypeError:
    return None
  has_values = dtype not in (tf1.resource, tf1.variant)
  return dtype if has_values and dtype == dtype.base_dtype else None


def _without_surplus(
  tensor: tf1.TensorProto, listed: str, count: int
) -> tf1.TensorProto:
  """The TensorProto, with no more listed values than its elements have."""
  if tensor.tensor_content or len(getattr(tensor, listed)) <= count:
    return tensor
  made = tf1.AttrValue().tensor
  made.CopyFrom(tensor)
  del getattr(made, listed)[count:]
  return made
